//! A control plane of the simulated cluster: lives that follow each other, each with turns that wait for the
//! store.

use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use fastrand::Rng;
use gilliam_model::{
    name::NodeName,
    sync::{SyncRequest, SyncResponse},
};
use gilliam_scheduler::{Now, SteppedLoop, SteppedPlane, SteppedTurn};
use gilliam_store::Store;

use crate::{
    Sabotage,
    clock::Ms,
    disk::{Disk, Mood},
};

/// Silence after which a node is lost: the default of a control plane.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(10);

type Turn = Pin<Box<dyn Future<Output = (SteppedLoop, SteppedTurn)> + Send>>;

/// A control plane.
pub(crate) struct Plane {
    store: Store,
    pub(crate) disk: Arc<Disk>,
    /// Counts its lives.
    pub(crate) life: u32,
    alive: Option<Life>,
    /// Whether it plans whoever else does.
    ignores_lease: bool,
    /// By how many seconds its wall clock is wrong.
    pub(crate) wall_off_s: i64,
    /// It does nothing until then.
    pub(crate) paused_until: Ms,
    /// After how many waits for the store it is to stand still, and for how long.
    pause: Option<(u8, Ms)>,
}

struct Life {
    plane: SteppedPlane,
    /// None during a turn.
    idle: Option<SteppedLoop>,
    turn: Option<Turn>,
    /// When the next turn begins.
    next_turn: Ms,
    /// Syncs that are held open, by node.
    held: BTreeMap<usize, Held>,
}

/// A sync without an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) node_life: u32,
    pub(crate) generation: u64,
}

impl fmt::Debug for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plane")
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

impl Plane {
    pub(crate) fn new(store: &Store, rng: Rng, sabotage: Option<Sabotage>) -> Self {
        let is_reckless = sabotage == Some(Sabotage::EpochUnchecked);
        let disk = Arc::new(Disk::new(rng, is_reckless));
        Self {
            store: store.with_faults(disk.clone()),
            disk,
            life: 0,
            alive: None,
            ignores_lease: is_reckless,
            wall_off_s: 0,
            paused_until: 0,
            pause: None,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.alive.is_some()
    }

    pub(crate) fn start(&mut self, index: usize, now: Now, at: Ms) {
        self.life += 1;
        let name = format!("plane{index}-{}", self.life);
        let (plane, idle) = SteppedPlane::new(LOST_AFTER, self.store.clone(), name, now);
        self.alive = Some(Life {
            plane,
            idle: Some(match self.ignores_lease {
                true => idle.without_lease(),
                false => idle,
            }),
            turn: None,
            next_turn: at,
            held: BTreeMap::new(),
        });
    }

    /// Ends its life: a turn under way ends where it waits, and held syncs get no answer.
    pub(crate) fn kill(&mut self) {
        self.alive = None;
        (self.paused_until, self.pause) = (0, None);
    }

    /// Makes all good again.
    pub(crate) fn heal(&mut self) {
        (self.paused_until, self.pause) = (0, None);
        self.disk.set_mood(Mood::Good);
        self.wall_off_s = 0;
    }

    /// Has it stand still in a turn, after so many waits for the store.
    pub(crate) fn pause(&mut self, waits: u8, lasts: Ms) {
        self.pause = Some((waits, lasts));
    }

    /// Asks for a turn at `at`, if none is to begin before.
    pub(crate) fn wake(&mut self, at: Ms) {
        if let Some(life) = &mut self.alive {
            life.next_turn = life.next_turn.min(at);
        }
    }

    /// Begins the turn that is due, or goes on with the one under way; gives its end, if it came.
    pub(crate) fn go_on(&mut self, now: Now, at: Ms) -> Option<SteppedTurn> {
        self.disk.set_now(at);
        let life = self.alive.as_mut()?;
        if life.turn.is_none() && life.next_turn <= at {
            let mut idle = life.idle.take()?;
            life.next_turn = Ms::MAX;
            life.turn = Some(Box::pin(async move {
                let turn = idle.turn(now).await;
                (idle, turn)
            }));
        }
        let waker = futures::task::noop_waker();
        let turn = life
            .turn
            .as_mut()?
            .as_mut()
            .poll(&mut Context::from_waker(&waker));
        let Poll::Ready((idle, end)) = turn else {
            self.pause = match self.pause {
                Some((0, lasts)) => {
                    self.paused_until = at + lasts;
                    None
                }
                Some((waits, lasts)) => Some((waits - 1, lasts)),
                None => None,
            };
            return None;
        };
        (life.idle, life.turn) = (Some(idle), None);
        Some(end)
    }

    /// When there is something to go on with.
    pub(crate) fn next(&self) -> Option<Ms> {
        let life = self.alive.as_ref()?;
        match life.turn {
            Some(_) => self.disk.wake(),
            None => Some(life.next_turn),
        }
    }

    /// Takes a report; the answer is there at once, comes later, or never.
    pub(crate) fn sync(
        &mut self,
        node: usize,
        held: Held,
        request: SyncRequest,
        now: Now,
        at: Ms,
    ) -> Option<SyncResponse> {
        self.disk.set_now(at);
        let life = self.alive.as_mut()?;
        let mut answer = Box::pin(life.plane.sync(request, now));
        let waker = futures::task::noop_waker();
        // A store that does not answer at once leaves the sync to its deadline.
        let Poll::Ready(answer) = answer.as_mut().poll(&mut Context::from_waker(&waker)) else {
            return None;
        };
        if answer.assignment.is_some() || answer.resync {
            life.held.remove(&node);
            return Some(answer);
        }
        life.held.insert(node, held);
        None
    }

    /// Answers of held syncs for whose nodes there is news.
    pub(crate) fn answers(&mut self, names: &[NodeName]) -> Vec<(usize, Held, SyncResponse)> {
        let Some(life) = self.alive.as_mut() else {
            return Vec::new();
        };
        let (plane, mut answers) = (&life.plane, Vec::new());
        life.held.retain(|node, held| {
            let news = plane.news(&names[*node], held.generation);
            let is_held = news.is_none();
            answers.extend(news.map(|answer| (*node, *held, answer)));
            is_held
        });
        answers
    }

    /// Grows whenever nodes report something that a decision can hang on.
    pub(crate) fn heard(&self) -> u64 {
        self.alive.as_ref().map_or(0, |life| life.plane.heard())
    }

    /// Slots that it could not place in its last turn.
    pub(crate) fn blocked(&self) -> u32 {
        self.alive.as_ref().map_or(0, |life| life.plane.blocked())
    }
}
