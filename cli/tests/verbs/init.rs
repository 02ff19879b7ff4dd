//! New projects: written whole, into folders where nothing is in their way.

use std::fs;

use crate::env::Env;

fn languages(env: &Env) -> Vec<String> {
    let listed = env.run(&["init", "--json"]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let all = listed.as_array().expect("a list").iter();
    all.map(|choice| choice["language"].as_str().expect("text").to_string())
        .collect()
}

#[test]
fn every_language_begins_with_a_project_that_says_what_to_do_next() {
    let env = Env::new();
    let all = languages(&env);
    assert!(!all.is_empty());
    for language in &all {
        let folder = format!("my-{}", language.replace('+', "p"));
        let ran = env.run(&["init", "--lang", language, &folder]);
        assert_eq!(ran.code, Some(0), "{language}: {}", ran.stderr);
        for file in ran.stdout.lines() {
            assert!(
                env.work().join(&folder).join(file).is_file(),
                "{language}: {file}"
            );
        }
        let next = format!("hint: cd {folder} && gilliam create {folder} && gilliam deploy --scale web=1");
        assert!(ran.stderr.contains(&next), "{language}: {}", ran.stderr);
        let procfile = fs::read_to_string(env.work().join(&folder).join("Procfile")).expect("Procfile");
        assert!(
            procfile.lines().any(|line| line.starts_with("web:")),
            "{language}: {procfile}"
        );
        for file in ["README.md", ".gitignore"] {
            assert!(
                env.work().join(&folder).join(file).is_file(),
                "{language} lacks {file}"
            );
        }
    }
}

#[test]
fn what_is_there_stays_as_it_is() {
    let env = Env::new();
    let language = &languages(&env)[0];
    fs::write(env.work().join("Procfile"), "web: mine.wasm\n").expect("file");
    std::os::unix::fs::symlink("nowhere", env.work().join("README.md")).expect("link");
    let ran = env.run(&["init", "--lang", language]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("Procfile") && ran.stderr.contains("README.md"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("hint: nothing was written"), "{}", ran.stderr);
    let left: Vec<_> = fs::read_dir(env.work()).expect("folder").collect();
    assert_eq!(left.len(), 2);
    let kept = fs::read_to_string(env.work().join("Procfile")).expect("file");
    assert_eq!(kept, "web: mine.wasm\n");
}

#[test]
fn an_unknown_language_lists_those_that_there_are() {
    let env = Env::new();
    let all = languages(&env).join(", ");
    env.run(&["init", "--lang", "cobol"]).refused(
        1,
        &format!("error: there is no new project in \"cobol\"\nhint: there are: {all}\n"),
    );
    let listed = env.run(&["init"]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    assert!(
        listed.stderr.contains("hint: gilliam init --lang LANG DIR"),
        "{}",
        listed.stderr
    );
}
