//! Hostile tenants: the guests of `samples/hostile` that run, each with how it is set off.

use anyhow::Context as _;

use crate::guests::{World, component};

/// How a tenant is made to do harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By requests.
    Web,
    /// By running.
    Worker,
}

/// One hostile guest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    text: &'static str,
    /// Measured in a quick run too.
    pub(crate) is_quick: bool,
}

macro_rules! attacks {
    ($($name:literal $quick:literal,)*) => {
        /// All of them, in the order of their names.
        pub(crate) const ATTACKS: &[Attack] = &[$(Attack {
            name: $name,
            text: include_str!(concat!("../../samples/hostile/", $name, ".wat")),
            is_quick: $quick,
        },)*];
    };
}

attacks! {
    "crash-at-once" true,
    "handles-in-command" false,
    "handles-of-headers" false,
    "handles-of-timers" false,
    "header-of-32-mib" true,
    "loop-in-command" false,
    "loop-in-handler" true,
    "loop-in-realloc" false,
    "loop-in-start" false,
    "loop-of-indirect-calls" false,
    "loop-of-memory-copy" true,
    "loop-of-memory-fill" false,
    "loop-of-table-fill" false,
    "memories-in-turn" true,
    "memory-grow" false,
    "memory-grow-in-command" false,
    "no-answer" false,
    "poll-on-one-a-million-times" false,
    "random-in-a-loop" true,
    "random-without-end" false,
    "recursion" true,
    "recursion-in-command" false,
    "recursion-through-a-table" false,
    "sleep-for-ever" false,
    "stdout-flood" true,
    "stdout-line-without-end" false,
    "table-grow" false,
    "tail-calls-without-end" false,
    "trap" false,
}

impl Attack {
    pub(crate) fn kind(&self) -> Kind {
        let is_web = self.text.lines().any(|line| line.trim() == ";; world: http");
        if is_web { Kind::Web } else { Kind::Worker }
    }

    pub(crate) fn component(&self) -> anyhow::Result<Vec<u8>> {
        let world = match self.kind() {
            Kind::Web => World::Http,
            Kind::Worker => World::Command,
        };
        component(world, self.text).with_context(|| self.name.to_owned())
    }
}

/// The attack that many instances at once do.
pub(crate) fn spinner() -> anyhow::Result<Vec<u8>> {
    let spin = ATTACKS.iter().find(|attack| attack.name == "loop-in-command");
    spin.context("the loop is among the attacks")?.component()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attack_is_a_component_and_some_of_both_kinds_are_quick() {
        for attack in ATTACKS {
            attack.component().expect(attack.name);
        }
        for kind in [Kind::Web, Kind::Worker] {
            assert!(ATTACKS.iter().any(|a| a.is_quick && a.kind() == kind), "{kind:?}");
        }
    }
}
