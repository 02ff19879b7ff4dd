//! The state of the store, kept up to date by what changed.
//!
//! In: the store. Out: the whole [`State`] as of one revision: read whole once, and from then on changed by what
//! changed since; read whole again when the store no longer knows that. Releases and images never change, so each
//! is read once, when an app needs it.
//!
//! ```text
//! store ── since ──► records ──► apps that changed ──► their releases, images ──► what nodes should run
//!       └─ ranges ──► (whole)
//! ```
//!
//! Invariant: what is given out is the state at one revision: after a failed reading nothing is, until one
//! succeeds, and nothing that changed meanwhile is left out of it.

mod record;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gilliam_model::{
    app::App,
    cron::CronRecord,
    digest::Digest,
    image::Image,
    name::{AppName, NodeName},
    node::Node,
    placement::Placement,
    release::{Release, ReleaseId},
    report::ProcessKey,
    run::Run,
};
use gilliam_store::{RangeError, Revision, Since, Store, keys, records, records::Stored};
use record::{Record, read_all};
use serde::de::DeserializeOwned;

use crate::{
    policy::Choices,
    state::{AppEntry, Assigned, PREFIXES, Placed, RunKey, State},
};

/// Records that are read at once: as many prefixes as a store reads by one message.
const RECORDS_AT_ONCE: usize = 100;
/// Images that are kept without a look whether they are in use, besides those that were.
const IMAGES_UNUSED_MAX: usize = 64;

/// What is known of the store.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    /// As it was given out, or on its way to what is given out next.
    state: Arc<State>,
    /// Up to where changes are in `state` or below; none before the first reading.
    revision: Option<Revision>,
    /// Apps that changed, or whose placements did, and were not looked at since.
    pending: BTreeMap<AppName, Pending>,
    touched: Touched,
    /// As they were sealed, of the releases in use.
    images: BTreeMap<Digest, Arc<Image>>,
    images_used: usize,
    /// Grows with every change of the state.
    version: u64,
    /// Grows with every change of what routes are made of.
    routes_version: u64,
    /// Apps that are gone since it was last asked for.
    gone: Vec<AppName>,
}

/// What became of an app.
#[derive(Debug)]
enum Pending {
    Changed(Box<Stored<App>>),
    Deleted,
    /// Its record stays; what is placed of it may be of other releases.
    Same,
}

/// What is to be assigned anew.
#[derive(Debug, Default)]
struct Touched {
    all: bool,
    placed: BTreeSet<(NodeName, ProcessKey)>,
}

impl Mirror {
    /// Brings it up to date with the store. After an error, what was read is kept, and the next call goes on from
    /// there.
    pub(crate) async fn refresh(&mut self, store: &Store) -> Result<(), RangeError> {
        let since = match self.revision {
            Some(revision) => store.since(&PREFIXES, revision).await?,
            None => Since::Forgotten,
        };
        match since {
            Since::Known { revision, changes } => match read_all(changes)? {
                Some(records) => self.take(revision, records),
                None => self.read_whole(store).await?,
            },
            Since::Forgotten => self.read_whole(store).await?,
        }
        self.resolve(store).await?;
        self.assign();
        Ok(())
    }

    /// The state; only after a refresh that succeeded.
    pub(crate) fn state(&self) -> Arc<State> {
        self.state.clone()
    }

    /// The revision up to which the store was followed: the state is as it is there.
    pub(crate) fn revision(&self) -> Revision {
        self.revision.unwrap_or_default()
    }

    /// Two equal versions are of one state.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Two equal versions are of states with the same routes.
    pub(crate) fn routes_version(&self) -> u64 {
        self.routes_version
    }

    /// The apps that are gone since this was last called.
    pub(crate) fn take_gone(&mut self) -> Vec<AppName> {
        std::mem::take(&mut self.gone)
    }

    fn change(&mut self) -> &mut State {
        self.version += 1;
        Arc::make_mut(&mut self.state)
    }

