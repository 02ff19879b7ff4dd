//! Crons on a virtual clock: each due time is dealt with once, whatever the clock and those who fire do.

use std::collections::BTreeMap;

use gilliam_model::{
    Timestamp,
    cron::{Cron, CronRecord, OfCron},
    name::CronName,
    run::{Outcome, RUN_MS_DEFAULT, Run, RunCause, RunId, RunState},
};
use gilliam_plan::{CronStep, CronsView, cron_due, crons};
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    text.parse().expect(text)
}

fn later(from: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::from_second(from.as_second() + seconds).expect("in this century")
}

fn name() -> CronName {
    "cleanup".parse().expect("a name")
}

/// A cron, what is stored of it, and its runs.
struct Desk {
    declared: BTreeMap<CronName, Cron>,
    records: BTreeMap<CronName, CronRecord>,
    runs: Vec<Run>,
    /// Every due time that was fired, in order.
    fired: Vec<Timestamp>,
}

impl Desk {
    /// `more` are fields of the cron beside its schedule: `"missed":"skip"`.
    fn new(schedule: &str, more: &str) -> Self {
        Self {
            declared: [(name(), cron(schedule, more))].into(),
            records: BTreeMap::new(),
            runs: Vec::new(),
            fired: Vec::new(),
        }
    }

    fn steps(&self, now: Timestamp) -> Vec<CronStep> {
        let known = self.records.iter().map(|(name, record)| (name.clone(), record));
        let open: Vec<&Run> = self.runs.iter().filter(|run| !run.has_ended()).collect();
        crons(&CronsView {
            declared: &self.declared,
            known: &known.collect(),
            open: &open,
            now,
        })
    }

    /// Takes turns until nothing is due, as the control loop does.
    fn turn(&mut self, now: Timestamp) {
        loop {
            let steps = self.steps(now);
            if steps.is_empty() {
                return;
            }
            for step in steps {
                self.store(step, now);
            }
        }
    }

    fn store(&mut self, step: CronStep, now: Timestamp) {
        match step {
            CronStep::Keep { name, record } => {
                self.never_back(&name, &record);
                self.records.insert(name, record);
            }
            CronStep::Forget { name } => drop(self.records.remove(&name)),
            CronStep::Fire {
                name,
                due,
                record,
                stop,
            } => {
                self.never_back(&name, &record);
                for run in self.runs.iter_mut().filter(|run| stop.contains(&run.id.number)) {
                    run.is_to_stop = true;
                }
                let number = u32::try_from(self.runs.len()).expect("few") + 1;
                self.runs.push(run(&name, number, due, now));
                self.records.insert(name, record.fired(Some(due), now, number));
                self.fired.push(due);
            }
        }
    }

    fn never_back(&self, name: &CronName, record: &CronRecord) {
        let before = self.records.get(name).map(|record| record.considered);
        assert!(
            before.is_none_or(|before| before <= record.considered),
            "{record:?}"
        );
    }

    fn end_runs(&mut self, now: Timestamp) {
        for run in self.runs.iter_mut().filter(|run| !run.has_ended()) {
            *run = run.ended(Outcome::Exited { code: 0 }, now);
        }
    }

    fn passed_over(&self) -> Option<(Timestamp, &str)> {
        let passed = self.records[&name()].passed_over.as_ref()?;
        Some((passed.due, passed.reason.as_str()))
    }
}

