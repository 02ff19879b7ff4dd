//! `gilliam logs`.

use std::time::Duration;

use gilliam_client::{Client, ClientError, LogQuery};
use gilliam_model::{
    Timestamp,
    api::LOG_LINES_MAX,
    log::{LogLine, LogStream},
    name::AppName,
};

use crate::{
    context::Context,
    failure::{CommandError, CommandResult},
    ui::Ui,
};

/// Lines shown unless a number is given: about a screen or two.
const LINES_DEFAULT: usize = 100;
/// Between two tries to go on following.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// A control plane that is away for a minute will not come back by itself.
const RETRIES_MAX: u32 = 120;

/// Shows an app's log.
///
/// It holds what instances print, what the platform says of them, and one line for each request.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "app[web.1] is what an instance printed, gilliam[web.1] what the platform says of it, \
                        gilliam[router] a request."
)]
pub(crate) struct Args {
    /// Only lines of `web`, `web.1` or `router`.
    #[arg(value_name = "SOURCE")]
    source: Option<String>,
    /// Goes on with new lines, until interrupted.
    #[arg(long, short = 'f')]
    follow: bool,
    /// How many of the newest lines.
    #[arg(long, short = 'n', value_name = "LINES", default_value_t = LINES_DEFAULT)]
    lines: usize,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    if args.lines > LOG_LINES_MAX {
        return Err(CommandError::usage(format!(
            "--lines {} is more than the {LOG_LINES_MAX} that are kept",
            args.lines
        )));
    }
    let app = context.app()?;
    let client = context.client()?;
    let mut query = LogQuery {
        lines: Some(args.lines),
        follow: args.follow,
        source: args.source,
    };
    let mut shown = Shown::default();
    loop {
        let error = match follow(ui, &client, &app, &query, &mut shown).await {
            Ok(()) if args.follow => None,
            Ok(()) => break,
            Err(Broken::Command(error)) => return Err(error),
            Err(Broken::Connection(error)) if args.follow && shown.may_go_on(&error) => Some(error),
            Err(Broken::Connection(error)) => return Err(error.into()),
        };
        if let Some(error) = error.filter(|_| shown.failures == 1) {
            ui.note(&format!("{error}; asking again"));
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
        // All that is kept, less what was shown: nothing is lost in between.
        query.lines = Some(LOG_LINES_MAX);
    }
    if shown.last.is_none() && args.lines > 0 {
        ui.note("no log lines yet");
    }
    Ok(())
}

/// What was shown so far, so that a broken connection neither repeats nor loses a line.
#[derive(Debug, Default)]
struct Shown {
    last: Option<Timestamp>,
    is_connected: bool,
    /// Since the last answer.
    failures: u32,
}

impl Shown {
    fn may_go_on(&mut self, error: &ClientError) -> bool {
        self.failures += 1;
        // A platform that never answered is not waited for.
        self.is_connected && error.is_transient() && self.failures <= RETRIES_MAX
    }
}

/// Why a stream of lines ended early.
enum Broken {
    Connection(ClientError),
    Command(CommandError),
}

async fn follow(
    ui: &Ui,
    client: &Client,
    app: &AppName,
    query: &LogQuery,
    shown: &mut Shown,
) -> Result<(), Broken> {
    let mut log = client.logs(app, query).await.map_err(Broken::Connection)?;
    shown.is_connected = true;
    shown.failures = 0;
    let before = shown.last;
    while let Some(line) = log.next().await.map_err(Broken::Connection)? {
        if before.is_some_and(|before| line.at <= before) {
            continue;
        }
        shown.last = shown.last.max(Some(line.at));
        let written = if ui.wants_json() {
            ui.json(&line)
        } else {
            ui.data(&print(&line))
        };
        written.map_err(Broken::Command)?;
    }
    Ok(())
}

/// `2026-11-21T09:00:00.123Z app[web.1]: text`. Who speaks is the platform's word, never the text's.
fn print(line: &LogLine) -> String {
    let speaker = match line.stream {
        LogStream::Stdout | LogStream::Stderr => "app",
        LogStream::Platform | LogStream::Router => "gilliam",
    };
    format!("{:.3} {speaker}[{}]: {}", line.at, line.source, line.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_when_and_who() {
        let line = |stream, source: &str| LogLine {
            at: "2026-11-21T09:00:00.1234Z".parse().expect("instant"),
            app: "a".parse().expect("name"),
            source: source.to_string(),
            stream,
            text: "hello".to_string(),
        };
        assert_eq!(
            print(&line(LogStream::Stderr, "web.1")),
            "2026-11-21T09:00:00.123Z app[web.1]: hello"
        );
        assert_eq!(
            print(&line(LogStream::Platform, "web.1")),
            "2026-11-21T09:00:00.123Z gilliam[web.1]: hello"
        );
        assert_eq!(
            print(&line(LogStream::Router, "router")),
            "2026-11-21T09:00:00.123Z gilliam[router]: hello"
        );
    }
}
