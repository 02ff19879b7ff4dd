//! Which engine a component gets, and why: a decision over plain facts.
//!
//! In flow what a component's bytes say and what its process asks for, out flows an [`EngineChoice`]; nothing
//! else in the crate decides this. How each engine is set is in `settings.rs`.

use std::fmt;

use gilliam_model::image::Shape;

use crate::{
    inspect::{self, InspectError},
    slab::{MEMORY_SLOT_BYTES, STACK_SLOT_BYTES, SlabError},
};

/// Data segments that are copied into each memory of the slab. Copying more takes longer than mapping an image,
/// and an image is shared by all who only read it: JavaScript has 10 MiB, Python 20.
const DATA_BYTES_MAX: u64 = 64 << 10;

/// A kind of engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// 0.2 http: a pool, no concurrency support (17 to 35 % cheaper per request), copy-on-write images.
    HttpP2,
    /// Everything of 0.3 that is not on the slab: a pool with component-model async.
    P3,
    /// 0.2 commands with guard pages: allocated on demand, copy-on-write images.
    CommandP2,
    /// 0.2 commands in great number: memories and stacks of the slab.
    SlabP2,
    /// The same for 0.3, with component-model async.
    SlabP3,
}

impl EngineKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::HttpP2,
        Self::P3,
        Self::CommandP2,
        Self::SlabP2,
        Self::SlabP3,
    ];

    /// Its name in messages and arguments.
    pub fn name(self) -> &'static str {
        match self {
            Self::HttpP2 => "http-p2",
            Self::P3 => "p3",
            Self::CommandP2 => "command-p2",
            Self::SlabP2 => "slab-p2",
            Self::SlabP3 => "slab-p3",
        }
    }

    /// How memories come about, for people.
    pub fn allocator(self) -> &'static str {
        match self {
            Self::HttpP2 | Self::P3 => "pool of 4 GiB reservations with guard pages, copy-on-write image",
            Self::CommandP2 => "on demand, 4 GiB reservation with guard pages, copy-on-write image",
            Self::SlabP2 | Self::SlabP3 => "slab of 64 MiB slots, bounds checks, data segments copied",
        }
    }

    /// Its stacks, for people.
    pub fn stacks(self) -> &'static str {
        match self {
            Self::HttpP2 | Self::P3 | Self::CommandP2 => "1 MiB, of which the guest may use 512 KiB",
            Self::SlabP2 | Self::SlabP3 => "252 KiB, of which the guest may use 128 KiB",
        }
    }

    /// Whether it runs 0.3.
    pub fn is_p3(self) -> bool {
        matches!(self, Self::P3 | Self::SlabP3)
    }

    /// Whether memories and stacks come from the slab.
    pub fn is_slab(self) -> bool {
        matches!(self, Self::SlabP2 | Self::SlabP3)
    }

    /// The engine with guard pages for `shape`.
    fn guarded(shape: Shape) -> Self {
        match shape {
            Shape::HttpP2 | Shape::Job => Self::HttpP2,
            Shape::HttpP3 | Shape::CommandP3 => Self::P3,
            Shape::CommandP2 => Self::CommandP2,
        }
    }

    /// The engine on the slab for `shape`, if there is one.
    fn on_slab(shape: Shape) -> Option<Self> {
        match shape {
            Shape::HttpP2 | Shape::HttpP3 | Shape::Job => None,
            Shape::CommandP2 => Some(Self::SlabP2),
            Shape::CommandP3 => Some(Self::SlabP3),
        }
    }

    /// The engines that a component of `shape` may get, the one it gets in most cases first.
    pub fn candidates(shape: Shape, guard_pages: bool) -> Vec<Self> {
        let slab = Self::on_slab(shape).filter(|_| !guard_pages);
        slab.into_iter().chain([Self::guarded(shape)]).collect()
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a component's bytes say that matters to the choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) shape: Shape,
    /// Active data segments of all its modules.
    pub(crate) data_bytes: u64,
    /// The largest memory it starts with.
    pub(crate) memory_bytes: u64,
}

