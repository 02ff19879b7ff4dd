//! What is behind `NAME.internal` for the instances of an app.
//!
//! In flows an instance's request, out flows the answer of the app's queues, of a service that it is bound
//! to, or of another app that it uses.
//!
//! Invariant: whose request it is comes from the instance that makes it, never from the request.

use std::sync::Arc;

use gilliam_engine::{Chain, Internal, InternalAnswer, InternalBody, InternalDoor, Leaving, Refusal};
use gilliam_model::{code::Code, name::AppName, uses::Uses};
use gilliam_services::Bound;
use http::{HeaderMap, Request};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    ingress::{self, Ingress, InsideCaller},
    jobs::{self, Desk, Jobs},
};

/// The name of the app's own queues; reserved.
const QUEUES: &str = "queues";

/// What the instances of a process type find inside the platform.
#[derive(Debug, Clone)]
pub(crate) struct Inside {
    app: AppName,
    uses: Arc<Uses>,
    services: Bound,
    jobs: Arc<Jobs>,
    ingress: Ingress,
    /// Where calls of other apps run: with those of clients, not with what guests wait for.
    runtime: Handle,
}

impl Inside {
    /// That of a process type of `app`. Must be called within a tokio runtime.
    pub(crate) fn new(app: AppName, uses: Uses, services: Bound, jobs: Arc<Jobs>, ingress: Ingress) -> Self {
        Self {
            app,
            uses: Arc::new(uses),
            services,
            jobs,
            ingress,
            runtime: Handle::current(),
        }
    }
}

impl Internal for Inside {
    fn chain(&self, served: &HeaderMap) -> Chain {
        ingress::chain(served)
    }

    fn enter(&self, label: &str) -> Arc<dyn InternalDoor> {
        Arc::new(Door {
            desk: Desk::new(self.app.clone(), self.jobs.clone()),
            caller: InsideCaller {
                app: self.app.clone(),
                label: label.to_owned(),
            },
            inside: self.clone(),
        })
    }
}

/// One instance's way to it.
#[derive(Debug)]
struct Door {
    inside: Inside,
    caller: InsideCaller,
    desk: Arc<Desk>,
}

impl InternalDoor for Door {
    fn call(&self, name: &str, request: Request<InternalBody>, chain: Chain) -> InternalAnswer {
        if name == QUEUES {
            return Box::pin(jobs::answer(self.desk.clone(), request));
        }
        if let Some(handle) = self.inside.services.get(name) {
            let answer = gilliam_services::http::answer(handle.clone(), request);
            return Box::pin(async move { Ok(answer.await) });
        }
        let Some(used) = self.inside.uses.get(name).cloned() else {
            return Box::pin(std::future::ready(Err(Refusal::undeclared(name))));
        };
        let ingress = self.inside.ingress.clone();
        let call = ingress.call_inside(self.caller.clone(), (name.to_owned(), used), request, chain);
        // Given up with whoever waits for it.
        let call = AbortOnDropHandle::new(self.inside.runtime.spawn(call));
        Box::pin(async move {
            call.await.unwrap_or_else(|error| {
                tracing::error!(%error, "a call of another app failed");
                Err(Refusal::new(
                    Code::H99,
                    "the call failed in the platform",
                    "report it",
                ))
            })
        })
    }

    fn leave(&self, end: Leaving) {
        self.desk.leave(end);
    }
}
