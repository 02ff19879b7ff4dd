//! Who is who in a cluster's certificates: the names that its CA puts into them.
//!
//! In: a node's name, or a name found in a certificate that the cluster's CA signed. Out: the other of the two.
//! The names are below `gilliam.internal`, which no public CA signs and no resolver answers: a machine may have any
//! address, and is known by its part in the cluster alone.
//!
//! Invariant: a name here belongs to one part: no node's name is read from that of a server, nor the other way round.

use crate::name::{NameError, NodeName};

/// The name of every control plane.
pub const SERVER_DNS: &str = "server.gilliam.internal";
/// What the names of nodes end with.
const NODE_SUFFIX: &str = ".node.gilliam.internal";
/// Longest name of a node that a certificate names: what is left of a host name's 253 characters.
const NODE_NAME_BYTES_MAX: usize = 253 - NODE_SUFFIX.len();
/// Longest part between two dots (RFC 1035 section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// The name of a node in its certificate.
///
/// Errors: [`NameError`] for a node's name that is no host name: those that `gilliam up` gives its node are more.
pub fn node_dns(node: &NodeName) -> Result<String, NameError> {
    let refused = |reason| {
        Err(NameError {
            kind: "node",
            value: crate::text::excerpt(node.as_str()),
            reason,
        })
    };
    if node.as_str().len() > NODE_NAME_BYTES_MAX {
        return refused("is longer than the 231 characters that a certificate holds");
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= LABEL_BYTES_MAX
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if !node.as_str().split('.').all(is_label) {
        return refused("may hold only lower-case letters, digits, inner dashes and dots, as host names do");
    }
    Ok(format!("{node}{NODE_SUFFIX}"))
}

/// The node that a name in a certificate is of.
pub fn node_of_dns(dns: &str) -> Option<NodeName> {
    dns.strip_suffix(NODE_SUFFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_read_from_the_name_it_was_given() {
        for name in ["n1", "a.example.com", "0-9"] {
            let node: NodeName = name.parse().expect("name");
            let dns = node_dns(&node).expect("a host name");
            assert_eq!(node_of_dns(&dns), Some(node));
        }
        assert_eq!(node_of_dns(SERVER_DNS), None);
        assert_eq!(node_of_dns(".node.gilliam.internal"), None);
        assert_eq!(node_of_dns("n1.node.gilliam.internal.example.com"), None);
    }

    #[test]
    fn names_that_no_host_has_are_refused() {
        for name in [
            "N1",
            "a_b",
            "a..b",
            "a.",
            "a-.b",
            &"x".repeat(64),
            &"a.".repeat(120),
        ] {
            let node: NodeName = name.parse().expect("a node's name");
            assert!(node_dns(&node).is_err(), "{name}");
        }
    }
}
