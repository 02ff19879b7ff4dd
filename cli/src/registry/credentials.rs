//! Who asks a registry: whom the flags name, else whom docker's config names, else nobody.

use std::{io::Read as _, path::PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential};
use gilliam_model::text::excerpt;
use oci_client::secrets::RegistryAuth;

use super::RegistryFlags;
use crate::failure::{CommandError, CommandResult};

/// Longest password: tokens of registries have up to some thousand characters.
const PASSWORD_BYTES_MAX: u64 = 64 << 10;
/// The registry that a name without a host is of, and what docker's config calls it.
const DOCKER_HUB: (&str, &str) = ("index.docker.io", "https://index.docker.io/v1/");

pub(super) fn find(host: &str, flags: &RegistryFlags) -> CommandResult<RegistryAuth> {
    if let Some(username) = &flags.username {
        return Ok(RegistryAuth::Basic(username.clone(), read_password()?));
    }
    let name = if host == DOCKER_HUB.0 { DOCKER_HUB.1 } else { host };
    let failed = |reason: String| {
        CommandError::failed(format!(
            "docker's config has no usable credentials for {host}: {reason}"
        ))
        .hinted(format!(
            "docker login {host}, or pass --username NAME --password-stdin"
        ))
    };
    let config = match config_file().map(std::fs::File::open) {
        None => return Ok(RegistryAuth::Anonymous),
        Some(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(RegistryAuth::Anonymous);
        }
        Some(opened) => opened.map_err(|error| failed(error.to_string()))?,
    };
    match docker_credential::get_credential_from_reader(config, name) {
        Ok(DockerCredential::UsernamePassword(name, password)) => Ok(RegistryAuth::Basic(name, password)),
        Ok(DockerCredential::IdentityToken(_)) => Err(failed("identity tokens are not taken".to_string())),
        Err(CredentialRetrievalError::NoCredentialConfigured | CredentialRetrievalError::ConfigNotFound) => {
            Ok(RegistryAuth::Anonymous)
        }
        // What a helper prints may hold anything: its name is enough.
        Err(CredentialRetrievalError::HelperFailure { helper, stderr, .. }) => {
            Err(failed(format!("{helper} failed: {}", excerpt(stderr.trim()))))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Where docker keeps what `docker login` was told.
fn config_file() -> Option<PathBuf> {
    let named = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let folder = named.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker")));
    folder.map(|folder| folder.join("config.json"))
}

fn read_password() -> CommandResult<String> {
    let mut text = String::new();
    let read = std::io::stdin()
        .lock()
        .take(PASSWORD_BYTES_MAX)
        .read_to_string(&mut text);
    read.map_err(|error| CommandError::file("cannot read the password from the input", &error))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(CommandError::usage("there is no password on the input")
            .hinted("--password-stdin reads it: gilliam … --password-stdin < FILE")),
        password => Ok(password.to_string()),
    }
}

/// `Basic …` (RFC 7617).
pub(super) fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", base64(format!("{name}:{password}").as_bytes()))
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            match place <= group.len() {
                true => text.push(char::from(DIGITS[(bits >> (18 - 6 * place) & 63) as usize])),
                false => text.push('='),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_password_are_one_word() {
        assert_eq!(
            basic("Aladdin", "open sesame"),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        assert_eq!(base64(b"fooba"), "Zm9vYmE=");
        assert_eq!(base64(b"foobar"), "Zm9vYmFy");
        assert_eq!(base64(b""), "");
    }
}
