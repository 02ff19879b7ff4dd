//! From an empty folder to an answer: what a new user does, in every language that there is.

use std::sync::Mutex;

use crate::platform::{Platform, client_builder};

/// Languages at once: as many as a server builds.
const AT_ONCE: usize = 2;

async fn get(platform: &Platform, app: &str) -> (u16, String) {
    let client = client_builder().build().expect("client");
    let request = client
        .get(platform.http())
        .header("host", format!("{app}.localhost"));
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("text"))
}

/// The four commands of the story, and what the app answers.
fn live(platform: &Platform, language: &str) {
    let app = format!("new-{language}");
    let root = platform.root();
    platform.run(&["init", "--lang", language, &app]).ok();
    let project = root.join(&app);
    platform.run_in(&project, &["create", &app]).ok();
    let deploy = ["deploy", "--scale", "web=1", "--timeout", "300"];
    let deployed = platform.run_in(&project, &deploy).ok();
    assert!(deployed.starts_with("v1 released\n"), "{language}: {deployed}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    let (status, text) = runtime.block_on(get(platform, &app));
    assert_eq!(status, 200, "{language}: {text}");
    assert!(!text.trim().is_empty(), "{language} answers nothing");
}

#[test]
fn every_new_project_deploys_as_it_stands_and_answers() {
    let platform = Platform::start();
    let choices = platform.json(&["init"]);
    let choices = choices.as_array().expect("a list").clone();
    assert!(!choices.is_empty());
    for choice in &choices {
        assert_eq!(choice["ready"], true, "run scripts/setup: {choice}");
    }
    let left = Mutex::new(choices.iter());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = left.lock().expect("no holder panics").next();
                    let Some(choice) = next else { break };
                    live(&platform, choice["language"].as_str().expect("text"));
                }
            });
        }
    });
}
