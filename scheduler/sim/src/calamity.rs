//! What goes wrong next, drawn from the seed.

use fastrand::Rng;

use crate::{clock::Ms, disk::Mood};

/// One thing that goes wrong, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Calamity {
    /// A node is killed with all of its instances.
    KillNode { node: usize, back_after: Ms },
    /// A node does nothing for a while, and then goes on where it was.
    PauseNode { node: usize, lasts: Ms },
    /// Messages between a node and a control plane (or all of them) are lost, one way or both.
    Cut {
        node: usize,
        plane: Option<usize>,
        ways: Ways,
        lasts: Ms,
    },
    /// A control plane is killed.
    KillPlane { plane: usize, back_after: Ms },
    /// A control plane stands still in the midst of a turn, when it next waits for the store or some waits later,
    /// and then goes on where it was.
    PausePlane { plane: usize, waits: u8, lasts: Ms },
    /// A control plane's way to the store is bad or cut.
    Store { plane: usize, mood: Mood, lasts: Ms },
    /// A control plane's wall clock jumps.
    StepClock { plane: usize, off_s: i64 },
    /// An instance crashes; which one is drawn when it happens.
    Crash { node: usize, nth: u64 },
}

/// Which messages are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ways {
    /// Those to the control plane.
    Up,
    /// Those from it.
    Down,
    /// All.
    Both,
}

/// The next calamity.
pub(crate) fn draw(rng: &mut Rng, nodes: usize, planes: usize) -> Calamity {
    let (node, plane) = (rng.usize(0..nodes), rng.usize(0..planes));
    let mut lasts = |seconds_max: u64| rng.u64(100..seconds_max * 1_000);
    let (short, long) = (lasts(8), lasts(90));
    match rng.u8(0..18) {
        0 | 1 => Calamity::KillNode {
            node,
            back_after: long,
        },
        2 => Calamity::KillNode {
            node,
            back_after: short,
        },
        3 => Calamity::PauseNode { node, lasts: long },
        4 => Calamity::PauseNode { node, lasts: short },
        5 => Calamity::KillPlane {
            plane,
            back_after: long,
        },
        6 => Calamity::KillPlane {
            plane,
            back_after: short,
        },
        7 => Calamity::Store {
            plane,
            mood: Mood::Bad,
            lasts: long,
        },
        8 => Calamity::Store {
            plane,
            mood: Mood::Cut,
            lasts: long,
        },
        9 => Calamity::StepClock {
            plane,
            off_s: rng.i64(-7_200..7_200),
        },
        10..13 => Calamity::Cut {
            node,
            plane: rng.bool().then_some(plane),
            ways: [Ways::Up, Ways::Down, Ways::Both][rng.usize(0..3)],
            lasts: if rng.bool() { short } else { long },
        },
        16 | 17 => Calamity::PausePlane {
            plane,
            waits: rng.u8(0..4),
            lasts: long,
        },
        _ => Calamity::Crash {
            node,
            nth: rng.u64(0..64),
        },
    }
}
