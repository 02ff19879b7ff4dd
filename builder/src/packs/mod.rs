//! Packs: folders of scripts that turn the sources of one language into a component.
//!
//! In flow the pack that takes an entry's first word, the project and the command; out flow the bytes of one
//! `.wasm` file, which is trusted no more than an upload. What a pack's scripts are given and how they answer is
//! the contract of `packs/README.md`. Nothing here knows a language.
//!
//! Invariant: `build`, and with it all code of the project, runs in the sandbox; outside of it runs `tools`,
//! which is the operator's and sees neither project nor command.

mod arguments;
mod shipped;
mod tools;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use cap_std::{ambient_authority, fs::Dir};

use crate::{
    network::{self, Host, Network, Registries},
    sandbox::{self, Cell, Limits, Mode, SandboxError, Shown},
};

pub(crate) use shipped::wit;
pub use shipped::{init_files, languages};
pub use tools::Tools;

/// The folder of a build's result, in its scratch folder.
pub const OUT: &str = "out";
/// The file in it.
pub const RESULT: &str = "component.wasm";
/// All that scripts find in their environment beside the contract.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// `build` says that the project is at fault, in its last lines.
const EXIT_PROJECT: i32 = 65;
/// Lines of a failed build that its message repeats.
const LAST_LINES: usize = 12;

/// Why a pack made no component.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The project does not build.
    #[error("{command}: {}", last.join("\n"))]
    Project {
        /// The Procfile's command.
        command: String,
        /// The end of its output.
        last: Vec<String>,
    },
    /// The script ended in a way that says nothing about the project.
    #[error("{command}: the {pack} pack ended with status {status}: {}", last.join("\n"))]
    Failed {
        /// The Procfile's command.
        command: String,
        /// The pack's name.
        pack: String,
        /// Its exit code; above 128, a signal.
        status: i32,
        /// The end of its output.
        last: Vec<String>,
    },
    /// The machine lacks what the pack needs.
    #[error("the {pack} pack is not ready on this server: {reason}")]
    NotReady {
        /// The pack's name.
        pack: String,
        /// What is missing.
        reason: String,
        /// What to do.
        hint: Option<String>,
    },
    /// No result, though the script was content.
    #[error("{command}: the {pack} pack made no component")]
    Nothing {
        /// The Procfile's command.
        command: String,
        /// The pack's name.
        pack: String,
    },
    /// The arguments it named cannot be a process's.
    #[error("{command}: the {pack} pack named wrong arguments: {reason}")]
    Arguments {
        /// The Procfile's command.
        command: String,
        /// The pack's name.
        pack: String,
        /// What is wrong with them.
        reason: String,
    },
    /// The sandbox stopped it, or there is none.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A folder of packs cannot be used.
    #[error("cannot read the pack {pack}")]
    Broken {
        /// The pack's name.
        pack: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl PackError {
    /// The way out.
    pub fn hint(&self) -> Option<String> {
        match self {
            PackError::NotReady { hint, .. } => hint.clone(),
            PackError::Sandbox(SandboxError::Unavailable(_)) => Some(
                "allow user namespaces on the server, or start it with --unsandboxed-builds, which lets every \
                 build read what the server can read"
                    .to_string(),
            ),
            _ => None,
        }
    }
}

/// A language's scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// Its folder's name.
    pub name: String,
    /// First words of commands that it takes.
    pub words: Vec<String>,
    pub(crate) folder: PathBuf,
}

/// The packs of this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packs(BTreeMap<String, Pack>);

impl Packs {
    /// The shipped packs, written below `folder`, with those of the operator added or in their place.
    pub fn open(folder: &Path, operators: Option<&Path>) -> Result<Self, PackError> {
        let broken = |source| PackError::Broken {
            pack: "folder".to_string(),
            source,
        };
        shipped::write_packs(folder).map_err(broken)?;
        let mut packs = BTreeMap::new();
        for folder in [Some(folder), operators].into_iter().flatten() {
            for entry in fs::read_dir(folder).map_err(broken)? {
                let entry = entry.map_err(broken)?;
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                if entry.path().join("words").is_file() {
                    packs.insert(name.clone(), Pack::read(name, entry.path())?);
                }
            }
        }
        Ok(Self(packs))
    }

