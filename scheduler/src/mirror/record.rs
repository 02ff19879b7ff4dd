//! Changes of the store as records: which key says what.

use gilliam_model::{
    Timestamp,
    app::App,
    cron::CronRecord,
    instance::Epoch,
    name::{AppName, CronName, NodeName},
    node::Node,
    placement::Placement,
    report::ProcessKey,
    run::Run,
};
use gilliam_store::{Changed, Entry, RangeError, keys, records, records::Stored};

use crate::{policy::Choices, state::RunKey};

/// A change of a record, read.
pub(super) enum Record {
    App(Stored<App>),
    NoApp(AppName),
    Placement(Placement),
    NoPlacement(ProcessKey, NodeName),
    Epoch(Option<Stored<Epoch>>),
    Rebalance(Option<Stored<Timestamp>>),
    Choices(Choices),
    Node(Node),
    NoNode(NodeName),
    Run(Box<Stored<Run>>),
    NoRun(RunKey),
    Cron(AppName, CronName, Box<Stored<CronRecord>>),
    NoCron(AppName, CronName),
}

/// Reads changes as records; none when one is of a key that says nothing.
pub(super) fn read_all(changes: Vec<Changed>) -> Result<Option<Vec<Record>>, RangeError> {
    let mut records = Vec::with_capacity(changes.len());
    for change in changes {
        match change {
            Changed::Put(entry) => records.push(record(entry)?),
            Changed::Deleted(key) => match no_record(&key) {
                Some(record) => records.push(record),
                None => return Ok(None),
            },
        }
    }
    Ok(Some(records))
}

fn record(entry: Entry) -> Result<Record, RangeError> {
    let key = entry.key.as_str();
    Ok(if key.starts_with(keys::APPS) {
        Record::App(records::decode(entry)?)
    } else if key.starts_with(keys::PLACEMENTS) {
        Record::Placement(records::decode(entry)?.value)
    } else if key.starts_with(keys::NODES) {
        Record::Node(records::decode(entry)?.value)
    } else if key.starts_with(keys::RUNS) {
        Record::Run(Box::new(records::decode(entry)?))
    } else if let Some((app, cron)) = keys::cron_of(key) {
        Record::Cron(app, cron, Box::new(records::decode(entry)?))
    } else if key == keys::REBALANCE {
        Record::Rebalance(Some(records::decode(entry)?))
    } else if key == keys::POLICY {
        Record::Choices(records::decode(entry)?.value)
    } else {
        Record::Epoch(Some(records::decode(entry)?))
    })
}

fn no_record(key: &str) -> Option<Record> {
    match key {
        keys::PLAN_EPOCH => return Some(Record::Epoch(None)),
        keys::REBALANCE => return Some(Record::Rebalance(None)),
        keys::POLICY => return Some(Record::Choices(Choices::default())),
        _ => {}
    }
    if let Some((key, node)) = keys::placement_of(key) {
        return Some(Record::NoPlacement(key, node));
    }
    if let Some(run) = keys::run_of(key) {
        return Some(Record::NoRun(run));
    }
    if let Some((app, cron)) = keys::cron_of(key) {
        return Some(Record::NoCron(app, cron));
    }
    let app = keys::app_of(key).map(Record::NoApp);
    app.or_else(|| keys::node_of(key).map(Record::NoNode))
}
