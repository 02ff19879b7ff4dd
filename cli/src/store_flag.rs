//! Where a control plane keeps its state: flags that `up` and every role that holds a store have alike.
//!
//! In: flags, two variables, files of certificates and a password. Out: an open store.

use std::{
    fs,
    path::{Path, PathBuf},
};

use gilliam_store::{EtcdConfig, EtcdUrlError, Password, Store};

use crate::{
    failure::{CommandError, CommandResult},
    home::Environment,
};

/// Where the state is kept.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Store")]
pub(crate) struct StoreFlags {
    /// Keeps the state in etcd, as `etcd://H1:2379,H2:2379,H3:2379[/CLUSTER][?ca=FILE&cert=FILE&key=FILE]`.
    ///
    /// Without it: in a file in the data folder. GILLIAM_STORE is taken when the flag is not given.
    #[arg(long = "store", value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Certificates (PEM) that those of etcd's members are signed by.
    #[arg(long = "store-ca", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The client's certificate (PEM) for etcd.
    #[arg(long = "store-cert", value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The key (PEM) of the client's certificate.
    #[arg(long = "store-key", value_name = "FILE")]
    key: Option<PathBuf>,
    /// The user in etcd; the password comes from --store-password-file or GILLIAM_STORE_PASSWORD.
    #[arg(long = "store-user", value_name = "NAME")]
    user: Option<String>,
    /// A file that holds the user's password alone.
    #[arg(long = "store-password-file", value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl StoreFlags {
    /// The etcd that is meant; none when the state is in a file of the data folder.
    pub(crate) fn etcd(&self, environment: &Environment) -> CommandResult<Option<EtcdConfig>> {
        let Some(url) = self.url.as_ref().or(environment.store.as_ref()) else {
            return self.refuse_lone_flags().map(|()| None);
        };
        let mut config: EtcdConfig = url.parse().map_err(refused)?;
        if let Some(ca) = &self.ca {
            config.ca = Some(ca.clone());
            config.tls = true;
        }
        if self.certificate.is_some() || self.key.is_some() {
            config
                .set_identity(self.certificate.clone(), self.key.clone())
                .map_err(refused)?;
        }
        // A password in the environment without a user is for another command.
        if self.user.is_some() || self.password_file.is_some() {
            let password = match &self.password_file {
                Some(path) => Some(read_password(path)?),
                None => environment.store_password.clone(),
            };
            config.set_user(self.user.clone(), password).map_err(refused)?;
        }
        Ok(Some(config))
    }

    /// Opens the store of the control plane whose data folder is `data`.
    pub(crate) async fn open(&self, environment: &Environment, data: &Path) -> CommandResult<Store> {
        match self.etcd(environment)? {
            None => Ok(Store::open(data)?),
            Some(mut config) => {
                config.data = Some(data.to_path_buf());
                Ok(Store::open_etcd(config).await?)
            }
        }
    }

    fn refuse_lone_flags(&self) -> CommandResult {
        let files = [&self.ca, &self.certificate, &self.key, &self.password_file];
        if self.user.is_none() && files.iter().all(|file| file.is_none()) {
            return Ok(());
        }
        Err(
            CommandError::usage("options of a store in etcd are given, and no etcd")
                .hinted("name it with --store etcd://HOST:2379, or leave the options out"),
        )
    }
}

fn refused(error: EtcdUrlError) -> CommandError {
    CommandError::usage(error.to_string()).hinted(error.hint())
}

fn read_password(path: &Path) -> CommandResult<Password> {
    let text = fs::read_to_string(path)
        .map_err(|e| CommandError::file(format!("cannot read the password file {}", path.display()), &e))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(CommandError::failed(format!(
            "the password file {} is empty",
            path.display()
        )));
    }
    Ok(Password::new(text))
}
