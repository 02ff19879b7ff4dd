//! What the command line keeps for a user: known clusters and the tokens for them, in `$GILLIAM_HOME`.
//!
//! `clusters.json` is `{"current": "local", "clusters": {"local": {"api": "http://127.0.0.1:7788"}}}`;
//! `credentials.json`, readable by its owner alone, is `{"local": "gil_…"}`.
//!
//! Invariant: a file here is replaced whole, never written in place, and that of the tokens never has another
//! mode than 0600.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use gilliam_model::digest::Digest;
use gilliam_scheduler::AwsVariables;
use gilliam_store::Password;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::failure::CommandError;

/// Largest file read here: far more clusters than anybody has.
const FILE_BYTES_MAX: u64 = 1 << 20;
const CLUSTERS: &str = "clusters.json";
const CREDENTIALS: &str = "credentials.json";

/// What the process's environment says; read once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// `GILLIAM_HOME`, else `~/.config/gilliam`; none without a home.
    pub(crate) home: Option<PathBuf>,
    /// Where a platform of this user keeps its data unless told otherwise: `~/.local/share/gilliam`.
    pub(crate) data: Option<PathBuf>,
    /// `GILLIAM_CLUSTER`.
    pub(crate) cluster: Option<String>,
    /// `GILLIAM_TOKEN`.
    pub(crate) token: Option<String>,
    /// `GILLIAM_API`.
    pub(crate) api: Option<String>,
    /// `GILLIAM_CA`: the digest of the CA of the cluster at `GILLIAM_API`.
    pub(crate) ca: Option<String>,
    /// `GILLIAM_JOIN`: a token for a node to join with.
    pub(crate) join: Option<String>,
    /// `GILLIAM_APP`.
    pub(crate) app: Option<String>,
    /// `GILLIAM_LOG`: what a server logs, as `tracing` filters (`info`, `gilliam_runtime=debug`).
    pub(crate) log: Option<String>,
    /// `GILLIAM_STORE`: where a platform keeps its state, when not in its data folder.
    pub(crate) store: Option<String>,
    /// `GILLIAM_STORE_PASSWORD`: the password of the user in etcd.
    pub(crate) store_password: Option<Password>,
    /// `GILLIAM_BLOBS`: where a platform keeps images, when not in its data folder.
    pub(crate) blobs: Option<String>,
    /// `GILLIAM_QUEUES`: where a platform keeps jobs, when not in its data folder; with a password.
    pub(crate) queues: Option<String>,
    /// `GILLIAM_TOOLS`: where languages' tools are, when not in the data folder.
    pub(crate) tools: Option<PathBuf>,
    /// What programs that use AWS read: `AWS_*`.
    pub(crate) aws: AwsVariables,
    /// `PATH`, where other programs are found.
    pub(crate) path: Option<std::ffi::OsString>,
    /// `NO_COLOR` is set, or the terminal is a dumb one.
    pub(crate) no_color: bool,
}

/// The user's folder.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    dir: PathBuf,
}

/// The known clusters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Clusters {
    /// The one that is meant when none is named.
    #[serde(default)]
    pub(crate) current: Option<String>,
    /// By name.
    #[serde(default)]
    pub(crate) clusters: BTreeMap<String, Cluster>,
}

/// A known cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cluster {
    /// The base URL of its API.
    pub(crate) api: String,
    /// The digest of its CA's certificate; none for plain HTTP, and for a server that a public CA vouches for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<Digest>,
}

/// A file of the user's folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HomeError {
    #[error("there is no home folder to keep clusters in")]
    None,
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{} is not as gilliam writes it: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error("{} can be read by other users of this machine (mode {mode:o})", path.display())]
    Exposed { path: PathBuf, mode: u32 },
}

/// The variable that holds the password of the user in etcd; no child of ours gets it.
pub(crate) const STORE_PASSWORD: &str = "GILLIAM_STORE_PASSWORD";
/// The variable that holds the URL of the queues with a password; no child of ours gets it.
pub(crate) const QUEUES: &str = "GILLIAM_QUEUES";

