//! Plain TCP sockets of guests: which addresses, and how many.
//!
//! In flow an instance's one port and its grants, out flow verdicts on addresses and a cap on sockets. UDP
//! is denied.
//!
//! Invariant: a guest listens on its one port and nowhere else, and takes connections from this machine only.

use std::net::SocketAddr;

use gilliam_model::code::Code;
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, ResourceTable},
};
use wasmtime_wasi::{
    p2::{
        DynInputStream, DynOutputStream, TcpSocket,
        bindings::sockets::{
            network::{ErrorCode, Host as _, IpAddressFamily},
            tcp::HostTcpSocket,
            tcp_create_socket,
        },
    },
    sockets::{SocketAddrUse, WasiSocketsView as _},
};

use crate::{guest::Guest, outbound::Outbound};

/// Sockets of one store; each is a file descriptor, of which the process has some ten thousands.
const SOCKETS_MAX: usize = 1_000;

/// Whether a guest may use `address` so.
pub(crate) fn allows(
    listen_port: Option<u16>,
    outbound: &Outbound,
    address: SocketAddr,
    reason: SocketAddrUse,
) -> bool {
    let ip = address.ip().to_canonical();
    let is_own_port = listen_port == Some(address.port());
    let is_here = ip.is_loopback() || ip.is_unspecified();
    match reason {
        // Port 0 is the bind that goes with a connect; listening on what it yields is refused below.
        SocketAddrUse::TcpBind => is_here && (is_own_port || address.port() == 0),
        SocketAddrUse::TcpListen => is_here && is_own_port,
        // The ingress is on this machine; whoever comes from elsewhere comes around it.
        SocketAddrUse::TcpAccept => ip.is_loopback(),
        SocketAddrUse::TcpConnect => outbound.allows_socket(address),
        _ => false,
    }
}

type Accepted = (
    Resource<TcpSocket>,
    Resource<DynInputStream>,
    Resource<DynOutputStream>,
);

/// Puts our functions before the two that make sockets, so that they count. The linker must allow shadowing.
pub(crate) fn bound(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker
        .instance("wasi:sockets/tcp-create-socket@0.2.12")?
        .func_wrap(
            "create-tcp-socket",
            |mut store: StoreContextMut<'_, Guest>, (family,): (IpAddressFamily,)| {
                if is_full(store.data_mut()) {
                    return Ok((Err(ErrorCode::NewSocketLimit),));
                }
                let mut view = store.data_mut().sockets();
                Ok((
                    match tcp_create_socket::Host::create_tcp_socket(&mut view, family) {
                        Ok(socket) => Ok(socket),
                        Err(error) => Err(view.convert_error_code(error)?),
                    },
                ))
            },
        )?;
    linker.instance("wasi:sockets/tcp@0.2.12")?.func_wrap(
        "[method]tcp-socket.accept",
        |mut store: StoreContextMut<'_, Guest>, (listener,): (Resource<TcpSocket>,)| {
            if is_full(store.data_mut()) {
                return Ok((Err::<Accepted, _>(ErrorCode::NewSocketLimit),));
            }
            let mut view = store.data_mut().sockets();
            Ok((match HostTcpSocket::accept(&mut view, listener) {
                Ok(accepted) => Ok(accepted),
                Err(error) => Err(view.convert_error_code(error)?),
            },))
        },
    )
}

fn is_full(guest: &mut Guest) -> bool {
    let is_full = count(&mut guest.table) >= SOCKETS_MAX;
    if is_full {
        guest.log.platform(
            Code::N02,
            format_args!("{SOCKETS_MAX} sockets are open, no more allowed"),
        );
    }
    is_full
}

fn count(table: &mut ResourceTable) -> usize {
    let is_socket = |entry: &&mut (dyn std::any::Any + Send)| {
        entry.is::<TcpSocket>() || entry.is::<wasmtime_wasi::sockets::TcpSocket>()
    };
    table.iter_mut().filter(is_socket).count()
}