/// The engine that a component gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineChoice {
    /// Which.
    pub kind: EngineKind,
    /// Why, for people.
    pub reason: String,
}

impl EngineChoice {
    /// What a node that has a slab chooses for a component whose process asks for guard pages or does not.
    /// Reads the bytes once and compiles nothing.
    pub fn of(component: &[u8], guard_pages: bool) -> Result<Self, InspectError> {
        Ok(choose(inspect::facts(component)?, guard_pages, None))
    }
}

/// The decision. `no_slab` says why the process that asks has no slab.
pub(super) fn choose(facts: Facts, guard_pages: bool, no_slab: Option<&SlabError>) -> EngineChoice {
    let guarded = |reason: String| EngineChoice {
        kind: EngineKind::guarded(facts.shape),
        reason,
    };
    let Some(slab) = EngineKind::on_slab(facts.shape) else {
        return guarded("it takes requests, or jobs: slots of a pool are reused hot".to_owned());
    };
    if guard_pages {
        return guarded("its process asks for guard pages".to_owned());
    }
    if let Some(error) = no_slab {
        return guarded(format!("this process has no slab: {error}"));
    }
    if facts.data_bytes > DATA_BYTES_MAX {
        let (data, max) = (facts.data_bytes, DATA_BYTES_MAX);
        return guarded(format!(
            "{data} bytes of data are mapped and shared, not copied (more than {max})"
        ));
    }
    let slot = MEMORY_SLOT_BYTES as u64;
    if facts.memory_bytes > slot {
        let memory = facts.memory_bytes;
        return guarded(format!(
            "it starts with a memory of {memory} bytes, more than a slot's {slot}"
        ));
    }
    let data = facts.data_bytes;
    let stack = STACK_SLOT_BYTES >> 10;
    EngineChoice {
        kind: slab,
        reason: format!(
            "a command with {data} bytes of data: slots of 64 MiB and stacks of {stack} KiB cost no maps"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Facts = Facts {
        shape: Shape::CommandP2,
        data_bytes: 64 << 10,
        memory_bytes: 64 << 20,
    };

    #[test]
    fn small_commands_go_to_the_slab_and_all_else_has_guard_pages() {
        let kind = |facts, guard_pages, no_slab| choose(facts, guard_pages, no_slab).kind;
        let p3 = Facts {
            shape: Shape::CommandP3,
            ..SMALL
        };
        assert_eq!(kind(SMALL, false, None), EngineKind::SlabP2);
        assert_eq!(kind(p3, false, None), EngineKind::SlabP3);
        assert_eq!(kind(SMALL, true, None), EngineKind::CommandP2);
        assert_eq!(kind(p3, true, None), EngineKind::P3);
        assert_eq!(
            kind(SMALL, false, Some(&SlabError::Overcommit)),
            EngineKind::CommandP2
        );
        let large = Facts {
            data_bytes: SMALL.data_bytes + 1,
            ..SMALL
        };
        assert_eq!(kind(large, false, None), EngineKind::CommandP2);
        let wide = Facts {
            memory_bytes: SMALL.memory_bytes + 1,
            ..SMALL
        };
        assert_eq!(kind(wide, false, None), EngineKind::CommandP2);
        for (shape, expected) in [
            (Shape::HttpP2, EngineKind::HttpP2),
            (Shape::HttpP3, EngineKind::P3),
            (Shape::Job, EngineKind::HttpP2),
        ] {
            assert_eq!(kind(Facts { shape, ..SMALL }, false, None), expected);
        }
    }

    #[test]
    fn whatever_is_chosen_is_a_candidate_and_says_why() {
        for shape in Shape::ALL {
            for guard_pages in [false, true] {
                for data_bytes in [0, 1 << 20] {
                    let facts = Facts {
                        shape,
                        data_bytes,
                        ..SMALL
                    };
                    let choice = choose(facts, guard_pages, None);
                    assert!(EngineKind::candidates(shape, guard_pages).contains(&choice.kind));
                    assert!(!choice.reason.is_empty());
                }
            }
        }
    }
}