impl Environment {
    /// Reads the environment of this process; an empty variable counts as unset.
    pub(crate) fn read() -> Self {
        let text = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let path = |name| {
            env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let user_home = path("HOME");
        Self {
            home: path("GILLIAM_HOME").or_else(|| Some(user_home.as_ref()?.join(".config/gilliam"))),
            data: user_home.map(|home| home.join(".local/share/gilliam")),
            cluster: text("GILLIAM_CLUSTER"),
            token: text("GILLIAM_TOKEN"),
            api: text("GILLIAM_API"),
            ca: text("GILLIAM_CA"),
            join: text("GILLIAM_JOIN"),
            app: text("GILLIAM_APP"),
            log: text("GILLIAM_LOG"),
            store: text("GILLIAM_STORE"),
            store_password: text(STORE_PASSWORD).map(Password::new),
            blobs: text("GILLIAM_BLOBS"),
            queues: text(QUEUES),
            tools: path("GILLIAM_TOOLS"),
            aws: AwsVariables::of(
                env::vars_os()
                    .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
            ),
            path: env::var_os("PATH"),
            no_color: text("NO_COLOR").is_some() || text("TERM").is_some_and(|term| term == "dumb"),
        }
    }
}

impl Home {
    /// The user's folder; it need not exist yet.
    pub(crate) fn of(environment: &Environment) -> Result<Self, HomeError> {
        environment
            .home
            .clone()
            .map(|dir| Self { dir })
            .ok_or(HomeError::None)
    }

    /// The known clusters; none before the first.
    pub(crate) fn clusters(&self) -> Result<Clusters, HomeError> {
        Ok(read_json(&self.dir.join(CLUSTERS), Exposure::Allowed)?.unwrap_or_default())
    }

    /// The token for a cluster. A file that others can read is refused.
    pub(crate) fn token(&self, cluster: &str) -> Result<Option<String>, HomeError> {
        Ok(self.tokens()?.remove(cluster))
    }

    /// Records a cluster, its token, and that it is the current one when there is no other.
    pub(crate) fn save_cluster(&self, name: &str, cluster: &Cluster, token: &str) -> Result<(), HomeError> {
        let _lock = self.lock()?;
        let mut tokens = self.tokens()?;
        tokens.insert(name.to_string(), token.to_string());
        self.replace(CREDENTIALS, &tokens)?;
        let mut clusters = self.clusters()?;
        clusters.clusters.insert(name.to_string(), cluster.clone());
        clusters.current.get_or_insert_with(|| name.to_string());
        self.replace(CLUSTERS, &clusters)
    }

    /// Forgets a cluster and its token; false when it is not known.
    pub(crate) fn remove_cluster(&self, name: &str) -> Result<bool, HomeError> {
        let _lock = self.lock()?;
        let mut clusters = self.clusters()?;
        let known = clusters.clusters.remove(name).is_some();
        clusters.current = clusters.current.filter(|current| current != name);
        self.replace(CLUSTERS, &clusters)?;
        let mut tokens = self.tokens()?;
        tokens.remove(name);
        self.replace(CREDENTIALS, &tokens)?;
        Ok(known)
    }

