//! The slots of an engine's pool: who may make the next lane.
//!
//! A pool is shared by all apps of a node, so what it has free is given out here, before wasmtime is asked. An
//! instance without a lane holds no slot: any number of instances share a pool, and only their requests need
//! room in it. While slots are plenty whoever asks gets one; of the last quarter a tenant gets its first only.
//! Who finds none gets that of an idle lane (`warm.rs`), and else waits in line, where tenants without a lane
//! go first and all others in turn.
//!
//! Invariant: a tenant that has lanes never takes a slot of the last quarter.
//! Invariant: no request waits beyond [`WAIT_MAX`], nor with more than [`WAITING_MAX`] others.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gilliam_model::code::Code;
use tokio::sync::oneshot;

use crate::failure::Failure;

/// Share of the slots that is only for tenants without a lane.
const RESERVED_DIVISOR: usize = 4;
/// Requests that wait for a slot at once, of all tenants: about as many as a pool has slots.
const WAITING_MAX: usize = 4_096;
/// Of these those of one tenant, so that none takes all places in line.
const WAITING_PER_TENANT_MAX: usize = 256;
/// Beyond it a client is better off with an answer that says so.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Whose lanes are counted together: an app, as far as the engine is concerned a name.
pub(crate) type Tenant = Arc<str>;

/// The slots of one pool; clones share them.
#[derive(Clone)]
pub(crate) struct Slots {
    total: usize,
    /// Those that only tenants without a lane get.
    reserved: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    free: usize,
    /// Tenants with slots, or in line.
    shares: HashMap<Tenant, Share>,
    /// Tenants in line by when they came into it: those without a slot, and the others.
    lines: [BTreeMap<u64, Tenant>; 2],
    /// In line, of all tenants.
    requests: usize,
    last_number: u64,
}

#[derive(Default)]
struct Share {
    held: usize,
    requests: VecDeque<oneshot::Sender<Slot>>,
    /// After its requests.
    starts: VecDeque<oneshot::Sender<Slot>>,
    /// Where in which line.
    place: Option<(usize, u64)>,
}

/// Indexes of `State::lines`.
const FIRST: usize = 0;
const MORE: usize = 1;

/// Who waits, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// A client's request.
    Request,
    /// An instance's first lane: as long as it may take to start, whoever else waits.
    Start(Duration),
}

/// The right to one lane, given back when dropped.
pub(crate) struct Slot {
    slots: Slots,
    tenant: Tenant,
    /// Not if it was taken back already.
    is_held: bool,
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free = self.state().free;
        f.debug_struct("Slots")
            .field("total", &self.total)
            .field("free", &free)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}

/// Whether a tenant that holds so many slots may have another one.
fn may_have(held: usize, free: usize, reserved: usize) -> bool {
    free > 0 && (held == 0 || free > reserved)
}

impl Slots {
    /// Of a pool with lanes, which come and go.
    pub(crate) fn new(count: u32) -> Self {
        Self::with_reserve(count, count as usize / RESERVED_DIVISOR)
    }

    /// Of what runs commands alone: they stay for as long as they like, and the planner knows how many there
    /// are; all go to whoever comes.
    pub(crate) fn of_commands(count: u32) -> Self {
        Self::with_reserve(count, 0)
    }

    fn with_reserve(count: u32, reserved: usize) -> Self {
        let total = count as usize;
        let state = State {
            free: total,
            ..State::default()
        };
        Self {
            total,
            reserved,
            state: Arc::new(Mutex::new(state)),
        }
    }

    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// A slot, if the tenant may have one now.
    pub(crate) fn try_take(&self, tenant: &Tenant) -> Option<Slot> {
        let mut state = self.state();
        let held = state.shares.get(tenant).map_or(0, |share| share.held);
        may_have(held, state.free, self.reserved).then(|| {
            state.take(tenant);
            self.slot(tenant)
        })
    }

