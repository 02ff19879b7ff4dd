//! The instances of one process type that take HTTP.
//!
//! Invariant: an instance is picked only together with a place in its count of requests in flight, so whoever
//! drains it waits for the request; one that is draining gives no place, and another is picked.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use gilliam_model::{code::Code, instance::InstanceId, name::AppName};
use tokio::{sync::watch, time::Instant};

use super::{
    access::AccessGate,
    backend::{Backend, InFlight},
    balance,
    place::Place,
    share::{PeerPlace, Share},
};
use crate::logs::AppLog;

/// How long a request waits for an instance that is starting, here or at another node: the first start after a
/// crash takes less than a second.
const START_WAIT_MAX: Duration = Duration::from_secs(5);
/// Requests that may wait so, for one process type.
const WAITING_MAX: usize = 1_000;

/// What an instance without a backend is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Running,
    Crashed,
}

/// Instances of one process type, in the order of their ids.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) app: AppName,
    pub(crate) log: Arc<AppLog>,
    pub(crate) access: AccessGate,
    backends: RwLock<Arc<[Arc<Backend>]>>,
    /// Instances of other nodes.
    shares: RwLock<Arc<[Arc<Share>]>>,
    /// Whether there are any: a node by itself asks nothing more for a request.
    has_shares: AtomicBool,
    phases: Mutex<BTreeMap<InstanceId, Phase>>,
    /// The generation of an assignment that has instances here, until all of them have a phase; 0 for none.
    expected: AtomicU64,
    changed: watch::Sender<u64>,
    turn: AtomicUsize,
    waiting: AtomicUsize,
}

