//! The log of our own servers, on standard error.

use tracing_subscriber::EnvFilter;

use crate::failure::{CommandError, CommandResult};

/// What is logged unless `GILLIAM_LOG` says otherwise. h2 warns of each hostile connection: a line for
/// whoever wants one written.
const DEFAULT: &str = "warn,h2=error";

/// Starts the log of this process; once only.
pub(crate) fn start(filter: Option<&str>) -> CommandResult {
    let filter = filter.unwrap_or(DEFAULT);
    let parsed = EnvFilter::try_new(filter).map_err(|e| {
        CommandError::failed(format!("GILLIAM_LOG={filter:?} is not a log filter: {e}"))
            .hinted("write a level, such as info, or target=level pairs")
    })?;
    // A reader that went away must not end a server.
    let writer = || LossyStderr;
    tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_ansi(false)
        .with_writer(writer)
        .init();
    Ok(())
}

/// Standard error whose failures are ignored.
struct LossyStderr;

impl std::io::Write for LossyStderr {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = std::io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
