//! Seeds that are played through with every test run; `gilliam sim` plays any other.

use std::time::Duration;

use gilliam_sim::{Scenario, Summary, run};

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
