//! Limits that a release sets over those of its image.
//!
//! An image is sealed with the limits of its `gilliam.toml`. What users set later with `gilliam limits` is part
//! of the release, as config is: it goes from release to release, over deploys too, until it is unset.
//!
//! Invariant: what runs is [`Overrides::image`] of a release's image; nobody reads limits of the image itself
//! to act on them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    image::{Image, Process},
    limits::{LimitError, LimitName},
    name::ProcessName,
};

/// The limits that a release sets, by process type; part of the release, so immutable with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(value_type = BTreeMap<String, BTreeMap<String, u64>>)
)]
pub struct Overrides(BTreeMap<ProcessName, BTreeMap<LimitName, u64>>);

/// What to change, of one process type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LimitsChange {
    /// The process type.
    pub process: ProcessName,
    /// Limits to set, in their smallest unit: `{"memory_bytes_max": 67108864}`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, u64>))]
    pub set: BTreeMap<LimitName, u64>,
    /// Limits that go back to what the image says; each must be set.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub unset: Vec<LimitName>,
}

/// A change of limits that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// It would change nothing.
    #[error("the change sets and unsets nothing")]
    Nothing,
    /// No such process type.
    #[error("the release has no process {process}")]
    NoProcess {
        /// Its name.
        process: ProcessName,
        /// Those there are.
        known: Vec<ProcessName>,
    },
    /// Not in its range.
    #[error(transparent)]
    Range(#[from] LimitError),
    /// A limit to unset is not set.
    #[error("{} of {process} is not set: it is what gilliam.toml or the default says", .name.key())]
    NotSet {
        /// The process type.
        process: ProcessName,
        /// The limit.
        name: LimitName,
    },
}

impl OverrideError {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            OverrideError::Nothing => "name a limit, such as memory=64MiB".to_string(),
            OverrideError::NoProcess { known, .. } => {
                let known: Vec<&str> = known.iter().map(ProcessName::as_str).collect();
                format!("it has {}", known.join(", "))
            }
            OverrideError::Range(error) => error.hint(),
            OverrideError::NotSet { .. } => "gilliam limits lists what is set".to_string(),
        }
    }
}

impl Overrides {
    /// Whether it sets nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is set for a process type.
    pub fn of(&self, process: &ProcessName) -> impl Iterator<Item = (LimitName, u64)> {
        let limits = self.0.get(process);
        limits.into_iter().flatten().map(|(name, value)| (*name, *value))
    }

    /// A process type of an image as it runs: the image's limits, and over them those that are set.
    pub fn process(&self, name: &ProcessName, process: &Process) -> Process {
        let mut process = process.clone();
        for (limit, value) in self.of(name) {
            process.limits.set(limit, value);
        }
        process
    }

    /// An image as it runs.
    pub fn image(&self, image: &Image) -> Image {
        let mut image = image.clone();
        for (name, process) in &mut image.processes {
            *process = self.process(name, process);
        }
        image
    }

    /// What is set after `change` of a release of `image`, or why it is refused.
    pub fn changed(&self, image: &Image, change: &LimitsChange) -> Result<Overrides, OverrideError> {
        let LimitsChange { process, set, unset } = change;
        if set.is_empty() && unset.is_empty() {
            return Err(OverrideError::Nothing);
        }
        if !image.processes.contains_key(process) {
            return Err(OverrideError::NoProcess {
                process: process.clone(),
                known: image.processes.keys().cloned().collect(),
            });
        }
        let mut all = self.0.clone();
        let limits = all.entry(process.clone()).or_default();
        for name in unset {
            let process = process.clone();
            let not_set = OverrideError::NotSet { process, name: *name };
            limits.remove(name).ok_or(not_set)?;
        }
        for (name, value) in set {
            name.check(*value)?;
            limits.insert(*name, *value);
        }
        all.retain(|_, limits| !limits.is_empty());
        Ok(Overrides(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{digest::Digest, image::Shape, limits::Limits};

    fn name(name: &str) -> ProcessName {
        name.parse().expect("a process name")
    }

    fn image() -> Image {
        let process = |memory_bytes_max| Process {
            component: Digest::from_sha256([0; 32]),
            component_bytes: 1,
            shape: Shape::HttpP2,
            command: "web.wasm".into(),
            args: vec!["web.wasm".into()],
            limits: Limits {
                memory_bytes_max,
                ..Limits::default()
            },
            allowed_outbound_hosts: Vec::new(),
            guard_pages: false,
            jobs: crate::queue::JobTerms::default(),
            uses: Default::default(),
            imports: None,
            placement: crate::rules::PlacementRules::default(),
        };
        Image::new(
            [
                (name("web"), process(1 << 20)),
                (name("worker"), process(2 << 20)),
            ]
            .into(),
        )
    }

    fn change(process: &str, set: &[(LimitName, u64)], unset: &[LimitName]) -> LimitsChange {
        LimitsChange {
            process: name(process),
            set: set.iter().copied().collect(),
            unset: unset.to_vec(),
        }
    }

    #[test]
    fn what_is_set_stands_over_the_image_and_unset_brings_the_image_back() {
        let (image, none) = (image(), Overrides::default());
        let set = change("web", &[(LimitName::Memory, 4 << 20), (LimitName::Cpu, 250)], &[]);
        let set = none.changed(&image, &set).expect("set");
        let effective = set.image(&image);
        let web = &effective.processes["web"].limits;
        assert_eq!((web.memory_bytes_max, web.cpu_millis), (4 << 20, 250));
        assert_eq!(effective.processes["worker"], image.processes["worker"]);
        let unset = change("web", &[], &[LimitName::Memory, LimitName::Cpu]);
        let unset = set.changed(&image, &unset).expect("unset");
        assert_eq!(unset, none);
        assert_eq!(unset.image(&image), image);
    }

    #[test]
    fn a_refused_change_says_why_and_what_there_is() {
        let (image, none) = (image(), Overrides::default());
        let refused = |change: &LimitsChange| {
            let error = none.changed(&image, change).expect_err("refused");
            format!("{error}; {}", error.hint())
        };
        for (refusal, expected) in [
            (
                change("web", &[], &[]),
                "the change sets and unsets nothing; name a limit, such as memory=64MiB",
            ),
            (
                change("wbe", &[(LimitName::Cpu, 250)], &[]),
                "the release has no process wbe; it has web, worker",
            ),
            (
                change("web", &[(LimitName::Cpu, 1_500)], &[]),
                "cpu = 1.5 is outside 0.01 to 1; choose a value in that range; the default is 1",
            ),
            (
                change("web", &[], &[LimitName::Cpu]),
                "cpu of web is not set: it is what gilliam.toml or the default says; \
                 gilliam limits lists what is set",
            ),
        ] {
            assert_eq!(refused(&refusal), expected);
        }
    }

    #[test]
    fn limits_travel_by_their_field() {
        let set = change("web", &[(LimitName::Reuse, 100)], &[]);
        let text = r#"{"process":"web","set":{"reuse_max":100},"unset":[]}"#;
        assert_eq!(serde_json::to_string(&set).expect("json"), text);
        assert_eq!(serde_json::from_str::<LimitsChange>(text).expect(text), set);
        let unknown = r#"{"process":"web","set":{"reuse":100}}"#;
        let error = serde_json::from_str::<LimitsChange>(unknown).expect_err("unknown");
        assert!(error.to_string().contains("\"reuse\" is not a limit"), "{error}");
    }
}
