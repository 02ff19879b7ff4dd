//! `wasi:io` of guests: the functions of wasmtime-wasi, reached without what they do not need.
//!
//! wasmtime-wasi reaches a store's table by way of WASI's context, so a guest that writes a body would have that
//! made for nothing. And its blocking write is a chain of boxed futures, though a body takes a small write at
//! once.

use bytes::Bytes;
use wasmtime::{
    StoreContextMut,
    component::{HasData, Linker, Resource, ResourceTable},
};
use wasmtime_wasi::p2::{DynOutputStream, StreamError};
use wasmtime_wasi_io::bindings::wasi::io::{
    error, poll,
    streams::{self, Host, HostOutputStream},
};

use crate::guest::Guest;

/// Bytes that one blocking write may have (WASI 0.2).
const BLOCKING_WRITE_BYTES_MAX: usize = 4_096;

/// What streams and polls need of a store.
struct Io;

impl HasData for Io {
    type Data<'a> = &'a mut ResourceTable;
}

/// Puts the same functions in the place of wasmtime-wasi's, with the table alone. The linker must allow
/// shadowing.
pub(crate) fn direct(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    error::add_to_linker::<Guest, Io>(linker, |guest| &mut guest.table)?;
    poll::add_to_linker::<Guest, Io>(linker, |guest| &mut guest.table)?;
    streams::add_to_linker::<Guest, Io>(linker, |guest| &mut guest.table)?;
    linker.instance("wasi:io/streams@0.2.12")?.func_wrap_async(
        "[method]output-stream.blocking-write-and-flush",
        |mut store: StoreContextMut<'_, Guest>, (stream, bytes): (Resource<DynOutputStream>, Vec<u8>)| {
            let begun = begin(&mut store.data_mut().table, &stream, bytes);
            Box::new(async move {
                let table = &mut store.data_mut().table;
                let written = match begun {
                    Ok(Begun::Done) => Ok(()),
                    Ok(Begun::Flushes) => flushed(table, &stream).await,
                    Ok(Begun::Waits(bytes)) => {
                        HostOutputStream::blocking_write_and_flush(table, stream, bytes).await
                    }
                    Err(error) => Err(error),
                };
                Ok((match written {
                    Ok(()) => Ok(()),
                    Err(error) => Err(Host::convert_stream_error(table, error)?),
                },))
            })
        },
    )
}

/// How far a write came without waiting.
enum Begun {
    Done,
    /// All is written; the stream takes no more before it has passed it on.
    Flushes,
    /// The stream does not take all at once: nothing is written.
    Waits(Vec<u8>),
}

/// Writes what a stream takes at once.
fn begin(
    table: &mut ResourceTable,
    stream: &Resource<DynOutputStream>,
    bytes: Vec<u8>,
) -> Result<Begun, StreamError> {
    let stream = table.get_mut(stream)?;
    if bytes.len() > BLOCKING_WRITE_BYTES_MAX || stream.check_write()? < bytes.len().max(1) {
        return Ok(Begun::Waits(bytes));
    }
    stream.write(Bytes::from(bytes))?;
    or_closed(stream.flush())?;
    Ok(match or_closed(stream.check_write())? {
        Some(0) => Begun::Flushes,
        Some(_) | None => Begun::Done,
    })
}

async fn flushed(table: &mut ResourceTable, stream: &Resource<DynOutputStream>) -> Result<(), StreamError> {
    or_closed(table.get_mut(stream)?.write_ready().await).map(|_| ())
}

/// That a stream is closed by now does not matter to what was written before.
fn or_closed<T>(result: Result<T, StreamError>) -> Result<Option<T>, StreamError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(StreamError::Closed) => Ok(None),
        Err(error) => Err(error),
    }
}