impl Group {
    pub(crate) fn new(app: AppName, log: Arc<AppLog>) -> Self {
        Self {
            app,
            log,
            access: AccessGate::default(),
            backends: RwLock::default(),
            shares: RwLock::default(),
            has_shares: AtomicBool::new(false),
            phases: Mutex::default(),
            expected: AtomicU64::new(0),
            changed: watch::Sender::new(0),
            turn: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    /// A place at the least loaded instance, here or at another node; waits a little for one that starts.
    /// Fails with H10, H11, H14 or H20.
    pub(crate) async fn acquire(&self) -> Result<Place, Code> {
        if let Some(place) = self.try_any() {
            return Ok(place);
        }
        let elsewhere = || self.starts_elsewhere(None);
        let waited = self.wait_for(|| self.try_any(), |_| false, elsewhere).await;
        waited.or_else(|code| self.try_late(code, None))
    }

    /// The same of instances here alone.
    pub(crate) async fn acquire_here(&self) -> Result<InFlight, Code> {
        match self.try_acquire() {
            Some(place) => Ok(place),
            None => self.wait_for(|| self.try_acquire(), |_| false, || false).await,
        }
    }

    /// A place elsewhere than at `tried`, which could not be reached: at another instance, or in its next
    /// life.
    pub(crate) async fn acquire_other(&self, tried: &Place) -> Result<Place, Code> {
        let is_tried = |backend: &Arc<Backend>| match tried {
            Place::Here(place) => Arc::ptr_eq(backend, place.backend()),
            Place::There(_) => false,
        };
        let share = match tried {
            Place::Here(_) => None,
            Place::There(place) => Some(place.share()),
        };
        let other = || {
            let here = self.other_here(is_tried).map(Place::Here);
            here.or_else(|| self.try_elsewhere(None, share).map(Place::There))
        };
        let elsewhere = || self.starts_elsewhere(share);
        // As long as it is listed its end was not noticed yet: what comes then is worth the wait.
        let listed = |backends: &[Arc<Backend>]| backends.iter().any(is_tried);
        let waited = self.wait_for(other, listed, elsewhere).await;
        waited.or_else(|code| self.try_late(code, share))
    }

    /// The same of instances here alone.
    pub(crate) async fn acquire_other_here(&self, tried: &Arc<Backend>) -> Result<InFlight, Code> {
        let is_tried = |backend: &Arc<Backend>| Arc::ptr_eq(backend, tried);
        self.wait_for(
            || self.other_here(is_tried),
            |backends| backends.iter().any(is_tried),
            || false,
        )
        .await
    }

    fn other_here(&self, is_tried: impl Fn(&Arc<Backend>) -> bool) -> Option<InFlight> {
        self.backends()
            .iter()
            .filter(|backend| !is_tried(backend))
            .find_map(Backend::enter)
    }

    /// Waits for a place while an instance is starting here or, as far as that counts, `elsewhere`, or `also`
    /// holds.
    async fn wait_for<P>(
        &self,
        place: impl Fn() -> Option<P>,
        also: impl Fn(&[Arc<Backend>]) -> bool,
        elsewhere: impl Fn() -> bool,
    ) -> Result<P, Code> {
        let mut changed = self.changed.subscribe();
        let mut waiting = None;
        let deadline = Instant::now() + START_WAIT_MAX;
        loop {
            changed.borrow_and_update();
            // Before the list is looked at: an instance that has just joined it is still starting here.
            let is_expected = self.expected.load(Relaxed) > 0;
            let phases: Vec<Phase> = self.phases().values().copied().collect();
            let starts = is_expected || phases.contains(&Phase::Starting) || elsewhere();
            if let Some(place) = place() {
                return Ok(place);
            }
            if !starts && !also(&self.backends()) {
                // The other way round, one that was running has left the list, and may be starting.
                if changed.has_changed().unwrap_or(false) {
                    continue;
                }
                let crashed = phases.contains(&Phase::Crashed);
                return Err(if crashed { Code::H10 } else { Code::H14 });
            }
            if waiting.is_none() {
                waiting = Some(Waiting::enter(&self.waiting).ok_or(Code::H11)?);
            }
            if tokio::time::timeout_at(deadline, changed.changed())
                .await
                .is_err()
            {
                return Err(if starts { Code::H20 } else { Code::H10 });
            }
        }
    }

    fn try_any(&self) -> Option<Place> {
        if !self.has_shares.load(Relaxed) {
            return self.try_acquire().map(Place::Here);
        }
        let elsewhere = self.try_elsewhere(self.least_load(), None).map(Place::There);
        // Other nodes may have no place left, and the last instance here may just have begun to drain.
        elsewhere
            .or_else(|| self.try_acquire().map(Place::Here))
            .or_else(|| self.try_elsewhere(None, None).map(Place::There))
    }

    /// A place at another node, if one has less to do than instances here, the least loaded of which has
    /// `here` requests in flight. Those that cannot be reached are tried when there is nothing else at all.
    fn try_elsewhere(&self, here: Option<usize>, except: Option<&Arc<Share>>) -> Option<PeerPlace> {
        let shares = self.shares();
        let listed = shares
            .iter()
            .filter(|share| share.runs() && except.is_none_or(|except| !Arc::ptr_eq(share, except)));
        let (out, reached): (Vec<_>, Vec<_>) = listed.partition(|share| share.wire.is_out());
        let candidates = if reached.is_empty() && here.is_none() {
            out
        } else {
            reached
        };
        let turn = self.turn.fetch_add(1, Relaxed);
        let index = balance::pick_peer(here, candidates.iter().map(|share| share.load()), turn)?;
        let others = candidates.iter().cycle().skip(index).take(candidates.len());
        others.into_iter().find_map(|share| share.enter())
    }

    /// Whether an instance starts at another node, but for the one that was tried.
    fn starts_elsewhere(&self, tried: Option<&Arc<Share>>) -> bool {
        self.has_shares.load(Relaxed) && !self.starting(tried).is_empty()
    }

    /// A place where an instance was starting for as long as a request waits: without a control plane nobody tells
    /// that it runs by now, but its node knows.
    fn try_late(&self, code: Code, tried: Option<&Arc<Share>>) -> Result<Place, Code> {
        let late = match code {
            Code::H20 => self.starting(tried).iter().find_map(Share::enter),
            _ => None,
        };
        late.map(Place::There).ok_or(code)
    }

    /// The other nodes where instances are starting, but for the one that was tried.
    fn starting(&self, tried: Option<&Arc<Share>>) -> Vec<Arc<Share>> {
        let is_tried = |share: &Arc<Share>| tried.is_some_and(|tried| Arc::ptr_eq(share, tried));
        let shares = self.shares();
        let starting = shares.iter().filter(|share| !share.runs() && !is_tried(share));
        starting.cloned().collect()
    }

    /// Requests in flight at the least loaded instance here.
    pub(super) fn least_load(&self) -> Option<usize> {
        self.backends().iter().map(|backend| backend.in_flight()).min()
    }

    pub(super) fn shares(&self) -> Arc<[Arc<Share>]> {
        self.shares.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has requests go to these instances of other nodes as well, and to no others.
    pub(super) fn set_shares(&self, shares: Vec<Arc<Share>>) {
        self.has_shares.store(!shares.is_empty(), Relaxed);
        *self.shares.write().unwrap_or_else(PoisonError::into_inner) = shares.into();
        self.changed.send_modify(|version| *version += 1);
    }

    fn try_acquire(&self) -> Option<InFlight> {
        let backends = self
            .backends
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let turn = self.turn.fetch_add(1, Relaxed);
        let index = balance::pick(backends.iter().map(|backend| backend.in_flight()), turn)?;
        // The picked one may have begun to drain since the list was read; then any other will do.
        let others = backends.iter().cycle().skip(index).take(backends.len());
        others.into_iter().find_map(Backend::enter)
    }

    /// Takes note that an assignment has instances here: until each has a phase, requests wait for them.
    pub(super) fn expect(&self, generation: u64) {
        self.expected.store(generation, Relaxed);
        self.changed.send_modify(|version| *version += 1);
    }

    /// Takes note that the instances of an assignment have their phases.
    pub(super) fn followed(&self, generation: u64) {
        let followed = |expected| (expected > 0 && expected <= generation).then_some(0);
        if self.expected.try_update(Relaxed, Relaxed, followed).is_ok() {
            self.changed.send_modify(|version| *version += 1);
        }
    }

    /// Takes note of what an instance without a backend is doing.
    pub(crate) fn set_phase(&self, id: &InstanceId, phase: Phase) {
        self.phases().insert(id.clone(), phase);
        self.changed.send_modify(|version| *version += 1);
    }

    /// Lets an instance take requests.
    pub(crate) fn join(&self, backend: &Arc<Backend>) {
        self.edit(|backends| {
            let at = backends.partition_point(|other| other.id < backend.id);
            backends.insert(at, backend.clone());
        });
        self.set_phase(&backend.id, Phase::Running);
    }

    /// Takes an instance out until it joins again; the phase comes first, so that requests wait rather than
    /// fail.
    pub(crate) fn suspend(&self, id: &InstanceId, phase: Phase) {
        self.set_phase(id, phase);
        self.edit(|backends| backends.retain(|backend| backend.id != *id));
        self.changed.send_modify(|version| *version += 1);
    }

    /// Takes an instance out: it gets no further request.
    pub(crate) fn leave(&self, id: &InstanceId) {
        self.phases().remove(id);
        self.edit(|backends| {
            backends.retain(|backend| {
                let stays = backend.id != *id;
                if !stays {
                    // Whoever holds it still, as its door does, finds no place either.
                    backend.close();
                }
                stays
            });
        });
        self.changed.send_modify(|version| *version += 1);
    }

    pub(crate) fn phase(&self, id: &InstanceId) -> Option<Phase> {
        self.phases().get(id).copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.phases().is_empty() && !self.has_shares.load(Relaxed)
    }

    fn backends(&self) -> Arc<[Arc<Backend>]> {
        self.backends
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn edit(&self, edit: impl FnOnce(&mut Vec<Arc<Backend>>)) {
        let mut backends = self.backends.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = backends.to_vec();
        edit(&mut next);
        *backends = next.into();
    }

    fn phases(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Phase>> {
        self.phases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that waits for an instance.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Option<Self> {
        let waiting = Waiting(count);
        (count.fetch_add(1, Relaxed) < WAITING_MAX).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use gilliam_model::limits::Limits;

    use super::*;
    use crate::logs::Logs;

    fn starting() -> (Group, Arc<Backend>) {
        let id: InstanceId = "a/v1/web.1@1".parse().expect("id");
        let group = Group::new(id.app.clone(), Logs::new(1).app(&id.app));
        group.set_phase(&id, Phase::Starting);
        (group, Backend::tcp(id, 1, &Limits::default()))
    }

    /// What others do to the group while the list of backends is looked at for the first time.
    async fn acquire_amid(group: &Group, meanwhile: impl Fn()) -> Result<InFlight, Code> {
        let is_first = Cell::new(true);
        let place = || match is_first.replace(false) {
            true => {
                meanwhile();
                None
            }
            false => group.try_acquire(),
        };
        let place = group.wait_for(place, |_| false, || false);
        tokio::time::timeout(Duration::from_secs(10), place)
            .await
            .expect("a wake-up")
    }

    #[tokio::test]
    async fn a_request_that_looks_while_an_instance_joins_gets_it() {
        let (group, backend) = starting();
        let place = acquire_amid(&group, || group.join(&backend)).await;
        assert!(place.is_ok(), "{place:?}");
    }

    #[tokio::test]
    async fn a_request_that_looks_while_an_instance_starts_again_waits_for_it() {
        let (group, backend) = starting();
        group.join(&backend);
        let again = || {
            group.suspend(&backend.id, Phase::Starting);
            group.join(&backend);
        };
        let place = acquire_amid(&group, again).await;
        assert!(place.is_ok(), "{place:?}");
    }

    #[tokio::test]
    async fn a_request_waits_for_what_an_assignment_brings() {
        let (group, backend) = starting();
        group.leave(&backend.id);
        assert_eq!(group.acquire().await.err(), Some(Code::H14));
        group.expect(7);
        group.followed(6);
        let meanwhile = || {
            group.set_phase(&backend.id, Phase::Starting);
            group.followed(7);
            group.join(&backend);
        };
        let place = acquire_amid(&group, meanwhile).await;
        assert!(place.is_ok(), "{place:?}");
        group.leave(&backend.id);
        assert_eq!(group.acquire().await.err(), Some(Code::H14));
    }

    #[tokio::test]
    async fn a_group_without_instances_refuses_at_once() {
        let (group, backend) = starting();
        let left = acquire_amid(&group, || group.leave(&backend.id)).await;
        assert_eq!(left.err(), Some(Code::H14));
        group.suspend(&backend.id, Phase::Crashed);
        assert_eq!(group.acquire().await.err(), Some(Code::H10));
    }
}