    /// Takes what changed up to `revision`.
    fn take(&mut self, revision: Revision, records: Vec<Record>) {
        self.revision = Some(revision);
        if records.is_empty() {
            return;
        }
        self.change().revision = revision;
        for record in records {
            match record {
                Record::App(app) => {
                    self.pending
                        .insert(app.value.name.clone(), Pending::Changed(Box::new(app)));
                }
                Record::NoApp(name) => drop(self.pending.insert(name, Pending::Deleted)),
                Record::Placement(placement) => {
                    self.change().placements.set(&placement);
                    self.touch(placement_key(&placement), placement.node);
                }
                Record::NoPlacement(key, node) => {
                    self.change().placements.remove(&key, &node);
                    self.touch(key, node);
                }
                Record::Epoch(epoch) => self.change().epoch = epoch,
                Record::Rebalance(asked) => self.change().rebalance = asked,
                Record::Choices(choices) => self.change().choices = choices,
                Record::Node(node) => {
                    let nodes = Arc::make_mut(&mut self.change().nodes);
                    nodes.insert(node.name.clone(), node);
                }
                Record::Run(run) => {
                    let runs = Arc::make_mut(&mut self.change().runs);
                    runs.insert(run_key(&run.value), Arc::new(*run));
                }
                Record::Cron(app, cron, record) => {
                    let crons = Arc::make_mut(&mut self.change().crons);
                    crons.entry(app).or_default().insert(cron, *record);
                }
                Record::NoCron(app, cron) => {
                    let crons = Arc::make_mut(&mut self.change().crons);
                    if let Some(of_app) = crons.get_mut(&app) {
                        of_app.remove(&cron);
                    }
                    crons.retain(|_, of_app| !of_app.is_empty());
                }
                Record::NoRun(key) => drop(Arc::make_mut(&mut self.change().runs).remove(&key)),
                Record::NoNode(name) => drop(Arc::make_mut(&mut self.change().nodes).remove(&name)),
            }
        }
    }

    fn touch(&mut self, key: ProcessKey, node: NodeName) {
        self.pending.entry(key.app.clone()).or_insert(Pending::Same);
        self.touched.placed.insert((node, key));
    }

    /// Reads everything anew.
    async fn read_whole(&mut self, store: &Store) -> Result<(), RangeError> {
        let (revision, lists) = store.ranges(&PREFIXES).await?;
        let [apps, placements, epoch, nodes, rebalance, choices, runs, crons] =
            <[_; 8]>::try_from(lists).unwrap_or_default();
        let apps: Vec<Stored<App>> = records::decode_all(apps)?;
        // One after the other: all of them at once would be in memory three times.
        let placements = placements
            .into_iter()
            .map(|entry| records::decode::<Placement>(entry).map(|stored| stored.value))
            .collect::<Result<Vec<Placement>, _>>()?;
        let epoch = records::decode_all(epoch)?.into_iter().next();
        let rebalance = records::decode_all(rebalance)?.into_iter().next();
        let choices = records::decode_all::<Choices>(choices)?.into_iter().next();
        let nodes: Vec<Stored<Node>> = records::decode_all(nodes)?;
        let runs: Vec<Stored<Run>> = records::decode_all(runs)?;
        let crons: Vec<Stored<CronRecord>> = records::decode_all(crons)?;
        let gone = self
            .state
            .apps
            .keys()
            .map(|name| (name.clone(), Pending::Deleted));
        self.pending = gone.collect();
        let there = apps
            .into_iter()
            .map(|app| (app.value.name.clone(), Pending::Changed(Box::new(app))));
        self.pending.extend(there);
        self.touched = Touched {
            all: true,
            placed: BTreeSet::new(),
        };
        self.revision = Some(revision);
        let state = self.change();
        state.revision = revision;
        state.placements = placements.iter().collect();
        state.epoch = epoch;
        state.rebalance = rebalance;
        state.choices = choices.map(|stored| stored.value).unwrap_or_default();
        let nodes = nodes
            .into_iter()
            .map(|node| (node.value.name.clone(), node.value));
        state.nodes = Arc::new(nodes.collect());
        let runs = runs.into_iter().map(|run| (run_key(&run.value), Arc::new(run)));
        state.runs = Arc::new(runs.collect());
        let mut of_apps = BTreeMap::<_, BTreeMap<_, _>>::new();
        for record in crons {
            if let Some((app, cron)) = keys::cron_of(&record.key) {
                of_apps.entry(app).or_default().insert(cron, record);
            }
        }
        state.crons = Arc::new(of_apps);
        Ok(())
    }

