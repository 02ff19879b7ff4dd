//! Help is complete and goes to stdout.

use crate::env::Env;

const VERBS: &[&str] = &[
    "up",
    "create",
    "init",
    "deploy",
    "build",
    "config",
    "limits",
    "inspect",
    "scale",
    "ps",
    "cron",
    "services",
    "kv",
    "run",
    "runs",
    "logs",
    "releases",
    "images",
    "image",
    "rollback",
    "restart",
    "apps",
    "open",
    "destroy",
    "status",
    "plan",
    "clusters",
    "server",
    "node",
    "nodes",
    "packs",
    "store",
    "bench",
    "sim",
    "completion",
    "version",
];

#[test]
fn every_verb_is_listed_and_explains_itself() {
    let env = Env::new();
    let help = env.run(&["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    let listed = |verb: &str| {
        help.stdout
            .lines()
            .any(|line| line.split_whitespace().next() == Some(verb))
    };
    for verb in VERBS {
        assert!(listed(verb), "{verb}");
        let own = env.run(&[verb, "--help"]);
        assert_eq!(own.code, Some(0), "{verb}");
        for part in ["Usage: gilliam", "--app", "--cluster", "--json", "--quiet"] {
            assert!(own.stdout.contains(part), "{verb} lacks {part}");
        }
    }
    assert!(!listed("internal"), "children of the platform are not for users");
}

#[test]
fn the_version_is_the_packages() {
    let want = concat!("gilliam ", env!("CARGO_PKG_VERSION"), "\n");
    Env::new().run(&["--version"]).printed(want);
}

#[test]
fn shells_complete_every_verb() {
    let env = Env::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = env.run(&["completion", shell]);
        assert_eq!((script.code, script.stderr.as_str()), (Some(0), ""));
        for verb in VERBS {
            assert!(script.stdout.contains(verb), "{shell}: {verb}");
        }
    }
    let unknown = env.run(&["completion", "dos"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("zsh"), "{}", unknown.stderr);
}
