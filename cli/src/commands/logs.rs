//! `gilliam logs`.

use gilliam_client::LogQuery;
use gilliam_model::{
    api::LOG_LINES_MAX,
    log::{LogLine, LogStream},
};

use crate::{
    context::Context,
    failure::{CommandError, CommandResult},
};

/// Lines shown unless a number is given: about a screen or two.
const LINES_DEFAULT: usize = 100;

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
    let query = LogQuery {
        lines: Some(args.lines),
        follow: args.follow,
        source: args.source,
    };
    let mut log = context.client()?.logs(&app, &query).await?;
    let mut is_empty = true;
    while let Some(line) = log.next().await? {
        is_empty = false;
        if ui.wants_json() {
            ui.json(&line)?
        } else {
            ui.data(&print(&line))?
        }
    }
    if is_empty && args.lines > 0 {
        ui.note("no log lines yet");
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
