//! Volumes of guests: `wasi:filesystem` 0.2 with the directories that a process is bound to, `/NAME` each.
//!
//! In flow a guest's calls. What only looks is wasmtime-wasi's own, which resolves names below an open directory; what
//! changes anything is done by the volume itself, which counts it (gilliam-services). All of it runs on tokio's
//! threads for what blocks, at the guest's expense.
//!
//! Invariant: whatever makes a volume grow goes through [`Volume`]: every function of `wasi:filesystem/types` that can
//! is replaced here.
//! Invariant: a guest without volumes has no directory at all. The interface in version 0.3 has none in any case.

mod entries;
mod stream;

use std::{collections::HashMap, fs::File as OsFile, io, sync::Arc, time::Instant};

use gilliam_model::code::Code;
use gilliam_services::volume::{At, Open, Volume};
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, ResourceTableError},
};
use wasmtime_wasi::{
    FsPerms, OpenMode,
    filesystem::{Descriptor, Dir, File},
    p2::{
        DynOutputStream,
        bindings::filesystem::types::{DescriptorFlags, ErrorCode, OpenFlags, PathFlags},
    },
};

use self::stream::VolumeStream;
use crate::{
    cpu_clock::Stretch,
    guest::{Guest, Shared},
};

/// Whose volume a descriptor is of, by its number. Every descriptor that there is was made here.
pub(crate) type Volumes = HashMap<u32, Volume>;

/// What becomes of a call.
enum Fault {
    /// The guest is told.
    Code(ErrorCode),
    /// The guest ends.
    Trap(wasmtime::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Code(error.into())
    }
}

impl From<ErrorCode> for Fault {
    fn from(code: ErrorCode) -> Self {
        Fault::Code(code)
    }
}

impl From<ResourceTableError> for Fault {
    fn from(error: ResourceTableError) -> Self {
        Fault::Trap(error.into())
    }
}

/// As the guest gets it.
type Answered<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;

fn answered<T>(result: Result<T, Fault>) -> Answered<T> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(Fault::Code(code)) => Ok((Err(code),)),
        Err(Fault::Trap(error)) => Err(error),
    }
}

/// Does what waits for the disk, on a thread for that.
async fn blocking<T: Send + 'static>(
    shared: Arc<Shared>,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let metered = move || {
        let stretch = Stretch::start(Instant::now());
        let done = work();
        let cpu_ns = u64::try_from(stretch.end().as_nanos()).unwrap_or(u64::MAX);
        shared.cpu.charge(cpu_ns);
        if let Err(error) = &done
            && error.kind() == io::ErrorKind::StorageFull
        {
            // Many programs hear of no more than an error of input or output.
            shared.log.platform(
                Code::S20,
                format_args!("{}: a volume, or the disk, is full", Code::S20.title()),
            );
        }
        done
    };
    wasmtime_wasi::runtime::spawn_blocking(metered).await
}

/// An open directory or file of a guest, and its volume.
struct Held<T> {
    it: Arc<T>,
    volume: Volume,
    shared: Arc<Shared>,
    perms: FsPerms,
}

impl<T: Send + Sync + 'static> Held<T> {
    async fn change<R: Send + 'static>(
        self,
        work: impl FnOnce(&Volume, &T) -> io::Result<R> + Send + 'static,
    ) -> Result<R, Fault> {
        if self.perms.write_not_permitted() {
            return Err(ErrorCode::NotPermitted.into());
        }
        Ok(blocking(self.shared, move || work(&self.volume, &self.it)).await?)
    }
}

impl Guest {
    fn volume_of(&self, descriptor: &Resource<Descriptor>) -> Result<Volume, Fault> {
        let volume = self.volumes.get(&descriptor.rep()).cloned();
        volume.ok_or(Fault::Code(ErrorCode::BadDescriptor))
    }

    fn dir(&self, descriptor: &Resource<Descriptor>) -> Result<Held<OsFile>, Fault> {
        match self.table.get(descriptor)? {
            Descriptor::Dir(dir) => Ok(Held {
                it: dir.dir.clone(),
                volume: self.volume_of(descriptor)?,
                shared: self.shared().clone(),
                perms: dir.perms,
            }),
            Descriptor::File(_) => Err(ErrorCode::NotDirectory.into()),
        }
    }

    fn file(&self, descriptor: &Resource<Descriptor>) -> Result<Held<OsFile>, Fault> {
        match self.table.get(descriptor)? {
            Descriptor::File(file) => Ok(Held {
                it: file.file.clone(),
                volume: self.volume_of(descriptor)?,
                shared: self.shared().clone(),
                perms: file.perms,
            }),
            Descriptor::Dir(_) => Err(ErrorCode::BadDescriptor.into()),
        }
    }

