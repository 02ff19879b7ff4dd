//! The port of one web instance: whatever host is named, this instance answers.

use std::sync::{Arc, PoisonError, RwLock};

use gilliam_model::{code::Code, instance::InstanceId};

use super::{
    backend::{Backend, InFlight},
    group::{Group, Phase},
};

/// Stays open over restarts of its instance.
#[derive(Debug)]
pub(crate) struct Door {
    id: InstanceId,
    pub(super) group: Arc<Group>,
    backend: RwLock<Option<Arc<Backend>>>,
}

impl Door {
    pub(crate) fn new(id: InstanceId, group: Arc<Group>) -> Arc<Self> {
        Arc::new(Self {
            id,
            group,
            backend: RwLock::new(None),
        })
    }

    /// What is behind the door now.
    pub(crate) fn set(&self, backend: Option<Arc<Backend>>) {
        *self.backend.write().unwrap_or_else(PoisonError::into_inner) = backend;
    }

    /// A place at the instance, or why there is none: H10, H14 or H20.
    pub(super) fn acquire(&self) -> Result<InFlight, Code> {
        let backend = self
            .backend
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        backend
            .and_then(|backend| backend.enter())
            .ok_or_else(|| match self.group.phase(&self.id) {
                Some(Phase::Starting) => Code::H20,
                Some(Phase::Crashed) => Code::H10,
                Some(Phase::Running) | None => Code::H14,
            })
    }
}
