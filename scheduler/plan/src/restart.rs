//! Starting instances again: the same slots, in a new epoch.

use std::{collections::BTreeSet, fmt, str::FromStr};

use gilliam_model::{instance::Epoch, name::ProcessName, placement::Placement, text::excerpt};

use crate::slots::{self, SlotSet};

/// Most ranges of a record in which single slots are restarted: each adds up to two, and a record must fit a
/// commit. In one that has more, all slots are restarted, which makes it one range again for each run of
/// slots.
pub const RANGES_PER_RECORD_MAX: usize = 1_000;

/// What to restart of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestartTarget {
    /// Everything.
    All,
    /// Every instance of a process type.
    Process(ProcessName),
    /// One slot of a process type.
    Slot(ProcessName, u32),
}

/// A restart that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestartRefusal {
    /// The text is neither a process type nor an instance.
    Form {
        /// As given, cut to a printable length.
        text: String,
    },
    /// Nothing of the kind is placed.
    Nothing {
        /// As asked.
        target: RestartTarget,
        /// The process types of which something is.
        known: Vec<ProcessName>,
    },
}

impl fmt::Display for RestartTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("instance"),
            Self::Process(process) => write!(f, "{process}"),
            Self::Slot(process, slot) => write!(f, "{process}.{slot}"),
        }
    }
}

impl fmt::Display for RestartRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form { text } => write!(
                f,
                "{text:?} is neither a process type nor an instance, such as web or web.1"
            ),
            Self::Nothing { target, known } if known.is_empty() => {
                write!(f, "no {target} runs; nothing does")
            }
            Self::Nothing { target, known } => {
                let known: Vec<&str> = known.iter().map(ProcessName::as_str).collect();
                write!(f, "no {target} runs; there are instances of {}", known.join(", "))
            }
        }
    }
}

impl std::error::Error for RestartRefusal {}

impl FromStr for RestartTarget {
    type Err = RestartRefusal;

    /// Parses `web` or `web.1`.
    fn from_str(text: &str) -> Result<Self, RestartRefusal> {
        let refused = || RestartRefusal::Form { text: excerpt(text) };
        match text.rsplit_once('.') {
            None => text.parse().map(Self::Process).map_err(|_| refused()),
            Some((process, slot)) => {
                let digits = !slot.starts_with('0') && slot.bytes().all(|b| b.is_ascii_digit());
                let slot = slot.parse().ok().filter(|_| digits).ok_or_else(refused)?;
                Ok(Self::Slot(process.parse().map_err(|_| refused())?, slot))
            }
        }
    }
}

/// The placements that change when `target` is restarted in `epoch`; `placements` are those of one app.
///
/// There may be more of them than one commit takes ([`STEPS_MAX`](crate::STEPS_MAX)): commit them in parts.
pub fn restart(
    placements: &[Placement],
    target: &RestartTarget,
    epoch: Epoch,
) -> Result<Vec<Placement>, RestartRefusal> {
    let changed: Vec<Placement> = placements
        .iter()
        .filter_map(|placement| restarted(placement, target, epoch))
        .collect();
    if changed.is_empty() {
        let known: BTreeSet<&ProcessName> = placements.iter().map(|placement| &placement.process).collect();
        let known = known.into_iter().cloned().collect();
        return Err(RestartRefusal::Nothing {
            target: target.clone(),
            known,
        });
    }
    Ok(changed)
}

fn restarted(placement: &Placement, target: &RestartTarget, epoch: Epoch) -> Option<Placement> {
    let all = SlotSet::of_placed(&placement.ranges);
    let mut slots = match target {
        RestartTarget::All => all.clone(),
        RestartTarget::Process(process) if *process == placement.process => all.clone(),
        RestartTarget::Slot(process, slot) if *process == placement.process => {
            all.intersect(&SlotSet::of([(*slot, *slot)]))
        }
        _ => return None,
    };
    if slots.is_empty() {
        return None;
    }
    if placement.ranges.len() > RANGES_PER_RECORD_MAX {
        slots = all;
    }
    let ranges = slots::with(&slots::without(&placement.ranges, &slots), &slots, epoch);
    Some(Placement {
        ranges,
        ..placement.clone()
    })
}

#[cfg(test)]
mod tests {
    use gilliam_model::{placement::SlotRange, release::ReleaseId};

    use super::*;

    fn placement(slots: u32) -> Placement {
        Placement {
            app: "hello".parse().expect("name"),
            release: ReleaseId::FIRST,
            process: "web".parse().expect("name"),
            node: "a".parse().expect("name"),
            ranges: vec![SlotRange {
                first: 1,
                last: slots,
                epoch: Epoch(1),
            }],
            leaving: Vec::new(),
        }
    }

    #[test]
    fn targets_round_trip_or_are_refused() {
        for text in ["web", "web.1", "my-worker_2.100000"] {
            assert_eq!(text.parse::<RestartTarget>().expect(text).to_string(), text);
        }
        for bad in [
            "",
            ".",
            "web.",
            "web.0",
            "web.01",
            "web.+1",
            "web.1.2",
            "Web",
            "web.99999999999",
        ] {
            assert!(bad.parse::<RestartTarget>().is_err(), "{bad}");
        }
    }

    #[test]
    fn restarting_slot_after_slot_keeps_a_record_small() {
        let mut placement = placement(100_000);
        let mut most = 0;
        for n in 1..=3_000 {
            let target = RestartTarget::Slot("web".parse().expect("name"), 2 * n);
            let changed = restart(&[placement], &target, Epoch(u64::from(n) + 1)).expect("there");
            placement = changed.into_iter().next().expect("one record");
            assert_eq!(placement.count(), 100_000);
            most = most.max(placement.ranges.len());
        }
        assert!(most <= RANGES_PER_RECORD_MAX + 2, "{most} ranges");
    }
}
