//! Hostile archives: each is refused with its entry's name, and nothing outside the folder changes.

mod place;
mod tar_file;

use std::{fs, os::unix::fs::PermissionsExt as _};

use gilliam_builder::{
    BuildError,
    archive::{ArchiveError, ArchiveLimits, Unpacked},
};
use gilliam_model::code::Code;
use proptest::prelude::*;
use tar::{EntryType, Header};

use crate::{place::Place, tar_file::Tar};

#[track_caller]
fn refused(archive: Vec<u8>, message: &str) {
    let error = Place::new()
        .unpack(&archive, &ArchiveLimits::default())
        .expect_err("must be refused");
    assert_eq!(error.to_string(), message);
    assert!(error.hint().is_some());
    assert_eq!(BuildError::from(error).code(), Code::B14);
}

#[track_caller]
fn taken(archive: &[u8]) -> (Place, Unpacked) {
    let place = Place::new();
    let unpacked = place
        .unpack(archive, &ArchiveLimits::default())
        .expect("must be taken");
    (place, unpacked)
}

#[test]
fn files_folders_and_inner_links_are_unpacked() {
    let archive = Tar::default()
        .pax(EntryType::XGlobalHeader, &[("comment", "1d621b8e")])
        .dir("./")
        .file("./Procfile", b"web: web.wasm\n")
        .file("a/b/deep.txt", b"deep")
        .dir("a/b/")
        .link("a/b/up", "../../Procfile")
        .link("latest", "a/b")
        .end();
    let (place, unpacked) = taken(&archive);
    assert_eq!(unpacked, Unpacked { files: 4, bytes: 18 });
    let read = |path: &str| fs::read_to_string(place.folder().join(path)).expect(path);
    assert_eq!(read("Procfile"), "web: web.wasm\n");
    assert_eq!(read("a/b/up"), "web: web.wasm\n");
    assert_eq!(read("latest/deep.txt"), "deep");
}

#[test]
fn long_names_of_pax_and_gnu_are_taken() {
    let long = format!("{}/file", "d".repeat(200));
    let pax = Tar::default()
        .pax(EntryType::XHeader, &[("path", &long), ("mtime", "1.5")])
        .file("short", b"x")
        .end();
    let name = format!("{long}\0");
    let gnu = Tar::default().entry(EntryType::GNULongName, b"././@LongLink", b"", name.as_bytes());
    for archive in [pax, gnu.file("short", b"x").end()] {
        assert_eq!(
            fs::read(taken(&archive).0.folder().join(&long)).expect("long"),
            b"x"
        );
    }
}

#[test]
fn what_common_tools_write_is_taken() {
    let mut builder = tar::Builder::new(Vec::new());
    let long = format!("{}/web.wasm", "folder".repeat(30));
    for name in ["Procfile", "src/main.rs", long.as_str()] {
        let mut header = Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, b"data".as_slice())
            .expect("append");
    }
    assert_eq!(
        taken(&builder.into_inner().expect("finish")).1,
        Unpacked { files: 3, bytes: 12 }
    );
}

#[test]
fn modes_keep_only_the_executable_bit() {
    let archive = Tar::default()
        .header(EntryType::Regular, b"tool", b"", 0, 0o6755)
        .header(EntryType::Regular, b"data", b"", 0, 0o2666)
        .header(EntryType::Directory, b"dir/", b"", 0, 0o7777)
        .end();
    let (place, _) = taken(&archive);
    let mode = |path: &str| {
        fs::metadata(place.folder().join(path))
            .expect(path)
            .permissions()
            .mode()
    };
    assert_eq!(
        (mode("tool") & 0o7100, mode("data") & 0o7111, mode("dir") & 0o7000),
        (0o100, 0, 0)
    );
}

