//! What a `scale` makes of its app's record, or why it is refused.

use std::fmt;

use gilliam_model::{
    api::ScalePatch,
    app::{App, Migration},
    image::Image,
    name::{AppName, ProcessName},
    release::ReleaseId,
    run::RELEASE_HOOK,
    scale::{COUNT_MAX, Scale},
};

/// A `scale` that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScaleRefusal {
    /// The app has no release.
    NoRelease {
        /// The app.
        app: AppName,
    },
    /// The app has no such release.
    UnknownRelease {
        /// As asked.
        release: ReleaseId,
        /// The newest there is.
        latest: ReleaseId,
    },
    /// Instances are being moved away from the release.
    MigratingAway {
        /// As asked.
        release: ReleaseId,
        /// Where they move.
        to: ReleaseId,
    },
    /// The release has no such process types.
    UnknownProcess {
        /// The release.
        release: ReleaseId,
        /// As asked.
        unknown: Vec<ProcessName>,
        /// Those it has.
        known: Vec<ProcessName>,
    },
    /// What runs before instances move to a release is not scaled.
    Hook,
    /// A count is beyond [`COUNT_MAX`].
    TooMany {
        /// The process type.
        process: ProcessName,
        /// As asked.
        count: u32,
    },
}

impl fmt::Display for ScaleRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRelease { app } => write!(f, "{app} has no release to scale"),
            Self::UnknownRelease { release, latest } => {
                write!(f, "there is no release {release}; the newest is {latest}")
            }
            Self::MigratingAway { release, to } => {
                write!(f, "{release} cannot be scaled while its instances move to {to}")
            }
            Self::UnknownProcess {
                release,
                unknown,
                known,
            } => {
                write!(
                    f,
                    "{release} has no process type {}; it has {}",
                    list(unknown),
                    list(known)
                )
            }
            Self::Hook => {
                write!(
                    f,
                    "{RELEASE_HOOK} runs once, before instances move to a release; it is not scaled"
                )
            }
            Self::TooMany { process, count } => {
                write!(
                    f,
                    "count {count} of {process} is not a whole number from 0 to {COUNT_MAX}"
                )
            }
        }
    }
}

impl std::error::Error for ScaleRefusal {}

impl ScaleRefusal {
    /// The way out, for people.
    pub fn hint(&self) -> String {
        match self {
            Self::NoRelease { .. } => "deploy first: gilliam deploy".into(),
            Self::UnknownRelease { .. } => "see gilliam releases".into(),
            Self::MigratingAway { to, .. } => format!("scale {to}, or wait until the migration is over"),
            Self::UnknownProcess { known, .. } => match known.first() {
                Some(first) => format!("gilliam scale {first}=1"),
                None => "add a process type to the Procfile and deploy it".into(),
            },
            Self::Hook => format!("gilliam run {RELEASE_HOOK} runs it once more"),
            Self::TooMany { .. } => "choose a smaller count".into(),
        }
    }
}

/// The release that a `scale` acts on: the one it names, else the newest that is scaled, else the newest.
pub fn scale_target(app: &App, release: Option<ReleaseId>) -> Result<ReleaseId, ScaleRefusal> {
    let latest = app.latest.ok_or_else(|| ScaleRefusal::NoRelease {
        app: app.name.clone(),
    })?;
    let moving = app.migration.as_ref().map(|migration| migration.to);
    match release {
        Some(release) if release > latest => Err(ScaleRefusal::UnknownRelease { release, latest }),
        Some(release) => Ok(release),
        None => Ok(moving
            .or(app.scale.keys().next_back().copied())
            .or(app.base())
            .unwrap_or(latest)),
    }
}

/// The app after `patch`; `image` is that of the release which [`scale_target`] names.
///
/// While a migration to that release is under way, what to fall back to follows: a process type that is set
/// to 0 stops everywhere, and one that a single release is to fall back to gets the new count there.
pub fn scaled(app: &App, patch: &ScalePatch, image: &Image) -> Result<App, ScaleRefusal> {
    let release = scale_target(app, patch.release)?;
    if let Some(migration) = &app.migration
        && release != migration.to
        && migration.from.contains_key(&release)
    {
        return Err(ScaleRefusal::MigratingAway {
            release,
            to: migration.to,
        });
    }
    let unknown: Vec<ProcessName> = patch
        .counts
        .keys()
        .filter(|process| !image.processes.contains_key(*process))
        .cloned()
        .collect();
    if !unknown.is_empty() {
        let known = image.processes.keys().cloned().collect();
        return Err(ScaleRefusal::UnknownProcess {
            release,
            unknown,
            known,
        });
    }
    let is_hook = |(process, count): (&ProcessName, &u32)| process.as_str() == RELEASE_HOOK && *count > 0;
    if patch.counts.iter().any(is_hook) {
        return Err(ScaleRefusal::Hook);
    }
    if let Some((process, count)) = patch.counts.iter().find(|(_, count)| **count > COUNT_MAX) {
        return Err(ScaleRefusal::TooMany {
            process: process.clone(),
            count: *count,
        });
    }
    let mut after = App {
        migration_failure: None,
        ..app.clone()
    };
    let counts = after.scale.entry(release).or_default();
    for (process, count) in &patch.counts {
        counts.set(process.clone(), *count);
        if let Some(migration) = after
            .migration
            .as_mut()
            .filter(|migration| migration.to == release)
        {
            follow(migration, process, *count);
        }
    }
    after.scale.retain(|_, counts| !counts.is_empty());
    Ok(after)
}

fn follow(migration: &mut Migration, process: &ProcessName, count: u32) {
    if count == 0 {
        let scales = migration.from.values_mut().chain(migration.fallback.values_mut());
        scales.for_each(|scale| scale.set(process.clone(), 0));
        return;
    }
    let mut having: Vec<&mut Scale> = migration
        .fallback
        .values_mut()
        .filter(|scale| scale.count(process) > 0)
        .collect();
    if let [scale] = having.as_mut_slice() {
        scale.set(process.clone(), count);
    }
}

fn list(names: &[ProcessName]) -> String {
    let names: Vec<&str> = names.iter().map(ProcessName::as_str).collect();
    if names.is_empty() {
        "none".to_string()
    } else {
        names.join(", ")
    }
}
