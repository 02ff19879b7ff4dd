//! What a node has promised, and what one more instance takes of it.

use gilliam_model::{image::Process, route::WEB, rules::PlacementRules};

use crate::{
    held::Standing,
    rank::Fill,
    snapshot::{Availability, NodeState, Policy},
    world::GroupName,
};

/// What an instance takes of its node besides a slot, and which nodes it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs<'a> {
    /// Bytes that it may use.
    pub(crate) memory_bytes: u64,
    /// Thousandths of a core that it may use.
    pub(crate) cpu_millis: u64,
    /// TCP ports: one for what takes HTTP.
    pub(crate) ports: u32,
    pub(crate) rules: &'a PlacementRules,
}

/// A node that is known, with what is placed on it.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub(crate) state: &'a NodeState,
    /// What is asked of every node for every group, where it is near.
    pub(crate) is_ready: bool,
    pub(crate) slots_max: u32,
    pub(crate) ports_max: u32,
    pub(crate) slots: u32,
    pub(crate) ports: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) cpu_millis: u64,
    /// Bytes that may be promised in all.
    pub(crate) memory_promisable: u64,
    /// Thousandths of a core that may be promised in all; none for no bound.
    pub(crate) cpu_promisable: Option<u64>,
    /// What one unit of memory, and a thousandth of a core, adds to how full it is.
    fill_per_memory: u64,
    fill_per_cpu: u64,
}

/// What a full node's memory, or its cores, count in ranking.
const FULL: u64 = 1 << 40;
/// Bytes of memory that ranking counts as one: the least that a limit can be.
const MEMORY_UNIT_BYTES: u64 = 1 << 16;

impl<'a> Needs<'a> {
    pub(crate) fn of(name: GroupName<'_>, process: &'a Process) -> Self {
        let takes_http = process.shape.is_http() || name.process.as_str() == WEB;
        Self {
            memory_bytes: process.limits.memory_bytes_max,
            cpu_millis: process.limits.cpu_millis.into(),
            ports: takes_http.into(),
            rules: &process.placement,
        }
    }
}

impl<'a> Needs<'a> {
    /// What a run of `process` takes: it listens on no port.
    pub(crate) fn of_run(process: &'a Process) -> Self {
        Self {
            memory_bytes: process.limits.memory_bytes_max,
            cpu_millis: process.limits.cpu_millis.into(),
            ports: 0,
            rules: &process.placement,
        }
    }
}

impl<'a> Node<'a> {
    pub(crate) fn new(state: &'a NodeState, policy: &Policy) -> Self {
        let cpu = |times: u32| u64::from(state.cpu_millis).saturating_mul(times.into());
        let memory_promisable = state.memory_bytes.saturating_mul(policy.memory_overcommit.into());
        let cpu_promisable = policy.cpu_overcommit.map(cpu);
        Self {
            state,
            is_ready: state.state == Availability::Ready,
            slots_max: state.slots_max,
            ports_max: state.ports_max,
            slots: 0,
            ports: 0,
            memory_bytes: 0,
            cpu_millis: 0,
            memory_promisable,
            cpu_promisable,
            fill_per_memory: FULL / (memory_promisable / MEMORY_UNIT_BYTES).max(1),
            fill_per_cpu: FULL / cpu_promisable.unwrap_or(state.cpu_millis.into()).max(1),
        }
    }

    /// How full it is, and what one more slot adds to that.
    pub(crate) fn fill(&self, needs: Needs<'_>) -> Fill {
        let of = |memory_bytes: u64, cpu_millis: u64| {
            let memory = (memory_bytes / MEMORY_UNIT_BYTES).saturating_mul(self.fill_per_memory);
            memory.saturating_add(cpu_millis.saturating_mul(self.fill_per_cpu))
        };
        Fill {
            now: of(self.memory_bytes, self.cpu_millis),
            each: of(needs.memory_bytes, needs.cpu_millis),
        }
    }

    pub(crate) fn take(&mut self, needs: Option<Needs<'_>>, count: u32) {
        self.slots += count;
        if let Some(needs) = needs {
            self.ports += needs.ports * count;
            self.memory_bytes += needs.memory_bytes * u64::from(count);
            self.cpu_millis += needs.cpu_millis * u64::from(count);
        }
    }

    pub(crate) fn give_back(&mut self, needs: Option<Needs<'_>>, count: u32) {
        self.slots -= count;
        if let Some(needs) = needs {
            self.ports -= needs.ports * count;
            self.memory_bytes -= needs.memory_bytes * u64::from(count);
            self.cpu_millis -= needs.cpu_millis * u64::from(count);
        }
    }
}

/// What becomes of slots on a node, by its state.
pub(crate) fn standing(node: Option<&NodeState>) -> Standing {
    match node.map(|node| node.state) {
        // One that has not been heard of keeps what it has.
        None | Some(Availability::Ready) => Standing::Kept,
        Some(Availability::Draining) => Standing::Draining,
        Some(Availability::Lost) => Standing::Lost,
    }
}
