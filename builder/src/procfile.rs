//! The Procfile: which processes an app has, and the command of each.
//!
//! In flows text, out flow checked names and words. A line is `NAME: COMMAND`, a comment that begins with
//! `#`, or blank. Commands are data: see [`crate::words`].

use gilliam_model::{
    image::PROCESSES_MAX,
    name::{NameError, ProcessName},
    text::excerpt,
};

use crate::words::{self, WordsError};

/// The file's name, at the top of a project.
pub const PROCFILE: &str = "Procfile";
/// Bytes of a Procfile: 64 entries of a kilobyte each.
pub const PROCFILE_BYTES_MAX: usize = 64 << 10;

/// What an empty project is told to write.
const EXAMPLE_HINT: &str =
    "name each process and its component in a file called Procfile, such as web: web.wasm";

/// One line of a Procfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The process type.
    pub name: ProcessName,
    /// Where it stands, from 1.
    pub line: usize,
    /// The command as its author wrote it.
    pub command: String,
    /// Its words; never none, and the first is not empty.
    pub words: Vec<String>,
}

impl Entry {
    /// Words that a shell would have changed, and that the process gets as they are.
    pub fn unexpanded(&self) -> impl Iterator<Item = &str> {
        let operators = ["&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1"];
        self.words[1..].iter().map(String::as_str).filter(move |word| {
            operators.contains(word)
                || word.contains("$(")
                || word.contains('`')
                || word
                    .split('$')
                    .skip(1)
                    .any(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '{'))
        })
    }
}

/// A Procfile that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProcfileError {
    /// None at the top of the project.
    #[error("no Procfile in the project")]
    Missing {
        /// A file there whose name differs only by case.
        similar: Option<String>,
    },
    /// Something else has its name.
    #[error("Procfile is not a file")]
    NotAFile,
    /// Nothing but blanks and comments.
    #[error("the Procfile names no process")]
    Empty,
    /// Too long.
    #[error("the Procfile has {bytes} bytes; at most {PROCFILE_BYTES_MAX} are read")]
    TooLong {
        /// Its size.
        bytes: u64,
    },
    /// Too many processes.
    #[error("Procfile line {line}: {PROCESSES_MAX} processes are the most that an app can have")]
    TooMany {
        /// The line of the first one too many.
        line: usize,
    },
    /// Bytes that are not text.
    #[error("Procfile line {line} is not UTF-8 text")]
    NotText {
        /// The line.
        line: usize,
    },
    /// A control character.
    #[error("Procfile line {line}: {text:?} has a control character")]
    Control {
        /// The line.
        line: usize,
        /// Its text.
        text: String,
    },
    /// Not `NAME: COMMAND`.
    #[error("Procfile line {line}: {text:?} has no colon")]
    NoColon {
        /// The line.
        line: usize,
        /// Its text.
        text: String,
    },
    /// A name that no process can have.
    #[error("Procfile line {line}: {source}")]
    Name {
        /// The line.
        line: usize,
        /// The rule it breaks.
        source: NameError,
    },
    /// A name that is there already.
    #[error("Procfile line {line}: {name} is there already, on line {first}")]
    Duplicate {
        /// The line.
        line: usize,
        /// The process type.
        name: ProcessName,
        /// Where it was first.
        first: usize,
    },
    /// Nothing after the colon.
    #[error("Procfile line {line}: {text:?} has no command")]
    NoCommand {
        /// The line.
        line: usize,
        /// Its text.
        text: String,
    },
    /// Quotes that do not match.
    #[error("Procfile line {line}: {text:?} {source}")]
    Words {
        /// The line.
        line: usize,
        /// Its text.
        text: String,
        /// What is wrong with it.
        source: WordsError,
    },
}

impl ProcfileError {
    /// The way out.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            ProcfileError::Missing { similar: Some(name) } => {
                return Some(format!("rename {name} to Procfile"));
            }
            ProcfileError::Missing { similar: None } | ProcfileError::Empty => EXAMPLE_HINT,
            ProcfileError::NoColon { .. } | ProcfileError::NoCommand { .. } => {
                "write NAME: COMMAND, such as web: web.wasm"
            }
            ProcfileError::Name { .. } => "name the process like web or worker",
            ProcfileError::Words { .. } => "close the quote, or put a backslash before it",
            ProcfileError::Duplicate { .. } => "give each process a name of its own",
            ProcfileError::NotAFile => EXAMPLE_HINT,
            ProcfileError::TooLong { .. }
            | ProcfileError::TooMany { .. }
            | ProcfileError::NotText { .. }
            | ProcfileError::Control { .. } => return None,
        };
        Some(hint.to_string())
    }
}

/// Reads a Procfile: its entries in the order of their lines.
pub fn parse(bytes: &[u8]) -> Result<Vec<Entry>, ProcfileError> {
    if bytes.len() > PROCFILE_BYTES_MAX {
        return Err(ProcfileError::TooLong {
            bytes: bytes.len() as u64,
        });
    }
    // Editors on Windows begin a file with a byte order mark.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut entries: Vec<Entry> = Vec::new();
    for (index, line_bytes) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = index + 1;
        let text = std::str::from_utf8(line_bytes).map_err(|_| ProcfileError::NotText { line })?;
        let text = text.strip_suffix('\r').unwrap_or(text).trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let entry = parse_line(text, line)?;
        if let Some(first) = entries.iter().find(|earlier| earlier.name == entry.name) {
            return Err(ProcfileError::Duplicate {
                line,
                name: entry.name,
                first: first.line,
            });
        }
        if entries.len() == PROCESSES_MAX {
            return Err(ProcfileError::TooMany { line });
        }
        entries.push(entry);
    }
    if entries.is_empty() {
        return Err(ProcfileError::Empty);
    }
    Ok(entries)
}

fn parse_line(text: &str, line: usize) -> Result<Entry, ProcfileError> {
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err(ProcfileError::Control {
            line,
            text: excerpt(text),
        });
    }
    let (name, command) = text.split_once(':').ok_or_else(|| ProcfileError::NoColon {
        line,
        text: excerpt(text),
    })?;
    let name = name
        .parse()
        .map_err(|source| ProcfileError::Name { line, source })?;
    let command = command.trim();
    let words = words::split(command).map_err(|source| ProcfileError::Words {
        line,
        text: excerpt(text),
        source,
    })?;
    if words.first().is_none_or(String::is_empty) {
        return Err(ProcfileError::NoCommand {
            line,
            text: excerpt(text),
        });
    }
    Ok(Entry {
        name,
        line,
        command: command.to_string(),
        words,
    })
}
