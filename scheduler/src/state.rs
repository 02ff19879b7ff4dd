//! The whole state of the store that the control loop decides on, as of one revision.
//!
//! A copy shares what it is a copy of: who holds one sees the state stay as it was, and nobody pays for what did
//! not change.

use std::{collections::BTreeMap, sync::Arc};

use gilliam_model::{
    Timestamp,
    app::App,
    assignment::AssignedProcess,
    cron::CronRecord,
    image::{Image, Process},
    instance::Epoch,
    name::{AppName, CronName, NodeName, ProcessName},
    node::Node,
    placement::SlotRange,
    release::{Release, ReleaseId},
    report::ProcessKey,
    run::{AssignedRun, Run},
    service::{self, BoundService},
};
use gilliam_plan::{AppState, Placements, Policy};
use gilliam_store::{Revision, keys, records::Stored};

use crate::policy::Choices;

/// What is read, besides releases and images, which never change.
pub(crate) const PREFIXES: [&str; 8] = [
    keys::APPS,
    keys::PLACEMENTS,
    keys::PLAN_EPOCH,
    keys::NODES,
    keys::REBALANCE,
    keys::POLICY,
    keys::RUNS,
    keys::CRONS,
];

/// A run by its app and its number.
pub(crate) type RunKey = (AppName, u32);

/// What each node is to run once.
pub(crate) type AssignedRuns = BTreeMap<NodeName, Arc<Vec<AssignedRun>>>;

/// What users asked for and what was decided, whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// A revision at which it was so.
    pub(crate) revision: Revision,
    /// Every app.
    pub(crate) apps: Arc<BTreeMap<AppName, Arc<AppEntry>>>,
    /// Every placement; of destroyed apps too.
    pub(crate) placements: Placements,
    /// The epoch of the last plan; none before the first.
    pub(crate) epoch: Option<Stored<Epoch>>,
    /// Since when an operator asks for a better spread.
    pub(crate) rebalance: Option<Stored<Timestamp>>,
    /// The operator's choices about placement.
    pub(crate) choices: Choices,
    /// Runs that have not ended; of destroyed apps too.
    pub(crate) runs: Arc<BTreeMap<RunKey, Arc<Stored<Run>>>>,
    /// What was done about crons; of destroyed apps too.
    pub(crate) crons: Arc<BTreeMap<AppName, BTreeMap<CronName, Stored<CronRecord>>>>,
    /// What operators decided of nodes.
    pub(crate) nodes: Arc<BTreeMap<NodeName, Node>>,
    /// What each node should run, in the order of process types; what is left of destroyed apps is nobody's.
    pub(crate) assigned: Arc<Assigned>,
}

/// What each node should run.
pub(crate) type Assigned = BTreeMap<NodeName, Arc<Vec<Placed>>>;

/// An app, with the releases that it runs or is moving from or to.
#[derive(Debug)]
pub(crate) struct AppEntry {
    /// Its record.
    pub(crate) stored: Stored<App>,
    /// The app with the images of its releases as they run: with the limits of the release over those that were
    /// sealed.
    pub(crate) state: Arc<AppState>,
    pub(crate) releases: BTreeMap<ReleaseId, Arc<Release>>,
    /// What instances of each process type need, without their slots.
    pub(crate) specs: BTreeMap<(ReleaseId, ProcessName), Arc<AssignedProcess>>,
}

/// Slots of a process type on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    /// What they need; its own ranges are empty.
    pub(crate) spec: Arc<AssignedProcess>,
    pub(crate) ranges: Vec<SlotRange>,
}

impl State {
    /// What is placed on a node.
    pub(crate) fn placed_on(&self, node: &NodeName) -> &[Placed] {
        self.assigned.get(node).map_or(&[], |placed| placed.as_slice())
    }

    /// What each node is to run once, of apps that are there.
    pub(crate) fn assigned_runs(&self) -> AssignedRuns {
        let mut nodes: BTreeMap<NodeName, Vec<AssignedRun>> = BTreeMap::new();
        for run in self.runs.values().map(|stored| &stored.value) {
            let is_of_app = self.apps.contains_key(&run.id.app);
            if let (true, Some(node), Some(assigned)) = (is_of_app, run.node(), run.assigned()) {
                let services = self.bound(&run.id.app, run.release);
                let assigned = AssignedRun { services, ..assigned };
                nodes.entry(node.clone()).or_default().push(assigned);
            }
        }
        nodes
            .into_iter()
            .map(|(node, runs)| (node, Arc::new(runs)))
            .collect()
    }

    /// What the processes of a release are bound to.
    pub(crate) fn bound(&self, app: &AppName, release: ReleaseId) -> Vec<BoundService> {
        let entry = self.apps.get(app);
        let found = entry.and_then(|entry| Some((&entry.stored.value, entry.state.images.get(&release)?)));
        found.map_or_else(Vec::new, |(app, image)| {
            service::bound(&app.name, &app.services, &image.services)
        })
    }