    fn push(&mut self, descriptor: Descriptor, volume: Volume) -> Result<Resource<Descriptor>, Fault> {
        let descriptor = self.table.push(descriptor)?;
        self.volumes.insert(descriptor.rep(), volume);
        Ok(descriptor)
    }
}

/// Puts functions of ours before those that change what is in a directory. The linker must allow shadowing.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker
        .instance("wasi:filesystem/preopens@0.2.12")?
        .func_wrap_async(
            "get-directories",
            |mut store: StoreContextMut<'_, Guest>, (): ()| {
                Box::new(async move { directories(store.data_mut()).await })
            },
        )?;
    contents(linker)?;
    names(linker)?;
    entries::add_to_linker(linker)
}

/// The directories that a guest begins with.
async fn directories(guest: &mut Guest) -> wasmtime::Result<(Vec<(Resource<Descriptor>, String)>,)> {
    let shared = guest.shared().clone();
    let mut directories = Vec::new();
    for (name, volume) in shared.bound().volumes() {
        let opened = volume.clone();
        let root = match blocking(shared.clone(), move || opened.root()).await {
            Ok(root) => root,
            Err(error) => {
                tracing::error!(%error, app = %shared.tenant(), volume = %name, "a volume cannot be opened");
                continue;
            }
        };
        let mode = OpenMode::READ | OpenMode::WRITE;
        let dir = Descriptor::Dir(Dir::new(root, FsPerms::ReadWrite, mode, false));
        let pushed = guest.push(dir, volume.clone());
        directories.push((answered(pushed)?.0?, format!("/{name}")));
    }
    Ok((directories,))
}

/// What changes what is in a file.
fn contents(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.func_wrap_async(
        "[method]descriptor.write",
        |store: StoreContextMut<'_, Guest>, (fd, bytes, offset): (Resource<Descriptor>, Vec<u8>, u64)| {
            let file = store.data().file(&fd);
            Box::new(async move {
                let length = bytes.len() as u64;
                let write =
                    move |volume: &Volume, file: &OsFile| volume.write(file, &bytes, At::Offset(offset));
                answered(match file {
                    Ok(file) => file.change(write).await.map(|_| length),
                    Err(fault) => Err(fault),
                })
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.set-size",
        |store: StoreContextMut<'_, Guest>, (fd, size): (Resource<Descriptor>, u64)| {
            let file = store.data().file(&fd);
            Box::new(async move {
                answered(match file {
                    Ok(file) => file.change(move |volume, file| volume.set_size(file, size)).await,
                    Err(fault) => Err(fault),
                })
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.write-via-stream",
        |mut store: StoreContextMut<'_, Guest>, (fd, offset): (Resource<Descriptor>, u64)| {
            answered(stream(store.data_mut(), &fd, At::Offset(offset)))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.append-via-stream",
        |mut store: StoreContextMut<'_, Guest>, (fd,): (Resource<Descriptor>,)| {
            answered(stream(store.data_mut(), &fd, At::End))
        },
    )
}

fn stream(guest: &mut Guest, fd: &Resource<Descriptor>, at: At) -> Result<Resource<DynOutputStream>, Fault> {
    let file = guest.file(fd)?;
    if file.perms.write_not_permitted() {
        return Err(ErrorCode::NotPermitted.into());
    }
    let stream: DynOutputStream = Box::new(VolumeStream::new(file.volume, file.it, file.shared, at));
    Ok(guest.table.push(stream)?)
}

type OpenArguments = (
    Resource<Descriptor>,
    PathFlags,
    String,
    OpenFlags,
    DescriptorFlags,
);

/// What makes, moves and removes names.
fn names(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.func_wrap_async(
        "[method]descriptor.open-at",
        |mut store: StoreContextMut<'_, Guest>, arguments: OpenArguments| {
            Box::new(async move { answered(open(store.data_mut(), arguments).await) })
        },
    )?;
    macro_rules! at_path {
        ($name:literal, $change:ident) => {
            types.func_wrap_async(
                $name,
                |store: StoreContextMut<'_, Guest>, (fd, path): (Resource<Descriptor>, String)| {
                    let dir = store.data().dir(&fd);
                    Box::new(async move {
                        answered(match dir {
                            Ok(dir) => {
                                dir.change(move |volume, dir| volume.$change(dir, &path))
                                    .await
                            }
                            Err(fault) => Err(fault),
                        })
                    })
                },
            )?
        };
    }
    at_path!("[method]descriptor.create-directory-at", create_dir);
    at_path!("[method]descriptor.remove-directory-at", remove_dir);
    at_path!("[method]descriptor.unlink-file-at", remove_file);
    types.func_wrap_async(
        "[method]descriptor.symlink-at",
        |store: StoreContextMut<'_, Guest>, (fd, target, path): (Resource<Descriptor>, String, String)| {
            let dir = store.data().dir(&fd);
            Box::new(async move {
                let link = move |volume: &Volume, dir: &OsFile| volume.symlink(dir, &target, &path);
                answered(match dir {
                    Ok(dir) => dir.change(link).await,
                    Err(fault) => Err(fault),
                })
            })
        },
    )?;
    // A file of two names would be counted twice, or not at all.
    types.func_wrap(
        "[method]descriptor.link-at",
        |_: StoreContextMut<'_, Guest>,
         _: (
            Resource<Descriptor>,
            PathFlags,
            String,
            Resource<Descriptor>,
            String,
        )| { Ok((Err::<(), _>(ErrorCode::Unsupported),)) },
    )?;
    types.func_wrap_async(
        "[method]descriptor.rename-at",
        |store: StoreContextMut<'_, Guest>,
         (fd, path, to_fd, to): (Resource<Descriptor>, String, Resource<Descriptor>, String)| {
            let dirs = store
                .data()
                .dir(&fd)
                .and_then(|dir| Ok((dir, store.data().dir(&to_fd)?)));
            Box::new(async move {
                answered(match dirs {
                    Ok((dir, to_dir)) => rename(dir, path, to_dir, to).await,
                    Err(fault) => Err(fault),
                })
            })
        },
    )
}

