//! Names and values in the target of a request.

use std::fmt::Write as _;

/// Appends text to a path or a query so that it stands for itself (RFC 3986, section 2.3); slashes stay in a path.
pub(crate) fn escape(target: &mut String, text: &str, is_path: bool) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                target.push(char::from(byte))
            }
            b'/' if is_path => target.push('/'),
            _ => write!(target, "%{byte:02X}").expect("a String takes all"),
        }
    }
}

/// The path of a key: `/a%20key`.
pub(crate) fn of_key(key: &str) -> String {
    let mut path = "/".to_owned();
    escape(&mut path, key, false);
    path
}

/// The path of a name with folders.
pub(crate) fn of_name(name: &str) -> String {
    let mut path = "/".to_owned();
    escape(&mut path, name, true);
    path
}

/// Appends `?name=value`, or `&name=value` after the first.
pub(crate) fn query(target: &mut String, name: &str, value: &str) {
    target.push(if target.contains('?') { '&' } else { '?' });
    target.push_str(name);
    target.push('=');
    escape(target, value, false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_in_a_target_is_escaped() {
        assert_eq!(of_key("a/b c?ü"), "/a%2Fb%20c%3F%C3%BC");
        assert_eq!(of_name("a/b c"), "/a/b%20c");
        let mut target = "/emails/jobs".to_owned();
        query(&mut target, "key", "a&b");
        query(&mut target, "priority", "-1");
        assert_eq!(target, "/emails/jobs?key=a%26b&priority=-1");
    }
}
