//! Which app a folder belongs to.

use std::fs;

use crate::env::Env;

#[test]
fn outside_a_project_the_way_to_one_is_shown() {
    let env = Env::with_dead_cluster();
    let want = "error: no app here\nhint: run gilliam create NAME, or pass --app\n";
    let verbs = [
        "deploy", "ps", "logs", "config", "scale", "releases", "rollback", "restart", "open", "destroy",
    ];
    for verb in verbs {
        env.run(&[verb]).refused(1, want);
    }
}

#[test]
fn the_file_names_the_app_from_folders_below_it() {
    let env = Env::with_dead_cluster();
    let deep = env.work().join("a/b");
    fs::create_dir_all(&deep).expect("folders");
    fs::write(env.work().join(".gilliam.app"), "hello\n").expect("file");
    assert!(
        env.run_in(&deep, &["ps"]).stderr.contains("no gilliam answers"),
        "the app was found"
    );
    fs::write(env.work().join(".gilliam.app"), "\x1b[31m\n").expect("file");
    let ran = env.run_in(&deep, &["ps"]);
    assert!(
        ran.stderr.contains("app name") && !ran.stderr.contains('\x1b'),
        "{}",
        ran.stderr
    );
    assert!(
        env.run_in(&deep, &["ps", "-a", "other"])
            .stderr
            .contains("no gilliam answers"),
        "the flag is nearer"
    );
}

#[test]
fn the_gilliam_remote_names_the_app() {
    let env = Env::with_dead_cluster();
    let git = |args: &[&str]| {
        let status = std::process::Command::new("git")
            .arg("-C")
            .arg(env.work())
            .args(args)
            .status()
            .expect("git");
        assert!(status.success());
    };
    git(&["init", "-q"]);
    assert!(env.run(&["ps"]).stderr.contains("no app here"));
    git(&[
        "remote",
        "add",
        "gilliam",
        "https://git.example.com/guestbook.git",
    ]);
    assert!(env.run(&["ps"]).stderr.contains("no gilliam answers"));
}

#[test]
fn create_does_not_write_over_the_file_of_another_app() {
    let env = Env::with_dead_cluster();
    fs::write(env.work().join(".gilliam.app"), "hello\n").expect("file");
    env.run(&["create", "other"]).refused(
        1,
        "error: this folder belongs to the app hello already (.gilliam.app)\n\
         hint: remove .gilliam.app, or pass --no-file\n",
    );
    assert_eq!(
        fs::read_to_string(env.work().join(".gilliam.app")).expect("file"),
        "hello\n"
    );
}
