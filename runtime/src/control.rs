//! The way to the control plane: where it is, found again whenever a call fails.

use std::{fs, io, path::PathBuf, sync::Mutex, sync::PoisonError};

use gilliam_client::{Client, ClientError};
use serde::Deserialize;

use crate::config::ControlAddress;

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

/// Gives clients of the control plane.
#[derive(Debug)]
pub(crate) struct Control {
    address: ControlAddress,
    current: Mutex<Option<Current>>,
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
        Self {
            address,
            current: Mutex::new(None),
        }
    }

    /// A client; the address is read again when a call failed since.
    pub(crate) fn client(&self) -> Result<Client, ControlError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = current.as_ref().filter(|known| !known.suspect) {
            return Ok(known.client.clone());
        }
        let target = self.read()?;
        let client = match current.take() {
            Some(known) if known.target == target => known.client,
            _ => Client::new(&target.api, &target.token)?,
        };
        *current = Some(Current {
            target,
            client: client.clone(),
            suspect: false,
        });
        Ok(client)
    }

    /// Takes note that a call failed.
    pub(crate) fn failed(&self) {
        if let Some(known) = self
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            known.suspect = true;
        }
    }

    fn read(&self) -> Result<Target, ControlError> {
        let path: &PathBuf = match &self.address {
            ControlAddress::Url { api, token } => {
                return Ok(Target {
                    api: api.clone(),
                    token: token.clone(),
                });
            }
            ControlAddress::File(path) => path,
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
