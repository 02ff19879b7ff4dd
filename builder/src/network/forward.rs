//! The inner end: takes connections of tools and passes their bytes to the socket that leads out.
//!
//! It runs in the sandbox and is trusted no more than the build: it decides nothing.

use std::{
    io,
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{CONNECTIONS_MAX, PORT, SOCKET};

/// A thread here copies bytes.
const STACK_BYTES: usize = 128 << 10;

/// Listens from now on; connections end with this process.
pub(crate) fn forward() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))?;
    let open = Arc::new(AtomicUsize::new(0));
    let accept = move || {
        // A listener that fails takes no more; tools then say that their proxy is gone.
        while let Ok((near, _)) = listener.accept() {
            if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let done = open.clone();
            let started = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
                // An error says that one side is gone; both go then.
                let _ = join(&near);
                done.fetch_sub(1, Ordering::Relaxed);
            });
            if started.is_err() {
                open.fetch_sub(1, Ordering::Relaxed);
            }
        }
    };
    thread::Builder::new().stack_size(STACK_BYTES).spawn(accept)?;
    Ok(())
}

fn join(near: &TcpStream) -> io::Result<()> {
    let far = UnixStream::connect(SOCKET)?;
    let (mut near_out, mut far_in) = (near.try_clone()?, far.try_clone()?);
    let back = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        let _ = io::copy(&mut far_in, &mut near_out);
        let _ = near_out.shutdown(Shutdown::Both);
    })?;
    let _ = io::copy(&mut &*near, &mut &far);
    let _ = far.shutdown(Shutdown::Both);
    let _ = back.join();
    Ok(())
}