#[test]
fn paths_that_lead_outside_are_refused() {
    for (name, reason) in [
        ("/etc/passwd", "has an absolute path"),
        ("//etc/passwd", "has an absolute path"),
        ("../victim", "climbs out with \"..\""),
        ("a/../../victim", "climbs out with \"..\""),
        ("a/..", "climbs out with \"..\""),
        ("./../canary/file", "climbs out with \"..\""),
        ("a\nb", "has a control character in its name"),
        ("a\u{1b}[2J", "has a control character in its name"),
    ] {
        refused(
            Tar::default().file(name, b"x").end(),
            &format!("archive entry {name:?} {reason}"),
        );
    }
    refused(
        Tar::default().dir("../").end(),
        "archive entry \"../\" climbs out with \"..\"",
    );
    refused(
        Tar::default().file("", b"x").end(),
        "archive entry \"\" has no name",
    );
    refused(
        Tar::default().file(".", b"x").end(),
        "archive entry \".\" is the project's folder itself, but not a directory",
    );
    refused(
        Tar::default().entry(EntryType::Regular, b"a\xff", b"", b"").end(),
        "archive entry \"a\u{fffd}\" has a name that is not UTF-8",
    );
}

#[test]
fn paths_in_extensions_are_checked_like_all_others() {
    let pax = |path| {
        Tar::default()
            .pax(EntryType::XHeader, &[("path", path)])
            .file("harmless", b"x")
            .end()
    };
    refused(
        pax("../victim"),
        "archive entry \"../victim\" climbs out with \"..\"",
    );
    refused(
        pax("/etc/passwd"),
        "archive entry \"/etc/passwd\" has an absolute path",
    );
    refused(pax("a\0b"), "archive entry \"a\\0b\" has a NUL byte in its name");
    let gnu = Tar::default().entry(EntryType::GNULongName, b"././@LongLink", b"", b"../victim\0");
    refused(
        gnu.file("harmless", b"x").end(),
        "archive entry \"../victim\" climbs out with \"..\"",
    );
}

#[test]
fn names_have_a_length() {
    let pax = |path: &str| {
        Tar::default()
            .pax(EntryType::XHeader, &[("path", path)])
            .file("x", b"")
            .end()
    };
    let shown = "n".repeat(80);
    refused(
        pax(&"n".repeat(256)),
        &format!("archive entry \"{shown}…\" has a part of more than 255 bytes in its name"),
    );
    refused(
        pax(&"n".repeat(4097)),
        &format!("archive entry \"{shown}…\" has a name of 4097 bytes; at most 1024"),
    );
}

#[test]
fn links_that_lead_outside_are_refused() {
    for (name, target) in [
        ("out", "/etc"),
        ("out", ".."),
        ("out", "../canary"),
        ("a/out", "../../canary"),
        ("out", "a/../../canary"),
        // Through another link, `a/..` may be anywhere.
        ("out", "a/.."),
    ] {
        refused(
            Tar::default().link(name, target).end(),
            &format!(
                "archive entry {name:?} is a symbolic link that leads outside the project, to {target:?}"
            ),
        );
    }
    refused(
        Tar::default().link("out", "").end(),
        "archive entry \"out\" is a symbolic link with an unusable target, \"\"",
    );
}

#[test]
fn nothing_is_written_through_a_link() {
    refused(
        Tar::default().link("a", "b").file("a/file", b"x").end(),
        "archive entry \"a/file\" lies below \"a\", which is not a directory",
    );
    refused(
        Tar::default().link("a", "b").file("a", b"x").end(),
        "archive entry \"a\" is there twice",
    );
    refused(
        Tar::default().file("a", b"x").link("a", "b").end(),
        "archive entry \"a\" is there twice",
    );
    refused(
        Tar::default().dir("a").link("a", "b").end(),
        "archive entry \"a\" is there twice",
    );
    refused(
        Tar::default().file("a/b", b"x").link("a", "b").end(),
        "archive entry \"a\" is there twice",
    );
}