    /// Waits for a slot; `idle` is asked once for that of an idle lane. Fails with H11 when too many wait, and
    /// with H20 after some time.
    pub(crate) async fn take(
        &self,
        tenant: &Tenant,
        idle: impl FnOnce() -> Option<Slot>,
        patience: Patience,
    ) -> Result<Slot, Failure> {
        if let Some(slot) = self.try_take(tenant) {
            return Ok(slot);
        }
        if let Some(slot) = idle() {
            return Ok(slot.passed_to(tenant));
        }
        let mut waiting = self.line_up(tenant, patience)?;
        let wait_max = match patience {
            Patience::Request => WAIT_MAX,
            Patience::Start(wait_max) => wait_max,
        };
        match tokio::time::timeout(wait_max, &mut waiting.granted).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) => Err(Failure::new(Code::R99, "the slots of the node are gone")),
            Err(_) => {
                let (total, s) = (self.total, wait_max.as_secs());
                let message = format!("none of the node's {total} slots came free within {s} s");
                Err(Failure::new(Code::H20, message))
            }
        }
    }

    /// Whether an idle lane may keep its slot: not while somebody waits, and not one of the last.
    pub(crate) fn may_idle(&self) -> bool {
        let state = self.state();
        state.lines.iter().all(BTreeMap::is_empty) && state.free > self.reserved
    }

    fn line_up(&self, tenant: &Tenant, patience: Patience) -> Result<Waiting<'_>, Failure> {
        let mut state = self.state();
        let own = state.shares.get(tenant).map_or(0, |share| share.requests.len());
        let (grant, granted) = oneshot::channel();
        match patience {
            Patience::Request if state.requests >= WAITING_MAX || own >= WAITING_PER_TENANT_MAX => {
                let all = state.requests;
                let message =
                    format!("{all} requests wait for a slot of the node, {own} of them of this app");
                return Err(Failure::new(Code::H11, message));
            }
            Patience::Request => {
                state.requests += 1;
                state.share(tenant).requests.push_back(grant);
            }
            Patience::Start(_) => state.share(tenant).starts.push_back(grant),
        }
        state.line_up(tenant);
        // One may have come free since it was asked for.
        self.grant(&mut state);
        Ok(Waiting {
            slots: self,
            tenant: tenant.clone(),
            granted,
        })
    }

    /// Gives what is free to those in line.
    fn grant(&self, state: &mut State) {
        while let Some(tenant) = state.next(self.reserved) {
            let Some(waiter) = state.first_of(&tenant) else {
                continue;
            };
            state.take(&tenant);
            if let Err(mut slot) = waiter.send(self.slot(&tenant)) {
                // It has just given up.
                slot.is_held = false;
                state.give_back(&tenant);
            }
            state.line_up(&tenant);
        }
    }

    fn slot(&self, tenant: &Tenant) -> Slot {
        Slot {
            slots: self.clone(),
            tenant: tenant.clone(),
            is_held: true,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn share(&mut self, tenant: &Tenant) -> &mut Share {
        if !self.shares.contains_key(tenant) {
            self.shares.insert(tenant.clone(), Share::default());
        }
        self.shares.get_mut(tenant).expect("just put in")
    }

    fn take(&mut self, tenant: &Tenant) {
        self.free -= 1;
        self.share(tenant).held += 1;
    }

    /// Takes who of a tenant waits the longest out of line.
    fn first_of(&mut self, tenant: &Tenant) -> Option<oneshot::Sender<Slot>> {
        let share = self.shares.get_mut(tenant)?;
        if let Some(request) = share.requests.pop_front() {
            self.requests -= 1;
            return Some(request);
        }
        share.starts.pop_front()
    }

    fn give_back(&mut self, tenant: &Tenant) {
        self.free += 1;
        if let Some(share) = self.shares.get_mut(tenant) {
            share.held = share.held.saturating_sub(1);
            if share.held == 0 {
                self.line_up(tenant);
            }
        }
    }

    /// Puts a tenant in the line it belongs in, at its end, unless it is there; or forgets it.
    fn line_up(&mut self, tenant: &Tenant) {
        let Some(share) = self.shares.get_mut(tenant) else {
            return;
        };
        let nobody_waits = share.requests.is_empty() && share.starts.is_empty();
        let wanted = match (nobody_waits, share.held) {
            (true, _) => None,
            (false, 0) => Some(FIRST),
            (false, _) => Some(MORE),
        };
        if share.place.map(|(line, _)| line) != wanted {
            if let Some((line, number)) = share.place.take() {
                self.lines[line].remove(&number);
            }
            if let Some(line) = wanted {
                self.last_number += 1;
                share.place = Some((line, self.last_number));
                self.lines[line].insert(self.last_number, tenant.clone());
            }
        }
        if share.held == 0 && nobody_waits {
            self.shares.remove(tenant);
        }
    }

    /// Takes out of line whose turn it is, if there is a slot for it.
    fn next(&mut self, reserved: usize) -> Option<Tenant> {
        let held = [0, 1];
        let line = (FIRST..=MORE)
            .find(|line| !self.lines[*line].is_empty() && may_have(held[*line], self.free, reserved))?;
        let (_, tenant) = self.lines[line].pop_first()?;
        if let Some(share) = self.shares.get_mut(&tenant) {
            share.place = None;
        }
        Some(tenant)
    }
}

/// A place in line; whoever gives up leaves it.
struct Waiting<'a> {
    slots: &'a Slots,
    tenant: Tenant,
    /// A slot that comes when nobody waits any more is given back with this.
    granted: oneshot::Receiver<Slot>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.granted.close();
        let mut state = self.slots.state();
        let Some(share) = state.shares.get_mut(&self.tenant) else {
            return;
        };
        let before = share.requests.len();
        share.requests.retain(|waiter| !waiter.is_closed());
        share.starts.retain(|waiter| !waiter.is_closed());
        let gone = before - share.requests.len();
        state.requests -= gone;
        state.line_up(&self.tenant);
    }
}

