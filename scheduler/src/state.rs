//! The whole state of the store that the control loop decides on, read at one revision.
//!
//! Releases and images never change, so those that are in use are kept from one turn to the next and only
//! what is new is read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gilliam_model::{
    Timestamp,
    app::App,
    assignment::AssignedProcess,
    digest::Digest,
    image::Image,
    instance::Epoch,
    name::{AppName, NodeName},
    node::Node,
    placement::Placement,
    release::{Release, ReleaseId},
};
use gilliam_store::{RangeError, Revision, Store, keys, records, records::Stored};

/// What is read, besides releases and images, which never change.
pub(crate) const PREFIXES: [&str; 4] = [keys::APPS, keys::PLACEMENTS, keys::PLAN_EPOCH, keys::NODES];

/// What users asked for and what was decided, whole.
#[derive(Debug)]
pub(crate) struct State {
    /// The revision it was read at.
    pub(crate) revision: Revision,
    /// Every app, by name.
    pub(crate) apps: Vec<Stored<App>>,
    /// Every placement, in the order of keys; of destroyed apps too.
    pub(crate) placements: Vec<Stored<Placement>>,
    /// The epoch of the last plan; none before the first.
    pub(crate) epoch: Option<Stored<Epoch>>,
    /// What operators decided of nodes.
    pub(crate) nodes: BTreeMap<NodeName, Node>,
    /// The releases that apps run, or are moving from or to.
    pub(crate) releases: BTreeMap<(AppName, ReleaseId), Arc<Release>>,
    /// Their images as they run: with the limits of the release over those that were sealed.
    pub(crate) images: BTreeMap<(AppName, ReleaseId), Arc<Image>>,
}

/// The releases and images in use.
#[derive(Debug, Default)]
pub(crate) struct Library {
    /// By app, its creation and number: an app of the same name that is created later has other releases.
    releases: BTreeMap<(AppName, Timestamp, ReleaseId), Arc<Release>>,
    /// As they were sealed.
    images: BTreeMap<Digest, Arc<Image>>,
    /// As they run, where the release sets limits.
    limited: BTreeMap<(AppName, Timestamp, ReleaseId), Arc<Image>>,
}

impl State {
    /// Reads the whole state.
    pub(crate) async fn read(store: &Store, library: &mut Library) -> Result<Self, RangeError> {
        let (revision, lists) = store.ranges(&PREFIXES).await?;
        let [apps, placements, epoch, nodes] = <[_; 4]>::try_from(lists).unwrap_or_default();
        let apps: Vec<Stored<App>> = records::decode_all(apps)?;
        let placements: Vec<Stored<Placement>> = records::decode_all(placements)?;
        let epoch = records::decode_all(epoch)?.into_iter().next();
        let nodes: Vec<Stored<Node>> = records::decode_all(nodes)?;
        let nodes = nodes
            .into_iter()
            .map(|node| (node.value.name.clone(), node.value));
        let releases = library.update(store, &apps, &placements).await?;
        Ok(Self {
            revision,
            apps,
            placements,
            epoch,
            nodes: nodes.collect(),
            images: library.as_run(),
            releases,
        })
    }

    /// What each node should run; what is left of destroyed apps is nobody's.
    pub(crate) fn assignments(&self) -> BTreeMap<NodeName, Vec<AssignedProcess>> {
        let mut nodes: BTreeMap<NodeName, Vec<AssignedProcess>> = BTreeMap::new();
        for placement in self.placements.iter().map(|p| &p.value) {
            if let Some(assigned) = self.assigned(placement) {
                nodes.entry(placement.node.clone()).or_default().push(assigned);
            }
        }
        nodes
    }

    fn assigned(&self, placement: &Placement) -> Option<AssignedProcess> {
        let key = (placement.app.clone(), placement.release);
        let release = self.releases.get(&key)?;
        let process = self.images.get(&key)?.processes.get(&placement.process)?;
        Some(AssignedProcess {
            app: placement.app.clone(),
            release: placement.release,
            name: placement.process.clone(),
            ranges: placement.ranges.clone(),
            process: process.clone(),
            config: release.config.clone(),
        })
    }
}

impl Library {
    /// Reads what is new and forgets what is out of use; gives the releases of apps that exist.
    async fn update(
        &mut self,
        store: &Store,
        apps: &[Stored<App>],
        placements: &[Stored<Placement>],
    ) -> Result<BTreeMap<(AppName, ReleaseId), Arc<Release>>, RangeError> {
        let needed = needed(apps, placements);
        self.releases.retain(|key, _| needed.contains(key));
        for (app, created_at, id) in &needed {
            let key = (app.clone(), *created_at, *id);
            if !self.releases.contains_key(&key)
                && let Some(found) = records::load_release(store, app, *id).await?
            {
                self.releases.insert(key, Arc::new(found.value));
            }
        }
        let digests: BTreeSet<Digest> = self.releases.values().map(|release| release.image).collect();
        self.images.retain(|digest, _| digests.contains(digest));
        for digest in digests {
            if !self.images.contains_key(&digest)
                && let Some(found) = records::load_image(store, &digest).await?
            {
                self.images.insert(digest, Arc::new(found.value));
            }
        }
        self.limited.retain(|key, _| self.releases.contains_key(key));
        for (key, release) in &self.releases {
            if !release.limits.is_empty()
                && !self.limited.contains_key(key)
                && let Some(image) = self.images.get(&release.image)
            {
                let limited = Arc::new(release.limits.image(image));
                self.limited.insert(key.clone(), limited);
            }
        }
        let named = |((app, _, id), release): (&(AppName, Timestamp, ReleaseId), &Arc<Release>)| {
            ((app.clone(), *id), release.clone())
        };
        Ok(self.releases.iter().map(named).collect())
    }

    /// The image of each release, as it runs.
    fn as_run(&self) -> BTreeMap<(AppName, ReleaseId), Arc<Image>> {
        let images = self.releases.iter().filter_map(|(key, release)| {
            let limited = self.limited.get(key);
            let image = limited.or_else(|| self.images.get(&release.image))?;
            Some(((key.0.clone(), key.2), image.clone()))
        });
        images.collect()
    }
}

fn needed(
    apps: &[Stored<App>],
    placements: &[Stored<Placement>],
) -> BTreeSet<(AppName, Timestamp, ReleaseId)> {
    let mut needed = BTreeSet::new();
    let mut created: BTreeMap<&AppName, Timestamp> = BTreeMap::new();
    for app in apps.iter().map(|a| &a.value) {
        created.insert(&app.name, app.created_at);
        let migration = app.migration.iter();
        let moving = migration.flat_map(|m| m.from.keys().chain(m.fallback.keys()).chain([&m.to]));
        let ids = app.scale.keys().chain(moving).chain(&app.latest);
        needed.extend(ids.map(|id| (app.name.clone(), app.created_at, *id)));
    }
    for placement in placements.iter().map(|p| &p.value) {
        if let Some(created_at) = created.get(&placement.app) {
            needed.insert((placement.app.clone(), *created_at, placement.release));
        }
    }
    needed
}
