//! Signals that ask a server to end: the first one drains it, a second one ends the process.

use std::time::Duration;

use gilliam_serve::{DrainSignal, drain};
use tokio::signal::unix::{SignalKind, signal};

/// How long requests in flight may take to finish.
pub(crate) const GRACE: Duration = Duration::from_secs(30);
/// Exit code after a second signal, as shells report an interrupt.
const INTERRUPTED: i32 = 130;

/// Returns at the first SIGINT or SIGTERM.
pub(crate) async fn requested() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers the default action of the signals ends the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// A drain signal that is raised by the first SIGINT or SIGTERM; the second ends the process at once.
pub(crate) fn drain_on_signal() -> DrainSignal {
    let (trigger, drain) = drain::channel();
    tokio::spawn(async move {
        requested().await;
        trigger.drain(GRACE);
        second_ends_the_process().await;
    });
    drain
}

/// Ends the process at the next signal: a person who presses Ctrl-C twice means it.
#[allow(
    clippy::exit,
    reason = "the point of a second signal is not to wait for anything"
)]
pub(crate) async fn second_ends_the_process() {
    requested().await;
    std::process::exit(INTERRUPTED);
}
