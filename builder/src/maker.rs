//! Where the bytes of a process's component come from: a file of the project, the result of an earlier build of
//! the same sources, or a build.
//!
//! Each build gets a copy of the project of its own, so that what one leaves there is no input of the next.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::SystemTime,
};

use cap_std::{ambient_authority, fs::Dir};

use crate::{
    BuildError, BuildRequest,
    archive::{self, ArchiveLimits},
    cache::{AppCache, Kept, Key, Times},
    detect::Source,
    link::Part,
    packs::{self, Order, Pack, PackError, Packs, Tools},
    prebuilt::{self, PrebuiltError},
    procfile::Entry,
    sandbox::{Mode, SandboxError, Stop},
    tree::{self, Tree},
};

/// Makes the components of one deploy.
pub(crate) struct Maker<'a> {
    request: &'a BuildRequest<'a>,
    /// Of this deploy alone.
    folder: &'a Path,
    project: &'a Dir,
    packs: &'a Packs,
    /// What the first source needs.
    shared: Option<Shared>,
    builds: usize,
}

/// What builds of one deploy have in common.
struct Shared {
    tree: Tree,
    cache: Option<AppCache>,
    times: Option<Times>,
}

impl<'a> Maker<'a> {
    /// A maker for the project in `project`, which works in `folder`.
    pub(crate) fn new(
        request: &'a BuildRequest<'a>,
        folder: &'a Path,
        project: &'a Dir,
        packs: &'a Packs,
    ) -> Self {
        Self {
            request,
            folder,
            project,
            packs,
            shared: None,
            builds: 0,
        }
    }

    /// The packs that it builds with.
    pub(crate) fn packs(&self) -> &'a Packs {
        self.packs
    }

    /// Finds or builds the bytes of a component.
    pub(crate) fn make(
        &mut self,
        source: &Source,
        entry: &Entry,
        output: &mut dyn FnMut(&str),
    ) -> Result<Kept, BuildError> {
        let (pack, words) = match source {
            Source::Prebuilt { path } => {
                return Ok(Kept {
                    bytes: prebuilt::read(self.project, path, &place(entry))?,
                    arguments: None,
                });
            }
            Source::Sources { pack, words } => (pack, words),
        };
        let pack = self.packs.named(pack).expect("detect names packs that are there");
        let tools = pack.tools(self.request.workshop.tools)?;
        let mut shared = match self.shared.take() {
            Some(shared) => shared,
            None => self.share(output)?,
        };
        let key =
            key(pack, words, &tools, &shared.tree, self.request).map_err(|source| scratch("read", source))?;
        let known = shared.cache.as_ref().and_then(|cache| cache.result(&key));
        let made = match known {
            Some(kept) => {
                output(&format!("-----> {}: unchanged, taken from the cache", entry.name));
                Ok(kept)
            }
            None => self.build(pack, words, &tools, entry, &mut shared, output),
        };
        if let (Ok(kept), Some(cache)) = (&made, &shared.cache) {
            warn(cache.keep(&key, kept), output);
        }
        self.shared = Some(shared);
        made
    }

    /// Reads the library components that a process links.
    pub(crate) fn libraries(&self, paths: &[String], entry: &Entry) -> Result<Vec<Part>, BuildError> {
        let place = format!("gilliam.toml, link of {}", entry.name);
        let parts = paths.iter().map(|path| {
            Ok(Part {
                name: path.clone(),
                bytes: prebuilt::read(self.project, path, &place)?,
            })
        });
        parts.collect()
    }

    /// Reads the project and opens the app's cache.
    fn share(&self, output: &mut dyn FnMut(&str)) -> Result<Shared, BuildError> {
        let tree = Tree::of(self.project).map_err(|source| scratch("read the project's files", source))?;
        let opened = self.request.cache.as_ref().map(AppCache::open);
        let cache = match opened {
            Some(Ok(None)) => {
                output(" !     Another build uses this app's cache; this one begins without.");
                None
            }
            Some(opened) => warn(opened, output).flatten(),
            None => None,
        };
        Ok(Shared {
            tree,
            cache,
            times: None,
        })
    }

    fn build(
        &mut self,
        pack: &Pack,
        words: &[String],
        tools: &Tools,
        entry: &Entry,
        shared: &mut Shared,
        output: &mut dyn FnMut(&str),
    ) -> Result<Kept, BuildError> {
        let folder = self.folder.join(format!("build-{}", self.builds));
        self.builds += 1;
        let project = folder.join("work");
        self.unpack(&project, shared, output)?;
        let empty = folder.join("cache");
        fs::create_dir(&empty).map_err(|source| scratch("make the build's folders", source))?;
        let kept = shared
            .cache
            .as_ref()
            .and_then(|cache| warn(cache.pack(&pack.name), output));
        let order = Order {
            process: entry.name.as_str(),
            words,
            command: &entry.command,
            project: &project,
            scratch: &folder,
            cache: kept.as_deref().unwrap_or(&empty),
            tools,
            workshop: self.request.workshop,
        };
        let built = pack.build(&order, output);
        if let (Some(cache), Err(PackError::Sandbox(SandboxError::Stopped(stop)))) = (&shared.cache, &built)
            && matches!(stop, Stop::Disk(_) | Stop::Entries(_) | Stop::Room)
        {
            // Else the next build of this app would begin as full as this one ended.
            cache.forget(&pack.name);
        }
        let packs::Done { out, arguments } = built?;
        match prebuilt::read(&out, packs::RESULT, &place(entry)) {
            Err(PrebuiltError::Missing { .. }) => Err(PackError::Nothing {
                command: entry.command.clone(),
                pack: pack.name.clone(),
            }
            .into()),
            read => Ok(Kept {
                bytes: read?,
                arguments,
            }),
        }
    }

    /// Unpacks a copy of the project for one build.
    fn unpack(
        &self,
        into: &Path,
        shared: &mut Shared,
        output: &mut dyn FnMut(&str),
    ) -> Result<(), BuildError> {
        let failed = |source| scratch("unpack a copy of the project", source);
        fs::create_dir_all(into).map_err(failed)?;
        let project = Dir::open_ambient_dir(into, ambient_authority()).map_err(failed)?;
        let archive = File::open(self.request.archive).map_err(failed)?;
        archive::unpack(archive, &project, &ArchiveLimits::default())?;
        let Some(cache) = &shared.cache else { return Ok(()) };
        let (times, places) = cache.times(&shared.tree, SystemTime::now());
        // Before the build: one that is killed has made what is newer than these.
        if warn(cache.keep_times(&times), output).is_none() {
            return Ok(());
        }
        shared.times = Some(times);
        let places = places.iter().map(|(path, time)| (path.as_path(), *time));
        tree::set_times(&project, places).map_err(failed)
    }

    /// Ends the deploy's use of the cache.
    pub(crate) fn end(self, output: &mut dyn FnMut(&str)) {
        let Some(Shared {
            cache: Some(cache),
            times,
            ..
        }) = self.shared
        else {
            return;
        };
        if let Some(mut times) = times {
            times.end(SystemTime::now());
            warn(cache.keep_times(&times), output);
        }
        for pack in warn(cache.finish(), output).into_iter().flatten() {
            output(&format!(
                " !     The cache of the {pack} pack was too large and is gone."
            ));
        }
    }
}