    /// Packs that have words and nothing else.
    #[cfg(test)]
    pub(crate) fn of<const N: usize>(packs: [(&str, &[&str]); N]) -> Self {
        let pack = |(name, words): (&str, &[&str])| Pack {
            name: name.to_string(),
            words: words.iter().map(ToString::to_string).collect(),
            folder: PathBuf::new(),
        };
        Self(
            packs
                .map(pack)
                .into_iter()
                .map(|pack| (pack.name.clone(), pack))
                .collect(),
        )
    }

    /// The pack of this name.
    pub fn named(&self, name: &str) -> Option<&Pack> {
        self.0.get(name)
    }

    /// The pack that takes commands of this first word.
    pub fn of_word(&self, word: &str) -> Option<&Pack> {
        self.0
            .values()
            .find(|pack| pack.words.iter().any(|taken| taken == word))
    }

    /// All packs, by name.
    pub fn all(&self) -> impl Iterator<Item = &Pack> {
        self.0.values()
    }

    /// The first words that some pack takes.
    pub fn words(&self) -> Vec<String> {
        let words = self.0.values().flat_map(|pack| pack.words.iter().cloned());
        words.collect()
    }
}

/// How this server builds sources.
#[derive(Debug, Clone, Copy)]
pub struct Workshop<'a> {
    /// The operator's own packs.
    pub packs: Option<&'a Path>,
    /// Tools that were put together by packs' `setup`, a folder for each pack.
    pub tools: Option<&'a Path>,
    /// How a pack's `build` is run.
    pub mode: Mode<'a>,
    /// What it may use.
    pub limits: Limits,
    /// Who it may reach; without a sandbox, whether it is told to.
    pub registries: &'a Registries,
}

impl Default for Workshop<'_> {
    /// Without packs of an operator, tools, a sandbox and a network.
    fn default() -> Self {
        Self {
            packs: None,
            tools: None,
            mode: Mode::default(),
            limits: Limits::default(),
            registries: &network::NOBODY,
        }
    }
}

impl Workshop<'_> {
    /// Who builds with these tools may reach.
    pub fn hosts(&self, tools: &Tools) -> Vec<Host> {
        self.registries.of_tools(&tools.registries)
    }
}

/// What a build by a pack is given.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The process type.
    pub process: &'a str,
    /// Its command.
    pub words: &'a [String],
    /// The command as it was written.
    pub command: &'a str,
    /// The project, which the build may change.
    pub project: &'a Path,
    /// A folder of this build alone, beside the project.
    pub scratch: &'a Path,
    /// What earlier builds of this app by this pack left, which the build may change.
    pub cache: &'a Path,
    /// What the pack has on this machine.
    pub tools: &'a Tools,
    /// How this server builds.
    pub workshop: Workshop<'a>,
}

/// What a pack made.
#[derive(Debug)]
pub struct Done {
    /// The folder of the result.
    pub out: Dir,
    /// The arguments of the process, the program's name first.
    pub arguments: Option<Vec<String>>,
}

impl Pack {
    fn read(name: String, folder: PathBuf) -> Result<Self, PackError> {
        match fs::read_to_string(folder.join("words")) {
            Ok(text) => Ok(Self {
                name,
                words: text.split_whitespace().map(str::to_string).collect(),
                folder,
            }),
            Err(source) => Err(PackError::Broken { pack: name, source }),
        }
    }

    fn broken(&self, source: io::Error) -> PackError {
        PackError::Broken {
            pack: self.name.clone(),
            source,
        }
    }

    /// Builds a component: the file [`RESULT`] in the folder [`OUT`] of the scratch folder, or nothing.
    ///
    /// The answer is that folder, which holds what a stranger wrote, and the arguments of the process, where the
    /// build named any.
    pub fn build(&self, order: &Order<'_>, output: &mut dyn FnMut(&str)) -> Result<Done, PackError> {
        output(&format!(
            "-----> {}: {} with the {} pack",
            order.process, order.command, self.name
        ));
        let versions = order.tools.versions.iter();
        versions.for_each(|version| output(&format!("       {version}")));
        if matches!(order.workshop.mode, Mode::Open(_)) {
            output(
                " !     This server builds without a sandbox, with all of its network (--unsandboxed-builds).",
            );
        }
        let cell = self.cell(order).map_err(|source| self.broken(source))?;
        let mut last: Vec<String> = Vec::new();
        let status = sandbox::run(order.workshop.mode, &cell, &mut |line| {
            output(&format!("       {line}"));
            if !line.trim().is_empty() {
                last.push(line.to_string());
            }
            if last.len() > LAST_LINES {
                last.remove(0);
            }
        })?;
        let command = order.command.to_string();
        match status {
            0 => self.done(order),
            EXIT_PROJECT => Err(PackError::Project { command, last }),
            _ => Err(PackError::Failed {
                command,
                pack: self.name.clone(),
                status,
                last,
            }),
        }
    }

