//! What the host holds for a guest beyond its memories: headers and pieces of bodies, charged to its memory
//! limit.
//!
//! Guests can make the host keep data in thousands of handles, each within its own cap. Functions of ours
//! stand before the imports that hand data over; after so many bytes they add up what the store's table
//! really holds, and charge it.
//!
//! Invariant: what is held uncharged stays below [`UNCHARGED_BYTES_MAX`] or a quarter of what is charged,
//! and one call.

use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, ResourceTable},
};
use wasmtime_wasi::p2::{DynOutputStream, StreamError, bindings::io::streams};
use wasmtime_wasi_http::{
    FieldMap, WasiHttpView as _, p2,
    p2::{
        body::{HostFutureTrailers, HostIncomingBody},
        types::{HostIncomingRequest, HostOutgoingRequest, HostOutgoingResponse, HostResponseOutparam},
    },
    p3,
};

use crate::{
    guest::{BODY_CHUNK_BYTES_MAX, Guest},
    outgoing::OutgoingBody,
    sql::OpenTransaction,
};

/// Bytes handed over before the table is looked through again; below it, ordinary requests never pay for
/// that.
const UNCHARGED_BYTES_MAX: u64 = 256 << 10;
/// What one header costs beyond its name and value.
const HEADER_BYTES: u64 = 64;
/// What a body that is not sent yet may hold: two pieces.
const BODY_BYTES: u64 = 2 * BODY_CHUNK_BYTES_MAX as u64;

/// Handles that a guest may keep from one request to the next: its standard streams, a few of its own.
const KEPT_HANDLES_MAX: usize = 256;

/// The guest had the host hold more than its memory limit allows.
#[derive(Debug, thiserror::Error)]
#[error("headers and bodies held for the guest take {0} bytes, more than its memory limit leaves")]
pub(crate) struct HeldTooMuch(u64);

/// Bytes handed over since the table was last looked through.
#[derive(Debug, Default)]
pub(crate) struct Held {
    uncharged: u64,
    charged: u64,
}

fn hand_over(guest: &mut Guest, bytes: u64) -> wasmtime::Result<()> {
    let held = &mut guest.held;
    held.uncharged += bytes + HEADER_BYTES;
    // In proportion to what is held, so that looking through a large table stays cheap per byte.
    if held.uncharged <= UNCHARGED_BYTES_MAX.max(held.charged / 4) {
        return Ok(());
    }
    held.uncharged = 0;
    let total = total(&mut guest.table);
    held.charged = total;
    if guest.memory.set_held(total) {
        Ok(())
    } else {
        Err(HeldTooMuch(total).into())
    }
}

fn total(table: &mut ResourceTable) -> u64 {
    let entry_bytes = |entry: &mut (dyn std::any::Any + Send)| {
        if let Some(fields) = entry.downcast_ref::<FieldMap>() {
            return headers_bytes(fields);
        }
        if let Some(request) = entry.downcast_ref::<HostOutgoingRequest>() {
            return headers_bytes(&request.headers) + request.body.as_ref().map_or(0, |_| BODY_BYTES);
        }
        if let Some(response) = entry.downcast_ref::<HostOutgoingResponse>() {
            return headers_bytes(&response.headers) + response.body.as_ref().map_or(0, |_| BODY_BYTES);
        }
        if let Some(request) = entry.downcast_ref::<p3::Request>() {
            return headers_bytes(&request.headers);
        }
        entry
            .downcast_ref::<p3::Response>()
            .map_or(0, |response| headers_bytes(&response.headers))
    };
    table.iter_mut().map(entry_bytes).sum()
}

fn headers_bytes(headers: &FieldMap) -> u64 {
    headers
        .iter()
        .map(|(name, value)| header_bytes(name.as_str().len(), value.len()))
        .sum()
}

fn header_bytes(name_bytes: usize, value_bytes: usize) -> u64 {
    (name_bytes + value_bytes) as u64 + HEADER_BYTES
}

