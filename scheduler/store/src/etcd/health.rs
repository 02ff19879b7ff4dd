//! Whether etcd answers and takes writes: asked of the member in turn, every few seconds, by what costs etcd
//! neither a write nor a message to its peers.
//!
//! In: the status of a member. Out: another member's turn when this one is silent or has no leader, and why
//! no writes are taken.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{meaning, members::Members};

/// How often: a paused member is noticed within this time and the one below.
const INTERVAL: Duration = Duration::from_secs(2);
/// Time for a member to say how it is.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Members in a row that were silent or had no leader before etcd counts as gone: more than an election of a
/// leader lasts by default.
const SILENCES_MAX: u32 = 3;

/// What is known of etcd.
#[derive(Debug, Default)]
pub(super) struct Health {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Alarms of etcd's that stop writes.
    alarm: Option<String>,
    /// What the last silent members said, and how many there were in a row.
    silence: Option<String>,
    silences: u32,
}

impl Health {
    /// Why etcd takes no writes, if it does not.
    pub(super) fn read_only(&self) -> Option<String> {
        let state = self.state();
        let silence = state.silence.as_ref().filter(|_| state.silences >= SILENCES_MAX);
        state
            .alarm
            .as_ref()
            .map(|alarm| format!("etcd has raised {alarm}"))
            .or_else(|| silence.map(|said| format!("no member of etcd answers with a leader; {said}")))
    }

    /// Whether etcd was known to be out of space.
    pub(super) fn is_full(&self) -> bool {
        self.state().alarm.is_some()
    }

    /// Notes that etcd said it is out of space; says whether that was known.
    pub(super) fn note_full(&self) {
        self.state().alarm = Some("the alarm NOSPACE".into());
    }

    fn note_answer(&self, errors: &[String]) {
        let alarm = errors.iter().find_map(|error| alarm(error));
        let mut state = self.state();
        if alarm.is_some() && state.alarm.is_none() {
            tracing::error!(alarm, "etcd takes no writes");
        }
        *state = State {
            alarm,
            ..State::default()
        };
    }

    fn note_silence(&self, said: String) {
        let mut state = self.state();
        state.silences = state.silences.saturating_add(1);
        if state.silences == SILENCES_MAX {
            tracing::error!(said, "no member of etcd answers with a leader");
        }
        state.silence = Some(said);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The alarm in an error of a member's status (`memberID:… alarm:NOSPACE `).
fn alarm(error: &str) -> Option<String> {
    let (_, name) = error.split_once("alarm:")?;
    Some(format!("the alarm {}", name.trim()))
}

/// Asks for ever.
pub(super) async fn run(members: Arc<Members>, health: Arc<Health>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let until = Instant::now() + ANSWER_MAX;
        let member = match members.member(until).await {
            Ok(member) => member,
            Err((turn, said)) => {
                health.note_silence(format!("{}: {said}", members.url(turn)));
                members.leave(turn);
                continue;
            }
        };
        let mut client = member.client;
        let said = match tokio::time::timeout_at(until, client.status()).await {
            Ok(Ok(status)) if status.leader() != 0 => {
                health.note_answer(status.errors());
                continue;
            }
            Ok(Ok(_)) => "it has no leader".to_string(),
            Ok(Err(error)) => meaning::text(&error),
            Err(_) => "it does not answer".to_string(),
        };
        tracing::warn!(
            member = members.url(member.turn),
            said,
            "going on to the next member of etcd"
        );
        health.note_silence(format!("{}: {said}", members.url(member.turn)));
        members.leave(member.turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_shows_until_it_is_gone() {
        let health = Health::default();
        health.note_answer(&["memberID:10501334649042878790 alarm:NOSPACE ".to_string()]);
        assert_eq!(
            health.read_only().as_deref(),
            Some("etcd has raised the alarm NOSPACE")
        );
        health.note_answer(&[]);
        assert_eq!(health.read_only(), None);
    }

    #[test]
    fn one_silent_member_is_no_silent_etcd() {
        let health = Health::default();
        for _ in 1..SILENCES_MAX {
            health.note_silence("http://h1: gone".into());
            assert_eq!(health.read_only(), None);
        }
        health.note_silence("http://h1: gone".into());
        assert!(health.read_only().expect("gone").contains("http://h1"));
        health.note_answer(&[]);
        assert_eq!(health.read_only(), None);
    }
}
