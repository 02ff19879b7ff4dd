//! The services of a node: which handle belongs to which service, and where its data is.
//!
//! In flow what processes are bound to, out flow handles. A service has one handle however many processes are bound
//! to it; its options are those of the newest binding.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use gilliam_model::{
    Timestamp,
    name::ServiceName,
    service::{BoundService, Service, ServiceId, ServiceKind, ServiceUsage},
};

use crate::{
    blob::Blobs,
    keyvalue::KeyValue,
    lane::Threads,
    sql::{Sql, SqlOptions, SqlThreads},
    volume::Volume,
};

/// The folder in the node's.
const FOLDER: &str = "services";
/// Threads that read: what is not in memory waits for a disk.
const READERS: usize = 4;
/// Threads that write: nearly all of their time they wait for a disk.
const WRITERS: usize = 4;
/// How often what has expired is removed: it is not found from the moment on, only its room is taken that long.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Why a node has no services.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// Its folder cannot be made.
    #[error("cannot use the folder {path} of services")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system gives it no thread.
    #[error("cannot start a thread for services")]
    Thread(#[source] io::Error),
    /// The data of a service cannot be removed.
    #[error("cannot remove the data of {id}")]
    Remove {
        /// Which.
        id: ServiceId,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The services of a node; a handle.
#[derive(Debug, Clone)]
pub struct Services(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    crew: Crew,
    sql: SqlThreads,
    open: Mutex<BTreeMap<ServiceId, Handle>>,
}

/// The threads of all services.
#[derive(Debug, Clone)]
pub(crate) struct Crew {
    pub(crate) readers: Threads,
    pub(crate) writers: Threads,
}

/// One service.
#[derive(Debug, Clone)]
pub enum Handle {
    /// Keys with values.
    Keyvalue(KeyValue),
    /// A database.
    Sql(Sql),
    /// A directory.
    Volume(Volume),
    /// Objects by name.
    Blob(Blobs),
    /// A kind that has no data here.
    Elsewhere(ServiceKind),
}

/// What a process is bound to, by the names that its app has for it.
#[derive(Debug, Clone, Default)]
pub struct Bound(Arc<BTreeMap<ServiceName, Handle>>);

impl Services {
    /// The services whose data is in the folder of a node.
    pub fn open(node_folder: &Path) -> Result<Self, ServicesError> {
        let path = node_folder.join(FOLDER);
        fs::create_dir_all(&path).map_err(|source| ServicesError::Folder {
            path: path.clone(),
            source,
        })?;
        let start = |name: &str, count| Threads::start(name, count).map_err(ServicesError::Thread);
        let inner = Arc::new(Inner {
            folder: path,
            crew: Crew {
                readers: start("services-read", READERS)?,
                writers: start("services-write", WRITERS)?,
            },
            sql: SqlThreads::default(),
            open: Mutex::default(),
        });
        let swept = Arc::downgrade(&inner);
        std::thread::Builder::new()
            .name("services-sweep".to_string())
            .spawn(move || sweep(&swept))
            .map_err(ServicesError::Thread)?;
        Ok(Self(inner))
    }

    /// The handles of what a process is bound to; the services have the options of this binding from now on.
    pub fn bind(&self, services: &[BoundService]) -> Bound {
        let bound = services
            .iter()
            .map(|bound| (bound.name.clone(), self.handle(&bound.id, &bound.service)));
        Bound(Arc::new(bound.collect()))
    }

    /// The handle of one service, which has these options from now on.
    pub fn handle(&self, id: &ServiceId, service: &Service) -> Handle {
        let mut open = self.0.open();
        let handle = open
            .entry(id.clone())
            .or_insert_with(|| self.0.make(id, service.kind()));
        handle.configure(service);
        handle.clone()
    }

    /// How much is in a service; the reason when that cannot be told.
    pub async fn usage(&self, id: &ServiceId, service: &Service) -> Result<ServiceUsage, String> {
        match self.handle(id, service) {
            Handle::Keyvalue(keyvalue) => {
                let usage = keyvalue.usage().await.map_err(|error| error.to_string())?;
                Ok(ServiceUsage {
                    bytes: usage.bytes,
                    items: Some(usage.keys),
                })
            }
            Handle::Sql(sql) => {
                let usage = sql.usage().await.map_err(|error| error.to_string())?;
                Ok(ServiceUsage {
                    bytes: usage.bytes,
                    items: None,
                })
            }
            Handle::Volume(volume) => {
                let counted = tokio::task::spawn_blocking(move || volume.usage()).await;
                let usage = counted.unwrap_or_else(|error| Err(io::Error::other(error)));
                let usage = usage.map_err(|error| error.to_string())?;
                Ok(ServiceUsage {
                    bytes: usage.bytes,
                    items: Some(usage.entries),
                })
            }
            Handle::Blob(blobs) => {
                let usage = blobs.usage().await.map_err(|error| error.to_string())?;
                Ok(ServiceUsage {
                    bytes: usage.bytes,
                    items: Some(usage.objects),
                })
            }
            Handle::Elsewhere(kind) => Err(format!("nothing is counted of a {kind} service")),
        }
    }

    /// Removes the data of a service. Who still has a handle of it finds it empty.
    pub async fn destroy(&self, id: &ServiceId) -> Result<(), ServicesError> {
        let handle = self.0.open().remove(id);
        match handle {
            Some(Handle::Keyvalue(keyvalue)) => keyvalue.close().await,
            Some(Handle::Sql(sql)) => sql.close().await,
            Some(Handle::Blob(blobs)) => blobs.close().await,
            Some(Handle::Volume(_) | Handle::Elsewhere(_)) | None => {}
        }
        let (folder, id) = (self.0.folder_of(id), id.clone());
        let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(folder)).await;
        match removed.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(ServicesError::Remove { id, source })
            }
            _ => Ok(()),
        }
    }
}

