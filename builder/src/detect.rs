//! Which builder makes a process's component: the seam between the Procfile and what turns sources into
//! WebAssembly.
//!
//! In flows one Procfile entry, out flows a [`Source`]. The first word decides: a name that ends in `.wasm`
//! is a component that is there already; any other word is a command of some language, whose pack (see
//! `packs/README.md`) would build it.
//!
//! Invariant: whatever a builder did, its output is bytes, and those pass [`crate::component`] before they
//! are sealed.

use gilliam_model::text::excerpt;

use crate::procfile::Entry;

/// Where a component comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The file at this path of the project, as it is.
    Prebuilt {
        /// Below the project's folder, names joined by single slashes.
        path: String,
    },
}

/// An entry that nothing here can build.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DetectError {
    /// No pack knows the first word.
    #[error("Procfile line {line}: {command:?}: building {word} sources is not available yet")]
    NoPack {
        /// The entry's line.
        line: usize,
        /// Its command.
        command: String,
        /// Its first word.
        word: String,
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
                format!("name a built component: {process}: {process}.wasm")
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
pub fn detect(entry: &Entry) -> Result<Source, DetectError> {
    let word = &entry.words[0];
    let line = entry.line;
    if word.ends_with(".wasm") {
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
    Err(DetectError::NoPack {
        line,
        command: excerpt(&entry.command),
        word: excerpt(word),
        process: entry.name.to_string(),
    })
}

/// The path without `.` and doubled slashes; none when it is absolute or climbs.
fn relative(path: &str) -> Option<String> {
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

    #[test]
    fn a_wasm_file_of_the_project_is_taken_as_it_is() {
        for (line, path) in [
            ("web: web.wasm --flag", "web.wasm"),
            ("web: ./target//web.wasm", "target/web.wasm"),
            ("web: 'my app.wasm'", "my app.wasm"),
        ] {
            assert_eq!(
                detect(&entry(line)),
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
                "web: python web.py",
                "Procfile line 1: \"python web.py\": building python sources is not available yet",
                "name a built component: web: web.wasm",
            ),
            (
                "worker: $(rm -rf /)",
                "Procfile line 1: \"$(rm -rf /)\": building $(rm sources is not available yet",
                "name a built component: worker: worker.wasm",
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
            let error = detect(&entry(line)).expect_err(line);
            assert_eq!(
                (error.to_string().as_str(), error.hint().as_deref()),
                (message, Some(hint))
            );
        }
    }
}
