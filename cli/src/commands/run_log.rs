//! A run watched through the app's log, until it has ended: for those who have nothing to say to it.

use std::time::Duration;

use gilliam_client::{Client, ClientError, LogQuery};
use gilliam_model::{
    api::LOG_LINES_MAX,
    log::{LogLine, LogStream},
    name::AppName,
    run::{RunInfo, RunPhase},
};

use crate::failure::CommandResult;

/// How long the server is asked to wait at once.
const WAIT: Duration = Duration::from_secs(15);
/// Between two tries to reach a control plane that is away.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// A control plane that is away for a minute will not come back by itself.
const RETRIES_MAX: u32 = 120;
/// Longest wait for the last lines of a run that has ended.
const LAST_LINES_WAIT: Duration = Duration::from_secs(3);

/// Waits for the end of a run; tells each of its lines meanwhile.
pub(super) async fn until_end(
    client: &Client,
    app: &AppName,
    number: u32,
    mut tell: impl FnMut(&LogLine),
) -> CommandResult<RunInfo> {
    let query = LogQuery {
        lines: Some(LOG_LINES_MAX),
        follow: true,
        source: Some(format!("run.{number}")),
    };
    let mut log = client.logs(app, &query).await?;
    let mut is_open = true;
    let mut ended = std::pin::pin!(end_of(client, app, number));
    let run = loop {
        tokio::select! {
            line = log.next(), if is_open => match line {
                Ok(Some(line)) => tell(&line),
                // The run goes on, and how it ends is learnt all the same.
                Ok(None) | Err(_) => is_open = false,
            },
            run = &mut ended => break run?,
        }
    };
    if is_open && run.node.is_some() {
        let rest = async {
            while let Ok(Some(line)) = log.next().await {
                let is_last = line.stream == LogStream::Platform;
                tell(&line);
                if is_last {
                    break;
                }
            }
        };
        // Those that come later are in the app's log.
        let _ = tokio::time::timeout(LAST_LINES_WAIT, rest).await;
    }
    Ok(run)
}

/// Waits for the end of a run, over restarts of the control plane.
pub(super) async fn end_of(client: &Client, app: &AppName, number: u32) -> Result<RunInfo, ClientError> {
    let mut failures = 0;
    loop {
        match client.run(app, number, WAIT).await {
            Ok(run) if run.state == RunPhase::Ended => return Ok(run),
            Ok(_) => failures = 0,
            Err(error) if error.is_transient() && failures < RETRIES_MAX => {
                failures += 1;
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            Err(error) => return Err(error),
        }
    }
}