fn place(entry: &Entry) -> String {
    format!("Procfile line {}", entry.line)
}

fn scratch(action: &'static str, source: io::Error) -> BuildError {
    BuildError::Scratch { action, source }
}

/// A cache that cannot be used costs time, which its users should know of.
fn warn<T>(result: io::Result<T>, output: &mut dyn FnMut(&str)) -> Option<T> {
    result
        .map_err(|error| output(&format!(" !     The build cache cannot be used: {error}")))
        .ok()
}

/// What a result is made of. Which process it is for is no part of it.
fn key(
    pack: &Pack,
    words: &[String],
    tools: &Tools,
    tree: &Tree,
    request: &BuildRequest<'_>,
) -> io::Result<Key> {
    let scripts = Tree::of(&Dir::open_ambient_dir(&pack.folder, ambient_authority())?)?;
    let folders = tools.folders.iter();
    let folders: Vec<String> = folders
        .map(|(name, path)| format!("{name} {}", path.display()))
        .collect();
    let open = matches!(request.workshop.mode, Mode::Open(_));
    let key = Key::new()
        .with("pack", [pack.name.as_bytes(), &scripts.sum()])
        .with("wit", packs::wit())
        .with("open", [&[u8::from(open)][..]])
        .with("project", [&tree.sum()[..]]);
    let hosts = request.workshop.hosts(tools);
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let all = [
        ("words", words),
        ("folders", &folders),
        ("versions", &tools.versions),
        ("hosts", &hosts),
    ];
    Ok(all.into_iter().fold(key, |key, (name, texts)| {
        key.with(name, texts.iter().map(String::as_bytes))
    }))
}
