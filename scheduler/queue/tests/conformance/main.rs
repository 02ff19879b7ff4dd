//! What holds for queues, whatever keeps them.

mod bench;
#[path = "../postgres_process/mod.rs"]
mod postgres_process;

use std::time::Duration;

use bench::{Bench, at, emails, job, retry, texts};
use gilliam_model::queue::{JobId, JobState, LeaseId, NewJob, Outcome, Priority};
use gilliam_queue::{Put, QueueError, Queues, Settled, Want};

/// Tests of every backend.
macro_rules! conformance {
    ($($name:ident,)*) => {
        mod file {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(Bench::file()).await;
            })*
        }

        mod postgres {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(Bench::postgres()).await;
            })*
        }
    };
}

conformance! {
    jobs_are_taken_in_the_order_in_which_they_came_and_are_gone_when_they_are_done,
    what_was_answered_is_there_after_a_restart,
    the_most_urgent_go_first,
    a_delayed_job_waits_for_its_time,
    one_job_of_a_key_is_there_at_a_time,
    a_lease_that_ends_gives_the_job_to_the_next_and_the_first_worker_has_no_say_any_more,
    a_lease_can_be_extended,
    a_job_that_fails_comes_back_later_and_dies_in_the_end,
    the_workers_word_on_when_counts,
    what_is_handed_back_was_no_attempt,
    the_jobs_of_a_node_that_is_gone_come_back_at_once,
    a_queue_that_is_paused_gives_out_nothing,
    no_more_run_at_once_than_the_queue_may,
    no_more_begin_than_the_rate_says_and_it_outlives_the_program,
    purging_leaves_what_runs,
    what_is_too_much_is_refused_and_changes_nothing,
    an_apps_queues_go_with_it_and_those_of_others_stay,
    of_many_who_take_at_once_each_gets_jobs_of_its_own,
}

async fn jobs_are_taken_in_the_order_in_which_they_came_and_are_gone_when_they_are_done(bench: Bench) {
    bench.put_texts(&["a", "b", "c"]).await;
    let first = bench.take(2, 0).await;
    assert_eq!(texts(&first), ["a", "b"]);
    assert_eq!(first[0].attempt, 1);
    assert_eq!(first[0].until, at(60));
    assert_eq!(bench.counts().await, [1, 0, 2, 0]);
    for job in &first {
        assert_eq!(bench.say(job, Outcome::Done, 1).await, Settled::Kept(None));
    }
    assert_eq!(texts(&bench.take(5, 1).await), ["c"]);
    assert_eq!(bench.counts().await, [0, 0, 1, 0]);
    let info = bench
        .queues
        .info(&emails())
        .await
        .expect("info")
        .expect("a queue");
    assert_eq!((info.done, info.failed), (2, 0));
}

async fn what_was_answered_is_there_after_a_restart(bench: Bench) {
    bench.put_texts(&["a", "b"]).await;
    let taken = bench.take(1, 0).await;
    let bench = bench.again();
    assert_eq!(bench.counts().await, [1, 0, 1, 0]);
    // The worker that had it goes on as if nothing had been.
    assert_eq!(bench.say(&taken[0], Outcome::Done, 2).await, Settled::Kept(None));
    assert_eq!(texts(&bench.take(5, 2).await), ["b"]);
    let put = bench.put(&[job("c")]).await;
    assert_eq!(put, [Put::New(JobId(3))]);
}

async fn the_most_urgent_go_first(bench: Bench) {
    let urgent = |text: &str, priority| NewJob {
        priority: Priority(priority),
        ..job(text)
    };
    bench
        .put(&[
            urgent("low", -5),
            urgent("usual", 0),
            urgent("high", 5),
            urgent("usual too", 0),
        ])
        .await;
    assert_eq!(
        texts(&bench.take(5, 0).await),
        ["high", "usual", "usual too", "low"]
    );
}

