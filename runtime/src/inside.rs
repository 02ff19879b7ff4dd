//! What is behind `NAME.internal` for the instances of an app.
//!
//! In flows an instance's request, out flows the answer of the app's queues.
//!
//! Invariant: whose request it is comes from the instance that makes it, never from the request.

use std::sync::Arc;

use gilliam_engine::{Chain, Internal, InternalAnswer, InternalBody, InternalDoor, Leaving, Refusal};
use gilliam_model::name::AppName;
use http::{HeaderMap, Request};

use crate::jobs::{self, Desk, Jobs};

/// The name of the app's own queues; reserved.
const QUEUES: &str = "queues";

/// What the instances of a process type find inside the platform.
#[derive(Debug)]
pub(crate) struct Inside {
    app: AppName,
    jobs: Arc<Jobs>,
}

impl Inside {
    pub(crate) fn new(app: AppName, jobs: Arc<Jobs>) -> Self {
        Self { app, jobs }
    }
}

impl Internal for Inside {
    fn chain(&self, _served: &HeaderMap) -> Chain {
        Chain::default()
    }

    fn enter(&self, _label: &str) -> Arc<dyn InternalDoor> {
        Arc::new(Door {
            desk: Desk::new(self.app.clone(), self.jobs.clone()),
        })
    }
}

/// One instance's way to it.
#[derive(Debug)]
struct Door {
    desk: Arc<Desk>,
}

impl InternalDoor for Door {
    fn call(&self, name: &str, request: Request<InternalBody>, _chain: Chain) -> InternalAnswer {
        match name {
            QUEUES => Box::pin(jobs::answer(self.desk.clone(), request)),
            other => Box::pin(std::future::ready(Err(Refusal::undeclared(other)))),
        }
    }

    fn leave(&self, end: Leaving) {
        self.desk.leave(end);
    }
}
