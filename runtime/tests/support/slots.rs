//! What a test has run: slots of a process type, as a control plane assigns them.

use bytes::Bytes;
use gilliam_model::{
    assignment::AssignedProcess,
    config::Config,
    digest::Digest,
    image::{Process, Shape},
    instance::Epoch,
    limits::Limits,
    placement::SlotRange,
};
use sha2::Digest as _;

/// Slots of one process type.
#[derive(Debug, Clone)]
pub struct Slots {
    pub app: &'static str,
    pub release: u32,
    pub process: &'static str,
    pub count: u32,
    pub epoch: u64,
    pub component: Bytes,
    pub shape: Shape,
    pub args: Vec<&'static str>,
    pub limits: Limits,
    pub config: Vec<(&'static str, String)>,
}

impl Slots {
    pub fn new(app: &'static str, process: &'static str, component: Vec<u8>, shape: Shape) -> Self {
        Self {
            app,
            release: 1,
            process,
            count: 1,
            epoch: 1,
            component: component.into(),
            shape,
            args: vec!["guest.wasm"],
            limits: Limits {
                exit_ms_max: 10_000,
                ..Limits::default()
            },
            config: Vec::new(),
        }
    }

    /// Two web instances or one of the guestbook.
    pub fn guestbook(app: &'static str, count: u32) -> Self {
        let slots = Self::new(app, "web", super::sample("guestbook/web.wasm"), Shape::HttpP2);
        Self { count, ..slots }
    }

    pub fn worker(app: &'static str, args: &[&'static str]) -> Self {
        let slots = Self::new(
            app,
            "worker",
            super::sample("guestbook/worker.wasm"),
            Shape::CommandP2,
        );
        Self {
            args: args.to_vec(),
            ..slots
        }
    }

    pub fn echo_tcp(app: &'static str) -> Self {
        Self::new(app, "web", super::sample("echo-tcp/web.wasm"), Shape::CommandP2)
    }

    pub(super) fn assigned(&self) -> AssignedProcess {
        let range = SlotRange {
            first: 1,
            last: self.count,
            epoch: Epoch(self.epoch),
        };
        let config = self
            .config
            .iter()
            .map(|(key, value)| (key.parse().expect("key"), value.clone()));
        AssignedProcess {
            app: self.app.parse().expect("app"),
            release: format!("v{}", self.release).parse().expect("release"),
            name: self.process.parse().expect("process"),
            ranges: vec![range],
            process: Process {
                component: digest(&self.component),
                component_bytes: self.component.len() as u64,
                shape: self.shape,
                command: self.args.join(" "),
                args: self.args.iter().map(ToString::to_string).collect(),
                limits: self.limits.clone(),
                allowed_outbound_hosts: Vec::new(),
                guard_pages: false,
                jobs: gilliam_model::queue::JobTerms::default(),
                uses: Default::default(),
                imports: None,
                placement: gilliam_model::rules::PlacementRules::default(),
            },
            config: Config(config.collect()),
            services: Vec::new(),
        }
    }
}

pub fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(sha2::Sha256::digest(bytes).into())
}