async fn a_delayed_job_waits_for_its_time(bench: Bench) {
    let later = NewJob {
        not_before: Some(at(100)),
        ..job("later")
    };
    bench.put(&[later, job("now")]).await;
    assert_eq!(bench.counts().await, [1, 1, 0, 0]);
    assert_eq!(bench.queues.tick(at(99)).await.expect("tick"), Some(at(100)));
    assert_eq!(texts(&bench.take(5, 99).await), ["now"]);
    let mut ready = bench.queues.ready();
    ready.mark_unchanged();
    bench.queues.tick(at(100)).await.expect("tick");
    assert!(ready.has_changed().expect("open"), "whoever takes is woken");
    assert_eq!(texts(&bench.take(5, 100).await), ["later"]);
}

async fn one_job_of_a_key_is_there_at_a_time(bench: Bench) {
    let keyed = |text: &str| NewJob {
        key: Some("invoice 7".to_string()),
        ..job(text)
    };
    assert_eq!(
        bench.put(&[keyed("a"), keyed("b")]).await,
        [Put::New(JobId(1)), Put::Exists(JobId(1))]
    );
    let taken = bench.take(5, 0).await;
    assert_eq!(texts(&taken), ["a"]);
    assert!(
        matches!(bench.put(&[keyed("c")]).await[0], Put::Exists(JobId(1))),
        "it runs still"
    );
    bench.say(&taken[0], Outcome::Done, 1).await;
    assert!(matches!(bench.put(&[keyed("d")]).await[0], Put::New(_)));
    // A dead job of the key keeps nobody from asking again, and may come back beside the new one.
    let taken = bench.take(5, 1).await;
    let dead = Outcome::Discard {
        error: "no such invoice".to_string(),
    };
    assert_eq!(bench.say(&taken[0], dead, 2).await, Settled::Dead);
    assert!(matches!(bench.put(&[keyed("e")]).await[0], Put::New(_)));
    assert_eq!(
        bench.queues.retry(&emails(), Some(taken[0].id), at(3)).await,
        Ok(1)
    );
    assert_eq!(texts(&bench.take(5, 3).await), ["d", "e"]);
}

async fn a_lease_that_ends_gives_the_job_to_the_next_and_the_first_worker_has_no_say_any_more(bench: Bench) {
    bench.put_texts(&["a"]).await;
    let zombie = bench.take(1, 0).await.remove(0);
    bench.queues.tick(at(59)).await.expect("tick");
    assert!(bench.take(1, 59).await.is_empty());
    bench.queues.tick(at(60)).await.expect("tick");
    let second = bench.take(1, 60).await.remove(0);
    assert_eq!((second.attempt, second.lease), (2, LeaseId(2)));
    for outcome in [
        Outcome::Done,
        retry("late"),
        Outcome::HandBack,
        Outcome::Extend { for_ms: 1 },
    ] {
        assert_eq!(bench.say(&zombie, outcome, 61).await, Settled::Lost);
    }
    assert_eq!(bench.say(&second, Outcome::Done, 62).await, Settled::Kept(None));
    assert_eq!(bench.say(&second, Outcome::Done, 62).await, Settled::Lost);
    assert_eq!(bench.counts().await, [0, 0, 0, 0]);
}

async fn a_lease_can_be_extended(bench: Bench) {
    bench.put_texts(&["a"]).await;
    let taken = bench.take(1, 0).await.remove(0);
    let extended = bench.say(&taken, Outcome::Extend { for_ms: 60_000 }, 50).await;
    assert_eq!(extended, Settled::Kept(Some(at(110))));
    bench.queues.tick(at(109)).await.expect("tick");
    assert_eq!(bench.say(&taken, Outcome::Done, 109).await, Settled::Kept(None));
}

async fn a_job_that_fails_comes_back_later_and_dies_in_the_end(bench: Bench) {
    let twice = NewJob {
        attempts_max: Some(2),
        ..job("poison")
    };
    bench.put(&[twice]).await;
    let first = bench.take(1, 0).await.remove(0);
    assert_eq!(bench.say(&first, retry("no route"), 0).await, Settled::Kept(None));
    assert_eq!(bench.counts().await, [0, 1, 0, 0]);
    bench.queues.tick(at(14)).await.expect("tick");
    assert!(bench.take(1, 14).await.is_empty());
    bench.queues.tick(at(18)).await.expect("tick");
    let second = bench.take(1, 18).await.remove(0);
    assert_eq!(second.attempt, 2);
    assert_eq!(
        bench.say(&second, retry("no route again"), 18).await,
        Settled::Dead
    );
    let dead = bench
        .queues
        .jobs(&emails(), JobState::Dead, 10)
        .await
        .expect("jobs");
    assert_eq!(dead[0].error.as_deref(), Some("no route again"));
    assert_eq!((dead[0].attempts, dead[0].at), (2, at(18)));
    let (_, payload) = bench
        .queues
        .job(&emails(), dead[0].id)
        .await
        .expect("job")
        .expect("there");
    assert_eq!(payload, b"poison");
    // It is kept for fourteen days.
    let kept = 14 * 24 * 3600;
    bench.queues.tick(at(18 + kept)).await.expect("tick");
    assert_eq!(bench.counts().await, [0, 0, 0, 1]);
    bench.queues.tick(at(19 + kept)).await.expect("tick");
    assert_eq!(bench.counts().await, [0, 0, 0, 0]);
}

