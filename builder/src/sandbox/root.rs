//! The file system of a sandbox: a fresh root of read-only views of the host, and the folders that are given.
//!
//! Runs in the sandbox's own mount namespace, before rights are dropped. What is not shown here cannot be named
//! by a build: the data folder, other builds, home folders, sockets of services.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, symlink},
    path::{Path, PathBuf},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statvfs::{FsFlags, statvfs},
    unistd::pivot_root,
};

use super::cell::Cell;
use crate::network;

/// Folders of the system with programs and libraries; links among them stay links.
const SYSTEM: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// Of `/etc`, what programs need to find libraries, certificates and the time zone: nothing about users or
/// services.
const ETC: &[&str] = &[
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
];
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom"];
/// Size of the root itself: it holds mount points and a few small files.
const ROOT_OPTIONS: &str = "mode=755,size=4m";

/// Makes the root and enters it.
pub(super) fn enter(cell: &Cell) -> io::Result<()> {
    let nothing = None::<&str>;
    // What happens here is seen by nobody outside, and the other way round.
    step("make mounts private", Path::new("/"), || {
        mount(
            nothing,
            "/",
            nothing,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            nothing,
        )
    })?;
    let root = &cell.root;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    step("mount a root on", root, || {
        mount(Some("tmpfs"), root, Some("tmpfs"), plain, Some(ROOT_OPTIONS))
    })?;
    for path in SYSTEM.iter().chain(ETC) {
        let path = Path::new(path);
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_symlink() && SYSTEM.iter().any(|s| Path::new(s) == path) => {
                symlink(fs::read_link(path)?, below(root, path)?)?;
            }
            Ok(_) => show(root, path, path, false)?,
            Err(_) => {}
        }
    }
    etc(root)?;
    devices(root)?;
    let tmp = below(root, Path::new("/tmp"))?;
    fs::create_dir_all(&tmp)?;
    let options = format!("mode=1777,size={}", cell.limits.tmp_bytes);
    step("mount /tmp on", &tmp, || {
        mount(Some("tmpfs"), &tmp, Some("tmpfs"), plain, Some(options.as_str()))
    })?;
    let proc = below(root, Path::new("/proc"))?;
    fs::create_dir_all(&proc)?;
    let strict = plain | MsFlags::MS_NOEXEC;
    step("mount /proc on", &proc, || {
        mount(Some("proc"), &proc, Some("proc"), strict, nothing)
    })?;
    for shown in &cell.shown {
        show(root, &shown.from, &shown.to, shown.writable)?;
    }
    if let Some(network) = &cell.network {
        show(root, &network.socket, Path::new(network::SOCKET), false)?;
    }
    let old = below(root, Path::new("/.host"))?;
    fs::create_dir(&old)?;
    step("change the root to", root, || pivot_root(root, &old))?;
    std::env::set_current_dir("/")?;
    step("let go of the host's files", Path::new("/"), || {
        umount2("/.host", MntFlags::MNT_DETACH)
    })?;
    fs::remove_dir("/.host")?;
    // The mount points are in place: the root itself takes nothing more.
    step("close the root", Path::new("/"), || {
        let closed = plain | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(nothing, "/", nothing, closed, nothing)
    })
}

fn step(what: &str, path: &Path, action: impl FnOnce() -> nix::Result<()>) -> io::Result<()> {
    action().map_err(|errno| {
        io::Error::new(
            io::Error::from(errno).kind(),
            format!("{what} {}: {errno}", path.display()),
        )
    })
}

/// The place of an absolute path below the new root, with its folders made.
fn below(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let place = root.join(path.strip_prefix("/").map_err(io::Error::other)?);
    if let Some(parent) = place.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    Ok(place)
}

/// Shows a file or folder of the host.
fn show(root: &Path, from: &Path, to: &Path, writable: bool) -> io::Result<()> {
    let nothing = None::<&str>;
    let place = below(root, to)?;
    if fs::metadata(from)?.is_dir() {
        fs::create_dir_all(&place)?;
    } else {
        fs::write(&place, "")?;
    }
    step("show", from, || {
        mount(
            Some(from),
            &place,
            nothing,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            nothing,
        )
    })?;
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID | kept(&place)?;
    if !from.starts_with("/dev") {
        flags |= MsFlags::MS_NODEV;
    }
    if !writable {
        flags |= MsFlags::MS_RDONLY;
    }
    step("restrict", &place, || {
        mount(nothing, &place, nothing, flags, nothing)
    })
}

/// What the host's mount forbids already, which a remount in a user namespace must repeat.
fn kept(place: &Path) -> io::Result<MsFlags> {
    let on = statvfs(place)?.flags();
    let pairs = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    Ok(pairs
        .into_iter()
        .filter(|(flag, _)| on.contains(*flag))
        .fold(MsFlags::empty(), |all, (_, flag)| all | flag))
}

fn etc(root: &Path) -> io::Result<()> {
    for (name, text) in [
        (
            "passwd",
            "root:x:0:0:root:/:/bin/false\nbuild:x:1000:1000:build:/tmp:/bin/sh\n",
        ),
        ("group", "root:x:0:\nbuild:x:1000:\n"),
        ("hosts", "127.0.0.1 localhost\n::1 localhost\n"),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
        ("resolv.conf", ""),
    ] {
        fs::write(below(root, &Path::new("/etc").join(name))?, text)?;
    }
    Ok(())
}

fn devices(root: &Path) -> io::Result<()> {
    for name in DEVICES {
        let device = Path::new("/dev").join(name);
        show(root, &device, &device, true)?;
    }
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        // A folder for shared memory that some programs insist on.
        ("shm", "/tmp"),
    ] {
        symlink(to, below(root, &Path::new("/dev").join(name))?)?;
    }
    Ok(())
}
