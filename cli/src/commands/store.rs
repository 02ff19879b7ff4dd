//! `gilliam store`: all that a control plane keeps, to a file and back.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufReader, BufWriter},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use gilliam_store::{
    Store,
    transfer::{self, Head, Summary, TransferError},
};
use serde::Serialize;

use crate::{
    context::Context,
    failure::{CommandError, CommandResult},
    store_flag::StoreFlags,
};

/// Copies all that a control plane keeps to a file, or back: to move it to etcd, and for backups.
///
/// The store is the data folder's, or that of --store. A folder's is free when no gilliam up runs on it;
/// etcd's may be exported while control planes run, and is imported into when none does.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Writes all of it to FILE, for its owner only: it holds configuration, which may be secret.
    Export {
        /// The file to write; it must not be there.
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Checks FILE and fills an empty store with it.
    Import {
        /// The file that an export wrote.
        file: PathBuf,
        /// Replaces what the store holds.
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        place: Place,
    },
}

/// Where the store is.
#[derive(Debug, clap::Args)]
struct Place {
    /// The data folder [default: ~/.local/share/gilliam]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    store: StoreFlags,
}

/// What was copied.
#[derive(Debug, Serialize)]
struct Copied<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    revision: u64,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let (head, summary) = match &args.action {
        Action::Export { file, place } => export(context, file, place).await?,
        Action::Import { file, replace, place } => import(context, file, *replace, place).await?,
    };
    let ui = context.ui;
    if ui.wants_json() {
        return ui.json(&Copied {
            summary: &summary,
            revision: head.revision.0,
        });
    }
    ui.data(&format!("{} entries, digest {}", summary.entries, summary.digest))
}

async fn export(context: &Context<'_>, file: &Path, place: &Place) -> CommandResult<(Head, Summary)> {
    if file.exists() {
        return Err(
            CommandError::failed(format!("{} is there already", file.display()))
                .hinted("name another file, or remove it"),
        );
    }
    let store = match place.store.etcd(&context.environment)? {
        Some(config) => Store::open_existing_etcd(config).await?,
        None => Store::open_existing(&place.folder(context)?)?,
    };
    // By its name only when it is whole.
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let cannot =
        |error: &std::io::Error| CommandError::file(format!("cannot write {}", file.display()), error);
    let out = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .map_err(|e| cannot(&e))?;
    let exported = transfer::export(&store, BufWriter::new(&out)).await;
    let whole = exported.map_err(failed).and_then(|exported| {
        out.sync_all()
            .and_then(|()| fs::rename(&new, file))
            .map_err(|e| cannot(&e))?;
        Ok(exported)
    });
    if whole.is_err() {
        // A part of a store is of no use; that it cannot be removed changes nothing.
        let _ = fs::remove_file(&new);
    }
    whole
}

async fn import(
    context: &Context<'_>,
    file: &Path,
    replace: bool,
    place: &Place,
) -> CommandResult<(Head, Summary)> {
    // Read twice: nothing is changed for a file that is not whole.
    let (head, _) = transfer::verify(open(file)?).map_err(failed)?;
    let store = match place.store.etcd(&context.environment)? {
        Some(config) => transfer::open_etcd(config, &head).await,
        None => transfer::open_folder(&place.folder(context)?),
    };
    let store = store.map_err(failed)?;
    let summary = transfer::import(&store, open(file)?, replace)
        .await
        .map_err(failed)?;
    Ok((head, summary))
}

fn open(file: &Path) -> CommandResult<BufReader<File>> {
    match File::open(file) {
        Ok(opened) => Ok(BufReader::new(opened)),
        Err(error) => Err(CommandError::file(
            format!("cannot read {}", file.display()),
            &error,
        )),
    }
}

fn failed(error: TransferError) -> CommandError {
    CommandError::failed(error.to_string()).hinted(error.hint())
}

impl Place {
    fn folder(&self, context: &Context<'_>) -> CommandResult<PathBuf> {
        let data = self.data.clone().or_else(|| context.environment.data.clone());
        data.ok_or_else(|| {
            CommandError::failed("there is no home folder to look for a data folder in")
                .hinted("name the folder with --data DIR")
        })
    }
}