async fn the_workers_word_on_when_counts(bench: Bench) {
    bench.put_texts(&["a"]).await;
    let taken = bench.take(1, 0).await.remove(0);
    let soon = Outcome::Retry {
        error: "busy".to_string(),
        after_ms: Some(2_000),
    };
    bench.say(&taken, soon, 0).await;
    assert_eq!(bench.queues.tick(at(1)).await.expect("tick"), Some(at(2)));
    bench.queues.tick(at(2)).await.expect("tick");
    assert_eq!(bench.take(1, 2).await.len(), 1);
}

async fn what_is_handed_back_was_no_attempt(bench: Bench) {
    bench.put_texts(&["a", "b"]).await;
    let taken = bench.take(1, 0).await.remove(0);
    assert_eq!(bench.say(&taken, Outcome::HandBack, 1).await, Settled::Kept(None));
    let again = bench.take(1, 1).await.remove(0);
    assert_eq!((again.id, again.attempt, again.lease), (taken.id, 1, LeaseId(2)));
}

async fn the_jobs_of_a_node_that_is_gone_come_back_at_once(bench: Bench) {
    bench.put_texts(&["a", "b", "c", "d"]).await;
    for holder in ["n1/worker.1", "n1/worker.2", "n10/worker.1", "n1"] {
        assert_eq!(bench.take_as(holder, 1, 0).await.len(), 1);
    }
    assert_eq!(bench.queues.holder_gone("n1", at(5)).await, Ok(3));
    assert_eq!(texts(&bench.take_as("n2/worker.1", 5, 5).await), ["a", "b", "d"]);
}

async fn a_queue_that_is_paused_gives_out_nothing(bench: Bench) {
    bench.put_texts(&["a"]).await;
    assert_eq!(bench.queues.giving(&[emails()]), [emails()]);
    assert_eq!(bench.queues.pause(&emails(), true).await, Ok(true));
    assert_eq!(bench.queues.giving(&[emails()]), []);
    assert_eq!(bench.queues.pause(&emails(), true).await, Ok(false));
    assert!(bench.take(1, 0).await.is_empty());
    let bench = bench.again();
    assert!(bench.take(1, 0).await.is_empty());
    let mut ready = bench.queues.ready();
    ready.mark_unchanged();
    assert_eq!(bench.queues.pause(&emails(), false).await, Ok(true));
    assert!(ready.has_changed().expect("open"), "whoever takes is woken");
    assert_eq!(bench.queues.giving(&[emails()]), [emails()]);
    assert_eq!(bench.take(1, 0).await.len(), 1);
    assert_eq!(bench.queues.giving(&[emails()]), []);
}

async fn no_more_run_at_once_than_the_queue_may(bench: Bench) {
    bench.put_texts(&["a", "b", "c"]).await;
    let want = |jobs| Want {
        queue: emails(),
        jobs,
        running_max: Some(2),
        rate: None,
    };
    let taken = bench
        .queues
        .take(vec![want(1), want(5)], "n/w.1", at(0))
        .await
        .expect("take");
    assert_eq!(texts(&taken), ["a", "b"]);
    bench.say(&taken[0], Outcome::Done, 0).await;
    let taken = bench
        .queues
        .take(vec![want(5)], "n/w.1", at(0))
        .await
        .expect("take");
    assert_eq!(texts(&taken), ["c"]);
}

