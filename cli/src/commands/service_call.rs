//! A request to a service by way of the API, for the commands of each kind.

use std::collections::BTreeMap;

use gilliam_client::Client;
use gilliam_model::{
    api::ApiError,
    name::{AppName, ServiceName},
    queue::Payload,
    service::{AskService, ServiceAnswer},
};

use crate::failure::{CommandError, CommandResult};

/// One service of an app.
pub(crate) struct ServiceCall {
    pub(crate) client: Client,
    pub(crate) app: AppName,
    pub(crate) service: ServiceName,
}

impl ServiceCall {
    /// What the service answers; a refusal is an error.
    pub(crate) async fn ask(
        &self,
        method: &str,
        target: String,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> CommandResult<ServiceAnswer> {
        let headers: BTreeMap<String, String> = headers
            .iter()
            .map(|(name, value)| ((*name).to_string(), (*value).to_string()))
            .collect();
        let ask = AskService {
            method: method.to_string(),
            target,
            headers,
            body: Payload(body),
        };
        let answer = self.client.ask_service(&self.app, &self.service, &ask).await?;
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        Err(match serde_json::from_slice::<ApiError>(&answer.body.0) {
            Ok(error) => CommandError::refused(&error),
            Err(_) => CommandError::failed(format!("{} answers {}", self.service, answer.status)),
        })
    }
}

/// Text as it stands in a path or a query.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' => {
                escaped.push(char::from(byte));
            }
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_an_address_is_escaped() {
        assert_eq!(escaped("user:1/a b&c=ö?"), "user:1/a%20b%26c%3D%C3%B6%3F");
    }
}
