//! Crons: listed, fired by hand, paused. What becomes of them when they are due is decided in [`turn`].
//!
//! In: what users ask for. Out: records of crons, and runs.

pub(crate) mod turn;

use gilliam_model::{
    Timestamp,
    code::Code,
    cron::{Cron, CronInfo, CronRecord, CronsError, OfCron, Paused, check_intervals, check_targets},
    image::Image,
    name::{AppName, CronName},
    release::Release,
    run::RunInfo,
    text::excerpt,
};
use gilliam_store::{Check, Expect, keys, records, records::Stored};

use crate::{
    change::{Decision, change},
    refusal::Refusal,
    release,
    runs::{self, NewRun},
    shared::Shared,
};

/// Refuses an image whose crons cannot be kept here.
pub(crate) fn check(image: &Image, interval_s_min: u64) -> Result<(), Refusal> {
    let checked = check_targets(image).and_then(|()| check_intervals(&image.crons, interval_s_min));
    checked.map_err(|error: CronsError| Refusal::invalid(error.to_string()).hint(error.hint()))
}

/// The release whose crons fire, with its image as it runs.
struct Active {
    release: Release,
    image: Image,
}

impl Active {
    async fn of(shared: &Shared, app: &AppName) -> Result<(Option<Self>, Check), Refusal> {
        let stored = shared.app(app).await?;
        let Some(id) = stored.value.active() else {
            return Ok((None, stored.unchanged()));
        };
        let release = release::load(shared, app, id).await?;
        let sealed = release::load_image(shared, &release).await?;
        let image = release.limits.image(&sealed);
        Ok((Some(Self { release, image }), stored.unchanged()))
    }

    /// Its cron of this name.
    async fn cron(shared: &Shared, app: &AppName, name: &str) -> Result<(Self, CronName, Check), Refusal> {
        let (active, check) = Self::of(shared, app).await?;
        let known = active.as_ref().map(|active| &active.image.crons);
        let found = known.and_then(|crons| crons.get_key_value(name));
        match (found.map(|(name, _)| name.clone()), active) {
            (Some(name), Some(active)) => Ok((active, name, check)),
            (_, active) => {
                let message = format!("{app} has no cron {:?}", excerpt(name));
                let hint = match active.filter(|active| !active.image.crons.is_empty()) {
                    Some(active) => {
                        let names: Vec<&str> = active.image.crons.keys().map(CronName::as_str).collect();
                        format!("{} has {}", active.release.id, names.join(", "))
                    }
                    None => "write one into gilliam.toml, under [cron], and deploy".to_string(),
                };
                Err(Refusal::new(Code::A404, message).hint(hint))
            }
        }
    }
}

/// Lists the crons of an app, by name.
pub(crate) async fn list(shared: &Shared, app: &AppName) -> Result<Vec<CronInfo>, Refusal> {
    let (active, _) = Active::of(shared, app).await?;
    let Some(Active { release, image }) = active else {
        return Ok(Vec::new());
    };
    let (_, stored) = records::list::<CronRecord>(&shared.store, &keys::crons_of(app)).await?;
    let now = Timestamp::now();
    let infos = image.crons.iter().map(|(name, cron)| {
        let key = keys::cron(app, name);
        let record = stored.iter().find(|stored| stored.key == key);
        info(&release, name, cron, record.map(|stored| &stored.value), now)
    });
    Ok(infos.collect())
}

fn info(
    release: &Release,
    name: &CronName,
    cron: &Cron,
    record: Option<&CronRecord>,
    now: Timestamp,
) -> CronInfo {
    let paused = record.and_then(|record| record.paused.clone());
    let after = record.map_or(now, |record| record.considered.max(now));
    let next_at = cron.schedule.next(after).filter(|_| paused.is_none());
    let fired = record.and_then(|record| record.fired.clone());
    CronInfo {
        app: release.app.clone(),
        name: name.clone(),
        release: release.id,
        words: cron.schedule.words(),
        next_local: next_at.map(|at| cron.schedule.shown(at)),
        next_at,
        paused,
        last_at: fired.as_ref().map(|fired| fired.at),
        last_run: fired.as_ref().map(|fired| format!("run.{}", fired.run)),
        last_end: fired.and_then(|fired| fired.ended),
        passed_over: record.and_then(|record| record.passed_over.clone()),
        cron: cron.clone().into(),
    }
}

/// Has a cron run now, whether it is due, paused, or runs already.
pub(crate) async fn fire(
    shared: &Shared,
    app: &AppName,
    name: &str,
    author: &str,
) -> Result<RunInfo, Refusal> {
    change(shared, app, || async {
        let now = Timestamp::now();
        let (Active { release, image }, name, of_app) = Active::cron(shared, app, name).await?;
        let record = Kept::load(shared, app, &name, now).await?;
        let of = OfCron {
            name: name.clone(),
            due: None,
        };
        let run = image
            .crons
            .get(&name)
            .and_then(|cron| runs::of_cron(&release, &image, cron, of, author.to_string(), now))
            .ok_or_else(|| Refusal::internal(&"a cron runs what its image does not have"))?;
        let NewRun { run, check, writes } = runs::numbered(shared, run).await?;
        let after = record.value.fired(None, now, run.id.number);
        let mut all = vec![records::put(keys::cron(app, &name), &after)];
        all.extend(writes);
        Ok(Decision {
            checks: vec![of_app, record.check, check],
            writes: all,
            remark: Some(format!("cron {name} run by {author}: {}", run.id.label())),
            answer: run.info(None),
        })
    })
    .await
}

/// Pauses a cron, or has it go on: what was due while it was paused is not made up for.
pub(crate) async fn pause(
    shared: &Shared,
    app: &AppName,
    name: &str,
    by: &str,
    is_to_pause: bool,
) -> Result<(), Refusal> {
    change(shared, app, || async {
        let now = Timestamp::now();
        let (_, name, of_app) = Active::cron(shared, app, name).await?;
        let record = Kept::load(shared, app, &name, now).await?;
        let is_news = record.value.paused.is_some() != is_to_pause;
        let after = CronRecord {
            paused: is_to_pause.then(|| Paused {
                at: now,
                by: by.to_string(),
            }),
            considered: record.value.considered.max(now),
            ..record.value
        };
        let write = records::put(keys::cron(app, &name), &after);
        let done = if is_to_pause { "paused" } else { "resumed" };
        Ok(Decision {
            checks: vec![of_app, record.check],
            writes: is_news.then_some(write).into_iter().collect(),
            remark: is_news.then(|| format!("cron {name} {done} by {by}")),
            answer: (),
        })
    })
    .await
}

/// A cron's record, or the one that it begins with.
struct Kept {
    value: CronRecord,
    check: Check,
}

impl Kept {
    async fn load(shared: &Shared, app: &AppName, name: &CronName, now: Timestamp) -> Result<Self, Refusal> {
        let key = keys::cron(app, name);
        let stored: Option<Stored<CronRecord>> = records::load(&shared.store, &key).await?;
        Ok(Self {
            check: Check {
                key,
                expect: Expect::unchanged(stored.as_ref().map(|stored| stored.revision)),
            },
            value: stored.map_or_else(|| CronRecord::new(now), |stored| stored.value),
        })
    }
}
