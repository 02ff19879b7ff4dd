//! Users of the simulated cluster: they deploy, scale and restart through the same pure functions and checked
//! commits as the API does, and remember what was acknowledged.

use std::collections::BTreeMap;

use fastrand::Rng;
use gilliam_model::{
    Timestamp,
    api::ScalePatch,
    app::App,
    config::Config,
    digest::Digest,
    image::{Image, Process, Shape},
    limits::Limits,
    name::AppName,
    overrides::Overrides,
    release::{Release, ReleaseId},
    rules::PlacementRules,
};
use gilliam_plan::{RestartTarget, released, restart, scaled};
use gilliam_store::{Check, CommitError, Store, Write, keys, records};

/// What users know to be so.
#[derive(Debug)]
pub(crate) struct Users {
    store: Store,
    rng: Rng,
    apps: Vec<AppName>,
    /// Most instances that all apps together may have.
    share: u32,
    /// The releases that were acknowledged, with their messages.
    pub(crate) acknowledged: BTreeMap<(AppName, ReleaseId), String>,
    /// Changes that were acknowledged.
    pub(crate) changes: u64,
}

/// The command of a process that crashes whenever it starts.
pub(crate) const BROKEN: &str = "broken";

impl Users {
    /// `capacity` is how many instances all nodes hold together.
    pub(crate) fn new(store: Store, rng: Rng, apps: u32, capacity: u32) -> Self {
        let name = |n| format!("app{n}").parse().expect("a name");
        Self {
            store,
            rng,
            apps: (0..apps).map(name).collect(),
            // While it migrates an app may have all of two releases, and a third of the nodes may be gone.
            share: (capacity / apps.max(1) / 4).max(2),
            acknowledged: BTreeMap::new(),
            changes: 0,
        }
    }

    /// Creates every app with a first release that runs.
    pub(crate) fn begin(&mut self, now: Timestamp) -> Vec<String> {
        let apps = self.apps.clone();
        let mut course = Vec::new();
        for app in &apps {
            let created = App::new(app.clone(), now);
            let write = records::put_app(&created);
            self.commit(&[Check::absent(keys::app(app))], &[write])
                .expect("a new store");
            course.push(self.release(app, now, false));
            course.push(self.scale(app));
        }
        course
    }

    /// Changes something; gives what.
    pub(crate) fn change(&mut self, now: Timestamp) -> String {
        let app = self.apps[self.rng.usize(0..self.apps.len())].clone();
        match self.rng.u8(0..10) {
            0..5 => self.scale(&app),
            5..7 => self.release(&app, now, false),
            7 => self.release(&app, now, true),
            _ => self.restart(&app),
        }
    }

    fn scale(&mut self, name: &AppName) -> String {
        let stored = self.app(name);
        let latest = stored
            .value
            .scale
            .keys()
            .next_back()
            .copied()
            .or(stored.value.latest);
        let Some(release) = latest else {
            return format!("{name} has nothing to scale");
        };
        let mut image = None;
        if let Ok(Some(found)) = wait(records::load_release(&self.store, name, release)) {
            image = wait(records::load_image(&self.store, &found.value.image))
                .ok()
                .flatten();
        }
        let Some(image) = image else {
            return format!("{name} {release} has no image");
        };
        let web = self.rng.u32(0..=self.share / 2);
        let worker = self.rng.u32(0..=self.share / 2);
        let counts = [("web", web), ("worker", worker)];
        let counts = counts.map(|(process, count)| (process.parse().expect("a name"), count));
        let patch = ScalePatch {
            release: None,
            counts: BTreeMap::from(counts),
        };
        let text = format!("scale {name} web={web} worker={worker}");
        match scaled(&stored.value, &patch, &image.value) {
            Ok(after) => self.done(text, &[stored.unchanged()], &[records::put_app(&after)]),
            Err(refusal) => format!("{text}: {refusal}"),
        }
    }

    fn release(&mut self, name: &AppName, now: Timestamp, broken: bool) -> String {
        let stored = self.app(name);
        let id = stored.value.next_release();
        let command = if broken { BROKEN } else { "good" };
        let (digest, image) = image(command, self.rng.u64(..));
        let message = format!("{command} {:016x}", self.rng.u64(..));
        let release = Release {
            app: name.clone(),
            id,
            image: digest,
            config: Config::default(),
            limits: Overrides::default(),
            message: message.clone(),
            author: "simulated".to_owned(),
            created_at: now,
            hook: None,
        };
        let after = released(&stored.value, id, &image, true, now);
        let checks = [stored.unchanged(), Check::absent(keys::release(name, id))];
        let writes = [
            records::put_app(&after),
            records::put_release(&release),
            records::put_image(&digest, &image),
        ];
        let text = format!("release {name} {id} ({command})");
        let before = self.changes;
        let said = self.done(text, &checks, &writes);
        if self.changes > before {
            self.acknowledged.insert((name.clone(), id), message);
        }
        said
    }

    fn restart(&mut self, name: &AppName) -> String {
        let text = format!("restart {name}");
        let (Ok(epoch), Ok((_, placements))) = (
            wait(records::load_epoch(&self.store)),
            wait(records::list_placements(&self.store)),
        ) else {
            return text;
        };
        let Some(epoch) = epoch else {
            return text;
        };
        let mine = placements.into_iter().map(|stored| stored.value);
        let mine: Vec<_> = mine.filter(|placement| placement.app == *name).take(80).collect();
        let next = epoch.value.next();
        match restart(&mine, &RestartTarget::All, next) {
            Ok(changed) => {
                let mut writes = vec![records::put_epoch(next)];
                writes.extend(changed.iter().map(records::put_placement));
                self.done(text, &[epoch.unchanged()], &writes)
            }
            Err(refusal) => format!("{text}: {refusal}"),
        }
    }

    fn app(&self, name: &AppName) -> records::Stored<App> {
        wait(records::load_app(&self.store, name))
            .expect("memory")
            .expect("apps are not destroyed")
    }

    fn done(&mut self, text: String, checks: &[Check], writes: &[Write]) -> String {
        match self.commit(checks, writes) {
            Ok(()) => {
                self.changes += 1;
                text
            }
            Err(error) => format!("{text}: {error}"),
        }
    }

    fn commit(&self, checks: &[Check], writes: &[Write]) -> Result<(), CommitError> {
        wait(self.store.commit(checks, writes)).map(|_| ())
    }
}

/// What the store in memory answers: at once, without faults.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    futures::executor::block_on(future)
}

fn image(command: &str, number: u64) -> (Digest, Image) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    let digest = Digest::from_sha256(bytes);
    let process = |shape| Process {
        component: digest,
        component_bytes: 1,
        shape,
        command: command.to_owned(),
        args: Vec::new(),
        limits: Limits::default(),
        allowed_outbound_hosts: Vec::new(),
        guard_pages: false,
        jobs: gilliam_model::queue::JobTerms::default(),
        uses: Default::default(),
        imports: None,
        placement: PlacementRules::default(),
    };
    let processes = [("web", Shape::HttpP2), ("worker", Shape::CommandP2)];
    let processes = processes.map(|(name, shape)| (name.parse().expect("a name"), process(shape)));
    (digest, Image::new(BTreeMap::from(processes)))
}