async fn rename(dir: Held<OsFile>, path: String, to_dir: Held<OsFile>, to: String) -> Result<(), Fault> {
    if to_dir.perms.write_not_permitted() {
        return Err(ErrorCode::NotPermitted.into());
    }
    // As between two disks.
    if !dir.volume.is(&to_dir.volume) {
        return Err(ErrorCode::CrossDevice.into());
    }
    let to_dir = to_dir.it;
    dir.change(move |volume, dir| volume.rename(dir, &path, &to_dir, &to))
        .await
}

async fn open(
    guest: &mut Guest,
    (fd, path_flags, path, open_flags, flags): OpenArguments,
) -> Result<Resource<Descriptor>, Fault> {
    let dir = guest.dir(&fd)?;
    let has = |flag| open_flags.contains(flag);
    let synced = DescriptorFlags::FILE_INTEGRITY_SYNC
        | DescriptorFlags::DATA_INTEGRITY_SYNC
        | DescriptorFlags::REQUESTED_WRITE_SYNC;
    if flags.intersects(synced) {
        return Err(ErrorCode::Unsupported.into());
    }
    let wants_dir = has(OpenFlags::DIRECTORY);
    if wants_dir && (has(OpenFlags::CREATE) || has(OpenFlags::EXCLUSIVE) || has(OpenFlags::TRUNCATE)) {
        return Err(ErrorCode::Invalid.into());
    }
    let writes = flags.contains(DescriptorFlags::WRITE) || has(OpenFlags::CREATE) || has(OpenFlags::TRUNCATE);
    let perms = dir.perms;
    if writes && perms.write_not_permitted() {
        return Err(ErrorCode::NotPermitted.into());
    }
    let how = Open {
        // One that was not opened for writing is opened for reading, whether that was asked for or not.
        read: flags.contains(DescriptorFlags::READ) || !flags.contains(DescriptorFlags::WRITE),
        write: writes,
        create: has(OpenFlags::CREATE),
        exclusive: has(OpenFlags::EXCLUSIVE),
        truncate: has(OpenFlags::TRUNCATE),
        follow: path_flags.contains(PathFlags::SYMLINK_FOLLOW),
    };
    let mut mode = OpenMode::empty();
    mode.set(OpenMode::READ, how.read);
    mode.set(OpenMode::WRITE, how.write);
    let volume = dir.volume.clone();
    let keep = move |file: OsFile| match file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        true => (Descriptor::Dir(Dir::new(file, perms, mode, false)), None),
        false => {
            let file = File::new(file, perms, mode, false);
            let handle = Arc::downgrade(&file.file);
            (Descriptor::File(file), Some(handle))
        }
    };
    let opened = blocking(dir.shared, move || dir.volume.open(&dir.it, &path, how, keep)).await?;
    if wants_dir && matches!(opened, Descriptor::File(_)) {
        return Err(ErrorCode::NotDirectory.into());
    }
    guest.push(opened, volume)
}
