//! Text: how a value travels as its printed form, and how messages repeat what a user typed.

/// Most characters of a user's text in a message: a line of a terminal.
const EXCERPT_CHARS_MAX: usize = 80;

/// `text` as messages repeat it: its beginning, and `…` where more would follow.
pub fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_string(),
    }
}

/// The conversions that serde needs of a type whose wire form is what it prints and parses.
macro_rules! wire_text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = <Self as std::str::FromStr>::Err;
            fn try_from(value: String) -> Result<Self, Self::Error> {
                value.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    };
}
pub(crate) use wire_text;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_cut_between_characters() {
        assert_eq!(excerpt("a"), "a");
        assert_eq!(excerpt(&"ö".repeat(80)), "ö".repeat(80));
        assert_eq!(excerpt(&"ö".repeat(81)), format!("{}…", "ö".repeat(80)));
    }
}