/// Whether nothing of a request is left in the table of a guest that is done with it: no request, response
/// or body, whose streams cannot outlive them, and few handles of any kind.
pub(crate) fn is_clean(table: &mut ResourceTable) -> bool {
    let mut count = 0;
    table.iter_mut().all(|entry| {
        count += 1;
        let is_of_request = entry.is::<HostIncomingRequest>()
            || entry.is::<HostIncomingBody>()
            || entry.is::<HostFutureTrailers>()
            || entry.is::<HostResponseOutparam>()
            || entry.is::<HostOutgoingResponse>()
            || entry.is::<OutgoingBody>()
            || entry.is::<OpenTransaction>();
        count <= KEPT_HANDLES_MAX && !is_of_request
    })
}

type Entries = Vec<(String, Vec<u8>)>;

/// Puts our functions before those of `wasi:http/types` that make or fill headers.
macro_rules! meter_fields {
    ($linker:expr, $interface:literal, $line:ident) => {{
        use $line::bindings::http::types::{Host, HostFields};
        let mut types = $linker.instance($interface)?;
        types.func_wrap(
            "[static]fields.from-list",
            |mut store: StoreContextMut<'_, Guest>, (entries,): (Entries,)| {
                let bytes = entries
                    .iter()
                    .map(|(name, value)| header_bytes(name.len(), value.len()))
                    .sum();
                hand_over(store.data_mut(), bytes)?;
                let mut view = store.data_mut().http();
                Ok((match HostFields::from_list(&mut view, entries) {
                    Ok(fields) => Ok(fields),
                    Err(error) => Err(Host::convert_header_error(&mut view, error)?),
                },))
            },
        )?;
        types.func_wrap(
            "[method]fields.append",
            |mut store: StoreContextMut<'_, Guest>,
             (fields, name, value): (Resource<FieldMap>, String, Vec<u8>)| {
                hand_over(store.data_mut(), (name.len() + value.len()) as u64)?;
                let mut view = store.data_mut().http();
                Ok((match HostFields::append(&mut view, fields, name, value) {
                    Ok(()) => Ok(()),
                    Err(error) => Err(Host::convert_header_error(&mut view, error)?),
                },))
            },
        )?;
        types.func_wrap(
            "[method]fields.set",
            |mut store: StoreContextMut<'_, Guest>,
             (fields, name, values): (Resource<FieldMap>, String, Vec<Vec<u8>>)| {
                let bytes = values.iter().map(|value| header_bytes(0, value.len()));
                let bytes = name.len() as u64 + bytes.sum::<u64>();
                hand_over(store.data_mut(), bytes)?;
                let mut view = store.data_mut().http();
                Ok((match HostFields::set(&mut view, fields, name, values) {
                    Ok(()) => Ok(()),
                    Err(error) => Err(Host::convert_header_error(&mut view, error)?),
                },))
            },
        )?;
        types.func_wrap(
            "[method]fields.clone",
            |mut store: StoreContextMut<'_, Guest>, (fields,): (Resource<FieldMap>,)| {
                // Shared until one of the two is changed; then it is a copy, for which nobody is asked.
                let bytes = headers_bytes(store.data_mut().table.get(&fields)?);
                hand_over(store.data_mut(), bytes)?;
                Ok((HostFields::clone(&mut store.data_mut().http(), fields)?,))
            },
        )?;
    }};
}

/// Which lines of WASI an engine's linker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lines {
    /// 0.2 alone.
    P2,
    /// 0.2 and 0.3.
    P2AndP3,
}

/// Puts our functions before the imports that hand data to the host. The linker must allow shadowing.
pub(crate) fn meter(linker: &mut Linker<Guest>, lines: Lines) -> wasmtime::Result<()> {
    meter_fields!(linker, "wasi:http/types@0.2.12", p2);
    if lines == Lines::P2AndP3 {
        meter_fields!(linker, "wasi:http/types@0.3.0", p3);
    }
    linker.instance("wasi:io/streams@0.2.12")?.func_wrap(
        "[method]output-stream.write",
        |mut store: StoreContextMut<'_, Guest>, (stream, bytes): (Resource<DynOutputStream>, Vec<u8>)| {
            hand_over(store.data_mut(), bytes.len() as u64)?;
            let table = &mut store.data_mut().table;
            let written: Result<(), StreamError> = streams::HostOutputStream::write(table, stream, bytes);
            Ok((match written {
                Ok(()) => Ok(()),
                Err(error) => Err(streams::Host::convert_stream_error(table, error)?),
            },))
        },
    )
}
