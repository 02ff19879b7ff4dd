//! Apps: what the store holds of each.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    name::{AppName, NodeName},
    release::ReleaseId,
    scale::Scale,
    service::ServiceRecords,
};

/// An app: a namespace for a service, and what its users asked of it.
///
/// Invariant: `scale` names only releases of the app, `migration.to` is one of them, and no entry of `scale` is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Its name.
    pub name: AppName,
    /// When it was created.
    pub created_at: Timestamp,
    /// Its newest release.
    pub latest: Option<ReleaseId>,
    /// Desired counts of each release that should run.
    pub scale: BTreeMap<ReleaseId, Scale>,
    /// A move from older releases to a newer one, under way.
    #[serde(default)]
    pub migration: Option<Migration>,
    /// How the last migration failed; cleared by the next release or scale.
    #[serde(default)]
    pub migration_failure: Option<MigrationFailure>,
    /// The apps that may call it inside the cluster; none when every app may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callers: Option<BTreeSet<AppName>>,
    /// That the newest release is not one to run: its `release` process runs, or failed. None when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unproven: Option<Unproven>,
    /// Its services: those that releases declared and those that other apps share with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: ServiceRecords,
    /// The node that has the data of its services; none until it has such services and a node was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<NodeName>,
}

/// What there is besides a newest release whose `release` process has not ended well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unproven {
    /// The newest release that may run; none when there is none yet.
    pub good: Option<ReleaseId>,
    /// The run that the newest release waits for; none when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<Hook>,
}

/// A run that a release waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Its number.
    pub run: u32,
    /// Whether what the previous release ran moves to the release afterwards.
    pub migrate: bool,
}

/// A move of instances from older releases to `to`: new ones start, and as they become ready old ones stop.
///
/// The counts wanted of `to` are in the app's scale; the older releases are no longer in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Migration {
    /// The release that instances move to.
    pub to: ReleaseId,
    /// What ran when it began, kept at a falling count until `to` is ready.
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, Scale>))]
    pub from: BTreeMap<ReleaseId, Scale>,
    /// What to go back to when `to` does not become ready.
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, Scale>))]
    pub fallback: BTreeMap<ReleaseId, Scale>,
    /// When it began.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub started_at: Timestamp,
}

/// A migration that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MigrationFailure {
    /// The release that did not become ready.
    pub to: ReleaseId,
    /// Why, with its code.
    pub reason: String,
    /// When it was given up.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
}

impl App {
    /// An app without releases.
    pub fn new(name: AppName, created_at: Timestamp) -> Self {
        Self {
            name,
            created_at,
            latest: None,
            scale: BTreeMap::new(),
            migration: None,
            migration_failure: None,
            callers: None,
            unproven: None,
            services: BTreeMap::new(),
            home: None,
        }
    }

    /// The newest release that may run.
    pub fn newest_good(&self) -> Option<ReleaseId> {
        match &self.unproven {
            None => self.latest,
            Some(unproven) => unproven.good,
        }
    }

    /// The release whose crons fire: the newest that runs, or while none does the newest that may.
    pub fn active(&self) -> Option<ReleaseId> {
        self.scale.keys().next_back().copied().or(self.newest_good())
    }

    /// The release that the next one is made from: the newest that may run, or the newest while none may.
    pub fn base(&self) -> Option<ReleaseId> {
        self.newest_good().or(self.latest)
    }

    /// The run that its newest release waits for.
    pub fn hook(&self) -> Option<&Hook> {
        self.unproven.as_ref()?.waits_for.as_ref()
    }

    /// The number of its next release.
    pub fn next_release(&self) -> ReleaseId {
        self.latest.map_or(ReleaseId::FIRST, ReleaseId::next)
    }
}
