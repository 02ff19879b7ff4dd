//! An app as its users should see it: what they can ask of it, one after the other, and what that makes of it.

use std::collections::BTreeMap;

use crate::linearizable::{Operation, Sequential, is_linearizable};

/// Counts of `web` by the number of the release.
pub(crate) type Scale = BTreeMap<u32, u32>;

/// What made a release. Each has a mark of its own, which is found again in what users read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Made {
    Deploy(u32),
    Config(u32),
}

/// What was asked and answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Created,
    /// There was one already.
    Existed,
    Destroyed,
    /// There was none.
    Absent,
    /// There was one, whatever else was said of it.
    Present,
    /// Became the release of this number; none when it was not answered.
    Released {
        made: Made,
        migrates: bool,
        number: Option<u32>,
    },
    /// Nothing was released yet.
    Unreleased,
    /// Scaled to so many, and told the whole scale; none when it was not answered.
    Scaled {
        web: u32,
        scale: Option<Scale>,
    },
    /// Read the newest release and the scale.
    Found {
        latest: Option<u32>,
        scale: Scale,
    },
    /// Read all releases.
    Listed(Vec<Made>),
    /// Read the config of the newest release: the marks of all changes of it.
    Configured {
        latest: Option<u32>,
        marks: Vec<u32>,
    },
}

/// An app, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct State(Option<App>);

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct App {
    /// The first is release 1.
    releases: Vec<Made>,
    scale: Scale,
}

impl App {
    fn latest(&self) -> Option<u32> {
        let count = u32::try_from(self.releases.len()).expect("few");
        (count > 0).then_some(count)
    }

    fn released(&self, made: Made, migrates: bool, number: Option<u32>) -> Option<Self> {
        let mut after = self.clone();
        after.releases.push(made);
        let latest = after.latest();
        if migrates && !self.scale.is_empty() {
            after.scale = BTreeMap::from([(latest?, self.scale.values().sum())]);
        }
        let has_image = matches!(made, Made::Deploy(_)) || self.latest().is_some();
        (has_image && number.is_none_or(|number| latest == Some(number))).then_some(after)
    }

    fn scaled(&self, web: u32, scale: Option<&Scale>) -> Option<Self> {
        let mut after = self.clone();
        let target = self.scale.keys().next_back().copied().or(self.latest())?;
        after.scale.insert(target, web);
        scale.is_none_or(|scale| *scale == after.scale).then_some(after)
    }

    fn config(&self) -> Vec<u32> {
        let marks = self.releases.iter().filter_map(|made| match made {
            Made::Config(mark) => Some(*mark),
            Made::Deploy(_) => None,
        });
        let mut marks: Vec<u32> = marks.collect();
        marks.sort_unstable();
        marks
    }
}

impl Sequential for State {
    type What = What;

    fn after(&self, what: &What) -> Option<Self> {
        let same = |holds: bool| holds.then(|| self.clone());
        let Some(app) = &self.0 else {
            return match what {
                What::Created => Some(Self(Some(App::default()))),
                What::Absent => same(true),
                _ => None,
            };
        };
        let changed = |app: Option<App>| app.map(|app| Self(Some(app)));
        match what {
            What::Created | What::Absent => None,
            What::Existed | What::Present => same(true),
            What::Destroyed => Some(Self(None)),
            What::Released {
                made,
                migrates,
                number,
            } => changed(app.released(*made, *migrates, *number)),
            What::Unreleased => same(app.releases.is_empty()),
            What::Scaled { web, scale } => changed(app.scaled(*web, scale.as_ref())),
            What::Found { latest, scale } => same((app.latest(), &app.scale) == (*latest, scale)),
            What::Listed(releases) => same(app.releases == *releases),
            What::Configured { latest, marks } => same((app.latest(), &app.config()) == (*latest, marks)),
        }
    }
}

