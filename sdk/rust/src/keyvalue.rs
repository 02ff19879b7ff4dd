//! Key-value services.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Error, http, path};

/// A key-value service of the app, by its name in `[services]` of `gilliam.toml`.
pub fn keyvalue(name: &str) -> KeyValue {
    KeyValue {
        origin: format!("http://{name}.internal"),
    }
}

/// A key-value service; see [`keyvalue`]. Values are JSON unless bytes are asked for.
#[derive(Debug, Clone)]
pub struct KeyValue {
    origin: String,
}

/// A value, and which of the values that its key had.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry<T> {
    /// The value.
    pub value: T,
    /// Names this value of the key; for [`Set::if_still`].
    pub version: String,
}

#[derive(Deserialize)]
struct Page {
    keys: Vec<String>,
    next: Option<String>,
}

impl KeyValue {
    fn request(&self, method: &str, key: &str) -> http::Request {
        http::request(method, &format!("{}{}", self.origin, path::of_key(key)))
    }

    /// The value of a key; none when it has none.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        Ok(self.entry(key).await?.map(|entry| entry.value))
    }

    /// The value of a key and its version.
    pub async fn entry<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Entry<T>>, Error> {
        match self.entry_of_bytes(key).await? {
            Some(Entry { value, version }) => {
                let value = serde_json::from_slice(&value)?;
                Ok(Some(Entry { value, version }))
            }
            None => Ok(None),
        }
    }

    /// The bytes of a key; none when it has none.
    pub async fn get_bytes(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.entry_of_bytes(key).await?.map(|entry| entry.value))
    }

    async fn entry_of_bytes(&self, key: &str) -> Result<Option<Entry<Vec<u8>>>, Error> {
        let answer = self.request("GET", key).send().await?;
        if answer.status() == 404 {
            return Ok(None);
        }
        let answer = answer.ok().await?;
        let version = answer.header("etag").unwrap_or_default().to_owned();
        let value = answer.bytes().await?;
        Ok(Some(Entry { value, version }))
    }

    /// Sets a key: `cache.set("greeting", &text).ttl(…).await?`. Answers whether it is set, which is false only when a
    /// condition was asked for that does not hold.
    pub fn set(&self, key: &str, value: &(impl Serialize + ?Sized)) -> Set {
        self.set_value(key, serde_json::to_vec(value).map_err(Error::Content))
    }

    /// Sets a key to bytes.
    pub fn set_bytes(&self, key: &str, value: impl Into<Vec<u8>>) -> Set {
        self.set_value(key, Ok(value.into()))
    }

    fn set_value(&self, key: &str, value: Result<Vec<u8>, Error>) -> Set {
        Set {
            url: format!("{}{}", self.origin, path::of_key(key)),
            value,
            condition: None,
        }
    }

    /// Removes a key; it may have had no value.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        let answer = self.request("DELETE", key).send().await?;
        if answer.status() != 404 {
            answer.ok().await?;
        }
        Ok(())
    }

    /// Adds to a number, which is 0 when there is none, in one step; answers the sum.
    pub async fn increment(&self, key: &str, by: i64) -> Result<i64, Error> {
        let mut url = format!("{}{}", self.origin, path::of_key(key));
        path::query(&mut url, "increment", &by.to_string());
        http::post(&url).send().await?.ok().await?.json().await
    }

    /// The keys that begin so, in their order.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>, Error> {
        http::listed(&self.origin, prefix, |page: Page| (page.keys, page.next)).await
    }
}

/// A value that is to be set: it is when this is awaited.
#[derive(Debug)]
#[must_use = "nothing is set until it is awaited"]
pub struct Set {
    url: String,
    value: Result<Vec<u8>, Error>,
    condition: Option<(&'static str, String)>,
}

impl Set {
    /// Forgets the value when so much time has passed.
    pub fn ttl(mut self, time: Duration) -> Self {
        path::query(&mut self.url, "ttl", &format!("{}ms", time.as_millis()));
        self
    }

    /// Only while the key has the value of this version.
    pub fn if_still(mut self, version: &str) -> Self {
        self.condition = Some(("if-match", version.to_owned()));
        self
    }

    /// Only while the key has no value.
    pub fn if_absent(mut self) -> Self {
        self.condition = Some(("if-none-match", "*".to_owned()));
        self
    }
}

impl IntoFuture for Set {
    type Output = Result<bool, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let mut request = http::request("PUT", &self.url).body(self.value?);
            if let Some((name, value)) = &self.condition {
                request = request.header(name, value);
            }
            let answer = request.send().await?;
            if answer.status() == 412 {
                return Ok(false);
            }
            answer.ok().await?;
            Ok(true)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_escaped_and_what_is_asked_for_goes_with_it() {
        let set = keyvalue("cache")
            .set("a/b", &1)
            .ttl(Duration::from_secs(60))
            .if_absent();
        assert_eq!(set.url, "http://cache.internal/a%2Fb?ttl=60000ms");
        assert_eq!(set.condition, Some(("if-none-match", "*".to_owned())));
        assert_eq!(set.value.expect("JSON"), b"1");
    }
}
