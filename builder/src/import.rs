//! Import: an image that was sealed elsewhere becomes one of this cluster, or a reason why not.
//!
//! In flows the tar file of an OCI image layout that holds one image (`oci-layout`, `index.json`, `blobs/sha256/…`),
//! which anybody may have made; out flows what [`crate::build`] gives. All that a build makes sure of is made sure of
//! again: that each component is one, may run here, and has the shape that the image says.
//!
//! Invariant: nothing is unpacked: no name in the archive becomes a path.
//! Invariant: every blob is kept byte for byte, so the image has the digest that it has elsewhere; none is kept unless
//! all are good.

mod bundle;

use std::{collections::BTreeMap, fs::File, io, path::Path};

use gilliam_model::{
    code::Code,
    cron::{CronsError, check_targets},
    digest::Digest,
    image::{Image, MEDIA_TYPE_COMPONENT, MEDIA_TYPE_IMAGE, PROCESSES_MAX, Process, Shape},
    imports::Imports,
    name::ProcessName,
    queue::{JobTermsError, check_terms},
    text::excerpt,
};
use serde::Deserialize;

use crate::{
    BuildError, Sealed,
    component::{self, COMPONENT_BYTES_MAX, Origin},
    layout::{Descriptor, Layout, MEDIA_TYPE_MANIFEST, Staged},
    offer::Offer,
};
use bundle::Bundle;

/// Largest manifest: one of 64 components has some 15 KB, and other tools may add annotations.
pub const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// Largest config, which is kept in the store with each release: 64 process types with many granted hosts.
pub const CONFIG_BYTES_MAX: u64 = 256 << 10;

/// Why an image from elsewhere is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The archive could not be read.
    #[error("cannot read the archive of the image")]
    Read(#[source] io::Error),
    /// The archive is no image layout.
    #[error("the archive is not an OCI image layout: {reason}")]
    NotALayout {
        /// Why.
        reason: String,
    },
    /// None, or more than one.
    #[error("the layout lists {count} images; one is taken at a time")]
    NotOne {
        /// How many.
        count: usize,
    },
    /// A document of it cannot be read.
    #[error("the {what} of the image cannot be read: {reason}")]
    Document {
        /// Which.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// An artifact of another kind.
    #[error("its {what} is {:?}, not {want:?}: it is no image of gilliam", excerpt(.found))]
    Foreign {
        /// Of what.
        what: &'static str,
        /// The media type that it has.
        found: String,
        /// The one that it should have.
        want: &'static str,
    },
    /// Of a format that is not known here.
    #[error(
        "the image has format {version}; this gilliam reads up to {}",
        Image::SCHEMA_VERSION
    )]
    Newer {
        /// Its format.
        version: u64,
    },
    /// A blob is not in the archive.
    #[error("blob {digest} is not in the archive")]
    Missing {
        /// Which.
        digest: Digest,
    },
    /// A blob whose content is another.
    #[error("blob {digest} has the content of {found}")]
    Damaged {
        /// What it is named.
        digest: Digest,
        /// What it is.
        found: Digest,
    },
    /// A blob that has another size than what refers to it says.
    #[error("blob {digest} has {bytes} bytes, and its descriptor says {said}")]
    Size {
        /// Which.
        digest: Digest,
        /// Its size.
        bytes: u64,
        /// What is said.
        said: u64,
    },
    /// Too many bytes, or too many of something.
    #[error("the {what} has {count}; at most {max} are taken")]
    TooLarge {
        /// Of what, and of which unit.
        what: &'static str,
        /// How many.
        count: u64,
        /// How many are taken.
        max: u64,
    },
    /// A layer that no process runs.
    #[error("layer {digest} is of no process")]
    Unused {
        /// Which.
        digest: Digest,
    },
    /// Terms of jobs that cannot be kept.
    #[error(transparent)]
    Jobs(#[from] JobTermsError),
    /// A cron that does not fit the rest of the image.
    #[error(transparent)]
    Crons(#[from] CronsError),
    /// A process that does not fit the rest of the image.
    #[error("{process} {reason}")]
    Process {
        /// Its name.
        process: ProcessName,
        /// What is wrong with it.
        reason: String,
    },
}

impl ImportError {
    /// The code of the catalogue.
    pub fn code(&self) -> Code {
        match self {
            ImportError::Read(_) => Code::A500,
            ImportError::TooLarge { .. } => Code::B10,
            _ => Code::B14,
        }
    }

    /// The way out.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            ImportError::Foreign { .. } => {
                "gilliam image push makes one; a registry's other artifacts are not taken"
            }
            ImportError::Newer { .. } => "update gilliam on this cluster",
            ImportError::Missing { .. } | ImportError::Damaged { .. } | ImportError::Size { .. } => {
                "pull the image again"
            }
            ImportError::Process { .. }
            | ImportError::Jobs(_)
            | ImportError::Crons(_)
            | ImportError::Unused { .. } => {
                "it was not sealed by gilliam, or changed since: deploy its sources instead"
            }
            _ => return None,
        };
        Some(hint.to_string())
    }
}