async fn no_more_begin_than_the_rate_says_and_it_outlives_the_program(bench: Bench) {
    bench.put_texts(&["a", "b", "c"]).await;
    let want = || Want {
        queue: emails(),
        jobs: 5,
        running_max: None,
        rate: Some("6/min".parse().expect("rate")),
    };
    let take = async |bench: &Bench, second| {
        let taken = bench.queues.take(vec![want()], "n/w.1", at(second)).await;
        texts(&taken.expect("take")).join("")
    };
    assert_eq!(take(&bench, 0).await, "a");
    assert_eq!(take(&bench, 9).await, "");
    let bench = bench.again();
    assert_eq!(take(&bench, 9).await, "");
    assert_eq!(take(&bench, 10).await, "b");
    assert_eq!(
        take(&bench, 1_000).await,
        "c",
        "an hour of rest is not made up for"
    );
}

async fn purging_leaves_what_runs(bench: Bench) {
    bench.put_texts(&["a", "b", "c"]).await;
    let taken = bench.take(1, 0).await.remove(0);
    let all = [
        JobState::Ready,
        JobState::Scheduled,
        JobState::Running,
        JobState::Dead,
    ];
    assert_eq!(bench.queues.purge(&emails(), &all).await, Ok(2));
    assert_eq!(bench.counts().await, [0, 0, 1, 0]);
    assert_eq!(bench.say(&taken, Outcome::Done, 1).await, Settled::Kept(None));
}

async fn what_is_too_much_is_refused_and_changes_nothing(bench: Bench) {
    let large = NewJob {
        payload: vec![0; (1 << 20) + 1],
        ..NewJob::default()
    };
    let refused = bench.queues.put(&emails(), vec![job("a"), large], at(0)).await;
    let Err(error @ QueueError::Job { number: 2, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(error.code().as_str(), "A422");
    let refused = bench
        .queues
        .put(&emails(), vec![NewJob::default(); 1_001], at(0))
        .await;
    assert!(matches!(refused, Err(QueueError::Batch { found: 1_001, .. })));
    assert_eq!(bench.queues.list(&emails().app).await, Ok(Vec::new()));
}

async fn an_apps_queues_go_with_it_and_those_of_others_stay(bench: Bench) {
    bench.put_texts(&["a", "b"]).await;
    bench.take(1, 0).await;
    let other = Queues::id(&"shop-2".parse().expect("app"), &"emails".parse().expect("queue"));
    bench
        .queues
        .put(&other, vec![job("x")], at(0))
        .await
        .expect("put");
    let apps = [&emails().app, &other.app].map(Clone::clone).into();
    assert_eq!(bench.queues.apps().await, Ok(apps));
    bench.queues.remove(&emails().app).await.expect("remove");
    assert_eq!(bench.queues.giving(&[emails()]), []);
    assert_eq!(bench.queues.list(&emails().app).await, Ok(Vec::new()));
    assert_eq!(bench.queues.list(&other.app).await.expect("list").len(), 1);
    bench.queues.tick(at(1_000)).await.expect("tick");
    bench.put_texts(&["new"]).await;
    assert_eq!(texts(&bench.take(5, 1).await), ["new"]);
}

async fn of_many_who_take_at_once_each_gets_jobs_of_its_own(bench: Bench) {
    let all: Vec<_> = (0..500).map(|n| job(&n.to_string())).collect();
    bench.put(&all).await;
    let takers = (0..20).map(|n| {
        let queues = bench.queues.clone();
        tokio::spawn(async move {
            let mut got = Vec::new();
            loop {
                let want = Want {
                    queue: emails(),
                    jobs: 7,
                    running_max: None,
                    rate: None,
                };
                let taken = queues
                    .take(vec![want], &format!("n/w.{n}"), at(0))
                    .await
                    .expect("take");
                if taken.is_empty() {
                    return got;
                }
                got.extend(taken.into_iter().map(|job| job.id.0));
            }
        })
    });
    let mut ids = Vec::new();
    for taker in takers.collect::<Vec<_>>() {
        ids.extend(
            tokio::time::timeout(Duration::from_secs(60), taker)
                .await
                .expect("in time")
                .expect("ends"),
        );
    }
    ids.sort_unstable();
    assert_eq!(ids, (1..=500).collect::<Vec<_>>());
}
