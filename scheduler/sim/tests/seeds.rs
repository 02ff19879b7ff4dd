//! Seeds that are played through with every test run; `gilliam sim` plays any other.

use std::time::Duration;

use gilliam_sim::{Sabotage, Scenario, Summary, run};

fn play(scenario: Scenario) -> Summary {
    match run(&scenario, &mut |_| {}) {
        Ok(summary) => summary,
        Err(violation) => panic!("{violation}\n{}", violation.course.join("\n")),
    }
}

fn scenario(seed: u64, nodes: u32, planes: u32) -> Scenario {
    Scenario {
        planes,
        faults: Duration::from_secs(600),
        heal: Duration::from_secs(1_200),
        ..Scenario::new(seed, nodes)
    }
}

#[test]
fn clusters_survive_faults_and_then_run_what_was_asked_for() {
    for seed in 0..12 {
        let (nodes, planes) = (
            1 + u32::try_from(seed % 12).expect("few"),
            1 + u32::from(seed % 3 > 0),
        );
        let summary = play(scenario(seed, nodes, planes));
        assert!(summary.changes > 0 && summary.starts > 0, "{summary:?}");
    }
}

#[test]
fn a_seed_goes_the_same_way_again() {
    let one = play(scenario(7, 5, 2));
    assert_eq!(one, play(scenario(7, 5, 2)));
    assert_ne!(one.fingerprint, play(scenario(8, 5, 2)).fingerprint);
}

/// What the first of many seeds that notices says.
#[track_caller]
fn noticed(sabotage: Sabotage) -> String {
    let noticed = (0..SEEDS_MAX).find_map(|seed| {
        let sabotage = Some(sabotage);
        let scenario = Scenario {
            sabotage,
            ..scenario(seed, 6, 3)
        };
        run(&scenario, &mut |_| {}).err()
    });
    noticed.expect("a seed that notices").to_string()
}

/// Seeds within which a safeguard that is left out is to be noticed: the first of them are enough.
const SEEDS_MAX: u64 = 30;

#[test]
fn plans_that_do_not_look_at_each_other_are_noticed() {
    let said = noticed(Sabotage::EpochUnchecked);
    let broken = [
        "is placed on",
        "epoch went back",
        "is promised",
        "and is alive on",
        "are wanted and",
    ];
    assert!(broken.iter().any(|promise| said.contains(promise)), "{said}");
}

#[test]
fn nodes_that_follow_older_assignments_are_noticed() {
    let said = noticed(Sabotage::OlderAssignments);
    assert!(said.contains("went back from generation"), "{said}");
}
