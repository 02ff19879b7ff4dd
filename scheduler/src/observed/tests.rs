use gilliam_model::{
    instance::{InstanceId, InstanceReport},
    report::fold,
    sync::PROTOCOL,
};
use proptest::{collection::vec, prelude::*};

use super::*;

const LOST_AFTER: Duration = Duration::from_secs(10);

fn facts(name: &str) -> NodeFacts {
    NodeFacts {
        name: name.parse().expect("name"),
        host: name.to_string(),
        version: "0.1.0".to_string(),
        pid: 1,
        http: "127.0.0.1:8080".to_string(),
        cpus: 2,
        memory_bytes: 1 << 30,
        peer: None,
        instances_max: None,
        cpu_millis: None,
        labels: gilliam_model::label::Labels::default(),
        started_at: Timestamp::UNIX_EPOCH,
    }
}

fn report(id: &str, state: InstanceState) -> InstanceReport {
    InstanceReport {
        id: id.parse().expect("id"),
        state,
        since: Timestamp::UNIX_EPOCH,
        port: None,
        memory_bytes: 0,
        memory_bytes_peak: 0,
        memory_bytes_max: 0,
        fuel_per_s: 0,
        restarts: 0,
        last_failure: None,
        retry_at: None,
    }
}

/// The whole report `number` of node a.
fn whole(number: u64, instances: Vec<InstanceReport>) -> SyncRequest {
    SyncRequest {
        protocol: PROTOCOL,
        node: facts("a"),
        generation: 0,
        control: String::new(),
        number,
        base: None,
        processes: fold(instances, &[]),
        gone: Vec::new(),
        runs: Vec::new(),
        wait_ms: 0,
        peers: None,
    }
}

/// The report `number` of node a, relative to `base`.
fn relative(number: u64, base: u64, changed: Vec<InstanceReport>, gone: &[&str]) -> SyncRequest {
    let gone = gone
        .iter()
        .map(|id| ProcessKey::from(&id.parse::<InstanceId>().expect("id")));
    SyncRequest {
        base: Some(base),
        gone: gone.collect(),
        ..whole(number, changed)
    }
}

fn later(now: Now, by: Duration) -> Now {
    Now {
        clock: now.clock + by,
        ..now
    }
}

#[test]
fn a_node_is_lost_when_it_stops_syncing_and_ready_when_it_is_back() {
    let now = Now::read();
    let observed = Observed::new(LOST_AFTER, now);
    observed.report(whole(1, vec![]), now).expect("room");
    assert_eq!(observed.view(later(now, LOST_AFTER))["a"].state, NodeState::Ready);
    let lost = later(now, LOST_AFTER + Duration::from_millis(1));
    assert_eq!(observed.view(lost)["a"].state, NodeState::Lost);
    let mut changes = observed.changes();
    for request in [whole(2, vec![]), relative(3, 1, vec![], &[])] {
        let back = later(
            lost,
            LOST_AFTER * u32::try_from(2 * request.number).expect("small"),
        );
        assert_eq!(observed.report(request, back).expect("room"), Taken::Applied);
        assert_eq!(observed.view(back)["a"].state, NodeState::Ready);
        assert!(changes.has_changed().expect("open"), "its return is news");
        changes.mark_unchanged();
    }
    assert!(
        observed.view(later(lost, FORGET_AFTER * 2)).is_empty(),
        "forgotten"
    );
}

#[test]
fn a_report_replaces_the_one_before_and_only_news_wakes() {
    let now = Now::read();
    let observed = Observed::new(LOST_AFTER, now);
    let running = report("hello/v1/web.1@1", InstanceState::Running);
    observed
        .report(whole(1, vec![running.clone()]), now)
        .expect("room");
    let mut changes = observed.changes();
    let busier = InstanceReport {
        memory_bytes: 5,
        fuel_per_s: 9,
        ..running.clone()
    };
    observed
        .report(whole(2, vec![busier.clone()]), now)
        .expect("room");
    observed
        .report(relative(3, 2, vec![busier], &[]), now)
        .expect("room");
    assert!(!changes.has_changed().expect("open"), "load is not news");
    let view = observed.view(now);
    assert_eq!(view["a"].reports.values().next().expect("one").memory_bytes, 5);
    let crashed = InstanceReport {
        state: InstanceState::Crashed,
        ..running
    };
    observed.report(whole(4, vec![crashed]), now).expect("room");
    assert!(changes.has_changed().expect("open"), "a crash is news");
    changes.mark_unchanged();
    observed.report(whole(5, vec![]), now).expect("room");
    assert!(changes.has_changed().expect("open"), "an end is news");
    assert!(observed.view(now)["a"].reports.is_empty());
}

