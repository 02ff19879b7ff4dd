//! The build itself: one pass from the archive to the image.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use cap_std::{ambient_authority, fs::Dir};
use gilliam_model::{
    cron::{Cron, check_targets},
    digest::Digest,
    image::{Image, Process, Shape},
    imports::Imports,
    name::CronName,
    queue::check_terms,
    text::excerpt,
};

use crate::{
    BuildError,
    archive::{self, ArchiveLimits},
    cache::{CacheRequest, Kept},
    component::{self, Origin},
    detect::{self, Source},
    layout::{Layout, Staged},
    maker::Maker,
    manifest::{self, MANIFEST, MANIFEST_BYTES_MAX, Manifest, ManifestError, Settings},
    offer::Offer,
    packs::{Packs, Workshop},
    procfile::{self, Entry, PROCFILE, PROCFILE_BYTES_MAX, ProcfileError},
    scratch::Scratch,
    seal,
};

/// What to build, and where to.
#[derive(Debug, Clone, Copy)]
pub struct BuildRequest<'a> {
    /// The tar file. It is unpacked in a fresh folder beside it, which is removed again.
    pub archive: &'a Path,
    /// The OCI image layout, which is made when there is none.
    pub blobs: &'a Path,
    /// How sources are built.
    pub workshop: Workshop<'a>,
    /// What earlier builds of the app left; without it every build begins with nothing.
    pub cache: Option<CacheRequest<'a>>,
}

/// A finished image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The digest of its manifest.
    pub digest: Digest,
    /// What is in it.
    pub image: Image,
}

/// Builds an image; `output` gets each line for people as it happens.
///
/// Errors: [`BuildError`]; then no blob was stored.
pub fn build(request: &BuildRequest<'_>, output: &mut dyn FnMut(&str)) -> Result<Sealed, BuildError> {
    let scratch = |action| move |source| BuildError::Scratch { action, source };
    let beside = request.archive.parent().unwrap_or(Path::new("."));
    let folder = Scratch::beside(beside).map_err(scratch("make a folder beside the archive"))?;
    let files = folder.path().join("project");
    let project = fs::create_dir(&files).and_then(|()| Dir::open_ambient_dir(&files, ambient_authority()));
    let project = project.map_err(scratch("open the folder beside the archive"))?;

    let archive = File::open(request.archive).map_err(scratch("open the archive"))?;
    let unpacked = archive::unpack(archive, &project, &ArchiveLimits::default())?;
    let files = if unpacked.files == 1 { "file" } else { "files" };
    output(&format!(
        "-----> Unpacking {} {files}, {}",
        unpacked.files,
        size(unpacked.bytes)
    ));

    let entries = procfile::parse(&read_procfile(&project)?)?;
    let manifest = manifest::parse(&read_manifest(&project)?, &entries)?;
    let layout = Layout::open(request.blobs)?;
    let packs = Packs::open(&folder.path().join("packs"), request.workshop.packs)?;
    let mut maker = Maker::new(request, folder.path(), &project, &packs);
    let made = components(&mut maker, &layout, &entries, manifest, output);
    maker.end(output);
    let (image, components) = made?;
    let digest = seal::seal(&layout, &image, components)?;
    output(&format!("-----> Sealed image {digest}"));
    Ok(Sealed { digest, image })
}

/// A component that several processes may share.
struct Component {
    digest: Digest,
    bytes: u64,
    shape: Shape,
    origin: Origin,
    /// Those that its build named.
    arguments: Option<Vec<String>>,
    imports: BTreeSet<String>,
}

