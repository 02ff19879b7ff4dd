//! Releases: read, and made by the ways there are: a build, a change of config or limits, a rollback.
//!
//! Invariant: numbers are unique and without gaps: each comes from the app's record, whose revision the
//! commit checks.
//! Invariant: a release, its image and what its app runs from then on are written in one commit.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    num::NonZeroU32,
};

use gilliam_model::{
    Timestamp,
    api::ReleaseInfo,
    app::App,
    capabilities::CapabilityChange,
    code::Code,
    config::{Config, ConfigChange, ConfigError},
    digest::Digest,
    image::Image,
    limits::LimitName,
    name::{AppName, ConfigKey},
    overrides::{LimitsChange, Overrides},
    release::{HookStatus, MESSAGE_BYTES_MAX, Release, ReleaseId},
    service,
};
use gilliam_store::{Check, CommitError, keys, records};

use crate::{
    change::{Decision, change},
    crons,
    logs::cut,
    probe::{self, Candidate},
    refusal::Refusal,
    runs::{self, NewRun},
    shared::Shared,
    uses,
};

/// A release to make.
#[derive(Debug)]
pub(crate) struct NewRelease {
    /// What it is made of.
    pub(crate) basis: Basis,
    /// What changed, in the author's words; by default in ours.
    pub(crate) message: Option<String>,
    /// The name of the token that makes it.
    pub(crate) author: String,
    /// Whether what the previous release ran moves to it.
    pub(crate) migrate: bool,
    /// How long its `release` process may take, in milliseconds, when that is said.
    pub(crate) hook_ms_max: Option<u64>,
}

/// What a release is made of.
#[derive(Debug)]
pub(crate) enum Basis {
    /// A new image, with the newest config.
    Build(Digest, Image),
    /// The newest image, with another config.
    Config(ConfigChange),
    /// The newest image and config, with other limits.
    Limits(LimitsChange),
    /// Image, config and limits of an older release; by default of the newest that may run before the one that does.
    Rollback(Option<ReleaseId>),
}

/// The parts of a release that its basis decides.
struct Parts {
    digest: Digest,
    image: Image,
    config: Config,
    limits: Overrides,
    message: String,
}

/// Makes the next release of `app`.
pub(crate) async fn make(shared: &Shared, app: &AppName, new: &NewRelease) -> Result<ReleaseInfo, Refusal> {
    probe_reuse(shared, app, new).await?;
    change(shared, app, || decide(shared, app, new, Timestamp::now())).await
}

/// Tries lanes again that the release would reuse and its app did not yet. What an older release ran was
/// tried when that was made.
async fn probe_reuse(shared: &Shared, app: &AppName, new: &NewRelease) -> Result<(), Refusal> {
    if matches!(new.basis, Basis::Config(_) | Basis::Rollback(_)) {
        return Ok(());
    }
    let app = shared.app(app).await?.value;
    let parts = parts(shared, &app, &new.basis).await?;
    let before = match app.latest {
        Some(latest) => {
            let release = load(shared, &app.name, latest).await?;
            Some(release.limits.image(&load_image(shared, &release).await?))
        }
        None => None,
    };
    let candidate = Candidate {
        app: &app.name,
        release: app.next_release(),
        image: &parts.limits.image(&parts.image),
        config: &parts.config,
    };
    probe::check(shared, candidate, before.as_ref()).await
}

/// Refuses a message that would not be kept whole.
pub(crate) fn check_message(message: Option<&str>) -> Result<(), Refusal> {
    match message.map(str::len) {
        Some(length) if length > MESSAGE_BYTES_MAX => {
            let message = format!("the message has {length} bytes; at most {MESSAGE_BYTES_MAX} are kept");
            Err(Refusal::invalid(message))
        }
        _ => Ok(()),
    }
}

/// Reads a release.
pub(crate) async fn load(shared: &Shared, app: &AppName, id: ReleaseId) -> Result<Release, Refusal> {
    if let Some(found) = records::load_release(&shared.store, app, id).await? {
        return Ok(found.value);
    }
    // It may have gone with its app since that was read, and another app of the name may be there by now.
    let stored = shared.app(app).await?;
    match stored.value.latest.is_some_and(|latest| latest >= id) {
        true => Err(Refusal::missing("release", app, id)),
        false => Err(CommitError::Conflict { key: stored.key }.into()),
    }
}

/// Reads the image of a release, as it was sealed.
pub(crate) async fn load_image(shared: &Shared, release: &Release) -> Result<Image, Refusal> {
    let found = records::load_image(&shared.store, &release.image).await?;
    found
        .map(|stored| stored.value)
        .ok_or_else(|| Refusal::missing("image", &release.app, release.id))
}

