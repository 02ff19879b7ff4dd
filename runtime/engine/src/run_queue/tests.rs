//! The order as a whole: everyone moves on, the quiet go at once, shares are kept, memory is bounded.

use proptest::prelude::*;

use super::*;

/// CPU time of a slice.
const SLICE_NS: u64 = 50_000;

/// A processor that runs the queue, and what each instance has had.
#[derive(Default)]
struct Machine {
    queue: RunQueue<usize>,
    ids: Vec<InstanceId>,
    had_ns: Vec<u64>,
    now_ns: u64,
}

impl Machine {
    fn add(&mut self, app: AppId, cpu_millis: u32) -> usize {
        self.ids.push(self.queue.add(app, cpu_millis));
        self.had_ns.push(0);
        self.ids.len() - 1
    }

    fn app(&mut self, instances: usize) -> Vec<usize> {
        let app = self.queue.add_app();
        (0..instances).map(|_| self.add(app, 1_000)).collect()
    }

    fn wake(&mut self, who: usize) {
        self.queue.wake(self.ids[who], who, self.had_ns[who], self.now_ns);
    }

    /// Runs one slice; whose it was.
    fn step(&mut self, slice_ns: u64) -> Option<usize> {
        let (id, who) = self.queue.next()?;
        assert_eq!(id, self.ids[who]);
        self.now_ns += slice_ns;
        self.had_ns[who] += slice_ns;
        self.queue.ran(id, self.had_ns[who], self.now_ns);
        Some(who)
    }

    /// Runs one slice of one that spins: it is ready again at once.
    fn spin(&mut self) -> usize {
        let who = self.step(SLICE_NS).expect("somebody spins");
        self.wake(who);
        who
    }
}

fn spinners(machine: &mut Machine, instances: usize) -> Vec<usize> {
    let all = machine.app(instances);
    for who in &all {
        machine.wake(*who);
    }
    all
}

#[test]
fn an_app_with_a_thousand_busy_instances_leaves_half_to_one_with_one() {
    let mut machine = Machine::default();
    spinners(&mut machine, 1_000);
    let alone = spinners(&mut machine, 1)[0];
    let turns = (0..20_000).filter(|_| machine.spin() == alone).count();
    assert!((9_000..=11_000).contains(&turns), "{turns} of 20,000");
}

#[test]
fn a_quiet_one_goes_at_once_beside_ten_thousand_spinners() {
    for apps in [1, 100, 10_000] {
        let mut machine = Machine::default();
        for _ in 0..apps {
            spinners(&mut machine, 10_000 / apps);
        }
        // Each has run: what is new comes in order.
        for _ in 0..20_000 {
            machine.spin();
        }
        let quiet = machine.app(1)[0];
        let mut longest = 0;
        for _ in 0..300 {
            // 5 ms apart, a slice of work each: 2 % of one core with two slices at once.
            for _ in 0..100 {
                machine.spin();
            }
            machine.wake(quiet);
            let mut waited = 0;
            loop {
                let who = machine.step(SLICE_NS).expect("spinners");
                if who == quiet {
                    break;
                }
                machine.wake(who);
                waited += 1;
            }
            longest = longest.max(waited);
        }
        assert!(longest <= 2, "waited {longest} slices beside {apps} apps");
    }
}

#[test]
fn those_that_are_cancelled_go_first() {
    let mut machine = Machine::default();
    let spinning = spinners(&mut machine, 100);
    let (ready, waiting) = (spinning[70], machine.app(1)[0]);
    machine.queue.cancel(machine.ids[ready], |task| *task == ready);
    machine.queue.wake_cancelled(machine.ids[waiting], waiting);
    assert_eq!(machine.step(SLICE_NS), Some(ready));
    assert_eq!(machine.step(SLICE_NS), Some(waiting));
    assert_eq!(machine.queue.len(), 99);
    let mut rest: Vec<_> = std::iter::from_fn(|| machine.step(SLICE_NS)).collect();
    rest.sort_unstable();
    assert!(rest.len() == 99 && !rest.contains(&ready));
}

#[test]
fn memory_follows_what_is_there() {
    let mut machine = Machine::default();
    let all = spinners(&mut machine, 100);
    for _ in 0..100_000 {
        machine.spin();
    }
    let app = &machine.queue.apps[machine.queue.instances[machine.ids[0].0].app];
    for line in [&app.line, &machine.queue.line] {
        let entries = line.by_need.len().max(line.by_age.len());
        assert!(entries <= 3 * 100 + STALE_ENTRIES_MAX, "{entries} entries");
    }
    for who in all {
        machine.queue.remove(machine.ids[who]);
    }
    assert_eq!(machine.queue.len(), 0);
    assert!(machine.queue.next().is_none());
}

