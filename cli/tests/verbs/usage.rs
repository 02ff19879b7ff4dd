//! Arguments that make no sense, or that a rule refuses, before anything is asked of a cluster.

use crate::env::Env;

#[test]
fn arguments_that_make_no_sense_end_with_2() {
    let env = Env::with_dead_cluster();
    let cases: &[(&[&str], &str)] = &[
        (
            &["scale", "web", "-a", "x"],
            "\"web\" is not a release; releases are named v1, v2 and so on",
        ),
        (
            &["scale", "web=-1", "-a", "x"],
            "count \"-1\" of web is not a whole number from 0 to 1000000",
        ),
        (
            &["scale", "web=two", "-a", "x"],
            "count \"two\" of web is not a whole number from 0 to 1000000",
        ),
        (
            &["ps:scale", "web=1000001", "-a", "x"],
            "count \"1000001\" of web is not a whole number from 0 to 1000000",
        ),
        (
            &["scale", "v0", "web=1", "-a", "x"],
            "\"v0\" is not a release; releases are named v1, v2 and so on",
        ),
        (&["scale", "web=1", "web=2", "-a", "x"], "web is given twice"),
        (
            &["config", "POOL_SIZE", "-a", "x"],
            "\"POOL_SIZE\" is not KEY=VALUE",
        ),
        (&["config:set", "A=1", "A=2", "-a", "x"], "A is set twice"),
        (
            &["rollback", "1", "-a", "x"],
            "\"1\" is not a release; releases are named v1, v2 and so on",
        ),
        (
            &["logs", "-n", "9999", "-a", "x"],
            "--lines 9999 is more than the 1500 that are kept",
        ),
    ];
    for (args, want) in cases {
        let ran = env.run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert_eq!(
            ran.stderr.lines().next(),
            Some(format!("error: {want}").as_str()),
            "{args:?}"
        );
    }
    for args in [&["bogus"][..], &["scale", "--bogus"], &["create"], &[]] {
        let ran = env.run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{args:?}");
    }
}

#[test]
fn names_that_a_rule_refuses_end_with_1_and_the_rule() {
    let env = Env::with_dead_cluster();
    let long = "a".repeat(64);
    let cases: &[(&[&str], &str)] = &[
        (
            &["create", "../x"],
            "app name \"../x\" must begin with a lower-case letter",
        ),
        (
            &["create", "my app"],
            "app name \"my app\" may hold only lower-case letters, digits and dashes",
        ),
        (
            &["create", "Capital"],
            "app name \"Capital\" must begin with a lower-case letter",
        ),
        (&["create", &long], "is longer than 63 characters"),
        (
            &["ps", "--app", ".."],
            "app name \"..\" must begin with a lower-case letter",
        ),
        (
            &["scale", "We b=1", "-a", "x"],
            "process name \"We b\" must begin with a lower-case letter",
        ),
        (
            &["config", "PORT=80", "-a", "x"],
            "config name \"PORT\" is set by the platform",
        ),
        (
            &["config", "1BAD=x", "-a", "x"],
            "config name \"1BAD\" must begin with a letter or '_'",
        ),
        (
            &["config", "unset", "A B", "-a", "x"],
            "config name \"A B\" may hold only letters, digits and '_'",
        ),
    ];
    for (args, want) in cases {
        let ran = env.run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{args:?}");
        assert!(
            ran.stderr.starts_with("error: ") && ran.stderr.contains(want),
            "{args:?}: {}",
            ran.stderr
        );
    }
}

#[test]
fn a_bad_name_in_the_environment_is_named_with_its_variable() {
    let env = Env::with_dead_cluster().set("GILLIAM_APP", "Bad");
    let ran = env.run(&["ps"]);
    assert!(
        ran.stderr.starts_with("error: GILLIAM_APP: app name \"Bad\""),
        "{}",
        ran.stderr
    );
}