impl Slot {
    /// The same slot for another tenant.
    pub(crate) fn passed_to(mut self, tenant: &Tenant) -> Self {
        let slots = self.slots.clone();
        let mut state = slots.state();
        state.give_back(&self.tenant);
        state.take(tenant);
        self.tenant = tenant.clone();
        self
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.is_held {
            let mut state = self.slots.state();
            state.give_back(&self.tenant);
            self.slots.grant(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt as _;

    use super::*;

    fn tenant(name: &str) -> Tenant {
        name.into()
    }

    fn all(slots: &Slots, name: &str) -> Vec<Slot> {
        std::iter::from_fn(|| slots.try_take(&tenant(name))).collect()
    }

    const REQUEST: Patience = Patience::Request;

    #[test]
    fn the_last_quarter_is_for_those_without_a_lane() {
        let slots = Slots::new(8);
        let greedy = all(&slots, "greedy");
        assert_eq!(greedy.len(), 6);
        let quiet = all(&slots, "quiet");
        assert_eq!(quiet.len(), 1);
        let other = all(&slots, "other");
        assert_eq!(other.len(), 1);
        assert!(slots.try_take(&tenant("late")).is_none());
        drop(quiet);
        assert!(slots.try_take(&tenant("greedy")).is_none());
        assert!(slots.try_take(&tenant("late")).is_some());
        drop((greedy, other));
        assert_eq!(all(&slots, "quiet").len(), 6);
    }

    #[tokio::test]
    async fn tenants_without_a_lane_go_first_and_the_others_in_turn() {
        let slots = Slots::new(4);
        let (a, b, c) = (tenant("a"), tenant("b"), tenant("c"));
        let mut of_a = all(&slots, "a");
        let of_b = slots.try_take(&b).expect("the last one");
        let mut line: Vec<_> = [(&a, 'a'), (&a, 'a'), (&b, 'b'), (&c, 'c')]
            .map(|(tenant, name)| (name, Box::pin(slots.take(tenant, || None, REQUEST))))
            .into_iter()
            .collect();
        let mut served = Vec::new();
        let mut come = || {
            let mut came = None;
            line.retain_mut(|(name, wait)| match wait.as_mut().now_or_never() {
                Some(slot) => {
                    came = Some(*name);
                    served.push(slot.expect("a slot"));
                    false
                }
                None => true,
            });
            came
        };
        assert_eq!(come(), None);
        assert!(!slots.may_idle(), "somebody waits");
        of_a.pop();
        assert_eq!(come(), Some('c'), "it has none");
        of_a.pop();
        assert_eq!(come(), None, "the last quarter stays free");
        of_a.pop();
        assert_eq!(come(), Some('a'), "it has none any more");
        drop(of_b);
        assert_eq!(come(), Some('b'));
        assert_eq!(come(), None);
    }

    #[tokio::test]
    async fn the_line_is_bounded_and_so_is_the_wait_in_it() {
        let slots = Slots::new(1);
        let (a, b) = (tenant("a"), tenant("b"));
        let _held = slots.try_take(&a).expect("free");
        let mut line: Vec<_> = (0..WAITING_PER_TENANT_MAX)
            .map(|_| Box::pin(slots.take(&a, || None, REQUEST)))
            .collect();
        for wait in &mut line {
            assert!(wait.now_or_never().is_none());
        }
        let full = slots.take(&a, || None, REQUEST).await.expect_err("full");
        assert_eq!(full.code, Code::H11);
        let patience = Patience::Start(Duration::from_millis(1));
        let late = slots.take(&b, || None, patience).await.expect_err("late");
        assert_eq!(late.code, Code::H20);
        drop(line);
        assert_eq!(slots.state().requests, 0);
        assert_eq!(
            slots.state().shares.len(),
            1,
            "nothing is kept of who has given up"
        );
    }

    #[tokio::test]
    async fn a_slot_that_comes_for_one_who_has_given_up_goes_to_the_next() {
        let slots = Slots::new(1);
        let (a, b) = (tenant("a"), tenant("b"));
        let held = slots.try_take(&a).expect("free");
        {
            let given_up = pin!(slots.take(&b, || None, REQUEST));
            assert!(given_up.now_or_never().is_none());
            let mut next = pin!(slots.take(&a, || None, Patience::Start(WAIT_MAX)));
            assert!(next.as_mut().now_or_never().is_none());
            drop(held);
            // b has it by now and never looks.
            assert!(next.as_mut().now_or_never().is_none());
        }
        assert_eq!(slots.state().free, 1);
        assert!(slots.state().shares.is_empty());
    }

    #[tokio::test]
    async fn the_slot_of_an_idle_lane_changes_hands() {
        let slots = Slots::new(1);
        let (a, b) = (tenant("a"), tenant("b"));
        let idle = slots.try_take(&a).expect("free");
        let slot = slots.take(&b, || Some(idle), REQUEST).await.expect("that one");
        assert_eq!(slot.tenant, b);
        drop(slot);
        assert_eq!(slots.state().free, 1);
    }
}