/// Reads the releases of an app, newest first.
pub(crate) async fn list(shared: &Shared, app: &AppName) -> Result<Vec<ReleaseInfo>, Refusal> {
    // As of one revision: of an app that is destroyed meanwhile there would be none.
    let (key, prefix) = (keys::app(app), keys::releases_of(app));
    let (_, lists) = shared.store.ranges(&[&key, &prefix]).await?;
    let [apps, releases] = <[_; 2]>::try_from(lists).unwrap_or_default();
    let stored = apps.into_iter().find(|entry| entry.key == key);
    let stored = stored.ok_or_else(|| Refusal::no_app(app.as_str()))?;
    let stored = records::decode::<App>(stored)?.value;
    let releases = records::decode_all::<Release>(releases)?;
    let mut images: BTreeMap<Digest, Image> = BTreeMap::new();
    for release in releases.iter().map(|s| &s.value) {
        if let Entry::Vacant(unknown) = images.entry(release.image) {
            unknown.insert(load_image(shared, release).await?);
        }
    }
    let mut infos = Vec::with_capacity(releases.len());
    let mut before = None;
    for release in releases.iter().map(|s| &s.value) {
        let image = &images[&release.image];
        infos.push(info(&stored, release, image, before.replace(image)));
    }
    infos.reverse();
    Ok(infos)
}

async fn decide(
    shared: &Shared,
    app: &AppName,
    new: &NewRelease,
    now: Timestamp,
) -> Result<Decision<ReleaseInfo>, Refusal> {
    let stored = shared.app(app).await?;
    if let (Some(hook), Some(latest)) = (stored.value.hook(), stored.value.latest) {
        return Err(hook_runs(latest, hook.run));
    }
    let parts = parts(shared, &stored.value, &new.basis).await?;
    let mut message = new.message.clone().unwrap_or(parts.message);
    cut(&mut message, MESSAGE_BYTES_MAX);
    let mut release = Release {
        app: app.clone(),
        id: stored.value.next_release(),
        image: parts.digest,
        config: parts.config,
        limits: parts.limits,
        message,
        author: new.author.clone(),
        created_at: now,
        hook: None,
    };
    let before = match stored.value.base() {
        Some(latest) => Some(load_image(shared, &load(shared, app, latest).await?).await?),
        None => None,
    };
    let warnings = match &new.basis {
        Basis::Build(..) | Basis::Rollback(_) => uses::warnings(shared, app, &parts.image).await?,
        Basis::Config(_) | Basis::Limits(_) => Vec::new(),
    };
    let mut checks = vec![stored.unchanged(), Check::absent(keys::release(app, release.id))];
    let mut writes = Vec::new();
    if matches!(new.basis, Basis::Build(..)) {
        runs::check_names(&parts.image)?;
        crons::check(&parts.image, shared.config.cron_interval_s_min)?;
    }
    let hook = runs::hook(shared, &release, &parts.image, new.hook_ms_max).await?;
    let changed = match hook {
        Some(NewRun {
            run,
            check,
            writes: of_run,
        }) => {
            let number = run.id.number;
            release.hook = Some(HookStatus::Running { run: number });
            checks.push(check);
            writes.extend(of_run);
            gilliam_plan::announced(&stored.value, release.id, number, new.migrate)
        }
        None => gilliam_plan::released(&stored.value, release.id, &parts.image, new.migrate, now),
    };
    let services = service::adopt(&changed.services, &parts.image.services, now)
        .map_err(|error| Refusal::new(Code::A409, error.to_string()).hint(error.hint()))?;
    let changed = App { services, ..changed };
    writes.extend([records::put_app(&changed), records::put_release(&release)]);
    if matches!(new.basis, Basis::Build(..)) {
        writes.push(records::put_image(&parts.digest, &parts.image));
    }
    Ok(Decision {
        checks,
        writes,
        remark: Some(format!("{} released by {}", release.id, release.author)),
        answer: ReleaseInfo {
            warnings,
            ..info(&changed, &release, &parts.image, before.as_ref())
        },
    })
}

async fn parts(shared: &Shared, app: &App, basis: &Basis) -> Result<Parts, Refusal> {
    if let Basis::Build(digest, image) = basis {
        let (config, limits) = match app.base() {
            Some(base) => {
                let base = load(shared, &app.name, base).await?;
                (base.config, base.limits)
            }
            None => Default::default(),
        };
        return Ok(Parts {
            digest: *digest,
            image: image.clone(),
            config,
            limits,
            message: "deploy".to_string(),
        });
    }
    let latest = app.latest.ok_or_else(|| Refusal::nothing_released(&app.name))?;
    let base = match basis {
        Basis::Rollback(to) => rollback_target(shared, app, latest, *to).await?,
        _ => app.base().unwrap_or(latest),
    };
    let mut base = load(shared, &app.name, base).await?;
    let image = load_image(shared, &base).await?;
    let message = match basis {
        Basis::Config(change) => {
            base.config = changed_config(&base.config, change)?;
            describe(change)
        }
        Basis::Limits(change) => {
            base.limits = base
                .limits
                .changed(&image, change)
                .map_err(|error| Refusal::invalid(error.to_string()).hint(error.hint()))?;
            describe_limits(change)
        }
        Basis::Rollback(_) | Basis::Build(..) => format!("rollback to {}", base.id),
    };
    Ok(Parts {
        digest: base.image,
        image,
        config: base.config,
        limits: base.limits,
        message,
    })
}