#[test]
fn an_entry_comes_once() {
    for names in [["a", "a"], ["a", "./a"], ["a/b", "a//b"]] {
        let name = names[0];
        let archive = Tar::default().file(names[0], b"1").file(names[1], b"2").end();
        refused(archive, &format!("archive entry {name:?} is there twice"));
    }
    refused(
        Tar::default().dir("a/").dir("a/").end(),
        "archive entry \"a\" is there twice",
    );
    refused(
        Tar::default().file("a", b"").dir("a/").end(),
        "archive entry \"a\" is there twice",
    );
    refused(
        Tar::default().file("a", b"").file("a/b", b"").end(),
        "archive entry \"a/b\" lies below \"a\", which is not a directory",
    );
}

#[test]
fn other_kinds_of_entries_are_refused() {
    for (kind, reason) in [
        (EntryType::Link, "is a hard link"),
        (EntryType::Char, "is a device"),
        (EntryType::Block, "is a device"),
        (EntryType::Fifo, "is a FIFO"),
        (EntryType::GNUSparse, "is a sparse file"),
        (EntryType::Continuous, "is of an unknown type"),
        (EntryType::new(b'M'), "is of an unknown type"),
        (EntryType::new(b'V'), "is of an unknown type"),
    ] {
        let archive = Tar::default().entry(kind, b"thing", b"../victim", b"").end();
        refused(archive, &format!("archive entry \"thing\" {reason}"));
    }
    refused(
        Tar::default().entry(EntryType::Directory, b"d/", b"", b"x").end(),
        "archive entry \"d/\" has data, but is not a file",
    );
    refused(
        Tar::default().file("d/", b"").end(),
        "archive entry \"d/\" is a file with the name of a directory",
    );
}

#[test]
fn sizes_that_two_readers_could_read_differently_are_refused() {
    let pax = |size| {
        Tar::default()
            .pax(EntryType::XHeader, &[("size", size)])
            .file("a", b"data")
            .end()
    };
    taken(&pax("4"));
    refused(pax("0"), "archive entry \"a\" states two sizes");
    refused(pax("1024"), "archive entry \"a\" states two sizes");
    refused(
        pax("-1"),
        "the archive has no valid header at byte 0: a size that is not a number",
    );
    refused(
        Tar::default()
            .pax(EntryType::XHeader, &[("path", "a"), ("path", "b")])
            .file("c", b"")
            .end(),
        "the archive has no valid header at byte 0: two extensions state the same",
    );
    refused(
        Tar::default()
            .pax(EntryType::XHeader, &[])
            .pax(EntryType::XHeader, &[])
            .file("c", b"")
            .end(),
        "the archive has no valid header at byte 512: two extensions for one entry",
    );
    refused(
        Tar::default()
            .pax(EntryType::XGlobalHeader, &[("path", "../victim")])
            .file("c", b"")
            .end(),
        "the archive has no valid header at byte 0: a global extension that renames or resizes entries",
    );
    refused(
        Tar::default()
            .pax(EntryType::XHeader, &[("GNU.sparse.major", "1")])
            .file("c", b"")
            .end(),
        "the archive has no valid header at byte 0: sparse files are not taken",
    );
    refused(
        Tar::default().pax(EntryType::XHeader, &[("path", "a")]).end(),
        "the archive has no valid header at byte 1024: an extension without an entry",
    );
}

#[test]
fn malformed_extensions_are_refused() {
    for data in [
        "",
        "x",
        "5 a=b",
        "99 a=b\n",
        "3 a\n",
        "0 a=b\n",
        "-6 a=b\n",
        "+7 a=b\n",
        "6 a=bc",
        "99999999999999999999 a=b\n",
    ] {
        let archive = Tar::default()
            .entry(EntryType::XHeader, b"pax", b"", data.as_bytes())
            .file("c", b"")
            .end();
        if data.is_empty() {
            taken(&archive);
        } else {
            refused(
                archive,
                "the archive has no valid header at byte 0: a malformed extension",
            );
        }
    }
    let archive = Tar::default()
        .entry(EntryType::XHeader, b"pax", b"", &[b'x'; 70_000])
        .file("c", b"")
        .end();
    refused(
        archive,
        "the archive has no valid header at byte 0: an extension of more than 64 KiB",
    );
}

