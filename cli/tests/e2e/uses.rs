//! Apps that use one another: declared, permitted, in memory, and found out when something is missing.

use std::path::PathBuf;

use crate::{
    client::{get, get_with, wait_ok},
    platform::{Platform, wait},
};

/// An app of guestbook's web process, whose routes tell what it is asked and ask others.
fn deployed(platform: &Platform, app: &str, procfile: &str, manifest: &str) -> (PathBuf, String) {
    let from = platform.sample("guestbook");
    let project = platform.root().join("projects").join(app);
    std::fs::create_dir_all(&project).expect("folder");
    std::fs::copy(from.join("web.wasm"), project.join("web.wasm")).expect("component");
    std::fs::write(project.join("Procfile"), procfile).expect("Procfile");
    std::fs::write(project.join("gilliam.toml"), manifest).expect("gilliam.toml");
    platform.run_in(&project, &["create", app]).ok();
    let deployed = platform.run_in(&project, &["deploy"]);
    let said = deployed.stderr.clone();
    deployed.ok();
    (project, said)
}

const WEB: &str = "web: web.wasm\n";

#[test]
fn apps_call_one_another_by_name_and_know_who_calls() {
    let platform = Platform::start();
    let (shop, said) = deployed(&platform, "shop", WEB, "[uses]\nbilling = {}\n");
    assert!(
        said.contains("billing.internal does not answer: there is no app billing yet"),
        "{said}"
    );
    platform.run_in(&shop, &["scale", "v1", "web=1"]).ok();
    wait_ok(&platform, "shop", "/ok");
    let answer = get(&platform, "shop", "/fetch?url=http://billing.internal/ok");
    assert!(answer.body.starts_with("404\n\n{\"code\":\"H81\""), "{answer:?}");

    // The other app has no web process: nobody outside reaches it.
    let ledger = "[uses]\nledger = { app = \"ledger\", process = \"web\" }\n";
    let (billing, _) = deployed(&platform, "billing", "api: web.wasm\n", ledger);
    let (_, said) = deployed(&platform, "ledger", WEB, "[uses]\nshop = {}\n");
    assert!(
        said.contains("apps call each other in a circle: billing -> ledger -> shop -> billing"),
        "{said}"
    );
    let answer = get(&platform, "shop", "/fetch?url=http://billing.internal/ok");
    assert!(
        answer.body.starts_with("503\n\n") && answer.body.contains("H14"),
        "{answer:?}"
    );
    let shown = platform.run_in(&shop, &["uses"]).ok();
    assert!(
        shown.contains("http://billing.internal") && shown.contains("no such process"),
        "{shown}"
    );
    std::fs::write(
        shop.join("gilliam.toml"),
        "[uses]\nbilling = { process = \"api\" }\n",
    )
    .expect("gilliam.toml");
    platform.run_in(&shop, &["deploy"]).ok();
    platform.run_in(&billing, &["scale", "v1", "api=1"]).ok();
    platform.run(&["scale", "--app", "ledger", "v1", "web=1"]).ok();
    wait_ok(&platform, "ledger", "/ok");
    assert_eq!(
        get(&platform, "billing", "/ok").code.as_deref(),
        Some("H14"),
        "it has no route"
    );

    // Who calls is the platform's word; what a client or a guest says of it does not count.
    let forged = [
        ("gilliam-caller", "bank"),
        ("x-as-gilliam-caller", "bank"),
        ("x-as-gilliam-depth", "0"),
        ("x-as-x-request-id", "forged"),
        ("x-mine", "kept"),
    ];
    let heard = wait("billing to answer", || {
        let answer = get_with(
            &platform,
            "shop",
            "/fetch?url=http://billing.internal/headers",
            &forged,
        );
        answer.body.strip_prefix("200\n\n").map(str::to_string)
    });
    for line in [
        "gilliam-caller: shop\n",
        "gilliam-caller-instance: web.1\n",
        "gilliam-depth: 1\n",
        "x-mine: kept\n",
    ] {
        assert!(heard.contains(line), "{line} in\n{heard}");
    }
    assert!(!heard.contains("bank") && !heard.contains("forged"), "{heard}");

    // A chain of three is one request, by its id.
    let chain = "/fetch?url=http://billing.internal/fetch%3Furl=http://ledger.internal/headers";
    let answer = get(&platform, "shop", chain);
    let heard = answer
        .body
        .strip_prefix("200\n\n200\n\n")
        .unwrap_or_else(|| panic!("{answer:?}"));
    assert!(
        heard.contains("gilliam-caller: billing\n") && heard.contains("gilliam-depth: 2\n"),
        "{heard}"
    );
    let id = heard
        .lines()
        .find_map(|line| line.strip_prefix("x-request-id: "))
        .expect("an id");
    for (app, caller) in [
        ("shop", None),
        ("billing", Some("shop")),
        ("ledger", Some("billing")),
    ] {
        let line = wait("its line in the log", || {
            let logs = platform.run(&["logs", "router", "--app", app, "-n", "50"]).ok();
            logs.lines().find(|line| line.contains(id)).map(str::to_string)
        });
        let said = line
            .split_whitespace()
            .find_map(|field| field.strip_prefix("caller="));
        assert_eq!(said, caller, "{line}");
    }

    // What is large goes through as well, and nothing that was not declared.
    let answer = get(
        &platform,
        "shop",
        "/fetch?url=http://billing.internal/big%3Fbytes=3000000",
    );
    assert_eq!(answer.body.len(), "200\n\n".len() + 3_000_000);
    let answer = get(&platform, "shop", "/fetch?url=http://ledger.internal/ok");
    assert!(answer.body.starts_with("403\n\n{\"code\":\"N04\""), "{answer:?}");
    wait("the line that says how to declare it", || {
        let logs = platform.run(&["logs", "--app", "shop", "-n", "100"]).ok();
        logs.contains("ledger.internal is not declared by this app")
            .then_some(())
    });
}

