//! The arguments of a process, as its build names them: `GILLIAM_ARGS`.
//!
//! Invariant: they are trusted no more than a Procfile, and as long as one at most.

use std::io::{self, Read as _};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};

use crate::procfile::PROCFILE_BYTES_MAX;

/// The file, beside the build's result.
pub(super) const ARGUMENTS: &str = "arguments";

/// Reads the arguments in the folder of results; none when the build named none.
///
/// Errors: what is wrong with the file, for its pack's author.
pub(super) fn read(out: &Dir) -> Result<Option<Vec<String>>, String> {
    // A build may have left a FIFO under this name, which must not be waited for.
    let options = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .clone();
    let file = match out.open_with(ARGUMENTS, &options) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err("they are not a file".to_string());
    }
    let mut bytes = Vec::new();
    let most = PROCFILE_BYTES_MAX as u64;
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() > PROCFILE_BYTES_MAX {
        return Err(format!("they have more than {most} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "they are not UTF-8 text".to_string())?;
    parse(&text).map(Some)
}

/// One a line; the first is the program's name.
fn parse(text: &str) -> Result<Vec<String>, String> {
    if text.chars().any(|c| c.is_control() && c != '\t' && c != '\n') {
        return Err("they have a control character".to_string());
    }
    let arguments: Vec<String> = text.lines().map(str::to_string).collect();
    match arguments.first() {
        Some(name) if !name.is_empty() => Ok(arguments),
        _ => Err("they begin with no name of the program".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_argument_and_the_first_is_the_name() {
        let words = |words: &[&str]| Ok(words.iter().map(ToString::to_string).collect());
        for (text, want) in [
            ("web\na b\n\n--x\n", words(&["web", "a b", "", "--x"])),
            ("web", words(&["web"])),
            ("", Err("they begin with no name of the program".to_string())),
            ("\nweb", Err("they begin with no name of the program".to_string())),
            ("web\u{1b}[0m", Err("they have a control character".to_string())),
        ] {
            assert_eq!(parse(text), want, "{text:?}");
        }
    }
}
