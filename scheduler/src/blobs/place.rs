//! Where blobs are, as an operator names it: a folder, or `s3://BUCKET[/PREFIX][?OPTION=VALUE&…]`. Pure.
//!
//! In: the text of a flag and the variables that every AWS program reads. Out: a place, or why it is none.
//!
//! Invariant: what is secret is in the variables alone, never in the text, and never printed.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

use gilliam_model::text::excerpt;

const SCHEME: &str = "s3://";
/// Lengths of a bucket's name (Amazon S3, "General purpose bucket naming rules").
const BUCKET_BYTES: std::ops::RangeInclusive<usize> = 3..=63;
/// Longest prefix: S3's keys have 1,024 bytes, and a digest with its folder follows.
const PREFIX_BYTES_MAX: usize = 512;
/// The region that S3 servers other than Amazon's take, whatever it is called.
const REGION: &str = "us-east-1";

/// Where blobs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobsPlace {
    /// A folder; one that several control planes reach when there are several.
    Folder(PathBuf),
    /// A bucket.
    S3(S3Place),
}

/// A bucket, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Place {
    /// Its name.
    pub bucket: String,
    /// What keys begin with, without slashes at its ends; empty for none.
    pub prefix: String,
    /// The region it is in.
    pub region: String,
    /// The server, when it is not Amazon's: `https://HOST:PORT`. The bucket is the first part of paths there.
    pub endpoint: Option<String>,
    /// Certificates (PEM) that the server's must be signed by; the web's authorities without one.
    pub ca: Option<PathBuf>,
    /// Who asks.
    pub(crate) variables: AwsVariables,
}

/// The environment variables that begin with `AWS_`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AwsVariables(BTreeMap<String, String>);

/// A place of blobs that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobsPlaceError {
    /// Nothing is named.
    #[error("no place for images is named")]
    Empty,
    /// It is a URL of something else.
    #[error("{text:?} is neither a folder nor a bucket of S3")]
    Scheme {
        /// What was given.
        text: String,
    },
    /// The bucket cannot have that name.
    #[error("{bucket:?} is no name of a bucket: 3 to 63 of a-z, 0-9, - and .")]
    Bucket {
        /// What was given.
        bucket: String,
    },
    /// Keys cannot begin so.
    #[error(
        "{prefix:?} cannot begin the keys in a bucket: parts of A-Z a-z 0-9 - _ . with / between them, at most \
         {PREFIX_BYTES_MAX}"
    )]
    Prefix {
        /// What was given.
        prefix: String,
    },
    /// An option that there is not, or whose value makes no sense.
    #[error("a bucket has no option {option:?} with value {value:?}")]
    Option {
        /// The option.
        option: String,
        /// Its value.
        value: String,
    },
    /// Nobody says in which region the bucket is.
    #[error("it is not said in which region the bucket {bucket} is")]
    Region {
        /// The bucket.
        bucket: String,
    },
    /// One of the two halves of a credential.
    #[error("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are given together, or neither is")]
    HalfCredential,
}

impl BlobsPlaceError {
    /// The way out, for people.
    pub fn hint(&self) -> &'static str {
        match self {
            BlobsPlaceError::Option { .. } => {
                "options are region=NAME, endpoint=https://HOST:PORT and ca=FILE"
            }
            BlobsPlaceError::Region { .. } => "add ?region=NAME, or set AWS_REGION",
            BlobsPlaceError::HalfCredential => "set both, or take both away to use the role of the machine",
            _ => "for example /srv/gilliam/images or s3://images/production?region=eu-central-1",
        }
    }
}

impl AwsVariables {
    /// Of these variables those that begin with `AWS_` and are not empty.
    pub fn of(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let is_aws = |(name, value): &(String, String)| name.starts_with("AWS_") && !value.is_empty();
        Self(variables.into_iter().filter(is_aws).collect())
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// The names alone: values are secrets.
impl fmt::Debug for AwsVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// For messages: without options.
impl fmt::Display for BlobsPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlobsPlace::Folder(path) => write!(f, "{}", path.display()),
            BlobsPlace::S3(place) if place.prefix.is_empty() => write!(f, "{SCHEME}{}", place.bucket),
            BlobsPlace::S3(place) => write!(f, "{SCHEME}{}/{}", place.bucket, place.prefix),
        }
    }
}

