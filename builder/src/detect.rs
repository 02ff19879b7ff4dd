//! Which builder makes a process's component: the seam between the Procfile and what turns sources into
//! WebAssembly.
//!
//! In flows one Procfile entry, out flows a [`Source`]. The first word decides: a name that ends in `.wasm`
//! or `.wat` is a component that is there already; any other word is a command of some language, and the pack
//! that takes the word (see `packs/README.md`) builds it.
//!
//! Invariant: whatever a builder did, its output is bytes, and those pass [`crate::component`] before they
//! are sealed.

use gilliam_model::text::excerpt;

use crate::{packs::Packs, procfile::Entry};

/// Where a component comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The file at this path of the project, as it is.
    Prebuilt {
        /// Below the project's folder, names joined by single slashes.
        path: String,
    },
    /// A command of a language.
    Sources {
        /// The name of its pack.
        pack: String,
        /// The command: entries of one command share its component.
        words: Vec<String>,
    },
}

impl Source {
    /// As people know it.
    pub fn name(&self, entry: &Entry) -> String {
        match self {
            Source::Prebuilt { path } => path.clone(),
            Source::Sources { .. } => excerpt(&entry.command),
        }
    }
}

/// An entry that nothing here can build.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DetectError {
    /// No pack knows the first word.
    #[error("Procfile line {line}: {command:?}: nothing here builds what {word:?} runs; looked for {known}")]
    NoPack {
        /// The entry's line.
        line: usize,
        /// Its command.
        command: String,
        /// Its first word.
        word: String,
        /// The words that are known.
        known: String,
        /// The process type.
        process: String,
    },
    /// An assignment as a shell would take it.
    #[error("Procfile line {line}: {word:?} is an assignment, not a program")]
    Assignment {
        /// The entry's line.
        line: usize,
        /// The word.
        word: String,
    },
    /// A path that is not below the project.
    #[error("Procfile line {line}: {path:?} leads outside the project")]
    Outside {
        /// The entry's line.
        line: usize,
        /// The path.
        path: String,
    },
}

impl DetectError {
    /// The way out.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            DetectError::NoPack { process, .. } => {
                format!(
                    "start the line with one of these words, or name a built component: {process}: {process}.wasm"
                )
            }
            DetectError::Assignment { word, .. } => {
                format!("set it for all processes: gilliam config {word}")
            }
            DetectError::Outside { .. } => {
                "name a file of the project by its path from the Procfile".to_string()
            }
        })
    }
}

/// Finds the source of an entry's component.
pub fn detect(entry: &Entry, packs: &Packs) -> Result<Source, DetectError> {
    let word = &entry.words[0];
    let line = entry.line;
    if word.ends_with(".wasm") || word.ends_with(".wat") {
        return match relative(word) {
            Some(path) => Ok(Source::Prebuilt { path }),
            None => Err(DetectError::Outside {
                line,
                path: word.clone(),
            }),
        };
    }
    let is_key = |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if word.split_once('=').is_some_and(|(key, _)| is_key(key)) {
        return Err(DetectError::Assignment {
            line,
            word: word.clone(),
        });
    }
    if let Some(pack) = packs.of_word(word) {
        return Ok(Source::Sources {
            pack: pack.name.clone(),
            words: entry.words.clone(),
        });
    }
    let mut known = vec!["*.wasm".to_string(), "*.wat".to_string()];
    known.extend(packs.words());
    Err(DetectError::NoPack {
        known: known.join(", "),
        line,
        command: excerpt(&entry.command),
        word: excerpt(word),
        process: entry.name.to_string(),
    })
}

/// The path without `.` and doubled slashes; none when it is absolute or climbs.
pub(crate) fn relative(path: &str) -> Option<String> {
    let names: Vec<&str> = path
        .split('/')
        .filter(|name| !name.is_empty() && *name != ".")
        .collect();
    let inside = !path.starts_with('/') && !names.is_empty() && !names.contains(&"..");
    inside.then(|| names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(line: &str) -> Entry {
        crate::procfile::parse(line.as_bytes()).expect(line).remove(0)
    }

    fn packs() -> Packs {
        Packs::of([("rust", &["cargo"][..]), ("snake", &["snake", "snake3"])])
    }

    #[test]
    fn a_word_finds_its_pack() {
        for (line, name) in [("web: cargo run", "rust"), ("web: snake3 web.sn", "snake")] {
            let source = detect(&entry(line), &packs()).expect(line);
            assert!(
                matches!(&source, Source::Sources { pack, .. } if pack == name),
                "{line}: {source:?}"
            );
        }
    }

    #[test]
    fn a_wasm_file_of_the_project_is_taken_as_it_is() {
        for (line, path) in [
            ("web: web.wasm --flag", "web.wasm"),
            ("web: ./target//web.wasm", "target/web.wasm"),
            ("web: web.wat", "web.wat"),
            ("web: 'my app.wasm'", "my app.wasm"),
        ] {
            assert_eq!(
                detect(&entry(line), &packs()),
                Ok(Source::Prebuilt {
                    path: path.to_string()
                }),
                "{line}"
            );
        }
    }

    #[test]
    fn everything_else_says_what_to_write() {
        for (line, message, hint) in [
            (
                "web: cobol web.cob",
                "Procfile line 1: \"cobol web.cob\": nothing here builds what \"cobol\" runs; looked for \
                 *.wasm, *.wat, cargo, snake, snake3",
                "start the line with one of these words, or name a built component: web: web.wasm",
            ),
            (
                "worker: $(rm -rf /)",
                "Procfile line 1: \"$(rm -rf /)\": nothing here builds what \"$(rm\" runs; looked for *.wasm, *.wat, \
                 cargo, snake, snake3",
                "start the line with one of these words, or name a built component: worker: worker.wasm",
            ),
            (
                "web: DEBUG=1 web.wasm",
                "Procfile line 1: \"DEBUG=1\" is an assignment, not a program",
                "set it for all processes: gilliam config DEBUG=1",
            ),
            (
                "web: ../web.wasm",
                "Procfile line 1: \"../web.wasm\" leads outside the project",
                "name a file of the project by its path from the Procfile",
            ),
            (
                "web: /etc/web.wasm",
                "Procfile line 1: \"/etc/web.wasm\" leads outside the project",
                "name a file of the project by its path from the Procfile",
            ),
        ] {
            let error = detect(&entry(line), &packs()).expect_err(line);
            assert_eq!(
                (error.to_string().as_str(), error.hint().as_deref()),
                (message, Some(hint))
            );
        }
    }
}