fn cron(schedule: &str, more: &str) -> Cron {
    let comma = if more.is_empty() { "" } else { "," };
    let json = format!(r#"{{"schedule":"{schedule}","run":["task"]{comma}{more}}}"#);
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn run(cron: &CronName, number: u32, due: Timestamp, now: Timestamp) -> Run {
    Run {
        id: RunId {
            app: "hello".parse().expect("name"),
            number,
            asked_at: now,
        },
        release: "v1".parse().expect("release"),
        process: "task".parse().expect("name"),
        command: "task".into(),
        cause: RunCause::Cron,
        author: format!("cron {cron}"),
        cron: Some(OfCron {
            name: cron.clone(),
            due: Some(due),
        }),
        attached: None,
        run_ms_max: RUN_MS_DEFAULT,
        is_to_stop: false,
        state: RunState::Asked,
        work: None,
    }
}

#[test]
fn what_is_due_is_fired_once_and_nothing_from_before_it_was_declared() {
    let mut desk = Desk::new("0 3 * * *", r#""timezone":"Europe/Stockholm""#);
    desk.turn(at("2027-03-26T12:00:00Z"));
    assert_eq!(
        cron_due(
            &desk.declared[&name()],
            desk.records.get(&name()),
            at("2027-03-26T12:00:00Z")
        ),
        Some(at("2027-03-27T02:00:00Z"))
    );
    for now in [
        "2027-03-27T01:59:59.999Z",
        "2027-03-27T02:00:00Z",
        "2027-03-27T02:00:00Z",
        "2027-03-27T02:00:03Z",
    ] {
        desk.turn(at(now));
    }
    desk.end_runs(at("2027-03-27T02:01:00Z"));
    // Clocks go from 02:00 to 03:00.
    desk.turn(at("2027-03-28T01:00:00.5Z"));
    assert_eq!(
        desk.fired,
        [at("2027-03-27T02:00:00Z"), at("2027-03-28T01:00:00Z")]
    );
}

#[test]
fn a_clock_that_goes_back_fires_nothing_again() {
    let mut desk = Desk::new("*/5 * * * *", r#""overlap":"allow""#);
    desk.turn(at("2027-01-01T00:04:00Z"));
    desk.turn(at("2027-01-01T00:10:01Z"));
    desk.turn(at("2027-01-01T00:04:59Z"));
    desk.turn(at("2027-01-01T00:05:01Z"));
    desk.turn(at("2027-01-01T00:15:00Z"));
    assert_eq!(
        desk.fired,
        [at("2027-01-01T00:10:00Z"), at("2027-01-01T00:15:00Z")]
    );
}

#[test]
fn missed_due_times_are_made_up_for_once_or_for_some_time_or_not() {
    let night = at("2027-01-01T03:00:00Z");
    for (missed, down_s, fires) in [
        ("once", 7 * 86_400 + 3_600, true),
        ("skip", 30, true),
        ("skip", 3_600, false),
        ("2h", 3_600, true),
        ("2h", 3 * 3_600, false),
    ] {
        let mut desk = Desk::new("0 3 * * *", &format!(r#""missed":"{missed}""#));
        desk.turn(later(night, -60));
        desk.turn(later(night, down_s));
        let last = desk.declared[&name()]
            .schedule
            .latest(later(night, down_s))
            .expect("due");
        assert_eq!(
            desk.fired,
            if fires { vec![last] } else { vec![] },
            "{missed} after {down_s} s"
        );
        let why = format!("nobody could fire it in time, and missed is {missed}");
        assert_eq!(desk.passed_over(), (!fires).then_some((last, why.as_str())));
    }
}

#[test]
fn a_run_that_has_not_ended_is_left_joined_or_replaced() {
    let start = at("2027-01-01T00:00:30Z");
    for (overlap, fired, stopped) in [("skip", 2, 0), ("allow", 3, 0), ("replace", 3, 1)] {
        let mut desk = Desk::new("* * * * *", &format!(r#""overlap":"{overlap}""#));
        desk.turn(start);
        desk.turn(later(start, 60));
        desk.turn(later(start, 120));
        if overlap == "skip" {
            assert_eq!(
                desk.passed_over(),
                Some((at("2027-01-01T00:02:00Z"), "run.1 had not ended"))
            );
        }
        desk.end_runs(later(start, 130));
        desk.turn(later(start, 180));
        assert_eq!(desk.fired.len(), fired, "{overlap}");
        assert_eq!(
            desk.runs.iter().filter(|run| run.is_to_stop).count(),
            stopped,
            "{overlap}"
        );
        assert_eq!(desk.passed_over(), None, "what fired since is what counts");
    }
}

#[test]
fn a_paused_cron_does_not_fire_and_what_was_due_is_not_made_up_for() {
    let start = at("2027-01-01T00:00:30Z");
    let mut desk = Desk::new("* * * * *", "");
    desk.turn(start);
    let record = desk.records.get_mut(&name()).expect("begun with");
    record.paused = Some(gilliam_model::cron::Paused {
        at: start,
        by: "me".into(),
    });
    desk.turn(later(start, 300));
    assert_eq!(
        cron_due(&desk.declared[&name()], desk.records.get(&name()), start),
        None
    );
    // Not declared for a while: that it is paused is not forgotten.
    let declared = std::mem::take(&mut desk.declared);
    desk.turn(later(start, 360));
    desk.declared = declared;
    desk.turn(later(start, 420));
    assert_eq!((desk.fired.len(), desk.records.len()), (0, 1));
    let record = desk.records.get_mut(&name()).expect("kept");
    (record.paused, record.considered) = (None, later(start, 430));
    desk.turn(later(start, 480));
    assert_eq!(desk.fired, [at("2027-01-01T00:08:00Z")]);
}

#[test]
fn another_schedule_begins_anew_and_a_cron_that_is_gone_is_forgotten() {
    let start = at("2027-01-01T00:00:30Z");
    let mut desk = Desk::new("* * * * *", "");
    desk.turn(start);
    desk.declared = [(name(), cron("0 0 * * *", ""))].into();
    desk.turn(later(start, 120));
    assert!(desk.fired.is_empty(), "midnight was before it was declared");
    desk.declared.clear();
    desk.turn(later(start, 180));
    assert!(desk.records.is_empty());
    desk.declared = [(name(), cron("* * * * *", ""))].into();
    desk.turn(later(start, 240));
    assert!(desk.fired.is_empty());
}

proptest! {
    /// Whenever turns are taken, each due time is fired at most once and in order; with turns often enough, each is.
    #[test]
    fn each_due_time_is_fired_once(
        schedule in prop::sample::select(vec!["*/5 * * * *", "30 2 * * *", "0 * * * *", "15 1-3 * * *"]),
        zone in prop::sample::select(vec!["UTC", "Europe/Stockholm", "America/New_York", "Australia/Lord_Howe"]),
        start in 1_790_000_000i64..1_830_000_000,
        pauses in prop::collection::vec(1i64..240, 1..400),
    ) {
        let more = format!(r#""overlap":"allow","timezone":"{zone}""#);
        let mut desk = Desk::new(schedule, &more);
        let start = Timestamp::from_second(start).expect("in this century");
        let mut now = start;
        desk.turn(now);
        for pause in &pauses {
            now = later(now, *pause);
            desk.turn(now);
            desk.turn(now);
        }
        let mut due = Vec::new();
        let mut next = desk.declared[&name()].schedule.next(start);
        while let Some(at) = next.filter(|at| *at <= now) {
            due.push(at);
            next = desk.declared[&name()].schedule.next(at);
        }
        prop_assert_eq!(desk.fired, due);
    }
}