#[test]
fn only_running_instances_of_ready_nodes_count() {
    let now = Now::read();
    let observed = Observed::new(LOST_AFTER, now);
    let instances = vec![
        report("hello/v1/web.1@1", InstanceState::Running),
        report("hello/v1/web.2@1", InstanceState::Starting),
        report("other/v1/web.1@1", InstanceState::Running),
    ];
    observed.report(whole(1, instances), now).expect("room");
    assert_eq!(running_by_app(&observed.view(now)).get("hello"), Some(&1));
    assert_eq!(observed.view(now)["a"].info().running, 2);
    assert!(running_by_app(&observed.view(later(now, LOST_AFTER * 2))).is_empty());
}

#[test]
fn a_change_without_its_base_is_not_taken_and_a_late_report_says_nothing() {
    let now = Now::read();
    let observed = Observed::new(LOST_AFTER, now);
    let one = || vec![report("hello/v1/web.1@1", InstanceState::Running)];
    let take = |request| observed.report(request, now).expect("room");
    let processes = || observed.view(now).get("a").map(|node| node.reports.len());
    assert_eq!(take(relative(7, 6, one(), &[])), Taken::Unfounded);
    assert_eq!(processes(), None, "nothing is known of it");
    assert_eq!(take(whole(8, one())), Taken::Applied);
    assert_eq!(
        take(relative(11, 9, vec![], &["hello/v1/web.1@1"])),
        Taken::Unfounded
    );
    assert_eq!(take(whole(8, vec![])), Taken::Late);
    assert_eq!(take(relative(7, 6, vec![], &["hello/v1/web.1@1"])), Taken::Late);
    assert_eq!(processes(), Some(1));
    let started_at = Timestamp::from_second(1).expect("instant");
    let of_next_life = |mut request: SyncRequest| {
        request.node.started_at = started_at;
        request
    };
    assert_eq!(take(of_next_life(relative(9, 8, vec![], &[]))), Taken::Unfounded);
    assert_eq!(take(of_next_life(whole(1, vec![]))), Taken::Applied);
    assert_eq!(processes(), Some(0));
}

/// What happens on a node or on its way: an instance of one of four process types gets a state or ends; a
/// report is sent, and it arrives and is answered, arrives and is cut off, or is lost.
#[derive(Debug, Clone, Copy)]
enum Event {
    State(usize, u32, InstanceState),
    End(usize, u32),
    Report { arrives: bool, is_answered: bool },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    use InstanceState::{Crashed, Running, Starting};
    let states = prop_oneof![Just(Starting), Just(Running), Just(Crashed)];
    let event = prop_oneof![
        4 => (0..4_usize, 1..6_u32, states).prop_map(|(p, slot, state)| Event::State(p, slot, state)),
        3 => (0..4_usize, 1..6_u32).prop_map(|(process, slot)| Event::End(process, slot)),
        4 => any::<(bool, bool)>().prop_map(|(arrives, answered)| Event::Report {
            arrives,
            is_answered: arrives && answered,
        }),
    ];
    vec(event, 0..60)
}

/// A node as the protocol wants it: versions of process types, and what was last answered.
#[derive(Default)]
struct Sender {
    instances: BTreeMap<(usize, u32), InstanceState>,
    /// The report in which a process type's last change is first told.
    changed: BTreeMap<usize, u64>,
    number: u64,
    answered: Option<u64>,
}

impl Sender {
    fn id(process: usize, slot: u32) -> String {
        format!("hello/v{}/web.{slot}@1", process + 1)
    }

