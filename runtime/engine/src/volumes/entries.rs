//! What is in a directory of a volume, handed to a guest one by one.
//!
//! Invariant: of a directory with many entries the host holds a few at a time.

use std::{collections::VecDeque, io};

use gilliam_services::volume::{Entries, Kind};
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, ResourceType},
};
use wasmtime_wasi::{
    filesystem::Descriptor,
    p2::bindings::filesystem::types::{DescriptorType, DirectoryEntry},
};

use super::{Fault, answered, blocking};
use crate::guest::Guest;

/// Entries that are read at once.
const ENTRIES_AT_ONCE: usize = 64;

/// A directory being read.
struct Listing {
    /// None after its end.
    rest: Option<Entries>,
    next: VecDeque<io::Result<(String, Kind)>>,
}

/// Puts ours before the functions that list a directory.
pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.resource(
        "directory-entry-stream",
        ResourceType::host::<Listing>(),
        |mut store, rep| {
            store.data_mut().table.delete(Resource::<Listing>::new_own(rep))?;
            Ok(())
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.read-directory",
        |mut store: StoreContextMut<'_, Guest>, (fd,): (Resource<Descriptor>,)| {
            Box::new(async move { answered(begin(store.data_mut(), &fd).await) })
        },
    )?;
    types.func_wrap_async(
        "[method]directory-entry-stream.read-directory-entry",
        |mut store: StoreContextMut<'_, Guest>, (listing,): (Resource<Listing>,)| {
            Box::new(async move { answered(next(store.data_mut(), &listing).await) })
        },
    )
}

async fn begin(guest: &mut Guest, fd: &Resource<Descriptor>) -> Result<Resource<Listing>, Fault> {
    let dir = guest.dir(fd)?;
    let entries = blocking(dir.shared, move || dir.volume.entries(&dir.it)).await?;
    Ok(guest.table.push(Listing {
        rest: Some(entries),
        next: VecDeque::new(),
    })?)
}

async fn next(guest: &mut Guest, listing: &Resource<Listing>) -> Result<Option<DirectoryEntry>, Fault> {
    let shared = guest.shared().clone();
    let open = guest.table.get_mut(listing)?;
    if open.next.is_empty()
        && let Some(mut rest) = open.rest.take()
    {
        let read = move || {
            let next: VecDeque<_> = rest.by_ref().take(ENTRIES_AT_ONCE).collect();
            Ok((next, rest))
        };
        let (next, rest) = blocking(shared, read).await?;
        let open = guest.table.get_mut(listing)?;
        open.rest = (!next.is_empty()).then_some(rest);
        open.next = next;
    }
    let Some(entry) = guest.table.get_mut(listing)?.next.pop_front() else {
        return Ok(None);
    };
    let (name, kind) = entry?;
    let type_ = match kind {
        Kind::File => DescriptorType::RegularFile,
        Kind::Directory => DescriptorType::Directory,
        Kind::Link => DescriptorType::SymbolicLink,
        Kind::Other => DescriptorType::Unknown,
    };
    Ok(Some(DirectoryEntry { type_, name }))
}
