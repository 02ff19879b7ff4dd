//! Components of a built image, written to files.
//!
//! Invariant: a file is whole, with the content that its digest says, or as it was before.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use gilliam_builder::{
    component::COMPONENT_BYTES_MAX,
    layout::{digest_of, read_blob},
};
use gilliam_client::Client;
use gilliam_model::{digest::Digest, image::Image, name::ProcessName};

use crate::{
    amounts,
    failure::{CommandError, CommandResult},
    ui::Ui,
};

/// Where components go.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    process: Option<ProcessName>,
}

/// Where components are.
pub(super) enum Source<'a> {
    /// An image layout of this machine.
    Layout(&'a Path),
    /// An image of the cluster.
    Cluster(&'a Client, Digest),
}

impl Place {
    pub(super) fn new(path: PathBuf, process: Option<ProcessName>) -> Self {
        Self { path, process }
    }

    /// Which processes are written where.
    fn files<'a>(&self, image: &'a Image) -> CommandResult<Vec<(&'a ProcessName, PathBuf)>> {
        let names: Vec<&ProcessName> = image.processes.keys().collect();
        let list = || {
            names
                .iter()
                .map(|name| name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let is_file = self.path.extension().is_some_and(|end| end == "wasm") && !self.path.is_dir();
        let in_folder = |name: &ProcessName| self.path.join(format!("{name}.wasm"));
        let chosen = match &self.process {
            Some(wanted) => {
                let found = names.iter().find(|name| **name == wanted).copied();
                Some(found.ok_or_else(|| {
                    CommandError::failed(format!("the project has no process {wanted}"))
                        .hinted(format!("it has {}", list()))
                })?)
            }
            None => match names[..] {
                [only] => Some(only),
                _ if is_file => {
                    let message = format!("the project has {} processes, and one file", names.len());
                    return Err(CommandError::usage(message).hinted(format!(
                        "name one with --process: {}; or a folder: -o DIR",
                        list()
                    )));
                }
                _ => None,
            },
        };
        Ok(match (chosen, is_file) {
            (Some(name), true) => vec![(name, self.path.clone())],
            (Some(name), false) => vec![(name, in_folder(name))],
            (None, _) => names.into_iter().map(|name| (name, in_folder(name))).collect(),
        })
    }
}

/// Writes the components of an image.
pub(super) async fn write(ui: &Ui, place: &Place, image: &Image, from: &Source<'_>) -> CommandResult {
    for (name, path) in place.files(image)? {
        let process = &image.processes[name];
        let bytes = read(from, &process.component).await?;
        let file = |error| CommandError::file(format!("cannot write {}", path.display()), &error);
        whole(&path, &bytes).map_err(file)?;
        ui.note(&format!(
            "{} is the component of {name} ({})",
            path.display(),
            amounts::bytes(bytes.len() as u64)
        ));
    }
    Ok(())
}

async fn read(from: &Source<'_>, component: &Digest) -> CommandResult<Vec<u8>> {
    match from {
        Source::Layout(root) => Ok(read_blob(root, component, COMPONENT_BYTES_MAX)?),
        Source::Cluster(client, image) => {
            let mut bytes = Vec::new();
            client
                .fetch_image_blob(image, component, COMPONENT_BYTES_MAX, &mut bytes)
                .await?;
            match digest_of(&bytes) == *component {
                true => Ok(bytes),
                false => Err(CommandError::failed(format!(
                    "the cluster sent another content for {component}"
                ))),
            }
        }
    }
}

fn whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| *folder != Path::new(""))
        .unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode)?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(names: &[&str]) -> Image {
        let process = |name: &&str| {
            let process = serde_json::json!({ "component": format!("sha256:{}", "a".repeat(64)),
                "component_bytes": 1, "shape": "http-p2", "command": "x", "args": ["x"] });
            ((*name).to_string(), process)
        };
        let processes: serde_json::Map<_, _> = names.iter().map(process).collect();
        let image = serde_json::json!({ "schema_version": 1, "processes": processes });
        serde_json::from_value(image).expect("an image")
    }

    fn files(path: &str, process: Option<&str>, names: &[&str]) -> Result<Vec<String>, String> {
        let place = Place::new(path.into(), process.map(|name| name.parse().expect("name")));
        match place.files(&image(names)) {
            Ok(files) => Ok(files.iter().map(|(_, path)| path.display().to_string()).collect()),
            Err(error) => Err(error.message),
        }
    }

    #[test]
    fn a_file_is_for_one_process_and_a_folder_for_all() {
        let both = ["web", "worker"];
        assert_eq!(files("x.wasm", None, &["web"]), Ok(vec!["x.wasm".to_string()]));
        assert_eq!(
            files("x.wasm", Some("worker"), &both),
            Ok(vec!["x.wasm".to_string()])
        );
        assert_eq!(
            files("out", Some("worker"), &both),
            Ok(vec!["out/worker.wasm".to_string()])
        );
        let all = vec!["out/web.wasm".to_string(), "out/worker.wasm".to_string()];
        assert_eq!(files("out", None, &both), Ok(all));
        let several = files("x.wasm", None, &both).expect_err("which");
        assert_eq!(several, "the project has 2 processes, and one file");
        let unknown = files("x.wasm", Some("api"), &both).expect_err("unknown");
        assert_eq!(unknown, "the project has no process api");
    }
}