    /// Keeps the certificate of a cluster's CA (PEM) as a file, for programs that want one; gives its path.
    pub(crate) fn save_ca(&self, ca: &Digest, pem: &str) -> Result<PathBuf, HomeError> {
        let _lock = self.lock()?;
        let path = self
            .dir
            .join(format!("ca-{}.pem", ca.to_string().replace(':', "-")));
        write_whole(&path, pem.as_bytes()).map_err(|source| HomeError::Io {
            doing: "write",
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }

    /// Makes a known cluster the current one; false when it is not known.
    pub(crate) fn use_cluster(&self, name: &str) -> Result<bool, HomeError> {
        let _lock = self.lock()?;
        let mut clusters = self.clusters()?;
        if !clusters.clusters.contains_key(name) {
            return Ok(false);
        }
        clusters.current = Some(name.to_string());
        self.replace(CLUSTERS, &clusters)?;
        Ok(true)
    }

    fn tokens(&self) -> Result<BTreeMap<String, String>, HomeError> {
        Ok(read_json(&self.dir.join(CREDENTIALS), Exposure::Refused)?.unwrap_or_default())
    }

    /// Keeps two processes from losing each other's change; released when dropped.
    fn lock(&self) -> Result<fs::File, HomeError> {
        let path = self.dir.join(".lock");
        let failed = |doing| {
            let path = path.clone();
            move |source| HomeError::Io { doing, path, source }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(failed("make the folder of"))?;
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path);
        let file = file.map_err(failed("open"))?;
        file.lock().map_err(failed("lock"))?;
        Ok(file)
    }

    fn replace(&self, name: &str, value: &impl Serialize) -> Result<(), HomeError> {
        let path = self.dir.join(name);
        let mut json = serde_json::to_vec_pretty(value).map_err(|e| HomeError::Malformed {
            path: path.clone(),
            reason: e.to_string(),
        })?;
        json.push(b'\n');
        if fs::read(&path).is_ok_and(|now| now == json) {
            // A full disk or a read-only folder then does no harm.
            return Ok(());
        }
        write_whole(&path, &json).map_err(|source| HomeError::Io {
            doing: "write",
            path,
            source,
        })
    }
}

/// Whether other users may be able to read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Exposure {
    Allowed,
    Refused,
}

fn read_json<T: DeserializeOwned>(path: &Path, exposure: Exposure) -> Result<Option<T>, HomeError> {
    let failed = |source| HomeError::Io {
        doing: "read",
        path: path.to_path_buf(),
        source,
    };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // Of the open file, not of the path, which could meanwhile name another.
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if exposure == Exposure::Refused && mode & 0o077 != 0 {
        return Err(HomeError::Exposed {
            path: path.to_path_buf(),
            mode,
        });
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|e| HomeError::Malformed {
            path: path.to_path_buf(),
            reason: e.to_string(),
        })
}

/// Writes a new file of mode 0600 beside `path` and renames it over: a reader sees the old or the new, whole.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension(format!("new.{}", std::process::id()));
    // One that an earlier process of this id left behind; the lock is held.
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&new)?;
    let written = file
        .write_all(content)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

impl From<HomeError> for CommandError {
    fn from(error: HomeError) -> Self {
        let hint = match &error {
            HomeError::None => "set GILLIAM_HOME to a folder".to_string(),
            HomeError::Io { .. } => "GILLIAM_HOME names another folder to keep it in".to_string(),
            HomeError::Malformed { path, .. } => format!("mend or remove {}", path.display()),
            HomeError::Exposed { path, .. } => format!("chmod 600 {}", path.display()),
        };
        Self::failed(error.to_string()).hinted(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().expect("folder");
        let home = Home {
            dir: dir.path().join("deep/gilliam"),
        };
        (dir, home)
    }

    fn cluster(api: &str) -> Cluster {
        Cluster {
            api: api.to_string(),
            ca: None,
        }
    }

    #[test]
    fn a_saved_cluster_is_found_and_the_first_is_current() {
        let (_dir, home) = home();
        assert_eq!(home.clusters().expect("none"), Clusters::default());
        home.save_cluster("local", &cluster("http://127.0.0.1:1"), "gil_a")
            .expect("save");
        home.save_cluster("far", &cluster("http://far:1"), "gil_b")
            .expect("save");
        home.save_cluster("local", &cluster("http://127.0.0.1:2"), "gil_c")
            .expect("save again");
        let clusters = home.clusters().expect("clusters");
        assert_eq!(clusters.current.as_deref(), Some("local"));
        assert_eq!(clusters.clusters["local"].api, "http://127.0.0.1:2");
        assert_eq!(home.token("local").expect("token").as_deref(), Some("gil_c"));
        assert!(home.use_cluster("far").expect("use") && !home.use_cluster("gone").expect("unknown"));
        assert!(home.remove_cluster("far").expect("remove"));
        assert_eq!(
            (
                home.clusters().expect("clusters").current,
                home.token("far").expect("token")
            ),
            (None, None)
        );
    }

    #[test]
    fn credentials_are_private_and_refused_when_they_are_not() {
        let (_dir, home) = home();
        home.save_cluster("local", &cluster("http://127.0.0.1:1"), "gil_a")
            .expect("save");
        let path = home.dir.join(CREDENTIALS);
        assert_eq!(
            fs::metadata(&path).expect("file").permissions().mode() & 0o777,
            0o600
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
        let error = CommandError::from(home.token("local").expect_err("exposed"));
        assert!(error.message.ends_with("(mode 644)"), "{}", error.message);
        assert!(error.hint.expect("hint").starts_with("chmod 600 "));
    }

    #[test]
    fn writers_at_once_lose_nothing() {
        let (_dir, home) = home();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let home = home.clone();
                scope.spawn(move || {
                    home.save_cluster(&format!("c{n}"), &cluster("http://x:1"), "gil_a")
                        .expect("save")
                });
            }
        });
        assert_eq!(home.clusters().expect("clusters").clusters.len(), 8);
    }
}