    fn done(&self, order: &Order<'_>) -> Result<Done, PackError> {
        let out = Dir::open_ambient_dir(order.scratch.join(OUT), ambient_authority());
        let out = out.map_err(|source| self.broken(source))?;
        let arguments = arguments::read(&out).map_err(|reason| PackError::Arguments {
            command: order.command.to_string(),
            pack: self.name.clone(),
            reason,
        })?;
        Ok(Done { out, arguments })
    }

    fn cell(&self, order: &Order<'_>) -> io::Result<Cell> {
        // As it is on the host, or as the sandbox shows it.
        let apart = matches!(order.workshop.mode, Mode::Apart(_));
        let mut shown = Vec::new();
        let mut place = |from: &Path, name: &str, writable: bool| {
            let from = from.to_path_buf();
            let to = if apart { PathBuf::from(name) } else { from.clone() };
            shown.push(Shown {
                from,
                to: to.clone(),
                writable,
            });
            to.to_string_lossy().into_owned()
        };
        let own = |name: &str| {
            let folder = order.scratch.join(name);
            fs::create_dir_all(&folder).map(|()| folder)
        };
        let (out, home) = (own(OUT)?, own("home")?);
        let folder = place(order.project, "/work", true);
        let out = place(&out, "/out", true);
        let home = place(&home, "/home/build", true);
        let cache = place(order.cache, "/cache", true);
        let pack = place(&self.folder, "/pack", false);
        let wit = own("wit")?;
        shipped::write_wit(&wit)?;
        let wit = place(&wit, "/wit", false);
        let variable = |name: &str, value: String| (name.to_string(), value);
        let mut environment = vec![
            variable("PATH", PATH.to_string()),
            variable("LANG", "C.UTF-8".to_string()),
            variable("HOME", home),
            variable("GILLIAM_PROCESS", order.process.to_string()),
            variable("GILLIAM_OUT", format!("{out}/{RESULT}")),
            variable("GILLIAM_ARGS", format!("{out}/{}", arguments::ARGUMENTS)),
            variable("GILLIAM_CACHE", cache),
            variable("GILLIAM_WIT", wit),
            variable("GILLIAM_PACK", pack.clone()),
        ];
        for (name, folder) in &order.tools.folders {
            // Where they are on the host: tools remember where they were installed.
            let path = folder.to_string_lossy().into_owned();
            environment.push(variable(&format!("GILLIAM_{name}"), place(folder, &path, false)));
        }
        let hosts = order.workshop.hosts(order.tools);
        if !hosts.is_empty() {
            environment.push(variable("GILLIAM_NETWORK", "1".to_string()));
        }
        let network = (apart && !hosts.is_empty()).then(|| Network {
            socket: order.scratch.join("network"),
            hosts,
        });
        if network.is_some() {
            let proxy = format!("http://127.0.0.1:{}", network::PORT);
            environment.push(variable("HTTPS_PROXY", proxy.clone()));
            environment.push(variable("https_proxy", proxy));
        }
        let mut program = vec![format!("{pack}/build")];
        program.extend_from_slice(order.words);
        Ok(Cell {
            root: own("root")?,
            shown,
            program,
            environment,
            folder: folder.into(),
            limits: order.workshop.limits,
            network,
        })
    }
}

/// How builds are run when they are not open: this program with the sandbox's role.
pub fn own_sandbox(role: &[&str]) -> io::Result<Vec<OsString>> {
    let program = std::env::current_exe()?;
    Ok(std::iter::once(program.into())
        .chain(role.iter().map(OsString::from))
        .collect())
}
