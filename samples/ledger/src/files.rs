//! Files, by the standard library: paths are as they are asked for, since no path leads out of a volume.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
};

use crate::Answer;

/// Does one thing with a file or directory.
pub fn files(what: &str, path: &str, to: &str, body: &[u8]) -> Answer {
    match work(what, path, to, body) {
        Ok(text) => (200, text),
        Err(error) => (422, format!("{:?}: {error}", error.kind())),
    }
}

fn work(what: &str, path: &str, to: &str, body: &[u8]) -> io::Result<String> {
    let done = |()| "done".to_owned();
    match what {
        "write" => fs::write(path, body).map(done),
        "append" => {
            let mut file = OpenOptions::new().append(true).create(true).open(path)?;
            file.write_all(body)?;
            file.sync_all().map(done)
        }
        "read" => fs::read_to_string(path),
        "list" => {
            let entries: io::Result<Vec<_>> = fs::read_dir(path)?.collect();
            let mut names: Vec<_> = entries?.iter().map(|entry| entry.file_name()).collect();
            names.sort();
            let names: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
            Ok(names.join(" "))
        }
        "mkdir" => fs::create_dir(path).map(done),
        "rmdir" => fs::remove_dir(path).map(done),
        "remove" => fs::remove_file(path).map(done),
        "rename" => fs::rename(path, to).map(done),
        "hard-link" => fs::hard_link(path, to).map(done),
        "truncate" => {
            let size = to.parse().map_err(io::Error::other)?;
            OpenOptions::new().write(true).open(path)?.set_len(size).map(done)
        }
        "size" => Ok(fs::metadata(path)?.len().to_string()),
        // A file of one name for a moment only: its room is given back when it is closed.
        "scratch" => {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(path)?;
            fs::remove_file(path)?;
            file.write_all(body)?;
            file.seek(SeekFrom::Start(0))?;
            let mut read = String::new();
            file.read_to_string(&mut read)?;
            Ok(read)
        }
        // The file again and again at its end, as far as there is room.
        "fill" => {
            let mut file = OpenOptions::new().append(true).create(true).open(path)?;
            loop {
                file.write_all(body)?;
            }
        }
        other => Err(io::Error::other(format!("{other} is nothing to do with a file"))),
    }
}
