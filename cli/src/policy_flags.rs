//! An operator's choices about placement: flags that `up` and `server` have alike.
//!
//! In: flags. Out: a change of what the store keeps of them, for all servers on it.

use gilliam_scheduler::{PolicyChange, Rebalance};

/// Most times over that memory is promised: beyond it a node that is half full ends instances by paging.
const MEMORY_TIMES_MAX: u32 = 64;
/// Most times over that cores are promised: more than mostly idle instances of a node.
const CPU_TIMES_MAX: u32 = 100_000;
/// Largest difference of slots that may stay.
const SKEW_MAX: u32 = 1_000_000;
/// Most slots that may be on their way at once.
const SLOTS_MAX: u32 = 100_000;

/// How far nodes are promised, and whether instances move without being asked to.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
#[command(next_help_heading = "Placement")]
pub(crate) struct PolicyFlags {
    /// How many times over nodes are promised: `memory=4,cpu=none`, or one of both [default: these]
    ///
    /// Kept in the store, for all servers on it: what is not given stays as it was set.
    #[arg(long, value_name = "TIMES", value_parser = overcommit)]
    overcommit: Option<Overcommit>,
    /// Moves instances when a spread is uneven by more than `skew=N`, `slots=N` at once; or never: `off` [default: off]
    ///
    /// Kept in the store, for all servers on it. `gilliam plan --rebalance` asks for it once.
    #[arg(long, value_name = "WHEN", value_parser = rebalance)]
    rebalance: Option<Rebalancing>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Overcommit {
    memory: Option<u32>,
    /// Within, none for no bound.
    cpu: Option<Option<u32>>,
}

/// None for never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rebalancing(Option<Rebalance>);

impl PolicyFlags {
    /// What to change in the store.
    pub(crate) fn change(self) -> PolicyChange {
        let overcommit = self.overcommit.unwrap_or_default();
        PolicyChange {
            memory_overcommit: overcommit.memory,
            cpu_overcommit: overcommit.cpu,
            rebalance: self.rebalance.map(|rebalancing| rebalancing.0),
        }
    }
}

fn overcommit(text: &str) -> Result<Overcommit, String> {
    let mut overcommit = Overcommit::default();
    for part in text.split(',') {
        let is_new = match part.split_once('=') {
            Some(("memory", times)) => {
                let times = number("memory", times, MEMORY_TIMES_MAX)?;
                overcommit.memory.replace(times).is_none()
            }
            Some(("cpu", "none")) => overcommit.cpu.replace(None).is_none(),
            Some(("cpu", times)) => {
                let times = number("cpu", times, CPU_TIMES_MAX)?;
                overcommit.cpu.replace(Some(times)).is_none()
            }
            _ => return Err("write memory=4,cpu=none, or one of both".to_owned()),
        };
        if !is_new {
            return Err(format!("{part} is given twice"));
        }
    }
    Ok(overcommit)
}

fn rebalance(text: &str) -> Result<Rebalancing, String> {
    if text == "off" {
        return Ok(Rebalancing(None));
    }
    let (mut skew, mut slots) = (None, None);
    for part in text.split(',') {
        let before = match part.split_once('=') {
            Some(("skew", n)) => skew.replace(number("skew", n, SKEW_MAX)?),
            Some(("slots", n)) => slots.replace(number("slots", n, SLOTS_MAX)?),
            _ => return Err("write skew=2,slots=100, or off".to_owned()),
        };
        if before.is_some() {
            return Err(format!("{part} is given twice"));
        }
    }
    let default = Rebalance::default();
    Ok(Rebalancing(Some(Rebalance {
        skew_max: skew.unwrap_or(default.skew_max),
        slots_max: slots.unwrap_or(default.slots_max),
    })))
}

fn number(what: &str, text: &str, max: u32) -> Result<u32, String> {
    let number = text.parse().ok().filter(|n| (1..=max).contains(n));
    number.ok_or_else(|| format!("{what} is a whole number from 1 to {max}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_is_given_in_parts() {
        let parsed = |memory, cpu| Ok(Overcommit { memory, cpu });
        assert_eq!(overcommit("memory=2"), parsed(Some(2), None));
        assert_eq!(overcommit("cpu=8,memory=1"), parsed(Some(1), Some(Some(8))));
        assert_eq!(overcommit("cpu=none"), parsed(None, Some(None)));
        for (bad, says) in [
            ("memory=0", "memory is a whole number from 1 to 64"),
            ("memory=65", "memory is a whole number from 1 to 64"),
            ("cpu=1.5", "cpu is a whole number from 1 to 100000"),
            ("cpu=2,cpu=none", "cpu=none is given twice"),
            ("disk=2", "write memory=4,cpu=none, or one of both"),
        ] {
            assert_eq!(overcommit(bad), Err(says.to_owned()), "{bad}");
        }
    }

    #[test]
    fn when_instances_move_is_given_in_parts() {
        let parsed = |skew_max, slots_max| Ok(Rebalancing(Some(Rebalance { skew_max, slots_max })));
        assert_eq!(rebalance("skew=3,slots=20"), parsed(3, 20));
        assert_eq!(rebalance("slots=20"), parsed(1, 20));
        assert_eq!(rebalance("off"), Ok(Rebalancing(None)));
        for (bad, says) in [
            ("on", "write skew=2,slots=100, or off"),
            ("skew=0", "skew is a whole number from 1 to 1000000"),
            ("slots=x", "slots is a whole number from 1 to 100000"),
            ("skew=1,skew=2", "skew=2 is given twice"),
        ] {
            assert_eq!(rebalance(bad), Err(says.to_owned()), "{bad}");
        }
    }
}
