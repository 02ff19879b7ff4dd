//! Tasks on the guest threads: their results and their ends.

use std::{
    future::{pending, poll_fn},
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use super::*;

fn threads(count: usize) -> GuestThreads {
    GuestThreads::start(
        NonZeroUsize::new(count).expect("not zero"),
        0,
        || {},
        MayRun::default(),
    )
    .expect("threads")
}

fn bucket(threads: &GuestThreads, cpu_millis: u32) -> Arc<CpuBucket> {
    let turns = threads.app("app").instance(cpu_millis);
    Arc::new(CpuBucket::new(cpu_millis, Instant::now(), turns))
}

/// Says that it was dropped.
struct Mark(Arc<AtomicBool>);

impl Drop for Mark {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

fn wait_for(what: &str, state: impl Fn() -> bool) {
    let start = Instant::now();
    while !state() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what} in time");
        thread::yield_now();
    }
}

/// A guest that is always ready again.
fn spin() -> impl Future<Output = ()> {
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

#[tokio::test]
async fn a_result_comes_back_and_a_panic_is_one() {
    let threads = threads(2);
    let cpu = bucket(&threads, 1_000);
    assert!(matches!(threads.spawn(&cpu, async { 7 }).await, Some(Ok(7))));
    let explode = async { panic!("boom") };
    let Some(Err(Panicked(text))) = threads
        .spawn::<_>(&cpu, explode)
        .await
        .map(|ended: Result<(), _>| ended)
    else {
        panic!("it panics")
    };
    assert_eq!(text, "boom");
    // The thread goes on, and timers work there.
    let sleep = async { tokio::time::sleep(Duration::from_millis(1)).await };
    assert!(matches!(threads.spawn(&cpu, sleep).await, Some(Ok(()))));
}

#[test]
fn a_dropped_handle_ends_its_guest_wherever_it_is() {
    let threads = threads(1);
    let (idle, busy, indebted) = (
        bucket(&threads, 1_000),
        bucket(&threads, 1_000),
        bucket(&threads, 10),
    );
    let mark = || Arc::new(AtomicBool::new(false));
    let marks: [_; 3] = std::array::from_fn(|_| mark());
    let [waits, spins, owes] = marks.clone().map(Mark);
    let tasks = [
        threads.spawn(&idle, async move {
            let _mark = waits;
            pending().await
        }),
        threads.spawn(&busy, async move {
            let _mark = spins;
            spin().await;
        }),
        threads.spawn(&indebted, async move {
            let _mark = owes;
            spin().await;
        }),
    ];
    // A minute of debt at a hundredth of a core.
    indebted.charge(600_000_000);
    wait_for("the debt", || indebted.in_debt());
    wait_for("the spinner", || busy.total_ns() > 0);
    drop(tasks);
    wait_for("the end of all", || marks.iter().all(|mark| mark.load(SeqCst)));
}

#[test]
fn a_detached_guest_goes_on_and_is_gone_when_nobody_can_wake_it() {
    let threads = threads(1);
    let cpu = bucket(&threads, 1_000);
    let ended = Arc::new(AtomicBool::new(false));
    let mark = Mark(ended.clone());
    threads
        .spawn(&cpu, async move {
            let _mark = mark;
            pending::<()>().await;
        })
        .detach();
    wait_for("its end", || ended.load(SeqCst));
}

#[test]
fn what_is_ready_is_dropped_with_the_threads() {
    let guests = threads(1);
    let cpu = bucket(&guests, 1_000);
    let barrier = Arc::new(Barrier::new(2));
    let (inside, ended) = (barrier.clone(), Arc::new(AtomicBool::new(false)));
    let first = guests.spawn(&cpu, async move {
        inside.wait();
        inside.wait();
    });
    barrier.wait();
    let mark = Mark(ended.clone());
    let second = guests.spawn(&cpu, async move { drop(mark) });
    drop(guests);
    assert!(ended.load(SeqCst), "dropped with the queue");
    barrier.wait();
    drop((first, second));
}

#[test]
fn debts_are_paid_at_the_rate_of_the_share_for_all_at_once() {
    // Two lanes of each of a hundred instances, each of a thousandth of what there is.
    let threads = threads(2);
    let buckets: Vec<_> = (0..100).map(|_| bucket(&threads, 10)).collect();
    let start = Instant::now();
    let spin = || async {
        loop {
            let end = Instant::now() + Duration::from_micros(20);
            while Instant::now() < end {
                std::hint::spin_loop();
            }
            tokio::task::yield_now().await;
        }
    };
    let tasks: Vec<GuestTask<Result<(), Panicked>>> = buckets
        .iter()
        .flat_map(|cpu| [threads.spawn(cpu, spin()), threads.spawn(cpu, spin())])
        .collect();
    let least = || buckets.iter().map(|cpu| cpu.total_ns()).min().expect("some");
    wait_for("each to have had more than its burst", || least() > 5_000_000);
    let share = start.elapsed().as_secs_f64() * 0.01;
    for cpu in &buckets {
        let had = Duration::from_nanos(cpu.total_ns()).as_secs_f64();
        assert!(had < share * 1.1 + 0.002, "{had} s of {share} s");
    }
    drop(tasks);
}

#[test]
fn guests_that_may_not_run_are_not_polled_until_they_may_and_can_be_ended_meanwhile() {
    let (may, polled, ended) = <(Arc<AtomicBool>, Arc<AtomicBool>, Arc<AtomicBool>)>::default();
    let says = may.clone();
    let may_run = MayRun::when(move || says.load(SeqCst));
    let threads = GuestThreads::start(NonZeroUsize::MIN, 0, || {}, may_run).expect("threads");
    let cpu = bucket(&threads, 1_000);
    let guest = |mark| {
        let polled = polled.clone();
        async move {
            let _mark = mark;
            polled.store(true, SeqCst);
        }
    };
    let held = threads.spawn(&cpu, guest(Mark(Arc::default())));
    let cancelled = threads.spawn(&cpu, guest(Mark(ended.clone())));
    cancelled.cancel();
    wait_for("a guest that is held is dropped", || ended.load(SeqCst));
    assert!(!polled.load(SeqCst));
    may.store(true, SeqCst);
    wait_for("the other goes on", || polled.load(SeqCst));
    drop(held);
}
