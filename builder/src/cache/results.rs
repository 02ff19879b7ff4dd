//! Results of builds, by what they were made of: what is unchanged is not built again.
//!
//! Only the builder itself writes here, after a build has ended. An entry is a component's bytes and a note with
//! their digest; one whose bytes are others, for disks decay, is none.

use std::{fs, io, time::SystemTime};

use cap_std::fs::{Dir, OpenOptions};
use gilliam_model::digest::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::AppCache;
use crate::{layout::digest_of, tree::Sum};

/// Results that an app keeps: one for each process type that it can have.
const RESULTS_MAX: usize = 64;
/// Their bytes.
const RESULTS_BYTES_MAX: u64 = 512 << 20;
const RESULTS: &str = "results";
const COMPONENT: &str = "wasm";
const NOTE: &str = "json";

/// What a result is made of, as one number.
#[derive(Debug, Clone)]
pub(crate) struct Key(Sha256);

impl Key {
    /// The key of nothing yet.
    pub(crate) fn new() -> Self {
        // Another version of the builder may read packs and results in another way.
        Self(Sha256::new()).with("gilliam", [env!("CARGO_PKG_VERSION").as_bytes()])
    }

    /// With more parts under a name; lengths keep parts apart.
    pub(crate) fn with<'a>(mut self, name: &str, parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        self.0.update(name.as_bytes());
        for part in parts {
            self.0.update([1]);
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self.0.update([0]);
        self
    }

    fn name(&self) -> String {
        let sum: Sum = self.0.clone().finalize().into();
        sum.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A result as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The pack's result, as it was before anything was made of it.
    pub(crate) bytes: Vec<u8>,
    /// The arguments that its build named.
    pub(crate) arguments: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize)]
struct Note {
    digest: Digest,
    arguments: Option<Vec<String>>,
}

impl AppCache {
    /// The result of this key, when it is there as it was kept.
    pub(crate) fn result(&self, key: &Key) -> Option<Kept> {
        let results = self.own.open_dir(RESULTS).ok()?;
        let (component, note) = names(key);
        let Note { digest, arguments } = serde_json::from_slice(&results.read(&note).ok()?).ok()?;
        let bytes = results.read(&component).ok()?;
        if digest_of(&bytes) != digest {
            return None;
        }
        // It was used now; an error costs it some days at most.
        let file = results.open_with(&note, OpenOptions::new().write(true)).ok()?;
        let _ = file.into_std().set_modified(SystemTime::now());
        Some(Kept { bytes, arguments })
    }

    /// Keeps a result; those used longest ago make room.
    pub(crate) fn keep(&self, key: &Key, kept: &Kept) -> io::Result<()> {
        self.own.create_dir_all(RESULTS)?;
        let results = self.own.open_dir(RESULTS)?;
        let (component, note) = names(key);
        let text = serde_json::to_vec(&Note {
            digest: digest_of(&kept.bytes),
            arguments: kept.arguments.clone(),
        })?;
        results.write(&component, &kept.bytes)?;
        results.write(&note, text)?;
        prune(&results)
    }
}

fn names(key: &Key) -> (String, String) {
    let name = key.name();
    (format!("{name}.{COMPONENT}"), format!("{name}.{NOTE}"))
}

fn prune(results: &Dir) -> io::Result<()> {
    let mut all = Vec::new();
    for entry in results.entries()? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(stem) = name.strip_suffix(".json") {
            let bytes = results
                .metadata(format!("{stem}.{COMPONENT}"))
                .map_or(0, |m| m.len());
            let used: fs::File = entry.open()?.into_std();
            all.push((used.metadata()?.modified()?, stem.to_string(), bytes));
        }
    }
    all.sort();
    let (mut count, mut bytes) = (all.len(), all.iter().map(|(_, _, bytes)| bytes).sum::<u64>());
    for (_, stem, size) in all {
        if count <= RESULTS_MAX && bytes <= RESULTS_BYTES_MAX {
            break;
        }
        results.remove_file(format!("{stem}.{NOTE}"))?;
        results.remove_file(format!("{stem}.{COMPONENT}"))?;
        (count, bytes) = (count - 1, bytes - size);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::CacheRequest, *};

    fn cache(folder: &std::path::Path) -> AppCache {
        let request = CacheRequest {
            folder,
            app: "hello",
            bytes_max: 1 << 30,
            clean: false,
        };
        AppCache::open(&request).expect("open").expect("free")
    }

    fn key(text: &str) -> Key {
        Key::new().with("test", [text.as_bytes()])
    }

    #[test]
    fn a_result_is_what_was_kept_or_none() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let cache = cache(folder.path());
        let kept = Kept {
            bytes: b"component".to_vec(),
            arguments: Some(vec!["web".to_string()]),
        };
        assert_eq!(cache.result(&key("a")), None);
        cache.keep(&key("a"), &kept).expect("keep");
        assert_eq!(cache.result(&key("a")), Some(kept));
        assert_eq!(cache.result(&key("b")), None);
        let file = folder.path().join("hello/results").join(names(&key("a")).0);
        fs::write(file, b"decayed").expect("file");
        assert_eq!(cache.result(&key("a")), None);
    }

    #[test]
    fn the_newest_stay() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let cache = cache(folder.path());
        for number in 0..RESULTS_MAX + 3 {
            let kept = Kept {
                bytes: number.to_le_bytes().to_vec(),
                arguments: None,
            };
            cache.keep(&key(&number.to_string()), &kept).expect("keep");
        }
        let count = fs::read_dir(folder.path().join("hello/results"))
            .expect("folder")
            .count();
        assert_eq!(count, 2 * RESULTS_MAX);
        assert!(cache.result(&key(&(RESULTS_MAX + 2).to_string())).is_some());
    }

    #[test]
    fn parts_of_a_key_stay_apart() {
        let of = |parts: &[&str]| {
            Key::new()
                .with("words", parts.iter().map(|part| part.as_bytes()))
                .name()
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["a"]), of(&["a", ""]));
    }
}