    fn reports(&self, process: usize) -> Vec<InstanceReport> {
        let mine = self.instances.iter().filter(|((p, _), _)| *p == process);
        mine.map(|((p, slot), state)| report(&Self::id(*p, *slot), *state))
            .collect()
    }

    fn request(&mut self) -> SyncRequest {
        self.number += 1;
        let changed = |process: &usize| {
            let at = self.changed.get(process).copied();
            self.answered.is_none_or(|base| at.is_some_and(|at| at > base))
        };
        let (mut processes, mut gone) = (Vec::new(), Vec::new());
        for process in (0..4).filter(changed) {
            let reports = self.reports(process);
            if reports.is_empty() {
                gone.push(Self::id(process, 1));
            }
            processes.extend(reports);
        }
        let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
        match self.answered {
            None => whole(self.number, processes),
            Some(base) => relative(self.number, base, processes, &gone),
        }
    }
}

proptest! {
    /// Whatever is lost, cut off or asked for again on the way: after a report is answered, what is held is
    /// what a whole report would have told.
    #[test]
    fn changes_and_resyncs_equal_the_whole(events in events(), forgets in vec(0..60_usize, 0..3)) {
        let now = Now::read();
        let mut observed = Observed::new(LOST_AFTER, now);
        let mut sender = Sender::default();
        for (n, event) in events.into_iter().enumerate() {
            if forgets.contains(&n) {
                // The control plane is started again.
                observed = Observed::new(LOST_AFTER, now);
            }
            match event {
                Event::State(process, slot, state) => {
                    sender.instances.insert((process, slot), state);
                    sender.changed.insert(process, sender.number + 1);
                }
                Event::End(process, slot) => {
                    sender.instances.remove(&(process, slot));
                    sender.changed.insert(process, sender.number + 1);
                }
                Event::Report { arrives, is_answered } => {
                    let request = sender.request();
                    let number = request.number;
                    let taken = arrives.then(|| observed.report(request, now).expect("room"));
                    if !is_answered {
                        continue;
                    }
                    if taken == Some(Taken::Unfounded) {
                        sender.answered = None;
                        continue;
                    }
                    sender.answered = Some(number);
                    let all = (0..4).flat_map(|process| sender.reports(process));
                    let want: BTreeMap<_, _> = fold(all, &[]).into_iter().map(|r| (r.key(), r)).collect();
                    let view = observed.view(now);
                    let held: BTreeMap<_, _> =
                        view["a"].current().map(|(key, report)| (key.clone(), report.clone())).collect();
                    prop_assert_eq!(held, want);
                }
            }
        }
    }
}

#[test]
fn of_two_lives_of_a_node_the_later_is_taken_and_the_other_told_once_both_are_there() {
    let now = Now::read();
    let observed = Observed::new(LOST_AFTER, now);
    let began = |seconds: i64, mut request: SyncRequest| {
        request.node.started_at = Timestamp::from_second(seconds).expect("instant");
        request
    };
    let at = |ms: u64| later(now, Duration::from_millis(ms));
    let told = |is_replaced| {
        Err(NotTaken::Older {
            than: Timestamp::from_second(9).expect("instant"),
            is_replaced,
        })
    };
    assert_eq!(
        observed.report(began(5, whole(1, vec![])), at(0)),
        Ok(Taken::Applied)
    );
    assert_eq!(
        observed.report(began(9, whole(1, vec![])), at(10)),
        Ok(Taken::Applied)
    );
    assert_eq!(observed.report(began(5, whole(2, vec![])), at(20)), told(false));
    assert_eq!(observed.report(began(5, whole(2, vec![])), at(30)), told(false));
    assert_eq!(
        observed.report(began(9, whole(2, vec![])), at(40)),
        Ok(Taken::Applied)
    );
    assert_eq!(observed.report(began(5, whole(3, vec![])), at(50)), told(true));
    // A node whose clock was set back: what it follows is gone, and held lost after a while.
    let silence = u64::try_from(LOST_AFTER.as_millis()).expect("small") + 60;
    assert_eq!(
        observed.report(began(5, whole(3, vec![])), at(silence)),
        Ok(Taken::Applied)
    );
}