impl BlobsPlace {
    /// Reads what an operator named; what it leaves out of a bucket is in the variables.
    pub fn parse(text: &str, variables: &AwsVariables) -> Result<Self, BlobsPlaceError> {
        if let Some(rest) = text.strip_prefix(SCHEME) {
            return S3Place::parse(rest, variables).map(BlobsPlace::S3);
        }
        match text {
            "" => Err(BlobsPlaceError::Empty),
            text if text.contains("://") || text.starts_with("s3:") => {
                Err(BlobsPlaceError::Scheme { text: excerpt(text) })
            }
            text => Ok(BlobsPlace::Folder(PathBuf::from(text))),
        }
    }
}

impl S3Place {
    fn parse(rest: &str, variables: &AwsVariables) -> Result<Self, BlobsPlaceError> {
        let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        let bucket = check_bucket(bucket)?;
        let mut found = Options::default();
        for pair in options.split('&').filter(|pair| !pair.is_empty()) {
            found.take(pair)?;
        }
        let variable = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| variables.get(name))
                .map(str::to_owned)
        };
        let endpoint = match found.endpoint {
            Some(endpoint) => Some(endpoint),
            None => {
                let named = variable(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
                named
                    .map(|url| check_endpoint("AWS_ENDPOINT_URL", &url))
                    .transpose()?
            }
        };
        let region = found
            .region
            .or_else(|| variable(&["AWS_REGION", "AWS_DEFAULT_REGION"]))
            .or_else(|| endpoint.is_some().then(|| REGION.to_owned()))
            .ok_or_else(|| BlobsPlaceError::Region {
                bucket: bucket.clone(),
            })?;
        let halves = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|name| variables.get(name).is_some());
        if halves[0] != halves[1] {
            return Err(BlobsPlaceError::HalfCredential);
        }
        Ok(Self {
            bucket,
            prefix: check_prefix(prefix)?,
            region,
            endpoint,
            ca: found
                .ca
                .or_else(|| variable(&["AWS_CA_BUNDLE"]).map(PathBuf::from)),
            variables: variables.clone(),
        })
    }
}

/// What follows the question mark.
#[derive(Default)]
struct Options {
    region: Option<String>,
    endpoint: Option<String>,
    ca: Option<PathBuf>,
}

impl Options {
    fn take(&mut self, pair: &str) -> Result<(), BlobsPlaceError> {
        let (option, value) = pair.split_once('=').unwrap_or((pair, ""));
        match option {
            "region" if is_region(value) => self.region = Some(value.to_owned()),
            "endpoint" => self.endpoint = Some(check_endpoint(option, value)?),
            "ca" if !value.is_empty() => self.ca = Some(PathBuf::from(value)),
            _ => return Err(no_option(option, value)),
        }
        Ok(())
    }
}

fn no_option(option: &str, value: &str) -> BlobsPlaceError {
    BlobsPlaceError::Option {
        option: excerpt(option),
        value: excerpt(value),
    }
}

fn is_region(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// A scheme, a host and perhaps a port: nothing that would be a part of a key, and no user.
fn check_endpoint(option: &str, text: &str) -> Result<String, BlobsPlaceError> {
    let text = text.trim_end_matches('/');
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let is_host = |host: &str| {
        let is_fine = host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b));
        is_fine && !host.is_empty() && format!("http://{host}/").parse::<http::Uri>().is_ok()
    };
    match host.is_some_and(is_host) {
        true => Ok(text.to_owned()),
        false => Err(no_option(option, text)),
    }
}

fn check_bucket(text: &str) -> Result<String, BlobsPlaceError> {
    let is_end = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let is_inner = |b: u8| is_end(Some(b)) || b == b'-' || b == b'.';
    let is_name = BUCKET_BYTES.contains(&text.len())
        && text.bytes().all(is_inner)
        && is_end(text.bytes().next())
        && is_end(text.bytes().last())
        && !text.contains("..");
    match is_name {
        true => Ok(text.to_owned()),
        false => Err(BlobsPlaceError::Bucket {
            bucket: excerpt(text),
        }),
    }
}

fn check_prefix(text: &str) -> Result<String, BlobsPlaceError> {
    let prefix = text.trim_end_matches('/');
    let is_part = |part: &str| {
        let is_fine = part
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        is_fine && !matches!(part, "" | "." | "..")
    };
    let is_prefix = prefix.len() <= PREFIX_BYTES_MAX && prefix.split('/').all(is_part);
    match prefix.is_empty() || is_prefix {
        true => Ok(prefix.to_owned()),
        false => Err(BlobsPlaceError::Prefix {
            prefix: excerpt(text),
        }),
    }
}