#[test]
fn an_app_says_who_may_use_it_and_the_graph_says_who_does() {
    let platform = Platform::start();
    let (billing, _) = deployed(&platform, "billing", WEB, "");
    deployed(&platform, "shop", WEB, "[uses]\nbilling = {}\n");
    for app in ["billing", "shop"] {
        platform.run(&["scale", "--app", app, "v1", "web=1"]).ok();
        wait_ok(&platform, app, "/ok");
    }
    let call = || get(&platform, "shop", "/fetch?url=http://billing.internal/ok").body;
    assert_eq!(call(), "200\n\nok\n");

    // Named callers only, from the first on; it holds at once and needs no release.
    let said = platform.run_in(&billing, &["uses", "allow", "bank"]).ok();
    assert_eq!(said, "may use billing: bank\n");
    let refused = wait("shop to be refused", || {
        Some(call()).filter(|body| body.starts_with("403"))
    });
    assert!(
        refused.contains("N05") && refused.contains("gilliam uses allow shop --app billing"),
        "{refused}"
    );
    let graph = platform.run(&["uses", "--graph"]).ok();
    assert_eq!(graph, "shop -> billing/web (billing.internal): not permitted\n");
    platform.run_in(&billing, &["uses", "allow", "shop"]).ok();
    wait("shop to be let in", || call().starts_with("200").then_some(()));
    platform.run_in(&billing, &["uses", "deny", "shop", "bank"]).ok();
    wait("shop to be refused again", || {
        call().starts_with("403").then_some(())
    });
    platform.run_in(&billing, &["uses", "allow", "--any"]).ok();
    wait("everybody to be let in", || {
        call().starts_with("200").then_some(())
    });

    let dot = platform.run(&["uses", "--graph", "--format", "dot"]).ok();
    assert!(
        dot.contains("\"shop\" -> \"billing\" [label=\"billing\"];"),
        "{dot}"
    );
    let own = platform.json(&["uses", "--app", "shop"]);
    assert_eq!(own["uses"][0]["state"], "ok", "{own}");
    let all = platform.json(&["uses", "--graph"]);
    assert_eq!(all["apps"].as_array().map(Vec::len), Some(2), "{all}");

    // Nobody there: a clear code. Back again: it answers.
    platform.run(&["scale", "--app", "billing", "web=0"]).ok();
    let down = wait("billing to be down", || {
        Some(call()).filter(|body| !body.starts_with("200"))
    });
    assert!(down.starts_with("503\n\n") && down.contains("H14"), "{down}");
    platform.run(&["scale", "--app", "billing", "web=1"]).ok();
    wait("billing to answer again", || {
        call().starts_with("200").then_some(())
    });

    // What its code does is its own failure, and no more than that.
    let crashed = get(&platform, "shop", "/fetch?url=http://billing.internal/trap").body;
    assert!(
        crashed.starts_with("503\n\n") && crashed.contains("H10"),
        "{crashed}"
    );
}