/// Makes every process's component and stages the distinct ones, in the order of the Procfile.
fn components(
    maker: &mut Maker<'_>,
    layout: &Layout,
    entries: &[Entry],
    mut manifest: Manifest,
    output: &mut dyn FnMut(&str),
) -> Result<(Image, Vec<Staged>), BuildError> {
    let offer = Offer::new();
    let mut staged: Vec<Staged> = Vec::new();
    let mut made: BTreeMap<(Source, Vec<String>), Component> = BTreeMap::new();
    let mut processes = BTreeMap::new();
    for entry in entries {
        say_unexpanded(entry, output);
        let source = detect::detect(entry, maker.packs())?;
        let name = source.name(entry);
        let Settings {
            limits,
            allowed_outbound_hosts,
            guard_pages,
            link,
            placement,
            jobs,
            uses,
        } = manifest.processes.remove(&entry.name).unwrap_or_default();
        let recipe = (source, link);
        if !made.contains_key(&recipe) {
            let (source, link) = &recipe;
            let Kept { bytes, arguments } = maker.make(source, entry, output)?;
            let libraries = maker.libraries(link, entry)?;
            let checked = component::check_linked(&name, bytes, libraries, &offer)?;
            let blob = layout.stage(&checked.bytes)?;
            let (digest, bytes) = (blob.digest, blob.size);
            if staged.iter().all(|earlier| earlier.digest != digest) {
                staged.push(blob);
            }
            let component = Component {
                digest,
                bytes,
                shape: checked.shape,
                origin: checked.origin,
                arguments,
                imports: checked.imports,
            };
            made.insert(recipe.clone(), component);
        }
        let component = &made[&recipe];
        output(&process_line(entry, &name, component, &recipe.1));
        processes.insert(
            entry.name.clone(),
            Process {
                component: component.digest,
                component_bytes: component.bytes,
                shape: component.shape,
                command: entry.command.clone(),
                args: component.arguments.as_ref().unwrap_or(&entry.words).clone(),
                limits,
                allowed_outbound_hosts,
                guard_pages,
                placement,
                jobs,
                uses,
                imports: Some(Imports::new(&component.imports)),
            },
        );
    }
    check_terms(&processes)?;
    let image = Image {
        services: manifest.services,
        crons: manifest.crons,
        ..Image::new(processes)
    };
    check_targets(&image)?;
    for (name, cron) in &image.crons {
        output(&cron_line(name, cron));
    }
    Ok((image, staged))
}

fn say_unexpanded(entry: &Entry, output: &mut dyn FnMut(&str)) {
    for word in entry.unexpanded() {
        let word = excerpt(word);
        output(&format!(
            " !     Procfile line {}: {word} is passed to the process as it is; nothing is expanded",
            entry.line
        ));
    }
}

/// `-----> web: web.wasm, http-p2, 66.1 KB`
fn process_line(entry: &Entry, path: &str, component: &Component, libraries: &[String]) -> String {
    let linked = match libraries {
        [] => String::new(),
        _ => format!(", with {}", libraries.join(", ")),
    };
    let origin = match component.origin {
        Origin::AsGiven => "",
        Origin::Adapted => ", adapted from WASI preview 1",
    };
    format!(
        "-----> {}: {path}{linked}, {}, {}{origin}",
        entry.name,
        component.shape,
        size(component.bytes)
    )
}

/// `-----> cron cleanup: worker cleanup, at 03:00 (Europe/Stockholm)`
fn cron_line(name: &CronName, cron: &Cron) -> String {
    let (words, zone) = (cron.schedule.words(), cron.schedule.zone());
    format!("-----> cron {name}: {}, {words} ({zone})", cron.run.join(" "))
}

fn read_procfile(project: &Dir) -> Result<Vec<u8>, BuildError> {
    match read_text(project, PROCFILE, PROCFILE_BYTES_MAX)? {
        Text::Read(bytes) => Ok(bytes),
        Text::TooLong(bytes) => Err(ProcfileError::TooLong { bytes }.into()),
        Text::NotAFile => Err(ProcfileError::NotAFile.into()),
        Text::Missing => {
            let names = project.entries().into_iter().flatten().flatten();
            let mut names = names.filter_map(|entry| entry.file_name().into_string().ok());
            Err(ProcfileError::Missing {
                similar: names.find(|name| name.eq_ignore_ascii_case(PROCFILE)),
            }
            .into())
        }
    }
}

fn read_manifest(project: &Dir) -> Result<Vec<u8>, BuildError> {
    match read_text(project, MANIFEST, MANIFEST_BYTES_MAX)? {
        Text::Read(bytes) => Ok(bytes),
        Text::TooLong(bytes) => Err(ManifestError::TooLong { bytes }.into()),
        Text::NotAFile => Err(ManifestError::NotAFile.into()),
        Text::Missing => Ok(Vec::new()),
    }
}

enum Text {
    Read(Vec<u8>),
    TooLong(u64),
    NotAFile,
    Missing,
}

fn read_text(project: &Dir, name: &str, bytes_max: usize) -> Result<Text, BuildError> {
    let read = || {
        let file = match project.open(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Text::Missing),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(Text::NotAFile);
        }
        if metadata.len() > bytes_max as u64 {
            return Ok(Text::TooLong(metadata.len()));
        }
        let mut bytes = Vec::new();
        file.take(bytes_max as u64).read_to_end(&mut bytes)?;
        Ok(Text::Read(bytes))
    };
    read().map_err(|source| BuildError::Scratch {
        action: "read the project's files",
        source,
    })
}

/// A size as people read it: `66.1 KB`.
fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "KB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        // Tenths, rounded down.
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_one_decimal() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1_000, "1.0 KB"),
            (66_149, "66.1 KB"),
            (1_250_000, "1.2 MB"),
            (3_000_000_000, "3.0 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