    /// Looks at the apps that changed: reads the releases and images that they need now.
    async fn resolve(&mut self, store: &Store) -> Result<(), RangeError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let releases = self.read_releases(store).await?;
        self.read_images(store, releases.values()).await?;
        for (name, pending) in std::mem::take(&mut self.pending) {
            let before = self.state.apps.get(&name).cloned();
            let stored = match (pending, &before) {
                (Pending::Changed(stored), _) => *stored,
                (Pending::Same, Some(before)) => before.stored.clone(),
                (Pending::Same, None) => continue,
                (Pending::Deleted, _) => {
                    self.remove(&name);
                    continue;
                }
            };
            let needed = self.needed(&stored.value);
            let of_app: BTreeMap<ReleaseId, Arc<Release>> = needed
                .iter()
                .filter_map(|id| {
                    let known = known_release(before.as_deref(), &stored.value, *id);
                    let release = known.or_else(|| releases.get(&keys::release(&name, *id)).cloned())?;
                    Some((*id, release))
                })
                .collect();
            let sealed = |release: &Release| self.images.get(&release.image).cloned();
            let entry = AppEntry::new(stored, of_app, sealed, before.as_deref());
            if entry.state.images.len() < needed.len() {
                // Looked for again: it is there as soon as what mentions it is.
                self.pending.insert(name.clone(), Pending::Same);
            }
            self.put(name, entry, before.as_deref());
        }
        self.forget_images();
        Ok(())
    }

    fn put(&mut self, name: AppName, entry: AppEntry, before: Option<&AppEntry>) {
        if before.is_none_or(|before| !entry.has_specs_of(before)) {
            self.touch_app(&name);
        }
        let routes = |entry: &AppEntry| gilliam_plan::routes([&*entry.state]);
        if before.is_none_or(|before| routes(before) != routes(&entry)) {
            self.routes_version += 1;
        }
        let is_same = |before: &AppEntry| {
            before.stored == entry.stored && entry.has_specs_of(before) && before.releases == entry.releases
        };
        if !before.is_some_and(is_same) {
            Arc::make_mut(&mut self.change().apps).insert(name, Arc::new(entry));
        }
    }

    fn remove(&mut self, name: &AppName) {
        if Arc::make_mut(&mut self.change().apps).remove(name).is_some() {
            self.routes_version += 1;
            self.gone.push(name.clone());
            self.touch_app(name);
        }
    }

    /// Has everything that is placed of an app assigned anew.
    fn touch_app(&mut self, name: &AppName) {
        if self.touched.all {
            return;
        }
        let placements = &self.state.placements;
        for key in placements.keys_of_app(name) {
            let nodes = placements.on_nodes(key);
            self.touched
                .placed
                .extend(nodes.map(|(node, _)| (node.clone(), key.clone())));
        }
    }

    /// The releases that an app runs, or is moving from or to.
    fn needed(&self, app: &App) -> BTreeSet<ReleaseId> {
        let migration = app.migration.iter();
        let moving = migration.flat_map(|m| m.from.keys().chain(m.fallback.keys()).chain([&m.to]));
        let placed = self.state.placements.keys_of_app(&app.name);
        let mut needed: BTreeSet<ReleaseId> = placed.map(|key| key.release).collect();
        needed.extend(app.scale.keys().chain(moving).chain(&app.latest));
        needed.extend(app.active());
        needed
    }

    /// Reads the releases that apps need and that are not known, by their keys.
    async fn read_releases(&self, store: &Store) -> Result<BTreeMap<String, Arc<Release>>, RangeError> {
        let mut missing = Vec::new();
        for (name, pending) in &self.pending {
            let before = self.state.apps.get(name).map(|entry| &**entry);
            let app = match pending {
                Pending::Changed(stored) => &stored.value,
                Pending::Same => match before {
                    Some(before) => &before.stored.value,
                    None => continue,
                },
                Pending::Deleted => continue,
            };
            let needed = self.needed(app).into_iter();
            let unknown = needed.filter(|id| known_release(before, app, *id).is_none());
            missing.extend(unknown.map(|id| keys::release(name, id)));
        }
        read(store, &missing).await
    }

    /// Reads the images of releases that are not known.
    async fn read_images(
        &mut self,
        store: &Store,
        releases: impl Iterator<Item = &Arc<Release>>,
    ) -> Result<(), RangeError> {
        let pending = self.pending.keys().filter_map(|name| self.state.apps.get(name));
        let incomplete = pending.flat_map(|entry| {
            let without = entry
                .releases
                .iter()
                .filter(|(id, _)| !entry.state.images.contains_key(id));
            without.map(|(_, release)| release.image)
        });
        let mut digests: BTreeSet<Digest> = releases.map(|release| release.image).chain(incomplete).collect();
        digests.retain(|digest| !self.images.contains_key(digest));
        let missing: Vec<String> = digests.iter().map(keys::image).collect();
        let mut found = read(store, &missing).await?;
        for digest in digests {
            if let Some(image) = found.remove(&keys::image(&digest)) {
                self.images.insert(digest, image);
            }
        }
        Ok(())
    }

    /// Forgets images that no app holds, now and then.
    fn forget_images(&mut self) {
        if self.images.len() > 2 * self.images_used + IMAGES_UNUSED_MAX {
            self.images.retain(|_, image| Arc::strong_count(image) > 1);
            self.images_used = self.images.len();
        }
    }

    /// Says anew what nodes should run, where that may have changed.
    fn assign(&mut self) {
        let Touched { all, placed } = std::mem::take(&mut self.touched);
        if all {
            let assigned = Arc::new(assign_all(&self.state));
            self.change().assigned = assigned;
            return;
        }
        if placed.is_empty() {
            return;
        }
        let state = self.change();
        let mut assigned = std::mem::take(&mut state.assigned);
        let nodes = Arc::make_mut(&mut assigned);
        for (node, key) in placed {
            let ranges = state.placements.ranges(&key, &node);
            let placed = ranges.and_then(|ranges| state.placed(&key, ranges));
            let list = Arc::make_mut(nodes.entry(node.clone()).or_default());
            let order = (&key.app, key.release, &key.process);
            match (list.binary_search_by(|placed| placed.order().cmp(&order)), placed) {
                (Ok(at), Some(placed)) => list[at] = placed,
                (Err(at), Some(placed)) => list.insert(at, placed),
                (Ok(at), None) => drop(list.remove(at)),
                (Err(_), None) => {}
            }
            if list.is_empty() {
                nodes.remove(&node);
            }
        }
        state.assigned = assigned;
    }
}