async fn rollback_target(
    shared: &Shared,
    app: &App,
    latest: ReleaseId,
    to: Option<ReleaseId>,
) -> Result<ReleaseId, Refusal> {
    let present = app.base().unwrap_or(latest);
    match to {
        Some(to) if to > latest => Err(Refusal::no_release(&app.name, &to.to_string())),
        Some(to) if to == present => Err(Refusal::new(
            Code::A409,
            format!("{to} is the newest release of {} already", app.name),
        )
        .hint("gilliam releases lists the older ones")),
        Some(to) => Ok(to),
        None => before(shared, app, present).await?.ok_or_else(|| {
            Refusal::new(
                Code::A409,
                format!("{} has no release before {present}", app.name),
            )
            .hint("there is nothing to go back to yet")
        }),
    }
}

/// The newest release before `id` that may run.
async fn before(shared: &Shared, app: &App, id: ReleaseId) -> Result<Option<ReleaseId>, Refusal> {
    let mut number = id.number() - 1;
    while let Some(older) = NonZeroU32::new(number).map(ReleaseId::new) {
        if load(shared, &app.name, older).await?.may_run() {
            return Ok(Some(older));
        }
        number -= 1;
    }
    Ok(None)
}

/// The refusal of what cannot be while the `release` process of the newest release runs.
fn hook_runs(latest: ReleaseId, run: u32) -> Refusal {
    let message = format!("the release process of {latest} (run.{run}) has not ended");
    Refusal::new(Code::A409, message).hint(format!(
        "wait for it: gilliam logs -f run.{run}; or stop it: gilliam runs stop run.{run}"
    ))
}

/// The refusal of what cannot be done with a release whose `release` process did not end well, or not yet.
pub(crate) fn unproven(release: &Release, what: &str) -> Refusal {
    match &release.hook {
        Some(HookStatus::Running { run }) => hook_runs(release.id, *run),
        _ => Refusal::new(
            Code::A409,
            format!("{} {what}: its release process failed", release.id),
        )
        .hint(format!(
            "gilliam rollback {} makes a release of it again, and runs that again",
            release.id
        )),
    }
}

fn changed_config(config: &Config, change: &ConfigChange) -> Result<Config, Refusal> {
    if change.set.is_empty() && change.unset.is_empty() {
        return Err(Refusal::invalid("the change sets and unsets nothing").hint("name a KEY=VALUE"));
    }
    config.changed(change).map_err(|error| {
        let refusal = Refusal::invalid(error.to_string());
        match error {
            ConfigError::NotSet { .. } => refusal.hint("gilliam config lists what is set"),
            ConfigError::TooLarge { .. } => refusal.hint("keep large data in a blob or a service"),
            ConfigError::Nul { .. } => refusal,
        }
    })
}

/// The change in words, without its values: they may be secrets.
fn describe(change: &ConfigChange) -> String {
    let names = |keys: &mut dyn Iterator<Item = &ConfigKey>| {
        keys.map(ConfigKey::as_str).collect::<Vec<_>>().join(", ")
    };
    let set = names(&mut change.set.keys());
    let unset = names(&mut change.unset.iter());
    match (set.is_empty(), unset.is_empty()) {
        (false, true) => format!("set {set}"),
        (true, _) => format!("unset {unset}"),
        (false, false) => format!("set {set}; unset {unset}"),
    }
}

/// The change in words: `web: memory=64MiB cpu=0.25; unset backlog`.
fn describe_limits(change: &LimitsChange) -> String {
    let set = change.set.iter();
    let set: Vec<String> = set
        .map(|(name, value)| format!("{}={}", name.key(), name.show(*value)))
        .collect();
    let unset: Vec<&str> = change.unset.iter().copied().map(LimitName::key).collect();
    let mut parts = Vec::new();
    if !set.is_empty() {
        parts.push(set.join(" "));
    }
    if !unset.is_empty() {
        parts.push(format!("unset {}", unset.join(", ")));
    }
    format!("{}: {}", change.process, parts.join("; "))
}

/// A release as it is told; `before` is the image of the release before it.
fn info(app: &App, release: &Release, image: &Image, before: Option<&Image>) -> ReleaseInfo {
    ReleaseInfo {
        app: release.app.clone(),
        id: release.id,
        image: release.image,
        message: release.message.clone(),
        author: release.author.clone(),
        created_at: release.created_at,
        processes: image
            .processes
            .iter()
            .map(|(name, p)| (name.clone(), p.command.clone()))
            .collect(),
        scale: app.scale.get(&release.id).cloned().unwrap_or_default(),
        migrating: app
            .migration
            .as_ref()
            .is_some_and(|migration| migration.to == release.id),
        capabilities: before.map_or_else(CapabilityChange::default, |before| {
            CapabilityChange::between(before, image)
        }),
        hook: release.hook.clone(),
        warnings: Vec::new(),
    }
}
