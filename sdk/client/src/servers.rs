//! Where the API of a cluster is: one address, or several of which any will do.
//!
//! A call goes to the address that is chosen; when nobody is reached there the next one is chosen, for that call and
//! for those that follow.
//!
//! Invariant: a call is repeated at another address only when not a byte of it was sent.

use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Url;

use crate::ClientError;

/// Most servers of one cluster that a client knows: far more than a control plane has.
const SERVERS_MAX: usize = 16;

/// The addresses; never none.
#[derive(Debug)]
pub(crate) struct Servers {
    /// Without a trailing slash.
    bases: Vec<String>,
    chosen: AtomicUsize,
}

impl Servers {
    /// Parses `https://H1:7788,https://H2:7788`.
    pub(crate) fn parse(given: &str) -> Result<Self, ClientError> {
        let bases: Vec<String> = given
            .split(',')
            .take(SERVERS_MAX)
            .map(|base| check(base.trim()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            bases,
            chosen: AtomicUsize::new(0),
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.bases.len()
    }

    /// The address that is chosen.
    pub(crate) fn chosen(&self) -> &str {
        &self.bases[self.chosen.load(Ordering::Relaxed) % self.bases.len()]
    }

    /// Chooses the address after `base`, unless another call has done so meanwhile.
    pub(crate) fn leave(&self, base: &str) {
        if let Some(at) = self.bases.iter().position(|known| known == base) {
            let next = (at + 1) % self.bases.len();
            let left = self
                .chosen
                .compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
            // Whoever was faster has chosen already.
            let _ = left;
        }
    }

    /// All of them, as [`parse`](Self::parse) takes them.
    pub(crate) fn text(&self) -> String {
        self.bases.join(",")
    }
}

/// The URL of a call at `from`, at the address `to` instead.
pub(crate) fn moved(url: &Url, from: &str, to: &str) -> Option<Url> {
    let prefix = |base: &str| Some(Url::parse(base).ok()?.path().trim_end_matches('/').to_string());
    let path = url.path().strip_prefix(&prefix(from)?)?;
    let mut moved = Url::parse(to).ok()?;
    moved.set_path(&format!("{}{path}", prefix(to)?));
    moved.set_query(url.query());
    Some(moved)
}

fn check(given: &str) -> Result<String, ClientError> {
    let refused = |reason: String| ClientError::Url {
        url: given.chars().take(200).collect(),
        reason,
    };
    let url = Url::parse(given).map_err(|e| refused(e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused(format!(
            "the scheme is {}, not http or https",
            url.scheme()
        )));
    }
    if !url.has_host() || url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err(refused("expected the form https://HOST:PORT".to_string()));
    }
    Ok(given.trim_end_matches('/').to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_base_urls_of_http_are_taken() {
        let servers = Servers::parse("http://127.0.0.1:7788/").expect("an address");
        assert_eq!(servers.chosen(), "http://127.0.0.1:7788");
        for bad in [
            "",
            "127.0.0.1:7788",
            "ftp://x",
            "http://x?y",
            "http://u@x",
            "http://",
            "http://x,",
            "http://x,ftp://y",
        ] {
            assert!(
                matches!(Servers::parse(bad), Err(ClientError::Url { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn who_does_not_answer_is_left_for_the_next_one_and_so_on_in_a_circle() {
        let servers = Servers::parse("https://a:1, https://b:1/,https://c:1").expect("addresses");
        assert_eq!(servers.text(), "https://a:1,https://b:1,https://c:1");
        assert_eq!(servers.chosen(), "https://a:1");
        servers.leave("https://a:1");
        servers.leave("https://a:1");
        assert_eq!(servers.chosen(), "https://b:1", "left once");
        servers.leave("https://b:1");
        servers.leave("https://c:1");
        assert_eq!(servers.chosen(), "https://a:1");
    }

    #[track_caller]
    fn check_moved(url: &str, from: &str, to: &str, want: &str) {
        let url = Url::parse(url).expect("a URL");
        assert_eq!(moved(&url, from, to).expect("moved").as_str(), want);
    }

    #[test]
    fn a_call_keeps_path_and_query_at_another_address() {
        check_moved(
            "https://a:1/v1/apps?x=%2F",
            "https://a:1",
            "http://b:2",
            "http://b:2/v1/apps?x=%2F",
        );
        check_moved(
            "https://a/p/v1/a%2Fb",
            "https://a:443/p",
            "https://b/q",
            "https://b/q/v1/a%2Fb",
        );
    }
}
