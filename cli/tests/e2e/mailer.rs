//! The sample mailer: mails that a web process puts, a worker sends, and the dead letters.

use std::path::Path;

use crate::{
    client,
    platform::{Platform, wait},
};

/// What the worker `mails` of the samples in Python and JavaScript does.
#[track_caller]
pub(crate) fn mails_are_sent_tried_again_or_discarded(platform: &Platform, project: &Path, app: &str) {
    let gilliam = |args: &[&str]| platform.run_in(project, args);
    gilliam(&["scale", "mails=1"]).ok();
    let put = |payload: &str| gilliam(&["queue", "mails", "put", payload]).ok();
    let sent = client::post(
        platform,
        app,
        "/mails",
        "application/json",
        r#"{"to": "ada@example.com"}"#,
    );
    assert_eq!(sent.status, 202, "{}", sent.body);
    assert!(sent.body.contains("\"new\""), "{}", sent.body);
    put(r#"{"to": "nobody"}"#);
    put("no mail at all");
    put(r#"{"to": "bob@example.com", "busy": true}"#);
    wait("two mails sent, two discarded", || {
        let mails = platform.json(&["queue", "mails", "--app", app]);
        (mails["done"] == 2 && mails["dead"] == 2).then_some(())
    });
    let dead = gilliam(&["queue", "mails", "dead"]).ok();
    assert!(
        dead.contains("\"nobody\" is no address") || dead.contains("'nobody' is no address"),
        "{dead}"
    );
    assert!(
        dead.contains("the payload is not what the worker takes"),
        "{dead}"
    );
    for line in [
        "INFO mail 1 sent to ada@example.com at attempt 1",
        "INFO mail 4 sent to bob@example.com at attempt 2",
    ] {
        wait(line, || {
            let logs = gilliam(&["logs", "-n", "100"]).ok();
            logs.contains(line).then_some(())
        });
    }
}

#[test]
fn mails_go_from_the_web_through_the_queue_to_the_worker_or_the_dead_letters() {
    let platform = Platform::start();
    let project = platform.deploy("mailer", "mailer", &["web=1", "emails=2", "newsletters=1"]);
    let gilliam = |args: &[&str]| platform.run_in(&project, args);
    let queue = |state: &str| {
        let emails = platform.json(&["queue", "emails", "--app", "mailer"]);
        emails[state].as_u64().expect("a count")
    };
    let mail = |path: &str, body: &str| {
        let answer = client::post(&platform, "mailer", path, "application/json", body);
        (answer.status, answer.body)
    };

    let sent = mail("/mails", r#"{"to": "ada@example.com", "text": "Hello!"}"#);
    assert_eq!(sent, (202, "mail 1 waits\n".to_owned()));
    wait("the mail in the log", || {
        let logs = gilliam(&["logs", "-n", "50"]).ok();
        logs.contains("INFO mail 1 sent to ada@example.com at attempt 1")
            .then_some(())
    });

    // What can never be sent is among the dead letters at its first attempt, whoever put it.
    mail("/mails", r#"{"to": "nobody", "text": "Hello!"}"#);
    gilliam(&["queue", "emails", "put", "no mail at all"]).ok();
    wait("two dead letters", || (queue("dead") == 2).then_some(()));
    let dead = gilliam(&["queue", "emails", "dead"]).ok();
    assert!(dead.contains("\"nobody\" is no address"), "{dead}");
    assert!(
        dead.contains("the payload is not what the worker takes"),
        "{dead}"
    );

    // One of a name at a time.
    gilliam(&["queue", "emails", "pause"]).ok();
    let welcome = r#"{"to": "ada@example.com", "text": "Welcome!"}"#;
    assert_eq!(
        mail("/mails?once=ada", welcome),
        (202, "mail 4 waits\n".to_owned())
    );
    assert_eq!(
        mail("/mails?once=ada", welcome),
        (200, "mail 4 waits already\n".to_owned())
    );
    gilliam(&["queue", "emails", "resume"]).ok();
    wait("the second mail", || (queue("done") == 2).then_some(()));
    assert_eq!(mail("/mails", "{}").0, 400);

    // A program with a loop makes many jobs of one, and ends when it is asked to.
    let news = r#"{"readers": ["ada@example.com", "bob@example.com", "nobody"], "text": "News!"}"#;
    gilliam(&["queue", "newsletters", "put", news]).ok();
    gilliam(&["queue", "newsletters", "put", "no newsletter"]).ok();
    wait("two more mails, and one more dead", || {
        (queue("done") == 4 && queue("dead") == 3).then_some(())
    });
    let newsletters = wait("both newsletters' ends", || {
        let queue = platform.json(&["queue", "newsletters", "--app", "mailer"]);
        (queue["done"] == 1 && queue["dead"] == 1).then_some(queue)
    });
    assert_eq!(newsletters["running"], 0);
    gilliam(&["scale", "newsletters=0"]).ok();
    wait("its last words", || {
        let logs = gilliam(&["logs", "-n", "100"]).ok();
        logs.contains("INFO no more newsletters").then_some(())
    });
}
