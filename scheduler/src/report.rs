//! What the last plan could not do, for those who ask why something does not run.
//!
//! In: each plan, and how it failed to be stored. Out: slots with the reasons, in memory, as `ps` and those
//! who wait show them.

use std::{collections::BTreeMap, sync::Arc};

use gilliam_model::{api::Blocked, name::AppName};
use gilliam_plan::Plan;
use gilliam_store::{CommitError, Revision};

use crate::shared::{Planned, Shared};

/// Keeps what a plan could not place.
pub(crate) fn keep(shared: &Shared, revision: Revision, plan: &Plan) {
    replace(shared, revision, unplaced(plan));
}

/// Keeps why a plan is not in effect: until the store takes it, nothing of it happens.
pub(crate) fn keep_unstored(shared: &Shared, revision: Revision, plan: &Plan, error: &CommitError) {
    let mut blocked = unplaced(plan);
    for placement in plan
        .changes()
        .map(|change| &change.placement)
        .filter(|p| p.count() > 0)
    {
        let reason = format!("{} {error}", error.code());
        blocked.entry(placement.app.clone()).or_default().push(Blocked {
            release: placement.release,
            process: placement.process.clone(),
            count: placement.count(),
            reasons: BTreeMap::from([(placement.node.to_string(), reason)]),
        });
    }
    replace(shared, revision, blocked);
}

fn unplaced(plan: &Plan) -> BTreeMap<AppName, Vec<Blocked>> {
    let mut blocked: BTreeMap<AppName, Vec<Blocked>> = BTreeMap::new();
    for slots in &plan.report.blocked {
        blocked
            .entry(slots.app.clone())
            .or_default()
            .push(slots.clone().into());
    }
    blocked
}

fn replace(shared: &Shared, revision: Revision, blocked: BTreeMap<AppName, Vec<Blocked>>) {
    *shared.planned.lock().expect("no holder panics") = Arc::new(Planned { revision, blocked });
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use gilliam_model::{
        code::Code,
        instance::Epoch,
        placement::{Placement, SlotRange},
    };
    use gilliam_plan::{Change, Report};
    use gilliam_store::Store;

    use super::*;
    use crate::Config;

    fn placement(process: &str, ranges: Vec<SlotRange>) -> Placement {
        Placement {
            app: "hello".parse().expect("name"),
            release: "v2".parse().expect("release"),
            process: process.parse().expect("name"),
            node: "n1".parse().expect("name"),
            ranges,
            leaving: Vec::new(),
        }
    }

    #[test]
    fn a_plan_that_the_store_does_not_take_is_told_to_those_who_wait_for_it() {
        let config = Config::new(PathBuf::new(), ([127, 0, 0, 1], 0).into(), Vec::new());
        let shared = Shared::new(config, Store::memory(), "a life".to_string());
        let epoch = Epoch(1);
        let range = SlotRange {
            first: 1,
            last: 3,
            epoch,
        };
        let change = |placement, started| Change {
            placement,
            started,
            stopped: 0,
        };
        let (web, worker) = (placement("web", vec![range]), placement("worker", Vec::new()));
        let app = web.app.clone();
        let plan = Plan {
            epoch,
            parts: vec![vec![change(web, 3)], vec![change(worker, 0)]],
            report: Report::default(),
        };
        let error = CommitError::Unavailable {
            code: Code::S10,
            reason: "no space".to_string(),
        };
        keep_unstored(&shared, Revision(7), &plan, &error);
        let planned = shared.planned();
        let blocked = &planned.blocked[&app];
        assert_eq!((planned.revision, blocked.len()), (Revision(7), 1));
        assert_eq!((blocked[0].process.as_str(), blocked[0].count), ("web", 3));
        assert_eq!(
            blocked[0].reasons["n1"],
            "S10 the store takes no writes: no space"
        );
    }
}
