//! Instances: what should run joined with what nodes report. What `ps` lists, and what `--wait` waits for.
//!
//! Process types with few instances are listed whole; of one with many, a summary says how they are, and
//! single ones are listed by page.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use axum::{Json, extract::State};
use futures::future::join_all;
use gilliam_model::{
    api::{Blocked, INSTANCES_COUNT_MAX, INSTANCES_LISTED, Instances},
    app::App,
    instance::{InstanceId, InstanceReport},
    name::{AppName, NodeName, ProcessName},
    placement::Placement,
    release::ReleaseId,
    report::{DETAILS_ALL_COUNT_MAX, DetailsWanted, ProcessKey, WANTED_SLOTS_MAX},
};
use gilliam_store::{keys, records, records::Stored};
use serde::Deserialize;

use crate::{
    api::{
        Api,
        extract::{AppPath, Params},
        openapi::Errors,
    },
    observed::NodeView,
    refusal::Refusal,
    roster::{Listed, Page, Roster},
    runs,
    shared::Shared,
};

/// Longest wait for the details of a page: a node answers within one round trip. Those that are missing then
/// are shown without.
const DETAILS_WAIT: Duration = Duration::from_millis(1_000);

/// What to list.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct InstancesParams {
    /// Only this process type; the way to a page of one with many instances.
    process: Option<String>,
    /// Only this release.
    release: Option<String>,
    /// First slot of the page; 1 by default.
    from: Option<u32>,
    /// Most instances to list, at most 1,000; by default 100 of a process type with more than 200, else all.
    /// With 0, summaries alone are given.
    limit: Option<usize>,
}

/// What to list, understood.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    process: Option<ProcessName>,
    release: Option<ReleaseId>,
    from: Option<u32>,
    limit: Option<usize>,
}

/// Lists the instances of an app, and says whether all of it is as wanted.
#[utoipa::path(get, path = "/v1/apps/{app}/instances", operation_id = "list_instances", tag = "instances",
    security(("bearer" = [])),
    params(("app" = String, Path, description = "The app's name"), InstancesParams),
    responses((status = 200, description = "Its instances", body = Instances), Errors))]
pub(crate) async fn list(
    State(api): State<Api>,
    AppPath(app): AppPath,
    Params(params): Params<InstancesParams>,
) -> Result<Json<Instances>, Refusal> {
    load(&api.shared, &app, &params.understood()?).await.map(Json)
}

/// Reads the instances of an app.
pub(crate) async fn load(shared: &Shared, app: &AppName, asked: &Asked) -> Result<Instances, Refusal> {
    let (stored, placements) = read(shared, app).await?;
    let app = &stored.value;
    let nodes = shared.nodes();
    let roster = Roster::of(app, &placements, &nodes);
    let keys: Vec<ProcessKey> = roster.keys().filter(|key| asked.names(key)).collect();
    let (listed, next) = asked.list(&roster, &keys);
    let mut details = known(&nodes, &listed);
    details.extend(ask(shared, &listed, &details).await);
    let mut instances: Vec<_> = listed
        .into_iter()
        .map(|one| {
            let id = one.id.clone();
            let detail = details.remove(&id);
            (id, one.info(detail))
        })
        .collect();
    instances.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Instances {
        processes: keys.iter().map(|key| roster.summary(key)).collect(),
        instances: instances.into_iter().map(|(_, info)| info).collect(),
        next,
        blocked: blocked(shared, &stored),
        settled: roster.is_settled(),
        migration: app.migration.clone(),
        migration_failure: app.migration_failure.clone(),
        runs: runs::open(shared, &app.name).await?,
    })
}

async fn read(shared: &Shared, app: &AppName) -> Result<(Stored<App>, Vec<Placement>), Refusal> {
    let (app_key, placements_key) = (keys::app(app), keys::placements_of(app));
    let (_, mut lists) = shared.store.ranges(&[&app_key, &placements_key]).await?;
    let placements: Vec<_> = records::decode_all::<Placement>(lists.pop().unwrap_or_default())?;
    let found = lists
        .pop()
        .unwrap_or_default()
        .into_iter()
        .find(|entry| entry.key == app_key);
    let stored = found.ok_or_else(|| Refusal::no_app(app.as_str()))?;
    let placements = placements.into_iter().map(|p| p.value).collect();
    Ok((records::decode::<App>(stored)?, placements))
}

/// What the planner could not place; a plan that is older than the app's last change says nothing of what is
/// wanted now.
fn blocked(shared: &Shared, app: &Stored<App>) -> Vec<Blocked> {
    let planned = shared.planned();
    let is_planned = planned.revision >= app.revision;
    let blocked = planned.blocked.get(&app.value.name).filter(|_| is_planned);
    blocked.cloned().unwrap_or_default()
}

