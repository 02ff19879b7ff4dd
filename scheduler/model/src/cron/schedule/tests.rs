use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().expect(text)
}

fn schedule(expression: &str, zone: &str) -> Schedule {
    Schedule::new(expression, zone).unwrap_or_else(|error| panic!("{expression}: {error}"))
}

/// The next instants after `after`, in UTC.
#[track_caller]
fn check(expression: &str, zone: &str, after: &str, due: &[&str]) {
    let schedule = schedule(expression, zone);
    let mut last = at(after);
    for due in due {
        last = schedule.next(last).expect("more to come");
        assert_eq!(last, at(due), "{schedule}");
        assert_eq!(schedule.latest(last), Some(last), "{schedule} at {last}");
    }
}

#[test]
fn what_is_due_once_a_day_is_due_once_on_a_day_whose_clocks_change() {
    // On 2027-03-28 clocks in Stockholm go from 02:00 to 03:00, on 2027-10-31 from 03:00 to 02:00.
    check(
        "30 2 * * *",
        "Europe/Stockholm",
        "2027-03-27T00:00:00Z",
        &[
            "2027-03-27T01:30:00Z",
            "2027-03-28T01:00:00Z",
            "2027-03-29T00:30:00Z",
        ],
    );
    check(
        "30 2 * * *",
        "Europe/Stockholm",
        "2027-10-30T00:00:00Z",
        &[
            "2027-10-30T00:30:00Z",
            "2027-10-31T00:30:00Z",
            "2027-11-01T01:30:00Z",
        ],
    );
    check(
        "0 3 * * *",
        "Europe/Stockholm",
        "2027-03-27T12:00:00Z",
        &["2027-03-28T01:00:00Z", "2027-03-29T01:00:00Z"],
    );
    // On 2027-03-14 clocks in New York go from 02:00 to 03:00.
    check(
        "15 2 * * *",
        "America/New_York",
        "2027-03-14T00:00:00Z",
        &["2027-03-14T07:00:00Z", "2027-03-15T06:15:00Z"],
    );
}

#[test]
fn what_is_due_again_and_again_is_due_whenever_a_clock_shows_it() {
    check(
        "*/30 * * * *",
        "Europe/Stockholm",
        "2027-03-28T00:00:00Z",
        &[
            "2027-03-28T00:30:00Z",
            "2027-03-28T01:00:00Z",
            "2027-03-28T01:30:00Z",
        ],
    );
    check(
        "*/30 * * * *",
        "Europe/Stockholm",
        "2027-10-31T00:10:00Z",
        &[
            "2027-10-31T00:30:00Z",
            "2027-10-31T01:00:00Z",
            "2027-10-31T01:30:00Z",
            "2027-10-31T02:00:00Z",
        ],
    );
}

#[test]
fn seconds_days_and_names_are_read() {
    check(
        "*/20 * * * * *",
        "UTC",
        "2027-01-01T00:00:00.5Z",
        &[
            "2027-01-01T00:00:20Z",
            "2027-01-01T00:00:40Z",
            "2027-01-01T00:01:00Z",
        ],
    );
    check(
        "0 9 * * MON-FRI",
        "UTC",
        "2027-01-01T10:00:00Z",
        &["2027-01-04T09:00:00Z"],
    );
    check(
        "@monthly",
        "UTC",
        "2027-01-01T00:00:00Z",
        &["2027-02-01T00:00:00Z"],
    );
    check(
        "0 0 29 2 *",
        "Asia/Kathmandu",
        "2027-01-01T00:00:00Z",
        &["2028-02-28T18:15:00Z"],
    );
    check(
        "0 0 L * *",
        "UTC",
        "2027-02-01T00:00:00Z",
        &["2027-02-28T00:00:00Z"],
    );
    for (expression, after, due) in [
        ("0 0 * * FRI#2", "2027-01-01T00:00:00Z", "2027-01-08T00:00:00Z"),
        ("0 0 * * FRIL", "2027-01-01T00:00:00Z", "2027-01-29T00:00:00Z"),
        ("0 0 15W * *", "2027-08-01T00:00:00Z", "2027-08-16T00:00:00Z"),
        ("0 0 1 * +MON", "2027-01-01T00:00:00Z", "2027-02-01T00:00:00Z"),
        ("0 0 1 * MON", "2027-01-01T00:00:00Z", "2027-01-04T00:00:00Z"),
        ("0 0 * JAN,JUL 7", "2027-02-01T00:00:00Z", "2027-07-04T00:00:00Z"),
    ] {
        check(expression, "UTC", after, &[due]);
    }
    let latest = schedule("0 3 * * *", "UTC").latest(at("2027-01-01T02:59:59.9Z"));
    assert_eq!(latest, Some(at("2026-12-31T03:00:00Z")));
}