/// Without variables.
impl FromStr for BlobsPlace {
    type Err = BlobsPlaceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text, &AwsVariables::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> AwsVariables {
        AwsVariables::of(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    fn s3(text: &str, pairs: &[(&str, &str)]) -> Result<S3Place, BlobsPlaceError> {
        match BlobsPlace::parse(text, &variables(pairs))? {
            BlobsPlace::S3(place) => Ok(place),
            BlobsPlace::Folder(path) => panic!("a folder: {path:?}"),
        }
    }

    #[test]
    fn folders_and_buckets_are_told_apart() {
        assert_eq!("/srv/x".parse(), Ok(BlobsPlace::Folder("/srv/x".into())));
        assert_eq!("images".parse(), Ok(BlobsPlace::Folder("images".into())));
        let place = s3("s3://images/a/b/?region=eu-central-1", &[]).expect("a bucket");
        assert_eq!(
            (
                place.bucket.as_str(),
                place.prefix.as_str(),
                place.region.as_str()
            ),
            ("images", "a/b", "eu-central-1")
        );
        assert_eq!(BlobsPlace::S3(place).to_string(), "s3://images/a/b");
    }

    #[test]
    fn what_the_text_leaves_out_comes_from_the_variables() {
        let place = s3(
            "s3://images",
            &[
                ("AWS_DEFAULT_REGION", "r1"),
                ("AWS_REGION", "r2"),
                ("AWS_ENDPOINT_URL", "http://h:9000/"),
            ],
        );
        let place = place.expect("a bucket");
        assert_eq!(place.region, "r2");
        assert_eq!(place.endpoint.as_deref(), Some("http://h:9000"));
        let place = s3(
            "s3://images?region=r3&endpoint=https://x",
            &[("AWS_REGION", "r2")],
        )
        .expect("a bucket");
        assert_eq!(
            (place.region.as_str(), place.endpoint.as_deref()),
            ("r3", Some("https://x"))
        );
        let place = s3("s3://images?endpoint=http://[::1]:1", &[]).expect("a bucket");
        assert_eq!(place.region, REGION, "servers of others take any region");
    }

    #[test]
    fn what_makes_no_sense_is_named_with_a_way_out() {
        let long = format!("s3://{}?region=r", "a".repeat(64));
        for (text, word) in [
            ("", "no place"),
            ("gs://bucket", "gs://bucket"),
            ("s3:/bucket", "s3:/bucket"),
            ("file:///x", "file:///x"),
            ("s3://", "\"\""),
            ("s3://ab?region=r", "ab"),
            (long.as_str(), "aaaa"),
            ("s3://Images?region=r", "Images"),
            ("s3://-images?region=r", "-images"),
            ("s3://images/../x?region=r", "../x"),
            ("s3://images//x?region=r", "/x"),
            ("s3://images/a b?region=r", "a b"),
            ("s3://images", "region"),
            ("s3://images?region=", "region"),
            ("s3://images?region=r&zone=x", "zone"),
            ("s3://images?endpoint=h:9000", "h:9000"),
            ("s3://images?endpoint=ftp://h", "ftp://h"),
            ("s3://images?endpoint=http://u:p@h", "u:p@h"),
            ("s3://images?endpoint=http://h/path", "http://h/path"),
        ] {
            let error = text.parse::<BlobsPlace>().expect_err(text);
            assert!(error.to_string().contains(word), "{text}: {error}");
            assert!(!error.hint().is_empty());
        }
        let half = [("AWS_REGION", "r"), ("AWS_ACCESS_KEY_ID", "x")];
        assert_eq!(s3("s3://images", &half), Err(BlobsPlaceError::HalfCredential));
    }

    #[test]
    fn secrets_are_not_printed() {
        let pairs = [
            ("AWS_REGION", "r"),
            ("AWS_ACCESS_KEY_ID", "x"),
            ("AWS_SECRET_ACCESS_KEY", "hush"),
        ];
        let place = s3("s3://images", &pairs).expect("a bucket");
        assert!(!format!("{place:?}").contains("hush"));
        assert_eq!(place.variables.get("AWS_SECRET_ACCESS_KEY"), Some("hush"));
        assert_eq!(
            variables(&[("PATH", "/bin"), ("AWS_X", "")]),
            AwsVariables::default()
        );
    }
}
