//! How an instance ended by itself.

use std::{fmt, time::Duration};

use gilliam_engine::ExitReason;
use gilliam_model::code::Code;

/// An end that nobody asked for.
#[derive(Debug, Clone)]
pub(super) struct Crash {
    /// How far it came after it was ready.
    pub(super) ran: Duration,
    pub(super) code: Option<Code>,
    pub(super) message: String,
}

impl Crash {
    pub(super) fn early(code: Code, message: impl Into<String>) -> Self {
        Self {
            ran: Duration::ZERO,
            code: Some(code),
            message: message.into(),
        }
    }

    pub(super) fn exited(reason: &ExitReason, ran: Duration) -> Self {
        match reason {
            ExitReason::Trap { code, message } => Self {
                ran,
                code: Some(*code),
                message: message.clone(),
            },
            ExitReason::Killed { code } => Self {
                ran,
                code: *code,
                message: reason.to_string(),
            },
            ExitReason::Ok | ExitReason::ExitCode(_) => Self {
                ran,
                code: None,
                message: reason.to_string(),
            },
        }
    }
}

/// As the log has it: `R23 trap: unreachable`.
impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = self.code {
            write!(f, "{code} {}: ", code.title())?;
        }
        f.write_str(&self.message)
    }
}