/// What happens in a random history.
#[derive(Debug, Clone)]
enum Event {
    /// Another task of this instance is ready.
    Wake(usize),
    /// A slice of so many microseconds is run; its task is ready again or not.
    Run(u64, bool),
    /// One of its tasks is cancelled.
    Cancel(usize),
    /// All sleep for so many microseconds.
    Sleep(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => (0_usize..12).prop_map(Event::Wake),
        5 => (0_u64..300, any::<bool>()).prop_map(|(us, again)| Event::Run(us, again)),
        1 => (0_usize..12).prop_map(Event::Cancel),
        1 => (0_u64..100_000).prop_map(Event::Sleep),
    ];
    proptest::collection::vec(event, 1..400)
}

/// Twelve instances of three apps, with these shares.
fn twelve(shares: &[u32]) -> Machine {
    let mut machine = Machine::default();
    for shares in shares.chunks(4) {
        let app = machine.queue.add_app();
        for share in shares {
            machine.add(app, *share);
        }
    }
    machine
}

proptest! {
    /// No task is lost and none runs twice, whatever happens; and the queue is empty in the end.
    #[test]
    fn every_task_runs_once(
        events in events(),
        shares in proptest::collection::vec(10_u32..=1_000, 12),
    ) {
        let mut machine = twelve(&shares);
        let mut ready = [0_usize; 12];
        for event in events {
            match event {
                Event::Wake(who) => {
                    machine.wake(who);
                    ready[who] += 1;
                }
                Event::Run(us, again) => {
                    let ran = machine.step(us * 1_000);
                    prop_assert_eq!(ran.is_none(), ready.iter().all(|tasks| *tasks == 0));
                    if let Some(who) = ran {
                        ready[who] = ready[who].checked_sub(1).expect("it was ready");
                        if again {
                            machine.wake(who);
                            ready[who] += 1;
                        }
                    }
                }
                Event::Cancel(who) => machine.queue.cancel(machine.ids[who], |_| true),
                Event::Sleep(us) => machine.now_ns += us * 1_000,
            }
            prop_assert_eq!(machine.queue.len(), ready.iter().sum::<usize>());
        }
        while let Some(who) = machine.step(SLICE_NS) {
            ready[who] = ready[who].checked_sub(1).expect("it was ready");
        }
        prop_assert_eq!(ready, [0; 12]);
    }

    /// However the others come and go, one that is ready runs after a bounded number of slices.
    #[test]
    fn nobody_starves(
        before in events(),
        others in proptest::collection::vec((0_usize..12, 0_u64..300, any::<bool>()), 1..50),
        victim in 0_usize..12,
        shares in proptest::collection::vec(10_u32..=1_000, 12),
    ) {
        let mut machine = twelve(&shares);
        for event in before {
            match event {
                Event::Wake(who) => machine.wake(who),
                Event::Run(us, _) => drop(machine.step(us * 1_000)),
                Event::Cancel(_) => {}
                Event::Sleep(us) => machine.now_ns += us * 1_000,
            }
        }
        while machine.step(SLICE_NS).is_some() {}
        // The worst case: it has had far more than all others.
        machine.had_ns[victim] += 10_000_000_000;
        machine.wake(victim);
        let bound = AGE_PICKS * 3 * AGE_PICKS * 4;
        let mut others = others.into_iter().cycle();
        let mut picks = 0;
        loop {
            let (other, us, sleeps) = others.next().expect("without end");
            if other != victim && machine.queue.instances[machine.ids[other].0].first == NONE {
                machine.wake(other);
            }
            let ran = machine.step(us * 1_000);
            picks += 1;
            if ran == Some(victim) {
                break;
            }
            if sleeps {
                machine.now_ns += 1_000_000_000;
            }
            prop_assert!(picks <= bound, "{} picks", picks);
        }
    }

    /// Instances of one app that all spin get CPU time in proportion to their shares.
    #[test]
    fn shares_are_proportional(shares in proptest::collection::vec(50_u32..=1_000, 2..8)) {
        let mut machine = Machine::default();
        let app = machine.queue.add_app();
        for share in &shares {
            let who = machine.add(app, *share);
            machine.wake(who);
        }
        let slices = 20_000;
        for _ in 0..slices {
            machine.spin();
        }
        let sum: u32 = shares.iter().sum();
        // One slice in so many goes by age, whatever the shares.
        let bent = 1.0 / f64::from(AGE_PICKS);
        for (share, had) in shares.iter().zip(&machine.had_ns) {
            let fair = f64::from(*share) / f64::from(sum);
            let got = *had as f64 / f64::from(slices) / SLICE_NS as f64;
            prop_assert!((got - fair).abs() <= bent + 0.01, "{} of {}", got, fair);
        }
    }
}
