//! How sources are built: flags that every role that holds the API has alike.
//!
//! In: flags and the data folder. Out: the command of the build child.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::{program, ui::Ui};

/// Tools that packs' `setup` puts together, below the data folder.
const TOOLS: &str = "tools";

/// How sources are built.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Builds")]
pub(crate) struct BuildsFlags {
    /// Folder of packs, which come beside the shipped ones, or in place of one of the same name.
    #[arg(long, value_name = "DIR")]
    packs: Option<PathBuf>,
    /// Builds sources without a sandbox, where the kernel allows no user namespaces.
    ///
    /// Every build can then read what the server can read, its data folder and tokens too.
    #[arg(long)]
    unsandboxed_builds: bool,
}

impl BuildsFlags {
    /// The command of a build, to which the archive and the images are added.
    pub(crate) fn command(&self, data: &Path) -> Vec<OsString> {
        let mut command: Vec<OsString> = vec![program::path().into(), "internal".into(), "build".into()];
        command.extend(["--tools".into(), data.join(TOOLS).into()]);
        if let Some(packs) = &self.packs {
            command.extend(["--packs".into(), packs.into()]);
        }
        command.extend(self.unsandboxed_builds.then(|| "--unsandboxed-builds".into()));
        command
    }

    /// Says at the start what is not as safe as it could be.
    pub(crate) fn warn(&self, ui: &Ui) {
        if self.unsandboxed_builds {
            ui.note(
                "warning: builds of sources run without a sandbox (--unsandboxed-builds): whoever may deploy \
                 can read what this server can",
            );
        }
    }
}