/// OCI image-spec 1.1, "Image Manifest"; what else is in it is kept and not looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// The one field that every format of an image's config has.
#[derive(Deserialize)]
struct Versioned {
    schema_version: u64,
}

/// Checks the image in the archive and stores it; `output` gets each line for people as it happens.
pub fn import(archive: &Path, blobs: &Path, output: &mut dyn FnMut(&str)) -> Result<Sealed, BuildError> {
    let file = File::open(archive).map_err(ImportError::Read)?;
    let mut bundle = Bundle::open(file)?;
    let listed = bundle.image()?;
    output(&format!("-----> Checking image {}", listed.digest));
    let manifest_bytes = bundle.blob(&listed, "manifest's number of bytes", MANIFEST_BYTES_MAX)?;
    let manifest = manifest(&manifest_bytes)?;
    let config_bytes = bundle.blob(&manifest.config, "config's number of bytes", CONFIG_BYTES_MAX)?;
    let image = config(&config_bytes)?;
    let users = users(&image, &manifest.layers)?;

    let layout = Layout::open(blobs)?;
    let offer = Offer::new();
    let mut staged: Vec<Staged> = Vec::with_capacity(manifest.layers.len() + 1);
    for layer in &manifest.layers {
        let bytes = bundle.blob(layer, "component's number of bytes", COMPONENT_BYTES_MAX)?;
        let (name, process) = users[&layer.digest];
        let imports = check(name, process.shape, &bytes, &offer)?;
        check_imports(&image, &layer.digest, &imports)?;
        staged.push(layout.stage(&bytes)?);
    }
    for (name, process) in &image.processes {
        output(&format!("-----> {name}: {}, {}", process.command, process.shape));
    }
    staged.push(layout.stage(&config_bytes)?);
    layout.commit(staged)?;
    // Last: whoever finds the manifest finds all of the image.
    layout.commit(vec![layout.stage(&manifest_bytes)?])?;
    let listed = Descriptor {
        media_type: MEDIA_TYPE_MANIFEST.to_string(),
        digest: listed.digest,
        size: manifest_bytes.len() as u64,
    };
    layout.list(&listed)?;
    output(&format!("-----> Stored image {}", listed.digest));
    Ok(Sealed {
        digest: listed.digest,
        image,
    })
}

/// The component's own check, once for each layer: it is what the image says, byte for byte. Gives its imports.
fn check(name: &ProcessName, shape: Shape, bytes: &[u8], offer: &Offer) -> Result<Imports, BuildError> {
    let checked = component::check(name.as_str(), bytes.to_vec(), offer)?;
    let refused = |reason: String| ImportError::Process {
        process: name.clone(),
        reason,
    };
    if checked.origin != Origin::AsGiven {
        return Err(refused("is a core module; images hold components".to_string()).into());
    }
    if checked.shape != shape {
        let reason = format!("is said to be {shape}, and its component is {}", checked.shape);
        return Err(refused(reason).into());
    }
    Ok(Imports::new(&checked.imports))
}

/// What users are told that a release can reach hangs on these.
fn check_imports(image: &Image, component: &Digest, imports: &Imports) -> Result<(), ImportError> {
    let mut users = image
        .processes
        .iter()
        .filter(|(_, process)| process.component == *component);
    let lies = users.find(|(_, process)| process.imports.as_ref().is_some_and(|said| said != imports));
    match lies {
        Some((process, _)) => Err(ImportError::Process {
            process: process.clone(),
            reason: "is said to have other imports than its component has".to_string(),
        }),
        None => Ok(()),
    }
}