/// The details that nodes give unasked.
fn known(
    nodes: &BTreeMap<NodeName, NodeView>,
    listed: &[Listed<'_>],
) -> BTreeMap<InstanceId, InstanceReport> {
    let wanted: BTreeSet<&InstanceId> = listed.iter().map(|one| &one.id).collect();
    let holders: BTreeSet<&NodeName> = listed.iter().map(|one| one.node).collect();
    let keys: BTreeSet<ProcessKey> = wanted.iter().map(|id| ProcessKey::from(*id)).collect();
    let reports = holders
        .into_iter()
        .filter_map(|node| nodes.get(node))
        .flat_map(NodeView::current);
    reports
        .filter(|(key, _)| keys.contains(*key))
        .flat_map(|(_, report)| &report.details)
        .filter(|detail| wanted.contains(&detail.id))
        .map(|detail| (detail.id.clone(), detail.clone()))
        .collect()
}

/// Asks nodes for the details that are not known, and waits a moment for them.
async fn ask(
    shared: &Shared,
    listed: &[Listed<'_>],
    known: &BTreeMap<InstanceId, InstanceReport>,
) -> Vec<(InstanceId, InstanceReport)> {
    let mut slots: BTreeMap<(&NodeName, ProcessKey), Vec<u32>> = BTreeMap::new();
    let missing = listed
        .iter()
        .filter(|one| one.is_reported && !known.contains_key(&one.id));
    for one in missing {
        let key = ProcessKey::from(&one.id);
        slots.entry((one.node, key)).or_default().push(one.id.slot);
    }
    let asks = slots.iter().flat_map(|((node, key), slots)| {
        let asks = spans(slots).into_iter().map(|(first, last)| DetailsWanted {
            app: key.app.clone(),
            release: key.release,
            process: key.process.clone(),
            first,
            last,
        });
        asks.filter_map(|wanted| shared.details.ask(node, wanted))
    });
    let answers = asks.map(|ask| async {
        let answer = tokio::time::timeout(DETAILS_WAIT, ask.answer()).await;
        answer.unwrap_or_default()
    });
    let answers = join_all(answers.collect::<Vec<_>>()).await;
    let details = answers.iter().flat_map(|answer| answer.iter());
    details
        .map(|detail| (detail.id.clone(), detail.clone()))
        .collect()
}

/// The fewest spans of at most [`WANTED_SLOTS_MAX`] slots that hold these, which are in order.
fn spans(slots: &[u32]) -> Vec<(u32, u32)> {
    let mut spans: Vec<(u32, u32)> = Vec::new();
    for slot in slots {
        match spans.last_mut() {
            Some((first, last)) if slot - *first < WANTED_SLOTS_MAX => *last = *slot,
            _ => spans.push((*slot, *slot)),
        }
    }
    spans
}

// === impl InstancesParams ===

impl InstancesParams {
    fn understood(self) -> Result<Asked, Refusal> {
        let invalid = |error: &dyn std::fmt::Display| Refusal::invalid(error.to_string());
        let asked = Asked {
            process: self
                .process
                .map(|text| text.parse())
                .transpose()
                .map_err(|e: gilliam_model::name::NameError| invalid(&e))?,
            release: self
                .release
                .map(|text| text.parse())
                .transpose()
                .map_err(|e: gilliam_model::release::ReleaseIdError| invalid(&e))?,
            from: self.from,
            limit: self.limit,
        };
        if let Some(limit) = asked.limit.filter(|limit| *limit > INSTANCES_COUNT_MAX) {
            let message = format!("limit={limit} is more than the {INSTANCES_COUNT_MAX} that one page lists");
            return Err(
                Refusal::invalid(message).hint("ask for the next page: from= takes the next of the answer")
            );
        }
        let is_page = asked.from.is_some() || asked.limit.is_some_and(|limit| limit > 0);
        if is_page && asked.process.is_none() {
            return Err(
                Refusal::invalid("from and limit need the process type whose instances are listed")
                    .hint("name it: process=worker"),
            );
        }
        Ok(asked)
    }
}

// === impl Asked ===

impl Asked {
    fn names(&self, key: &ProcessKey) -> bool {
        self.process
            .as_ref()
            .is_none_or(|process| *process == key.process)
            && self.release.is_none_or(|release| release == key.release)
    }

    /// The instances to list, and the slot from which the next page begins.
    fn list<'a>(&self, roster: &Roster<'a>, keys: &[ProcessKey]) -> (Vec<Listed<'a>>, Option<u32>) {
        let count = |key: &ProcessKey| usize::try_from(roster.count(key)).unwrap_or(usize::MAX);
        if self.process.is_some() {
            let is_small = keys.iter().map(count).sum::<usize>() <= DETAILS_ALL_COUNT_MAX;
            let limit = if is_small {
                DETAILS_ALL_COUNT_MAX
            } else {
                INSTANCES_LISTED
            };
            let page = Page {
                from: self.from.unwrap_or(1),
                limit: self.limit.unwrap_or(limit),
            };
            return if page.limit == 0 {
                Default::default()
            } else {
                roster.page(keys, page)
            };
        }
        let mut left = self.limit.unwrap_or(INSTANCES_COUNT_MAX);
        let mut fits = |key: &&ProcessKey| {
            let fits = count(key) <= DETAILS_ALL_COUNT_MAX.min(left);
            left -= if fits { count(key) } else { 0 };
            fits
        };
        let small: Vec<ProcessKey> = keys.iter().filter(&mut fits).cloned().collect();
        let all = Page {
            from: 1,
            limit: usize::MAX,
        };
        (roster.page(&small, all).0, None)
    }
}
