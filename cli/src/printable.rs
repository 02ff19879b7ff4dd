//! Text that others wrote, made safe to print: no escape sequence of a guest or a server reaches a terminal.

use std::borrow::Cow;

/// The text with every control character except tab shown as `cat -v` shows it (`^[` for escape), and every
/// character that changes the direction or order of text shown by its number.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\0'..='\x1f' if c != '\t' => {
                shown.push('^');
                shown.push(char::from(u8::try_from(u32::from(c)).expect("below 0x20") + 0x40));
            }
            '\x7f' => shown.push_str("^?"),
            c if is_unprintable(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// JSON with every such character inside its strings escaped: the document stays the same.
pub(crate) fn printable_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(is_unprintable) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match c {
            c if is_unprintable(c) => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

fn is_unprintable(c: char) -> bool {
    let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks_lines = matches!(c, '\u{2028}' | '\u{2029}');
    (c.is_control() && c != '\t') || reorders || breaks_lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_tabs_stay() {
        assert_eq!(printable("plain\ttext – ü"), "plain\ttext – ü");
        assert_eq!(
            printable("\x1b[31mred\x1b[0m\r\x07\x7f\0"),
            "^[[31mred^[[0m^M^G^?^@"
        );
        assert_eq!(printable("a\u{9b}31m"), "a\\u{9b}31m");
        assert_eq!(printable("a\u{202e}b\nc"), "a\\u{202e}b^Jc");
    }

    #[test]
    fn json_keeps_its_meaning() {
        let json = serde_json::to_string("a\x1b[0m\u{9b}\u{202e}").expect("json");
        let shown = printable_json(&json);
        assert!(shown.is_ascii());
        assert_eq!(
            serde_json::from_str::<String>(&shown).expect("parses"),
            "a\x1b[0m\u{9b}\u{202e}"
        );
    }
}