fn manifest(bytes: &[u8]) -> Result<Manifest, ImportError> {
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(document("manifest"))?;
    of_type("config", &manifest.config, MEDIA_TYPE_IMAGE)?;
    let count = manifest.layers.len();
    if count > PROCESSES_MAX {
        return Err(ImportError::TooLarge {
            what: "manifest's number of layers",
            count: count as u64,
            max: PROCESSES_MAX as u64,
        });
    }
    for layer in &manifest.layers {
        of_type("layer", layer, MEDIA_TYPE_COMPONENT)?;
    }
    Ok(manifest)
}

fn of_type(what: &'static str, found: &Descriptor, want: &'static str) -> Result<(), ImportError> {
    match found.media_type == want {
        true => Ok(()),
        false => Err(ImportError::Foreign {
            what,
            found: found.media_type.clone(),
            want,
        }),
    }
}

fn document(what: &'static str) -> impl Fn(serde_json::Error) -> ImportError {
    move |error| ImportError::Document {
        what,
        reason: excerpt(&error.to_string()),
    }
}

fn config(bytes: &[u8]) -> Result<Image, ImportError> {
    let versioned: Versioned = serde_json::from_slice(bytes).map_err(document("config"))?;
    if versioned.schema_version > u64::from(Image::SCHEMA_VERSION) {
        return Err(ImportError::Newer {
            version: versioned.schema_version,
        });
    }
    let image: Image = serde_json::from_slice(bytes).map_err(document("config"))?;
    let count = image.processes.len();
    if count == 0 {
        return Err(ImportError::Document {
            what: "config",
            reason: "it has no processes".to_string(),
        });
    }
    if count > PROCESSES_MAX {
        return Err(ImportError::TooLarge {
            what: "image's number of processes",
            count: count as u64,
            max: PROCESSES_MAX as u64,
        });
    }
    for (name, process) in &image.processes {
        settings(name, process)?;
    }
    check_terms(&image.processes)?;
    check_targets(&image)?;
    Ok(image)
}

/// What the Procfile and `gilliam.toml` would have been refused for.
fn settings(name: &ProcessName, process: &Process) -> Result<(), ImportError> {
    let refused = |reason: String| {
        Err(ImportError::Process {
            process: name.clone(),
            reason,
        })
    };
    if process.command.chars().any(char::is_control) {
        return refused("has a control character in its command".to_string());
    }
    if process.args.first().is_none_or(String::is_empty) {
        return refused("has no first argument, which is the program's name".to_string());
    }
    if process.args.iter().any(|word| word.contains('\0')) {
        return refused("has an argument with a zero byte".to_string());
    }
    match process.limits.validate() {
        Ok(()) => Ok(()),
        Err(error) => refused(format!("has limits that are not allowed: {error}")),
    }
}

/// A process of each layer; every process has one and every layer is of one.
fn users<'a>(
    image: &'a Image,
    layers: &[Descriptor],
) -> Result<BTreeMap<Digest, (&'a ProcessName, &'a Process)>, ImportError> {
    let mut users = BTreeMap::new();
    for (name, process) in &image.processes {
        let refused = |reason: String| ImportError::Process {
            process: name.clone(),
            reason,
        };
        let layer = layers.iter().find(|layer| layer.digest == process.component);
        let layer = layer.ok_or_else(|| refused(format!("runs {}, which is no layer", process.component)))?;
        if layer.size != process.component_bytes {
            let (said, has) = (process.component_bytes, layer.size);
            return Err(refused(format!(
                "says {said} bytes of its component, which has {has}"
            )));
        }
        if let Some((other, found)) = users.insert(process.component, (name, process))
            && found.shape != process.shape
        {
            return Err(refused(format!("and {other} have one component and two shapes")));
        }
    }
    match layers.iter().find(|layer| !users.contains_key(&layer.digest)) {
        Some(layer) => Err(ImportError::Unused { digest: layer.digest }),
        None => Ok(users),
    }
}
