//! Files that only stand for others: pointers of Git LFS, whose content is on another server.

use super::{
    ArchiveError,
    entry::{Content, Entries},
    git::Objects,
};

/// What a pointer begins with (Git LFS specification, version 1).
const BEGIN: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";
/// Largest pointer (the same).
const POINTER_BYTES_MAX: u64 = 1024;
/// The file that says which files are kept so.
const ATTRIBUTES: &str = ".gitattributes";

/// What is said of pointers among the files of a commit; nothing where no `.gitattributes` asks for Git LFS.
pub(super) fn hint(entries: &Entries, objects: &mut Objects) -> Result<Option<String>, ArchiveError> {
    let attributes = entries.text(ATTRIBUTES, Some(&mut *objects))?;
    if !attributes.is_some_and(|text| text.contains("filter=lfs")) {
        return Ok(None);
    }
    let mut pointers = Vec::new();
    for (path, entry) in entries.iter() {
        if let Content::Object(id) = &entry.content
            && (BEGIN.len() as u64..POINTER_BYTES_MAX).contains(&entry.bytes)
            && is_pointer(id, objects).map_err(|source| ArchiveError::Read {
                path: path.into(),
                source,
            })?
        {
            pointers.push(path);
        }
    }
    let Some(first) = pointers.first() else {
        return Ok(None);
    };
    let others = match pointers.len() - 1 {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    Ok(Some(format!(
        "{first}{others}: a commit holds only a pointer of Git LFS for it, and that is what is deployed; \
         gilliam deploy . sends the file itself"
    )))
}

fn is_pointer(id: &str, objects: &mut Objects) -> std::io::Result<bool> {
    objects.read(id, |content, _| {
        let mut begin = [0; BEGIN.len()];
        Ok(content.read_exact(&mut begin).is_ok() && begin == BEGIN)
    })
}
