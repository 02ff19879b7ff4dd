//! What an instance that takes HTTP has at the ingress besides its place in the app's group: its port, and the
//! door behind it.

use std::{sync::Arc, time::Duration};

use gilliam_model::instance::InstanceId;
use gilliam_serve::{DrainOutcome, DrainTrigger, drain};
use tokio::task::JoinSet;

use super::Surroundings;
use crate::{
    ingress::{Door, Group},
    ports::Port,
};

/// Held over restarts of the instance.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) door: Arc<Door>,
    port: Port,
    /// The node's own server on the port; none where the guest listens itself.
    server: Option<(DrainTrigger, JoinSet<DrainOutcome>)>,
}

impl Seat {
    /// Takes a port; none when all are taken.
    pub(super) fn open(
        around: &Surroundings,
        group: &Arc<Group>,
        id: &InstanceId,
        is_served_here: bool,
    ) -> Option<Self> {
        let door = Door::new(id.clone(), group.clone());
        if !is_served_here {
            return Some(Self {
                door,
                port: around.ports.reserve()?,
                server: None,
            });
        }
        let (port, server) = around.ports.serve()?;
        let (trigger, signal) = drain::channel();
        let mut serving = JoinSet::new();
        serving.spawn(server.run(around.ingress.door(door.clone()), signal));
        Some(Self {
            door,
            port,
            server: Some((trigger, serving)),
        })
    }

    pub(super) fn port(&self) -> u16 {
        self.port.number
    }

    /// Gives the port back once its connections are done.
    pub(super) async fn close(mut self, grace: Duration) {
        if let Some((trigger, serving)) = &mut self.server {
            trigger.drain(grace);
            while serving.join_next().await.is_some() {}
        }
    }
}