/// Whether a history of an app that did not exist before is linearizable.
pub(crate) fn holds(operations: &[Operation<What>]) -> bool {
    is_linearizable(operations, State::default())
}

/// One after the other, each answered.
fn in_turn(whats: &[What]) -> Vec<Operation<What>> {
    let moments = (0..).step_by(2);
    let operation = |(begin, what): (u64, &What)| Operation {
        begin,
        end: Some(begin + 1),
        what: what.clone(),
    };
    moments.zip(whats).map(operation).collect()
}

fn deployed(mark: u32, number: u32) -> What {
    What::Released {
        made: Made::Deploy(mark),
        migrates: true,
        number: Some(number),
    }
}

fn configured(mark: u32, number: u32) -> What {
    What::Released {
        made: Made::Config(mark),
        migrates: true,
        number: Some(number),
    }
}

fn scaled(web: u32, release: u32) -> What {
    What::Scaled {
        web,
        scale: Some(BTreeMap::from([(release, web)])),
    }
}

#[test]
fn a_sound_history_is_accepted() {
    let sound = [
        What::Absent,
        What::Created,
        What::Existed,
        What::Unreleased,
        deployed(1, 1),
        scaled(3, 1),
        configured(2, 2),
        What::Found {
            latest: Some(2),
            scale: BTreeMap::from([(2, 3)]),
        },
        What::Configured {
            latest: Some(2),
            marks: vec![2],
        },
        What::Listed(vec![Made::Deploy(1), Made::Config(2)]),
        What::Present,
        What::Destroyed,
        What::Absent,
        What::Created,
        deployed(3, 1),
    ];
    assert!(holds(&in_turn(&sound)));
    let mut open = in_turn(&sound);
    // Two at once may have come in either order.
    (open[6].begin, open[5].end) = (open[5].begin, open[6].end);
    assert!(holds(&open));
}

#[test]
fn a_doctored_history_is_rejected() {
    let bad = |whats: &[What], why: &str| assert!(!holds(&in_turn(whats)), "{why}");
    let begun = [What::Created, deployed(1, 1), scaled(3, 1)];
    let with = |more: &[What]| [&begun[..], more].concat();
    bad(&with(&[configured(2, 3)]), "a number is left out");
    bad(
        &with(&[configured(2, 2), deployed(3, 2)]),
        "a number is given twice",
    );
    bad(
        &with(&[What::Listed(vec![Made::Deploy(1), Made::Config(9)])]),
        "a release that nobody made",
    );
    let found = |latest, release, web| What::Found {
        latest: Some(latest),
        scale: BTreeMap::from([(release, web)]),
    };
    bad(
        &with(&[scaled(5, 1), found(1, 1, 3)]),
        "an acknowledged scale is lost",
    );
    bad(&with(&[configured(2, 2), found(2, 1, 3)]), "half a release");
    bad(&with(&[What::Created]), "created twice");
    bad(&with(&[What::Destroyed, What::Present]), "it outlives its end");
    bad(
        &with(&[What::Destroyed, What::Created, deployed(2, 2)]),
        "numbers go on after the end",
    );
    bad(
        &with(&[
            configured(2, 2),
            configured(3, 3),
            What::Configured {
                latest: Some(3),
                marks: vec![3],
            },
        ]),
        "a change that overwrote another",
    );
    // What was not answered may have been done, but once.
    let unknown = Operation {
        begin: 5,
        end: None,
        what: What::Scaled { web: 9, scale: None },
    };
    let after = |whats: &[What]| {
        let mut history = in_turn(&with(whats));
        history.push(unknown.clone());
        holds(&history)
    };
    assert!(after(&[found(1, 1, 9)]) && after(&[found(1, 1, 3), found(1, 1, 9)]));
    assert!(!after(&[found(1, 1, 9), found(1, 1, 3)]));
    assert!(
        !after(&[found(1, 1, 9), scaled(4, 1), found(1, 1, 9)]),
        "done twice"
    );
}
