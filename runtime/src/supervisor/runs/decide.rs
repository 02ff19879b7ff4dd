//! What a node does about its runs: a pure function from what is assigned and known to steps.

use std::collections::BTreeMap;

use gilliam_model::{
    Timestamp,
    run::{AssignedRun, RunId},
};

/// What is known of a run that was begun here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It has not ended.
    Open,
    /// It has, and is told of.
    Ended,
    /// It has, and nobody asks for it any more.
    Forgotten,
}

/// What to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Steps {
    /// To begin.
    pub(super) begin: Vec<AssignedRun>,
    /// To be asked to end.
    pub(super) stop: Vec<RunId>,
    /// To be told of no longer.
    pub(super) forget: Vec<RunId>,
}

/// Decides what to do about runs in the life of the node that began at `life`.
pub(super) fn decide(assigned: &[AssignedRun], life: Timestamp, known: &BTreeMap<RunId, Known>) -> Steps {
    let mut steps = Steps::default();
    for run in assigned {
        match known.get(&run.id) {
            None if run.life == life => steps.begin.push(run.clone()),
            Some(Known::Open) if run.is_to_stop => steps.stop.push(run.id.clone()),
            _ => {}
        }
    }
    for (id, known) in known {
        if assigned.iter().any(|run| run.id == *id) {
            continue;
        }
        match known {
            Known::Open => steps.stop.push(id.clone()),
            Known::Ended => steps.forget.push(id.clone()),
            Known::Forgotten => {}
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use gilliam_model::{
        config::Config,
        digest::Digest,
        image::{Process, Shape},
        limits::Limits,
        rules::PlacementRules,
        run::Work,
    };

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn id(number: u32) -> RunId {
        RunId {
            app: "hello".parse().expect("name"),
            number,
            asked_at: at(1),
        }
    }

    fn run(number: u32, life: i64, is_to_stop: bool) -> AssignedRun {
        let process = Process {
            component: Digest::from_sha256([0; 32]),
            component_bytes: 1,
            shape: Shape::CommandP2,
            command: "task.wasm".into(),
            args: vec!["task.wasm".into()],
            limits: Limits::default(),
            allowed_outbound_hosts: Vec::new(),
            guard_pages: false,
            jobs: gilliam_model::queue::JobTerms::default(),
            uses: Default::default(),
            imports: None,
            placement: PlacementRules::default(),
        };
        AssignedRun {
            id: id(number),
            life: at(life),
            release: "v1".parse().expect("release"),
            process: "task".parse().expect("name"),
            work: Work {
                process,
                config: Config::default(),
            },
            services: Vec::new(),
            attached: None,
            run_ms_max: 1_000,
            is_to_stop,
        }
    }

    #[test]
    fn a_run_is_begun_once_and_in_its_life_only() {
        let of_another_life = run(2, 6, false);
        let assigned = [run(1, 7, false), of_another_life, run(3, 7, false)];
        let known = [(id(3), Known::Forgotten)].into();
        let steps = decide(&assigned, at(7), &known);
        assert_eq!(steps.begin, [run(1, 7, false)]);
        assert!(steps.stop.is_empty() && steps.forget.is_empty());
    }

    #[test]
    fn what_is_asked_to_end_or_is_not_assigned_ends_and_is_forgotten() {
        let known = [
            (id(1), Known::Open),
            (id(2), Known::Open),
            (id(3), Known::Ended),
            (id(4), Known::Ended),
            (id(5), Known::Open),
        ];
        let assigned = [run(1, 7, true), run(3, 7, true), run(5, 7, false)];
        let steps = decide(&assigned, at(7), &known.into());
        assert_eq!(steps.stop, [id(1), id(2)]);
        assert_eq!(steps.forget, [id(4)]);
        assert!(steps.begin.is_empty());
    }
}
