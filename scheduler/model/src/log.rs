//! Log lines.

use serde::{Deserialize, Serialize};

use crate::{Timestamp, name::AppName};

/// Longest line kept; the rest is cut (L13).
pub const LINE_BYTES_MAX: usize = 8 << 10;

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum LogStream {
    /// The process's standard output.
    Stdout,
    /// The process's standard error.
    Stderr,
    /// The platform, about the instance or the app. Only the platform can make such a line.
    Platform,
    /// The ingress: one line for a request.
    Router,
}

/// One line of an app's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogLine {
    /// When it was written.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// Its app.
    pub app: AppName,
    /// `web.1`, or `router`, `control` for lines that belong to no instance.
    pub source: String,
    /// Its stream.
    pub stream: LogStream,
    /// The text, without its line end, at most [`LINE_BYTES_MAX`].
    pub text: String,
}
