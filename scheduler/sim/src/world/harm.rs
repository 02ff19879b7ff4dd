//! What goes wrong in the cluster, and how all is healed.

use crate::calamity::{Calamity, Ways};

use super::{Event, GATHER_MS, World};

impl World {
    pub(super) fn strike(&mut self, calamity: Calamity) {
        match calamity {
            Calamity::KillNode { node, back_after } => {
                self.summary.kills += 1;
                self.nodes[node].kill();
                self.queue.add(self.at + back_after, Event::NodeUp(node));
            }
            Calamity::PauseNode { node, lasts } => {
                self.summary.kills += 1;
                self.nodes[node].paused_until = self.at + lasts;
            }
            Calamity::KillPlane { plane, back_after } => {
                self.summary.kills += 1;
                self.planes[plane].kill();
                self.queue.add(self.at + back_after, Event::PlaneUp(plane));
            }
            Calamity::PausePlane { plane, waits, lasts } => {
                self.summary.kills += 1;
                self.planes[plane].pause(waits, lasts);
            }
            Calamity::Store { plane, mood, lasts } => {
                self.planes[plane].disk.set_mood(mood);
                let life = self.planes[plane].life;
                self.queue.add(self.at + lasts, Event::StoreGood(plane, life));
            }
            Calamity::StepClock { plane, off_s } => self.planes[plane].wall_off_s = off_s,
            Calamity::Cut {
                node,
                plane,
                ways,
                lasts,
            } => {
                self.summary.cuts += 1;
                let until = self.at + lasts;
                for (index, cut) in self.cuts[node].iter_mut().enumerate() {
                    if plane.is_some_and(|plane| plane != index) {
                        continue;
                    }
                    if ways != Ways::Down {
                        cut.0 = cut.0.max(until);
                    }
                    if ways != Ways::Up {
                        cut.1 = cut.1.max(until);
                    }
                }
            }
            Calamity::Crash { node, nth } => {
                let (now, life) = (self.wall(0), self.nodes[node].life);
                if let Some(chore) = self.nodes[node].crash(nth, now) {
                    self.summary.crashes += 1;
                    self.queue
                        .add(self.at + 1_000, Event::Chore { node, life, chore });
                    (0..self.planes.len()).for_each(|plane| self.report_at(node, plane, self.at + GATHER_MS));
                }
            }
        }
    }

    /// Makes all good: what went wrong before is over, and nothing goes wrong any more.
    pub(super) fn heal(&mut self) {
        self.note("all is healed");
        self.healed = true;
        self.cuts.iter_mut().flatten().for_each(|cut| *cut = (0, 0));
        for plane in 0..self.planes.len() {
            self.planes[plane].heal();
            self.queue.add(self.at, Event::PlaneUp(plane));
            self.arm(plane);
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].paused_until = self.at;
            self.queue.add(self.at, Event::NodeUp(node));
        }
    }
}
