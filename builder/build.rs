//! Finds the files of `packs/` and the WIT packages of `../wit`, so that they ship in the program.
//!
//! Out flows a source file with two lists of paths and contents, in the order of their paths: a file that is
//! added below those folders needs no line anywhere.

use std::{env, fmt::Write as _, fs, io, path::Path};

/// Largest file of a pack: scripts and the sources of adapters; what is larger, `setup` fetches.
const FILE_BYTES_MAX: u64 = 1 << 20;

fn main() -> io::Result<()> {
    let own = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let own = Path::new(&own);
    let wit = own.join("../wit");
    let mut text = String::new();
    list(&mut text, "PACKS", &own.join("packs"), &["."])?;
    list(&mut text, "WIT", &wit, &["app", "deps", "worker"])?;
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&out).join("shipped.rs"), text)
}

/// A constant with the files of these folders below `root`.
fn list(text: &mut String, name: &str, root: &Path, folders: &[&str]) -> io::Result<()> {
    let root = root.canonicalize()?;
    let mut files = Vec::new();
    for folder in folders {
        let folder = root.join(folder).canonicalize()?;
        println!("cargo::rerun-if-changed={}", folder.display());
        walk(&folder, &mut files)?;
    }
    files.sort();
    writeln!(text, "const {name}: &[(&str, &[u8])] = &[").map_err(io::Error::other)?;
    for file in files {
        let path = Path::new(&file);
        let below = path.strip_prefix(&root).map_err(io::Error::other)?;
        let below = below
            .to_str()
            .ok_or_else(|| io::Error::other("a name is not UTF-8"))?;
        // What stands beside the folders is for people.
        if below.contains('/') {
            writeln!(text, "    ({below:?}, include_bytes!({file:?})),").map_err(io::Error::other)?;
        }
    }
    writeln!(text, "];").map_err(io::Error::other)
}

fn walk(folder: &Path, files: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, files)?;
            continue;
        }
        let bytes = fs::metadata(&path)?.len();
        let path = path
            .to_str()
            .ok_or_else(|| io::Error::other("a name is not UTF-8"))?;
        if bytes > FILE_BYTES_MAX {
            let wrong = format!("{path} has {bytes} bytes; a pack's file has at most {FILE_BYTES_MAX}");
            return Err(io::Error::other(wrong));
        }
        files.push(path.to_string());
    }
    Ok(())
}