    /// What plans are made by.
    pub(crate) fn policy(&self) -> Policy {
        self.choices.policy(self.rebalance.is_some())
    }

    /// What the slots of a process type on a node need; none when the app, the release or the process type is
    /// not there.
    pub(crate) fn placed(&self, key: &ProcessKey, ranges: &[SlotRange]) -> Option<Placed> {
        let entry = self.apps.get(&key.app)?;
        let spec = entry.specs.get(&(key.release, key.process.clone()))?;
        Some(Placed {
            spec: spec.clone(),
            ranges: ranges.to_vec(),
        })
    }
}

impl AppEntry {
    /// An app with its releases and their images as they were sealed; of `before` what is the same is kept.
    pub(crate) fn new(
        stored: Stored<App>,
        releases: BTreeMap<ReleaseId, Arc<Release>>,
        sealed: impl Fn(&Release) -> Option<Arc<Image>>,
        before: Option<&Self>,
    ) -> Self {
        // An app of the same name that was created later has other releases.
        let before = before.filter(|before| before.stored.value.created_at == stored.value.created_at);
        let (mut images, mut specs) = (BTreeMap::new(), BTreeMap::new());
        let app = &stored.value;
        // What was made of other services, or of another home, is made anew.
        let kept = before.filter(|before| {
            let before = &before.stored.value;
            (&before.services, &before.home) == (&app.services, &app.home)
        });
        for (id, release) in &releases {
            let known = kept.and_then(|before| before.state.images.get(id));
            let Some(image) = known
                .cloned()
                .or_else(|| as_it_runs(app, release, sealed(release)?))
            else {
                continue;
            };
            let services = service::bound(&app.name, &app.services, &image.services);
            for (name, process) in &image.processes {
                let key = (*id, name.clone());
                let known = kept.and_then(|before| before.specs.get(&key)).cloned();
                let spec = known.unwrap_or_else(|| {
                    Arc::new(AssignedProcess {
                        app: app.name.clone(),
                        release: *id,
                        name: name.clone(),
                        ranges: Vec::new(),
                        // Nodes link what is there; the names are for people.
                        process: Process {
                            imports: None,
                            ..process.clone()
                        },
                        config: release.config.clone(),
                        services: services.clone(),
                    })
                });
                specs.insert(key, spec);
            }
            images.insert(*id, image);
        }
        let state = match before {
            Some(before) if before.stored.value == stored.value && before.state.images == images => {
                before.state.clone()
            }
            _ => Arc::new(AppState {
                app: stored.value.clone(),
                images,
            }),
        };
        Self {
            stored,
            state,
            releases,
            specs,
        }
    }

    /// The release whose crons fire, as it runs; none when there is none, or it was not read yet.
    pub(crate) fn active(&self) -> Option<(&Release, &Image)> {
        let id = self.stored.value.active()?;
        Some((self.releases.get(&id)?, self.state.images.get(&id)?))
    }

    pub(crate) fn is_migrating(&self) -> bool {
        self.stored.value.migration.is_some()
    }

    /// Whether what its instances need is the same as of another.
    pub(crate) fn has_specs_of(&self, other: &Self) -> bool {
        let mut pairs = self.specs.iter().zip(&other.specs);
        self.specs.len() == other.specs.len()
            && pairs.all(|((left, a), (right, b))| left == right && Arc::ptr_eq(a, b))
    }
}

/// The image of a release as it runs: with the limits that the release sets, and at the home of its services.
fn as_it_runs(app: &App, release: &Release, sealed: Arc<Image>) -> Option<Arc<Image>> {
    let bound = service::bound(&app.name, &app.services, &sealed.services);
    if release.limits.is_empty() && bound.is_empty() {
        return Some(sealed);
    }
    let mut image = release.limits.image(&sealed);
    service::at_home(&mut image, &bound, app.home.as_ref());
    Some(Arc::new(image))
}

impl Placed {
    /// As it is sent to the node.
    pub(crate) fn assigned(&self) -> AssignedProcess {
        AssignedProcess {
            ranges: self.ranges.clone(),
            ..AssignedProcess::clone(&self.spec)
        }
    }

    /// The process type.
    pub(crate) fn key(&self) -> ProcessKey {
        ProcessKey {
            app: self.spec.app.clone(),
            release: self.spec.release,
            process: self.spec.name.clone(),
        }
    }

    /// How many slots there are.
    pub(crate) fn count(&self) -> u32 {
        self.ranges.iter().map(SlotRange::count).sum()
    }

    /// Its order among those of a node.
    pub(crate) fn order(&self) -> (&AppName, ReleaseId, &ProcessName) {
        (&self.spec.app, self.spec.release, &self.spec.name)
    }
}
