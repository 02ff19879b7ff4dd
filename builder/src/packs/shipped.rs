//! The packs that are part of the program, as files.
//!
//! Each build writes its own copy into its scratch folder, so that no build finds what another has changed.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

/// Executable files.
const SCRIPT: u32 = 0o755;
/// All others.
const PLAIN: u32 = 0o644;

/// Path below the folder of packs, contents, mode.
const FILES: &[(&str, &str, u32)] = &[
    ("rust/words", include_str!("../../packs/rust/words"), PLAIN),
    ("rust/tools", include_str!("../../packs/rust/tools"), SCRIPT),
    ("rust/build", include_str!("../../packs/rust/build"), SCRIPT),
];

/// Writes all below `folder`.
pub(super) fn write(folder: &Path) -> io::Result<()> {
    for (path, text, mode) in FILES {
        let path = folder.join(path);
        let parent = path.parent().expect("a path in a folder");
        fs::create_dir_all(parent)?;
        fs::set_permissions(parent, fs::Permissions::from_mode(SCRIPT))?;
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
    }
    Ok(())
}