#[test]
fn what_never_fires_or_means_nothing_is_refused_with_a_way_out() {
    let refused = |expression: &str, zone: &str| Schedule::new(expression, zone).expect_err(expression);
    for never in ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 31 11 *"] {
        let error = refused(never, UTC);
        assert_eq!(
            error.to_string(),
            format!("{never:?} never fires: there is no such day")
        );
    }
    for bad in [
        "",
        "* * * *",
        "* * * * * * *",
        "61 * * * *",
        "* 24 * * *",
        "0 0 0 * *",
        "@reboot",
        "@never",
        "every day",
        "*/0 * * * *",
        "5-1 * * * *",
        "0 0 * * MOON",
        "0 0 * * ö",
    ] {
        let error = refused(bad, UTC);
        assert!(
            matches!(error, ScheduleError::Expression { .. }),
            "{bad}: {error}"
        );
        assert!(error.hint().contains("0 3 * * *"));
    }
    let long = "1,".repeat(EXPRESSION_BYTES_MAX) + "2 * * * *";
    assert!(matches!(refused(&long, UTC), ScheduleError::TooLong { .. }));
    for (zone, hint) in [
        ("Stockholm", "is it Europe/Stockholm?"),
        ("new york", "is it America/New_York?"),
        ("Mars/Olympus", "such as Europe/Stockholm"),
        ("", "such as Europe/Stockholm"),
        ("../etc/passwd", "such as Europe/Stockholm"),
    ] {
        let error = refused("@daily", zone);
        assert!(error.hint().contains(hint), "{zone}: {}", error.hint());
    }
    assert_eq!(
        schedule(" 0  3 * * *\t", "europe/stockholm").to_string(),
        "0 3 * * * (Europe/Stockholm)"
    );
}

#[test]
fn the_least_interval_is_that_of_its_times_of_day() {
    for (expression, seconds) in [
        ("* * * * *", 60),
        ("*/5 * * * *", 300),
        ("0,1 3 * * *", 60),
        ("0 3 * * *", 86_400),
        ("* * * * * *", 1),
        ("*/10 * * * * *", 10),
        ("0,59 * * * * *", 1),
        ("0 0 0,23 * * *", 3_600),
        ("0 59,0 23,0 * * *", 60),
    ] {
        assert_eq!(
            schedule(expression, UTC).interval_s_min(),
            seconds,
            "{expression}"
        );
    }
}

#[test]
fn a_schedule_is_told_in_words() {
    for (expression, words) in [
        ("0 3 * * *", "at 03:00"),
        ("*/5 * * * *", "every 5 minutes"),
        (
            "30 9 * * MON-FRI",
            "at 09:30, on Monday, Tuesday, Wednesday, Thursday, and Friday",
        ),
    ] {
        assert_eq!(schedule(expression, UTC).words(), words);
    }
}

proptest! {
    #[test]
    fn any_text_is_a_schedule_or_refused(text in "[-0-9*,/LW#?+@A-Za-z ]{0,40}") {
        if let Ok(schedule) = Schedule::new(&text, UTC) {
            let now = at("2027-01-01T00:00:00Z");
            let next = schedule.next(now).expect("it fires");
            prop_assert!(next > now);
        }
    }

    #[test]
    fn forwards_and_backwards_the_same_instants_are_due(
        minute in prop::sample::select(vec!["0", "30", "*/7", "59", "*"]),
        hour in prop::sample::select(vec!["0", "1", "2", "3", "*", "*/2", "1-3"]),
        day in prop::sample::select(vec!["*", "28", "31", "L", "*/9"]),
        zone in prop::sample::select(vec![
            "UTC", "Europe/Stockholm", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kathmandu",
        ]),
        start in 1_790_000_000i64..1_830_000_000,
    ) {
        let schedule = schedule(&format!("{minute} {hour} {day} * *"), zone);
        let mut last = Timestamp::from_second(start).expect("an instant");
        for _ in 0..40 {
            let next = schedule.next(last).expect("it fires");
            prop_assert!(next > last);
            prop_assert_eq!(schedule.latest(next), Some(next));
            let before = next.checked_sub(1.second()).expect("an instant");
            prop_assert!(schedule.latest(before).expect("it fired") <= last.max(before));
            last = next;
        }
    }
}
