//! Loopback of a new network namespace, which begins without any interface that is up.

use std::io;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// `RTM_NEWLINK` of rtnetlink(7): changes an interface.
const NEW_LINK: u16 = 16;
/// `NLM_F_REQUEST | NLM_F_ACK` of netlink(7).
const REQUEST_ACK: u16 = 5;
/// `NLMSG_ERROR`: an answer, of which zero is no error.
const ERROR: u16 = 2;
/// Loopback is the first interface of every namespace.
const LOOPBACK: i32 = 1;
/// `IFF_UP`.
const UP: u32 = 1;
/// A header, and what `RTM_NEWLINK` begins with.
const MESSAGE_BYTES: u32 = 32;

/// Brings loopback up, with the address 127.0.0.1 that the kernel then gives it.
pub(crate) fn raise() -> io::Result<()> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None, // NETLINK_ROUTE
    )?;
    let mut message = Vec::new();
    message.extend(MESSAGE_BYTES.to_ne_bytes());
    message.extend(NEW_LINK.to_ne_bytes());
    message.extend(REQUEST_ACK.to_ne_bytes());
    message.extend(1u32.to_ne_bytes()); // its number
    message.extend(0u32.to_ne_bytes()); // from this process
    message.extend(0u32.to_ne_bytes()); // any family, any type of device
    message.extend(LOOPBACK.to_ne_bytes());
    message.extend(UP.to_ne_bytes()); // the flags
    message.extend(UP.to_ne_bytes()); // which of them change
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0u8; 128];
    let (length, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    let kind = answer
        .get(4..6)
        .map(|bytes| [bytes[0], bytes[1]])
        .map(u16::from_ne_bytes);
    let code = answer
        .get(16..20)
        .and_then(|bytes| bytes.try_into().ok())
        .map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(ERROR), Some(0)) if length >= 20 => Ok(()),
        (Some(ERROR), Some(code)) if length >= 20 => Err(io::Error::from_raw_os_error(-code)),
        _ => Err(io::Error::other("the kernel's answer about loopback is not one")),
    }
}