/// What every node should run.
fn assign_all(state: &State) -> Assigned {
    let mut nodes: BTreeMap<NodeName, Vec<Placed>> = BTreeMap::new();
    for key in state.placements.keys() {
        for (node, ranges) in state.placements.on_nodes(key) {
            if let Some(placed) = state.placed(key, ranges) {
                nodes.entry(node.clone()).or_default().push(placed);
            }
        }
    }
    nodes
        .into_iter()
        .map(|(node, placed)| (node, Arc::new(placed)))
        .collect()
}

fn known_release(before: Option<&AppEntry>, app: &App, id: ReleaseId) -> Option<Arc<Release>> {
    let before = before.filter(|before| before.stored.value.created_at == app.created_at)?;
    before.releases.get(&id).cloned()
}

fn run_key(run: &Run) -> RunKey {
    (run.id.app.clone(), run.id.number)
}

fn placement_key(placement: &Placement) -> ProcessKey {
    ProcessKey {
        app: placement.app.clone(),
        release: placement.release,
        process: placement.process.clone(),
    }
}

/// Reads records by their keys, many at once; what is not there is left out.
async fn read<T: DeserializeOwned>(
    store: &Store,
    keys: &[String],
) -> Result<BTreeMap<String, Arc<T>>, RangeError> {
    let mut found = BTreeMap::new();
    for some in keys.chunks(RECORDS_AT_ONCE) {
        let prefixes: Vec<&str> = some.iter().map(String::as_str).collect();
        let (_, lists) = store.ranges(&prefixes).await?;
        for (key, list) in some.iter().zip(lists) {
            if let Some(entry) = list.into_iter().find(|entry| entry.key == *key) {
                found.insert(key.clone(), Arc::new(records::decode(entry)?.value));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
