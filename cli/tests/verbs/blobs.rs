//! Places of images that make no sense or cannot be used: `gilliam server` and `up` say so, and do not start.

use crate::env::Env;

#[test]
fn a_place_that_makes_no_sense_ends_with_2_and_makes_nothing() {
    let env = Env::new();
    for (place, word) in [
        ("gs://bucket", "gs://bucket"),
        ("s3://", "bucket"),
        ("s3://images", "region"),
        ("s3://images?region=x&zone=y", "zone"),
        ("s3://images?endpoint=localhost:9000", "localhost:9000"),
    ] {
        for role in ["server", "up"] {
            let ran = env.run(&[role, "--data", "data", "--blobs", place]);
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{place}: {ran:?}");
            let mut lines = ran.stderr.lines();
            assert!(
                lines
                    .next()
                    .is_some_and(|line| line.starts_with("error: ") && line.contains(word)),
                "{place}: {ran:?}"
            );
            assert!(
                lines.next().is_some_and(|line| line.starts_with("hint: ")),
                "{place}: {ran:?}"
            );
        }
    }
    assert!(!env.work().join("data").exists());
    let half = Env::new()
        .set("AWS_ACCESS_KEY_ID", "x")
        .set("GILLIAM_BLOBS", "s3://images?region=x");
    let ran = half.run(&["server", "--data", "data"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("AWS_SECRET_ACCESS_KEY"), "{ran:?}");
}

#[test]
fn a_place_that_cannot_be_used_ends_with_1_and_a_way_out() {
    let env = Env::new()
        .set("AWS_ACCESS_KEY_ID", "a key")
        .set("AWS_SECRET_ACCESS_KEY", "hush");
    std::fs::write(env.work().join("file"), "").expect("file");
    std::fs::write(env.work().join("ca.pem"), "no certificate").expect("file");
    // The discard service of RFC 863: reserved, and refused on any machine that does not run it.
    let nobody = "s3://images/x?endpoint=http://127.0.0.1:9";
    for (place, word) in [
        ("file", "file cannot hold images"),
        ("file/below", "file/below cannot hold images"),
        ("s3://images?region=x&ca=ca.pem", "ca.pem"),
        (nobody, "s3://images/x does not answer"),
    ] {
        let ran = env.run(&[
            "server",
            "--data",
            "data",
            "--api",
            "127.0.0.1:0",
            "--blobs",
            place,
        ]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{place}: {ran:?}");
        assert!(ran.stderr.contains(word), "{place}: {ran:?}");
        assert!(ran.stderr.contains("hint: "), "{place}: {ran:?}");
        assert!(!ran.stderr.contains("hush"), "{place}: {ran:?}");
    }
}
