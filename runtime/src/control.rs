//! The ways to the control planes: where they are, found again whenever a call fails, and which of them is called when
//! any will do.
//!
//! A node reports to every control plane that it knows, so that each sees it alive, and log lines go to each of them;
//! fetches go to the one that is chosen, and to another when that does not answer.

use std::{
    fs, io,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use gilliam_client::{Client, ClientError, Trust};
use serde::Deserialize;

use crate::{config::ControlAddress, entropy, identity::Identity};

/// Why there is no way to the control plane now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("cannot read the control file {path}")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("the control file {path} is not valid")]
    Parse {
        path: String,
        #[source]
        source: serde_json::Error,
    },
    #[error(transparent)]
    Client(#[from] ClientError),
}

#[derive(Clone, PartialEq, Eq, Deserialize)]
struct Target {
    api: String,
    token: String,
}

/// Gives clients of the control planes.
#[derive(Debug)]
pub(crate) struct Control {
    ways: Vec<Way>,
    chosen: AtomicUsize,
}

/// The way to one control plane.
#[derive(Debug)]
struct Way {
    address: Address,
    current: Mutex<Option<Current>>,
    answers: AtomicBool,
}

#[derive(Debug)]
enum Address {
    File(PathBuf),
    Token { api: String, token: String },
    Certificate { api: String, identity: Identity },
}

struct Current {
    target: Target,
    client: Client,
    /// A call failed since the address was read.
    suspect: bool,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current")
            .field("api", &self.target.api)
            .finish_non_exhaustive()
    }
}

impl Control {
    pub(crate) fn new(address: ControlAddress) -> Self {
        let addresses = match address {
            ControlAddress::File(path) => vec![Address::File(path)],
            ControlAddress::Url { api, token } => vec![Address::Token { api, token }],
            ControlAddress::Servers { servers, identity } => servers
                .into_iter()
                .map(|api| Address::Certificate {
                    api,
                    identity: identity.clone(),
                })
                .collect(),
        };
        let way = |address| Way {
            address,
            current: Mutex::new(None),
            answers: AtomicBool::new(false),
        };
        Self {
            ways: addresses.into_iter().map(way).collect(),
            chosen: AtomicUsize::new(0),
        }
    }

    /// How many control planes there are to report to; they are numbered from 0.
    pub(crate) fn count(&self) -> usize {
        self.ways.len()
    }

    /// A client of the control plane that is chosen.
    pub(crate) fn client(&self) -> Result<Client, ControlError> {
        self.client_of(self.chosen())
    }

    /// A client of a control plane; the address is read again when a call failed since.
    pub(crate) fn client_of(&self, way: usize) -> Result<Client, ControlError> {
        self.ways[way].client()
    }

    /// Any of them, drawn by lot, for what any may be asked.
    pub(crate) fn any(&self) -> usize {
        let lot = entropy::jitter() * f64::from(u32::try_from(self.count()).unwrap_or(u32::MAX));
        // In 0 ..= count, where the end is as good as the beginning.
        (0..self.count())
            .rfind(|way| lot >= f64::from(u32::try_from(*way).unwrap_or(u32::MAX)))
            .unwrap_or(0)
    }

    /// The one for an attempt: each in its turn, and while one of them answers none that does not.
    pub(crate) fn next_after(&self, attempt: usize) -> usize {
        let answers = |way: &usize| self.ways[*way].answers.load(Ordering::Relaxed);
        let answering: Vec<usize> = (0..self.count()).filter(answers).collect();
        match answering.as_slice() {
            [] => attempt % self.count(),
            some => some[attempt % some.len()],
        }
    }

    /// Takes note that a call of a control plane failed.
    pub(crate) fn failed_on(&self, way: usize) {
        self.ways[way].failed();
    }

    /// Takes note that a control plane answered; it is chosen if the chosen one does not answer.
    pub(crate) fn answered(&self, way: usize) {
        self.ways[way].answers.store(true, Ordering::Relaxed);
        let chosen = self.chosen();
        if chosen != way && !self.ways[chosen].answers.load(Ordering::Relaxed) {
            // Another one that answers may be chosen just now: as good.
            let _ = self
                .chosen
                .compare_exchange(chosen, way, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Takes note that a control plane does not answer.
    pub(crate) fn unanswered(&self, way: usize) {
        self.ways[way].answers.store(false, Ordering::Relaxed);
        self.ways[way].failed();
    }

    /// Whether a control plane is the chosen one.
    pub(crate) fn is_chosen(&self, way: usize) -> bool {
        self.chosen() == way
    }

    fn chosen(&self) -> usize {
        self.chosen.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
impl Control {
    /// Control planes without TLS, all of which answer.
    pub(crate) fn of_urls(urls: &[String]) -> Self {
        let way = |api: &String| Way {
            address: Address::Token {
                api: api.clone(),
                token: "gil_test".to_owned(),
            },
            current: Mutex::new(None),
            answers: AtomicBool::new(true),
        };
        Self {
            ways: urls.iter().map(way).collect(),
            chosen: AtomicUsize::new(0),
        }
    }
}

impl Way {
    fn client(&self) -> Result<Client, ControlError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = current.as_ref().filter(|known| !known.suspect) {
            return Ok(known.client.clone());
        }
        let target = self.read()?;
        let client = match current.take() {
            Some(known) if known.target == target => known.client,
            _ => Client::trusting(&target.api, &target.token, self.trust())?,
        };
        *current = Some(Current {
            target,
            client: client.clone(),
            suspect: false,
        });
        Ok(client)
    }

    fn failed(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = current.as_mut() {
            known.suspect = true;
        }
    }

    fn trust(&self) -> Trust {
        match &self.address {
            Address::Certificate { identity, .. } => identity.control_client(),
            Address::File(_) | Address::Token { .. } => Trust::Public,
        }
    }

    fn read(&self) -> Result<Target, ControlError> {
        let target = |api: &str, token: &str| Target {
            api: api.to_owned(),
            token: token.to_owned(),
        };
        let path = match &self.address {
            Address::Token { api, token } => return Ok(target(api, token)),
            Address::Certificate { api, .. } => return Ok(target(api, "")),
            Address::File(path) => path,
        };
        let shown = || path.display().to_string();
        let bytes = fs::read(path).map_err(|source| ControlError::Read {
            path: shown(),
            source,
        })?;
        serde_json::from_slice(&bytes).map_err(|source| ControlError::Parse {
            path: shown(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control() -> Control {
        let way = |api: &str| Way {
            address: Address::Token {
                api: api.to_owned(),
                token: String::new(),
            },
            current: Mutex::new(None),
            answers: AtomicBool::new(false),
        };
        Control {
            ways: ["http://a:1", "http://b:1"].map(way).into(),
            chosen: AtomicUsize::new(0),
        }
    }

    #[test]
    fn another_is_chosen_only_when_the_chosen_one_does_not_answer() {
        let control = control();
        control.answered(0);
        control.answered(1);
        assert!(control.is_chosen(0));
        control.unanswered(0);
        control.answered(1);
        assert!(control.is_chosen(1), "the first one that answers is chosen");
        control.answered(0);
        assert!(control.is_chosen(1), "and stays chosen");
        assert_eq!(control.client().expect("client").base_url(), "http://b:1");
    }
}
