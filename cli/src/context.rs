//! What a command acts on: which cluster, with which token, and which app.
//!
//! Invariant: a token goes only to the address it was saved with, unless `GILLIAM_TOKEN` names it on purpose.

use std::path::Path;

use gilliam_client::{Client, Trust};
use gilliam_model::{digest::Digest, name::AppName};

use crate::{
    args::Globals,
    failure::{CommandError, CommandResult},
    home::{Cluster, Clusters, Environment, Home},
    project,
    ui::Ui,
};

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) ui: &'a Ui,
    pub(crate) globals: Globals,
    pub(crate) environment: Environment,
}

/// Which API to call, as whom, and how its server is known.
struct Target {
    api: String,
    token: String,
    ca: Option<Digest>,
}

impl Context<'_> {
    /// The user's folder.
    pub(crate) fn home(&self) -> CommandResult<Home> {
        Ok(Home::of(&self.environment)?)
    }

    /// A client of the cluster that is meant.
    pub(crate) fn client(&self) -> CommandResult<Client> {
        let Target { api, token, ca } = self.target()?;
        let trust = ca.map_or(Trust::Public, Trust::Cluster);
        Ok(Client::trusting(&api, &token, trust)?)
    }

    /// The address of the cluster that is meant: the first one, of several.
    pub(crate) fn api(&self) -> CommandResult<String> {
        Ok(first_address(&self.target()?.api).to_string())
    }

    /// The digest of the CA of the cluster that is meant; none where a public CA vouches for it, or nobody.
    pub(crate) fn ca(&self) -> CommandResult<Option<Digest>> {
        Ok(self.target()?.ca)
    }

    /// The token for the cluster at this address: one that is known, or the one that is meant.
    pub(crate) fn token_for(&self, base: &str) -> CommandResult<Option<String>> {
        let is_there = |api: &str| api.split(',').any(|at| at.trim().trim_end_matches('/') == base);
        let home = self.home()?;
        // Of several that are known by this address the one that is meant counts; one that cannot be had is none.
        if let Ok(target) = self.target()
            && is_there(&target.api)
        {
            return Ok(Some(target.token));
        }
        let known = home.clusters()?.clusters;
        let found = known.iter().find(|(_, cluster)| is_there(&cluster.api));
        Ok(found.map(|(name, _)| home.token(name)).transpose()?.flatten())
    }

    /// The app that is meant, looked for from the working directory.
    pub(crate) fn app(&self) -> CommandResult<AppName> {
        self.app_at(&working_directory()?)
    }

    /// The app that is meant, looked for from `dir`.
    pub(crate) fn app_at(&self, dir: &Path) -> CommandResult<AppName> {
        project::find_app(self.globals.app.as_deref(), self.environment.app.as_deref(), dir)
    }

    fn target(&self) -> CommandResult<Target> {
        // A flag is nearer than the environment.
        match (&self.globals.cluster, &self.environment.api) {
            (None, Some(api)) => self.target_by_url(api),
            _ => self.target_by_name(),
        }
    }

    fn target_by_url(&self, api: &str) -> CommandResult<Target> {
        let named = self
            .environment
            .ca
            .as_deref()
            .map(str::parse::<Digest>)
            .transpose();
        let named = named.map_err(|e| CommandError::failed(format!("GILLIAM_CA: {e}")))?;
        if let Some(token) = &self.environment.token {
            return Ok(Target {
                api: api.to_string(),
                token: token.clone(),
                ca: named,
            });
        }
        let home = self.home()?;
        let same = |known: &str| known.trim_end_matches('/') == api.trim_end_matches('/');
        let known = home
            .clusters()?
            .clusters
            .into_iter()
            .find(|(_, cluster)| same(&cluster.api));
        let ca = named.or_else(|| known.as_ref()?.1.ca);
        let token = known.map(|(name, _)| home.token(&name)).transpose()?.flatten();
        let token = token.ok_or_else(|| {
            CommandError::failed(format!("there is no token for {api}"))
                .hinted("set GILLIAM_TOKEN, or gilliam clusters add NAME URL with the token on its input")
        })?;
        let api = api.to_string();
        Ok(Target { api, token, ca })
    }

    fn target_by_name(&self) -> CommandResult<Target> {
        let home = self.home()?;
        let clusters = home.clusters()?;
        let (name, Cluster { api, ca }) = pick(
            &clusters,
            self.globals
                .cluster
                .as_deref()
                .or(self.environment.cluster.as_deref()),
        )?;
        let token = match &self.environment.token {
            Some(token) => Some(token.clone()),
            None => home.token(&name)?,
        };
        let token = token.ok_or_else(|| {
            CommandError::failed(format!("there is no token for cluster {name}")).hinted(format!(
                "set GILLIAM_TOKEN, or gilliam clusters add {name} {api} with the token on its input"
            ))
        })?;
        Ok(Target { api, token, ca })
    }
}

fn first_address(api: &str) -> &str {
    let first = api.split(',').next().unwrap_or(api);
    first.trim().trim_end_matches('/')
}

/// The folder a command was started in.
pub(crate) fn working_directory() -> CommandResult<std::path::PathBuf> {
    std::env::current_dir().map_err(|e| CommandError::file("cannot find the working directory", &e))
}

fn pick(clusters: &Clusters, wanted: Option<&str>) -> CommandResult<(String, Cluster)> {
    let only = || match clusters.clusters.len() {
        1 => clusters.clusters.keys().next().map(String::as_str),
        _ => None,
    };
    match (
        wanted.or(clusters.current.as_deref()).or_else(only),
        clusters.clusters.is_empty(),
    ) {
        (Some(name), _) if clusters.clusters.contains_key(name) => {
            Ok((name.to_string(), clusters.clusters[name].clone()))
        }
        (_, true) => {
            Err(CommandError::failed("no cluster is known").hinted("gilliam up starts one on this machine"))
        }
        (Some(name), false) => Err(
            CommandError::failed(format!("no cluster is named {name:?}")).hinted(format!(
                "known: {}",
                clusters.clusters.keys().cloned().collect::<Vec<_>>().join(", ")
            )),
        ),
        (None, false) => Err(CommandError::failed("no cluster is the current one")
            .hinted("pass --cluster, or gilliam clusters use NAME")),
    }
}
