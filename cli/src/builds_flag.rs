//! How sources are built: flags that every role that holds the API has alike.
//!
//! In: flags, variables and the data folder. Out: the command of the build child, and where its tools are.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use gilliam_builder::network::Registries;

use crate::{args::size, git_child::Submodules, home::Environment, program, ui::Ui};

/// Tools that packs' `setup` puts together, below the data folder.
const TOOLS: &str = "tools";

/// Which languages there are, and where their tools.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct PacksFlags {
    /// Folder of packs, which come beside the shipped ones, or in place of one of the same name.
    #[arg(long, global = true, value_name = "DIR")]
    packs: Option<PathBuf>,
    /// Folder of the languages' tools, which `gilliam packs install` fills [default: GILLIAM_TOOLS, or DATA/tools]
    #[arg(long, global = true, value_name = "DIR")]
    tools: Option<PathBuf>,
}

impl PacksFlags {
    /// The folder of tools; none without a flag, a variable and a data folder.
    pub(crate) fn tools(&self, environment: &Environment, data: Option<&Path>) -> Option<PathBuf> {
        let named = self.tools.clone().or_else(|| environment.tools.clone());
        named.map(absolute).or_else(|| Some(data?.join(TOOLS)))
    }

    /// The operator's own packs.
    pub(crate) fn own(&self) -> Option<PathBuf> {
        self.packs.clone().map(absolute)
    }
}

/// Scripts and sandboxes have other working folders. Where even that is unknown, errors name the path as it is.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// How sources are built.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Builds")]
pub(crate) struct BuildsFlags {
    #[command(flatten)]
    packs: PacksFlags,
    /// Bytes of what builds leave for the next ones of their app; apps that were built longest ago lose theirs first.
    #[arg(long, value_name = "SIZE", default_value = "10GiB", value_parser = size)]
    build_cache_size: u64,
    /// Who builds may reach by HTTPS: tools (the registries that a language's tools name), HOST or HOST:PORT, or none.
    #[arg(long, value_name = "LIST", default_value_t = Registries::default())]
    build_registries: Registries,
    /// Who a pushed commit's submodules are fetched from, by HTTPS: public (whoever has a public address), any, HOST or
    /// HOST:PORT (which may be private), or none.
    #[arg(long, value_name = "LIST", default_value_t = Submodules::default())]
    submodules: Submodules,
    /// Builds sources without a sandbox, where the kernel allows no user namespaces.
    ///
    /// Every build can then read what the server can read, its data folder and tokens too.
    #[arg(long)]
    unsandboxed_builds: bool,
}

impl BuildsFlags {
    /// The command of a build, to which the archive and the images are added.
    pub(crate) fn command(&self, environment: &Environment, data: &Path) -> Vec<OsString> {
        let mut command: Vec<OsString> = vec![program::path().into(), "internal".into(), "build".into()];
        let tools = self.packs.tools(environment, Some(data));
        for (flag, folder) in [("--tools", tools), ("--packs", self.packs.own())] {
            command.extend(folder.into_iter().flat_map(|folder| [flag.into(), folder.into()]));
        }
        command.extend(["--registries".into(), self.build_registries.to_string().into()]);
        command.extend(["--cache-size".into(), self.build_cache_size.to_string().into()]);
        command.extend(self.unsandboxed_builds.then(|| "--unsandboxed-builds".into()));
        command
    }

    /// The command that reads pushes, to which its role is added.
    pub(crate) fn git_command(&self) -> Vec<OsString> {
        let words = ["internal", "git", "--submodules", &self.submodules.to_string()].map(OsString::from);
        [program::path().into()].into_iter().chain(words).collect()
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