#[test]
fn other_formats_are_named() {
    for (magic, format) in [
        (b"\x1f\x8b\x08\0".as_slice(), "compressed with gzip"),
        (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
        (b"\xfd7zXZ\0", "compressed with xz"),
        (b"BZh9", "compressed with bzip2"),
        (b"PK\x03\x04", "a zip file"),
    ] {
        refused(
            magic.to_vec(),
            &format!("the archive is {format}, not a plain tar file"),
        );
    }
}

#[test]
fn a_damaged_archive_is_refused_wherever_it_is_cut() {
    refused(Vec::new(), "the archive is empty");
    refused(
        vec![b'x'; 512],
        "the archive has no valid header at byte 0: its checksum does not match",
    );
    let whole = Tar::default().file("a", b"some data").dir("d/").end();
    let around_blocks = [511, 512, 513, 1023, 1024, 1025, 1535, 1536];
    for cut in (1..1536).step_by(37).chain(around_blocks) {
        let error = Place::new()
            .unpack(&whole[..cut], &ArchiveLimits::default())
            .expect_err("cut");
        assert!(matches!(error, ArchiveError::Truncated { .. }), "{cut}: {error}");
    }
    let mut flipped = whole.clone();
    flipped[3] ^= 1;
    refused(
        flipped,
        "the archive has no valid header at byte 0: its checksum does not match",
    );
    let mut longer = whole.clone();
    longer.extend(Tar::default().file("hidden", b"x").end());
    refused(
        longer,
        &format!(
            "the archive has no valid header at byte {}: data after the mark of its end",
            2048
        ),
    );
}

#[test]
fn how_much_is_unpacked_ends_somewhere() {
    let limits = ArchiveLimits {
        nodes_max: 3,
        unpacked_bytes_max: 1_000,
        file_bytes_max: 600,
    };
    let refused = |archive: Tar, message: &str| {
        let error = Place::new()
            .unpack(&archive.end(), &limits)
            .expect_err("must be refused");
        assert_eq!(error.to_string(), message);
        assert_eq!(BuildError::from(error).code(), Code::B10);
    };
    refused(
        Tar::default()
            .file("a", b"")
            .file("b", b"")
            .file("c", b"")
            .file("d", b""),
        "archive entry \"d\" is one too many: at most 3 files and directories are unpacked",
    );
    // One entry makes a folder for each slash in its name.
    refused(
        Tar::default().file("a/b/c/d", b""),
        "archive entry \"a/b/c/d\" is one too many: at most 3 files and directories are unpacked",
    );
    refused(
        Tar::default().file("a", &[0; 601]),
        "archive entry \"a\" of 601 bytes is too large: at most 600 are unpacked of one file",
    );
    refused(
        Tar::default().file("a", &[0; 600]).file("b", &[0; 401]),
        "archive entry \"b\" of 401 bytes is too large: at most 1000 are unpacked in all",
    );
    // A header alone claims what never comes: refused before a byte is written.
    let claim = Tar::default()
        .header(EntryType::Regular, b"a", b"", 7 << 30, 0o644)
        .0;
    let error = Place::new()
        .unpack(&claim, &ArchiveLimits::default())
        .expect_err("claim");
    assert!(matches!(error, ArchiveError::TooLarge { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_bytes_make_it_panic_or_reach_outside(
        names in proptest::collection::vec("[./ab\u{e9}]{0,12}", 0..6),
        kinds in proptest::collection::vec(0_u8..8, 6),
        flips in proptest::collection::vec((0_usize..4_096, any::<u8>()), 0..3),
    ) {
        let mut tar = Tar::default();
        for (name, kind) in names.iter().zip(kinds) {
            let data: &[u8] = if kind == 0 { b"x" } else { b"" };
            tar = tar.entry(EntryType::new(b'0' + kind), name.as_bytes(), b"../canary", data);
        }
        let mut archive = tar.end();
        for (at, value) in flips {
            if let Some(byte) = archive.get_mut(at) {
                *byte = value;
            }
        }
        let _ = Place::new().unpack(&archive, &ArchiveLimits::default());
    }
}
