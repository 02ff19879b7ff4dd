//! What follows the making of a release: it is announced, its migration is waited for, and what to do next is
//! said.

use gilliam_client::Client;
use gilliam_model::{
    api::ReleaseInfo,
    name::{AppName, ProcessName},
    release::{HookStatus, ReleaseId},
    route::WEB,
    run::RELEASE_HOOK,
    scale::Scale,
};

use crate::{
    args::Waiting,
    commands::run_log,
    context::Context,
    failure::{CommandError, CommandResult},
    progress::{self, Goal},
    ui::Ui,
};

/// A release was just made.
#[derive(Debug)]
pub(super) struct After<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) client: &'a Client,
    pub(super) app: &'a AppName,
    pub(super) waiting: &'a Waiting,
}

/// Prints `v2 adds: outbound https://api.example.com`, where something changed. A build prints it itself.
pub(super) fn say_capabilities(ui: &Ui, release: &ReleaseInfo) {
    if !release.capabilities.is_empty() {
        ui.note(&format!("{} {}", release.id, release.capabilities));
    }
}

impl After<'_> {
    /// All of it, in this order.
    pub(super) async fn finish(&self, release: &ReleaseInfo) -> CommandResult {
        for warning in &release.warnings {
            self.context.ui.hint(warning);
        }
        let Some(release) = self.proven(release).await? else {
            return Ok(());
        };
        self.announce(&release)?;
        self.migrate_or_explain(&release).await
    }

    /// The release after its `release` process has ended well; none when that is not waited for.
    pub(super) async fn proven(&self, release: &ReleaseInfo) -> CommandResult<Option<ReleaseInfo>> {
        let ui = self.context.ui;
        let Some(HookStatus::Running { run }) = release.hook else {
            return Ok(Some(release.clone()));
        };
        let id = release.id;
        if self.waiting.limit().is_none() {
            ui.note(&format!(
                "{id} waits for its release process (run.{run}); gilliam releases shows how it ends"
            ));
            return match ui.wants_json() {
                true => ui.json(release).map(|()| None),
                false => Ok(None),
            };
        }
        ui.note(&format!("Running the release process of {id} (run.{run})"));
        let ended = run_log::until_end(self.client, self.app, run, |line| {
            ui.note(&format!("       {}", line.text));
        });
        ended.await?;
        let releases = self.client.releases(self.app).await?;
        let now = releases.into_iter().find(|release| release.id == id);
        match now.as_ref().and_then(|release| release.hook.as_ref()) {
            Some(HookStatus::Failed { reason, .. }) => {
                let message = format!("{id} failed: its release process {reason}");
                Err(CommandError::failed(message).hinted(format!(
                    "what ran before runs on; gilliam logs run.{run} shows its lines"
                )))
            }
            _ => Ok(now),
        }
    }

    /// Prints `v2 released`.
    pub(super) fn announce(&self, release: &ReleaseInfo) -> CommandResult {
        let ui = self.context.ui;
        if ui.wants_json() {
            ui.json(release)
        } else {
            ui.data(&format!("{} released", release.id))
        }
    }

    /// Waits for the migration that began with the release, or says how to run it.
    async fn migrate_or_explain(&self, release: &ReleaseInfo) -> CommandResult {
        if release.migrating {
            self.wait_for_migration(release).await?;
        } else {
            self.explain(release).await?;
        }
        if let Some(previous) = previous(release.id) {
            self.context.ui.undo(&format!("gilliam rollback {previous}"));
        }
        Ok(())
    }

    /// Waits until everything moved to the release, unless that is not wanted.
    pub(super) async fn wait_for_migration(&self, release: &ReleaseInfo) -> CommandResult {
        let ui = self.context.ui;
        let Some(limit) = self.waiting.limit() else {
            ui.note(&format!(
                "moving to {}; gilliam ps -w shows how far it is",
                release.id
            ));
            return Ok(());
        };
        let goal = Goal::Migration {
            to: release.id,
            scale: release.scale.clone(),
        };
        progress::wait_for(
            ui,
            self.client,
            self.app,
            &goal,
            &format!("Moving to {}", release.id),
            limit,
        )
        .await
    }

    async fn explain(&self, release: &ReleaseInfo) -> CommandResult {
        let scaled = self.client.scale(self.app).await?.scale;
        let mut others = scaled
            .iter()
            .rev()
            .filter(|(id, scale)| **id != release.id && !scale.is_empty());
        let hint = match others.next() {
            Some((other, scale)) => {
                let counts = suggest(release, Some(scale));
                format!("{other} keeps running; gilliam scale {} {counts}", release.id)
            }
            None => format!(
                "nothing runs yet; gilliam scale {} {}",
                release.id,
                suggest(release, None)
            ),
        };
        self.context.ui.hint(&hint);
        Ok(())
    }
}

/// Counts to begin with: what another release has, else two for `web`, so that one can be replaced, and one
/// for others.
fn suggest(release: &ReleaseInfo, running: Option<&Scale>) -> String {
    let count = |process: &ProcessName| match running.map(|scale| scale.count(process)).filter(|n| *n > 0) {
        Some(n) => n,
        None if process.as_str() == WEB => 2,
        None => 1,
    };
    let (web, others): (Vec<_>, Vec<_>) = release
        .processes
        .keys()
        .filter(|process| process.as_str() != RELEASE_HOOK)
        .partition(|process| process.as_str() == WEB);
    let counts: Vec<String> = web
        .into_iter()
        .chain(others)
        .map(|p| format!("{p}={}", count(p)))
        .collect();
    counts.join(" ")
}

fn previous(release: ReleaseId) -> Option<ReleaseId> {
    std::num::NonZeroU32::new(release.number() - 1).map(ReleaseId::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_suggested_with_web_first() {
        let release: ReleaseInfo = serde_json::from_str(&format!(
            r#"{{"app":"a","id":"v1","image":"sha256:{}","message":"","author":"me","created_at":"2026-01-01T00:00:00Z",
            "processes":{{"api":"x.wasm","web":"web.wasm","worker":"w.wasm"}},"scale":{{}},"migrating":false}}"#,
            "0".repeat(64)
        ))
        .expect("release");
        assert_eq!(suggest(&release, None), "web=2 api=1 worker=1");
        let running = serde_json::from_str(r#"{"web":5}"#).expect("scale");
        assert_eq!(suggest(&release, Some(&running)), "web=5 api=1 worker=1");
        assert_eq!(previous(ReleaseId::FIRST), None);
        assert_eq!(previous(ReleaseId::FIRST.next()), Some(ReleaseId::FIRST));
    }
}
