//! The catalogue of platform errors: one code for one cause, in headers, bodies, logs and metrics alike.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($code:ident $status:literal $text:literal,)*) => {
        /// A platform error code. Heroku's where the meaning is the same (Heroku Dev Center, "Heroku Error Codes").
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum Code {
            $(#[doc = $text] $code,)*
        }

        impl Code {
            /// Every code, in the order of the catalogue.
            pub const ALL: &'static [Code] = &[$(Code::$code),*];

            /// The code as printed: `H14`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$code => stringify!($code)),* }
            }

            /// What the code means, in a few words.
            pub fn title(self) -> &'static str {
                match self { $(Code::$code => $text),* }
            }

            /// The HTTP status that goes with the code; 0 for codes that no response carries.
            pub fn status(self) -> u16 {
                match self { $(Code::$code => $status),* }
            }
        }
    };
}

codes! {
    H10 503 "app crashed",
    H11 503 "backlog too deep",
    H12 504 "request timeout",
    H13 502 "connection closed without response",
    H14 503 "no web instances running",
    H17 502 "malformed response from the app",
    H18 0 "app aborted in the middle of a response",
    H20 503 "app boot timeout",
    H22 503 "connection limit reached",
    H26 400 "bad request",
    H27 499 "client went away",
    H31 421 "misdirected request",
    H80 503 "maintenance mode",
    H81 404 "no such app",
    H99 500 "platform error",
    R10 0 "boot timeout",
    R12 0 "exit timeout",
    R14 0 "memory quota reached",
    R15 0 "memory quota vastly exceeded",
    R17 0 "digest mismatch",
    R20 0 "fuel budget exceeded",
    R21 0 "call stack exhausted",
    R22 0 "host resource limit reached",
    R23 0 "trap",
    R99 0 "platform error in the runtime",
    L10 0 "log lines dropped: drain overflow",
    L11 0 "log lines dropped: tail overflow",
    L12 0 "log lines dropped: rate exceeded",
    L13 0 "log line cut",
    N01 0 "address denied",
    N02 0 "outbound connection limit reached",
    N03 0 "name resolution refused",
    N04 403 "internal host refused",
    N05 403 "not permitted by the other app",
    N06 508 "calls within calls are too deep",
    B10 422 "build limit reached",
    B11 422 "forbidden import",
    B12 422 "malformed component",
    B13 422 "build stopped by the sandbox",
    B14 422 "archive rejected",
    B15 422 "build failed",
    B16 422 "release process failed",
    S10 503 "store is read-only",
    S11 503 "store corruption",
    S12 409 "conflict",
    S13 503 "store unavailable",
    S20 429 "service quota reached",
    S21 404 "no such service",
    S22 503 "service unavailable",
    S23 409 "service in use",
    Q10 409 "job exists already",
    Q11 409 "lease lost",
    Q12 0 "job moved to the dead letters",
    Q13 429 "queue quota reached",
    A400 400 "bad request",
    A401 401 "not authenticated",
    A404 404 "not found",
    A409 409 "conflict",
    A412 412 "precondition failed",
    A413 413 "too large",
    A422 422 "invalid",
    A429 429 "too many requests",
    A500 500 "platform error",
    A503 503 "unavailable",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_codes_carry_an_error_status() {
        for code in Code::ALL {
            let status = code.status();
            assert!(status == 0 || (400..600).contains(&status), "{code} has {status}");
        }
    }
}
