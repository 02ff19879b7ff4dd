//! Whether a node and this control plane understand each other: versions next to one another do, so that a cluster is
//! brought to the next one part by part.

use gilliam_model::{name::NodeName, sync::PROTOCOL, text::excerpt};

use crate::refusal::Refusal;

/// Oldest version of the node protocol that is spoken here.
const PROTOCOL_MIN: u32 = 2;
/// Newest: one ahead of ours only adds what may be left out.
const PROTOCOL_MAX: u32 = PROTOCOL + 1;
/// So many minor versions may lie between the two.
const MINORS_APART_MAX: u64 = 1;
/// Longest version that is read.
const VERSION_BYTES_MAX: usize = 64;

/// Refuses a node whose version is too far from this one.
pub(crate) fn check(node: &NodeName, protocol: u32, version: &str) -> Result<(), Refusal> {
    check_against(node, protocol, version, env!("CARGO_PKG_VERSION"))
}

fn check_against(node: &NodeName, protocol: u32, version: &str, ours: &str) -> Result<(), Refusal> {
    let (own, others) = (numbers(ours), numbers(version));
    let is_near = match (own, others) {
        (Some((major, minor)), Some((its_major, its_minor))) => {
            major == its_major && minor.abs_diff(its_minor) <= MINORS_APART_MAX
        }
        _ => false,
    };
    if is_near && (PROTOCOL_MIN..=PROTOCOL_MAX).contains(&protocol) {
        return Ok(());
    }
    let message = format!(
        "node {node} runs gilliam {} with protocol {protocol}; this control plane is {ours} with protocol {PROTOCOL}",
        excerpt(version)
    );
    let is_newer = others > own || protocol > PROTOCOL_MAX;
    let hint = if is_newer {
        "upgrade the servers first, one minor version at a time, then the nodes"
    } else {
        "upgrade the node: it may be one minor version behind its servers"
    };
    Err(Refusal::invalid(message).hint(hint))
}

/// Major and minor of `1.2.3` or `1.2.3-rc.1`.
fn numbers(version: &str) -> Option<(u64, u64)> {
    if version.len() > VERSION_BYTES_MAX {
        return None;
    }
    let mut parts = version.split('.');
    let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().map(|_| (major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn hint(protocol: u32, version: &str, ours: &str) -> Option<String> {
        let node = "n1".parse().expect("name");
        let refused = check_against(&node, protocol, version, ours).err()?;
        Some(refused.into_error().hint.expect("a way out"))
    }

    #[test]
    fn one_minor_apart_works_both_ways_and_no_more() {
        for (version, ours) in [
            ("0.1.0", "0.1.9"),
            ("0.2.0", "0.1.0"),
            ("0.1.0", "0.2.5"),
            ("1.3.0-rc.1", "1.2.0"),
        ] {
            assert_eq!(hint(PROTOCOL, version, ours), None, "{version} {ours}");
        }
        for (version, ours) in [("0.3.0", "0.1.0"), ("1.0.0", "0.9.0"), ("2.0.0", "1.0.0")] {
            let hint = hint(PROTOCOL, version, ours).expect(version);
            assert!(hint.starts_with("upgrade the servers"), "{version} {ours}");
        }
        for (version, ours) in [
            ("0.1.0", "0.3.0"),
            ("0.9.0", "1.0.0"),
            ("", "0.1.0"),
            ("1", "0.1.0"),
        ] {
            let hint = hint(PROTOCOL, version, ours).expect(version);
            assert!(hint.starts_with("upgrade the node"), "{version} {ours}: {hint}");
        }
        assert!(hint(PROTOCOL_MIN - 1, "0.1.0", "0.1.0").is_some());
        assert_eq!(hint(PROTOCOL_MAX, "0.1.0", "0.1.0"), None);
        assert!(
            hint(PROTOCOL_MAX + 1, "0.1.0", "0.1.0")
                .expect("too new")
                .contains("servers")
        );
    }
}
