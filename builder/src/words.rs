//! Splitting a command into words, as a shell does with quotes, and nothing else.
//!
//! Invariant: the words hold only characters of the command. No variable, glob, substitution or operator has
//! a meaning here; whatever looks like one is data for the process.

/// A quote that is opened and never closed, or a backslash with nothing behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// `'…`
    #[error("has a ' without its pair")]
    SingleQuote,
    /// `"…`
    #[error("has a \" without its pair")]
    DoubleQuote,
    /// `…\`
    #[error("ends in a backslash")]
    Backslash,
}

/// Splits at blanks. `'…'` is taken as it is; in `"…"` a backslash keeps its meaning before `"`, `\`, `$` and
/// `` ` `` only; elsewhere it takes the next character as it is (POSIX shell, "Quoting").
pub fn split(command: &str) -> Result<Vec<String>, WordsError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = command.chars();
    while let Some(c) = rest.next() {
        match c {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => single_quoted(&mut rest, word.get_or_insert_default())?,
            '"' => double_quoted(&mut rest, word.get_or_insert_default())?,
            '\\' => {
                let escaped = rest.next().ok_or(WordsError::Backslash)?;
                word.get_or_insert_default().push(escaped);
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn single_quoted(rest: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), WordsError> {
    loop {
        match rest.next().ok_or(WordsError::SingleQuote)? {
            '\'' => return Ok(()),
            c => word.push(c),
        }
    }
}

fn double_quoted(rest: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), WordsError> {
    loop {
        match rest.next().ok_or(WordsError::DoubleQuote)? {
            '"' => return Ok(()),
            '\\' => {
                let c = rest.next().ok_or(WordsError::DoubleQuote)?;
                if !matches!(c, '"' | '\\' | '$' | '`') {
                    word.push('\\');
                }
                word.push(c);
            }
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(command: &str, want: &[&str]) {
        assert_eq!(
            split(command).as_deref(),
            Ok(want.iter().map(|w| w.to_string()).collect::<Vec<_>>().as_slice())
        );
    }

    #[test]
    fn words_split_as_a_shell_does_with_quotes() {
        check("", &[]);
        check("web.wasm", &["web.wasm"]);
        check("  web.wasm \t --flag  1 ", &["web.wasm", "--flag", "1"]);
        check("web.wasm 'a b' \"c d\"", &["web.wasm", "a b", "c d"]);
        check("a'b'\"c\"d", &["abcd"]);
        check("a '' \"\"", &["a", "", ""]);
        check(r"a\ b \'c", &["a b", "'c"]);
        check(r#""a\"b\\c\d""#, &[r#"a"b\c\d"#]);
        check(r"'a\'", &[r"a\"]);
    }

    #[test]
    fn what_looks_like_shell_is_data() {
        check("web.wasm $(rm -rf /)", &["web.wasm", "$(rm", "-rf", "/)"]);
        check(
            "web.wasm $PORT `id` > out && x | y ; # z",
            &[
                "web.wasm", "$PORT", "`id`", ">", "out", "&&", "x", "|", "y", ";", "#", "z",
            ],
        );
        check("web.wasm *.txt ~ {a,b}", &["web.wasm", "*.txt", "~", "{a,b}"]);
    }

    #[test]
    fn what_is_opened_must_be_closed() {
        assert_eq!(split("a 'b"), Err(WordsError::SingleQuote));
        assert_eq!(split("a \"b"), Err(WordsError::DoubleQuote));
        assert_eq!(split("a \"b\\"), Err(WordsError::DoubleQuote));
        assert_eq!(split("a \\"), Err(WordsError::Backslash));
    }
}
