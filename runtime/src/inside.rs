//! What is behind `NAME.internal` for the instances of an app.
//!
//! In flows an instance's request, out flows the answer of the app's queues, or of a service that it is bound to.
//!
//! Invariant: whose request it is comes from the instance that makes it, never from the request.

use std::sync::Arc;

use gilliam_engine::{Chain, Internal, InternalAnswer, InternalBody, InternalDoor, Leaving, Refusal};
use gilliam_model::name::AppName;
use gilliam_services::Bound;
use http::{HeaderMap, Request};

use crate::jobs::{self, Desk, Jobs};

/// The name of the app's own queues; reserved.
const QUEUES: &str = "queues";

/// What the instances of a process type find inside the platform.
#[derive(Debug)]
pub(crate) struct Inside {
    app: AppName,
    jobs: Arc<Jobs>,
    services: Bound,
}

impl Inside {
    pub(crate) fn new(app: AppName, jobs: Arc<Jobs>, services: Bound) -> Self {
        Self { app, jobs, services }
    }
}

impl Internal for Inside {
    fn chain(&self, _served: &HeaderMap) -> Chain {
        Chain::default()
    }

    fn enter(&self, _label: &str) -> Arc<dyn InternalDoor> {
        Arc::new(Door {
            desk: Desk::new(self.app.clone(), self.jobs.clone()),
            services: self.services.clone(),
        })
    }
}

/// One instance's way to it.
#[derive(Debug)]
struct Door {
    desk: Arc<Desk>,
    services: Bound,
}

impl InternalDoor for Door {
    fn call(&self, name: &str, request: Request<InternalBody>, _chain: Chain) -> InternalAnswer {
        match name {
            QUEUES => Box::pin(jobs::answer(self.desk.clone(), request)),
            other => match self.services.get(other) {
                Some(handle) => {
                    let answer = gilliam_services::http::answer(handle.clone(), request);
                    Box::pin(async move { Ok(answer.await) })
                }
                None => Box::pin(std::future::ready(Err(Refusal::undeclared(other)))),
            },
        }
    }

    fn leave(&self, end: Leaving) {
        self.desk.leave(end);
    }
}