impl Inner {
    fn open(&self) -> MutexGuard<'_, BTreeMap<ServiceId, Handle>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `services/APP/NAME-WHEN`: of another service of the same name the data is elsewhere.
    fn folder_of(&self, id: &ServiceId) -> PathBuf {
        let name = format!("{}-{}", id.name, id.made_at.as_millisecond());
        self.folder.join(id.app.as_str()).join(name)
    }

    fn make(&self, id: &ServiceId, kind: ServiceKind) -> Handle {
        match kind {
            ServiceKind::Keyvalue => Handle::Keyvalue(KeyValue::new(self.folder_of(id), &self.crew)),
            ServiceKind::Sql => {
                let options = SqlOptions::new(self.folder_of(id), 0);
                Handle::Sql(Sql::new(options, self.sql.clone()))
            }
            ServiceKind::Volume => Handle::Volume(Volume::new(self.folder_of(id), 0)),
            ServiceKind::Blob => Handle::Blob(Blobs::new(self.folder_of(id), 0)),
            other @ ServiceKind::Queue => Handle::Elsewhere(other),
        }
    }
}

impl Handle {
    fn configure(&self, service: &Service) {
        let quota_bytes = service.quota_bytes_max().unwrap_or(0);
        match self {
            Handle::Sql(sql) => sql.set_quota(quota_bytes),
            Handle::Volume(volume) => volume.set_quota(quota_bytes),
            Handle::Blob(blobs) => blobs.set_quota(quota_bytes),
            Handle::Keyvalue(keyvalue) => keyvalue.configure(service),
            Handle::Elsewhere(_) => {}
        }
    }
}

impl Bound {
    /// The service that the app calls so.
    pub fn get(&self, name: &str) -> Option<&Handle> {
        self.0.get(name)
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &ServiceName> {
        self.0.keys()
    }

    /// The volumes, by the names of their services.
    pub fn volumes(&self) -> impl Iterator<Item = (&ServiceName, &Volume)> {
        self.0.iter().filter_map(|(name, handle)| match handle {
            Handle::Volume(volume) => Some((name, volume)),
            _ => None,
        })
    }
}

/// Removes what has expired until nobody has the services any more.
fn sweep(services: &Weak<Inner>) {
    loop {
        std::thread::sleep(SWEEP_INTERVAL);
        let Some(services) = services.upgrade() else {
            return;
        };
        let open: Vec<Handle> = services.open().values().cloned().collect();
        for handle in open {
            match handle {
                Handle::Keyvalue(keyvalue) => keyvalue.sweep(Timestamp::now()),
                Handle::Sql(sql) => sql.sweep(),
                Handle::Volume(_) | Handle::Blob(_) | Handle::Elsewhere(_) => {}
            }
        }
    }
}
