//! The `release` process of a release: it runs to its end before instances move to the release.
//!
//! Invariant: nothing runs of a release whose hook has not ended well: until then the app's scale and migration are
//! as they were.

use gilliam_model::{
    Timestamp,
    app::{App, Hook, Unproven},
    image::Image,
    release::{HookStatus, Release, ReleaseId},
    run::{Outcome, Run},
};

use crate::released::move_to;

/// The app after `release`, its next one, was made, of which nothing runs before `run` has ended well.
///
/// # Panics
/// When `release` is not the app's next one: release numbers have no gaps.
pub fn announced(app: &App, release: ReleaseId, run: u32, migrate: bool) -> App {
    assert_eq!(release, app.next_release(), "the next release of {}", app.name);
    App {
        latest: Some(release),
        unproven: Some(Unproven {
            good: app.newest_good(),
            waits_for: Some(Hook { run, migrate }),
        }),
        ..app.clone()
    }
}

/// The app and its newest release after the run that the release waits for has ended; none when it waits for another,
/// or for none.
pub fn hook_ended(
    app: &App,
    release: &Release,
    image: &Image,
    run: &Run,
    outcome: &Outcome,
    now: Timestamp,
) -> Option<(App, Release)> {
    let hook = app.hook().filter(|hook| hook.run == run.id.number)?;
    if app.latest != Some(release.id) {
        return None;
    }
    let number = run.id.number;
    let (app, status) = if outcome.is_ok() {
        let proven = App {
            migration_failure: None,
            unproven: None,
            ..app.clone()
        };
        let passed = HookStatus::Passed { run: number };
        (move_to(&proven, release.id, image, hook.migrate, now), passed)
    } else {
        let unproven = app.unproven.clone().map(|unproven| Unproven {
            waits_for: None,
            ..unproven
        });
        let reason = outcome.to_string();
        let failed = HookStatus::Failed { run: number, reason };
        (
            App {
                unproven,
                ..app.clone()
            },
            failed,
        )
    };
    let release = Release {
        hook: Some(status),
        ..release.clone()
    };
    Some((app, release))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use gilliam_model::{
        digest::Digest,
        image::{Process, Shape},
        limits::Limits,
        run::{RUN_MS_DEFAULT, RunCause, RunId, RunState},
        scale::Scale,
    };

    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T09:00:00Z".parse().expect("time")
    }

    fn id(n: u32) -> ReleaseId {
        format!("v{n}").parse().expect("release")
    }

    fn image() -> Image {
        let process = Process {
            component: Digest::from_sha256([0; 32]),
            component_bytes: 1,
            shape: Shape::CommandP2,
            command: "x.wasm".into(),
            args: vec!["x.wasm".into()],
            limits: Limits::default(),
            allowed_outbound_hosts: Vec::new(),
            guard_pages: false,
            jobs: gilliam_model::queue::JobTerms::default(),
            uses: Default::default(),
            imports: None,
            placement: gilliam_model::rules::PlacementRules::default(),
        };
        let names = ["web", "release"].map(|name| (name.parse().expect("name"), process.clone()));
        Image::new(names.into())
    }

    fn release(n: u32, run: u32) -> Release {
        Release {
            app: "hello".parse().expect("name"),
            id: id(n),
            image: Digest::from_sha256([0; 32]),
            config: Default::default(),
            limits: Default::default(),
            message: String::new(),
            author: String::new(),
            created_at: now(),
            hook: Some(HookStatus::Running { run }),
        }
    }

    fn run(number: u32) -> Run {
        Run {
            id: RunId {
                app: "hello".parse().expect("name"),
                number,
                asked_at: now(),
            },
            release: id(2),
            process: "release".parse().expect("name"),
            command: "x.wasm".into(),
            cause: RunCause::Release,
            author: String::new(),
            cron: None,
            attached: None,
            run_ms_max: RUN_MS_DEFAULT,
            is_to_stop: false,
            state: RunState::Asked,
            work: None,
        }
    }

    /// An app that runs two web instances of v1.
    fn running() -> App {
        let mut app = App::new("hello".parse().expect("name"), now());
        app.latest = Some(id(1));
        let mut scale = Scale::default();
        scale.set("web".parse().expect("name"), 2);
        app.scale = BTreeMap::from([(id(1), scale)]);
        app
    }

    #[test]
    fn nothing_moves_before_the_hook_has_ended_well() {
        let before = running();
        let waiting = announced(&before, id(2), 7, true);
        assert_eq!((&waiting.scale, &waiting.migration), (&before.scale, &None));
        assert_eq!((waiting.latest, waiting.base()), (Some(id(2)), Some(id(1))));
        let exited = |code| Outcome::Exited { code };
        let ended = |number, outcome: &Outcome| {
            hook_ended(&waiting, &release(2, 7), &image(), &run(number), outcome, now())
        };
        assert_eq!(ended(6, &exited(0)), None, "another run's end says nothing");
        let (after, passed) = ended(7, &exited(0)).expect("it waits for this one");
        assert!(passed.may_run() && after.unproven.is_none());
        assert_eq!(after.migration.as_ref().expect("it moves").to, id(2));
        assert_eq!(after.base(), Some(id(2)));
    }

    #[test]
    fn a_failed_hook_leaves_all_as_it_was_and_the_next_release_is_made_from_what_runs() {
        let before = running();
        let waiting = announced(&before, id(2), 7, true);
        let outcome = Outcome::TimedOut { run_ms_max: 1_000 };
        let ended = hook_ended(&waiting, &release(2, 7), &image(), &run(7), &outcome, now());
        let (failed, status) = ended.expect("it waits for this one");
        assert!(!status.may_run());
        assert_eq!((&failed.scale, &failed.migration), (&before.scale, &None));
        assert_eq!((failed.base(), failed.next_release()), (Some(id(1)), id(3)));
        let again = announced(&failed, id(3), 8, true);
        assert_eq!(again.base(), Some(id(1)));
        let first = announced(&App::new("hello".parse().expect("name"), now()), id(1), 1, true);
        assert_eq!((first.newest_good(), first.base()), (None, Some(id(1))));
    }

    #[test]
    fn what_does_not_move_is_good_all_the_same() {
        let waiting = announced(&running(), id(2), 7, false);
        let outcome = Outcome::Exited { code: 0 };
        let ended = hook_ended(&waiting, &release(2, 7), &image(), &run(7), &outcome, now());
        let (after, _) = ended.expect("it waits for this one");
        assert_eq!((&after.scale, &after.migration), (&running().scale, &None));
        assert_eq!(after.base(), Some(id(2)));
    }
}
