//! The platform's notice that a program is to end.

use wasip2::{cli::stdin, io::streams::StreamError};

use crate::executor::ready;

/// Whether the platform has asked this program to end: at a deploy, a scale or a stop.
///
/// For programs that run (`main`); what is called, for a request or a job, is let end within `exit_timeout`. A program
/// that was asked has `exit_timeout` as well, and is killed then. The notice is the end of standard input, so a
/// program that reads that itself sees it there.
pub fn is_stopping() -> bool {
    is_closed(&stdin::get_stdin())
}

/// Waits until the platform asks this program to end.
pub async fn stopping() {
    let stdin = stdin::get_stdin();
    while !is_closed(&stdin) {
        ready(stdin.subscribe()).await;
    }
}

fn is_closed(stdin: &stdin::InputStream) -> bool {
    matches!(stdin.read(1), Err(StreamError::Closed))
}
