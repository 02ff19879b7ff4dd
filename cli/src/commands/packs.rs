//! `gilliam packs`: the languages that this machine builds.
//!
//! In flow the shipped packs, the operator's and the folder of tools, out flows what is ready; `install` runs the
//! packs' `setup`. It asks no cluster: languages are of the machine that builds.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use gilliam_builder::packs::{Pack, PackError, Packs, Tools};
use serde::Serialize;

use crate::{
    builds_flag::PacksFlags,
    context::Context,
    failure::{CommandError, CommandResult},
};

const HEADER: &[&str] = &["LANGUAGE", "WORDS", "STATE", "VERSIONS"];

/// Lists the languages that this machine builds, or installs what they need.
///
/// WORDS are the first words of Procfile entries that a language takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// The data folder of the platform [default: ~/.local/share/gilliam]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    packs: PacksFlags,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists them.
    List,
    /// Installs what languages need, with the network and the rights of whoever calls.
    Install {
        /// The languages.
        #[arg(value_name = "LANG", required_unless_present = "all")]
        languages: Vec<String>,
        /// All of them.
        #[arg(long, conflicts_with = "languages")]
        all: bool,
    },
}

/// A language, as scripts read it.
#[derive(Debug, Serialize)]
struct Language<'a> {
    language: &'a str,
    words: &'a [String],
    ready: bool,
    versions: Vec<String>,
    registries: Vec<String>,
    missing: Option<String>,
    hint: Option<String>,
}

impl<'a> Language<'a> {
    fn of(pack: &'a Pack, tools: Result<Tools, PackError>) -> Self {
        let (found, missing, hint) = match tools {
            Ok(found) => (found, None, None),
            Err(PackError::NotReady { reason, hint, .. }) => (Tools::default(), Some(reason), hint),
            Err(error) => (Tools::default(), Some(error.to_string()), error.hint()),
        };
        Self {
            language: &pack.name,
            words: &pack.words,
            ready: missing.is_none(),
            versions: found.versions,
            registries: found.registries,
            missing,
            hint,
        }
    }

    fn row(&self) -> Vec<String> {
        let state = match &self.missing {
            None => "ready".to_string(),
            Some(reason) => format!("missing: {reason}"),
        };
        let versions = match self.versions.is_empty() {
            true => "-".to_string(),
            false => self.versions.join(", "),
        };
        vec![self.language.to_string(), self.words.join(" "), state, versions]
    }
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let data = args.data.or_else(|| context.environment.data.clone());
    let tools = args.packs.tools(&context.environment, data.as_deref());
    let folder = tempfile::tempdir().map_err(|e| CommandError::file("cannot make a temporary folder", &e))?;
    let packs = Packs::open(folder.path(), args.packs.own().as_deref()).map_err(of_pack)?;
    match args.action.unwrap_or(Action::List) {
        Action::List => list(context, &packs, tools.as_deref()),
        Action::Install { languages, .. } => {
            let tools = tools.ok_or_else(|| {
                CommandError::failed("there is no home folder to keep tools in")
                    .hinted("name one: --tools DIR")
            })?;
            let chosen = choose(&packs, &languages)?;
            chosen
                .into_iter()
                .try_for_each(|pack| install(context, pack, &tools))
        }
    }
}

fn list(context: &Context<'_>, packs: &Packs, tools: Option<&Path>) -> CommandResult {
    let ui = context.ui;
    let languages: Vec<Language<'_>> = packs
        .all()
        .map(|pack| Language::of(pack, pack.tools(tools)))
        .collect();
    if ui.wants_json() {
        return ui.json(&languages);
    }
    let rows: Vec<_> = languages.iter().map(Language::row).collect();
    ui.table(HEADER, &rows)?;
    for language in &languages {
        if let Some(hint) = &language.hint {
            ui.hint(&format!("{}: {hint}", language.language));
        }
    }
    Ok(())
}

/// Those named, or all.
fn choose<'a>(packs: &'a Packs, names: &[String]) -> CommandResult<Vec<&'a Pack>> {
    if names.is_empty() {
        return Ok(packs.all().collect());
    }
    let known = || {
        packs
            .all()
            .map(|pack| pack.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let find = |name: &String| {
        packs.named(name).ok_or_else(|| {
            CommandError::failed(format!("there is no language {name:?}"))
                .hinted(format!("there are: {}", known()))
        })
    };
    names.iter().map(find).collect()
}

fn install(context: &Context<'_>, pack: &Pack, tools: &Path) -> CommandResult {
    let ui = context.ui;
    if pack.has_setup() {
        ui.note(&format!(
            "Installing {} in {}",
            pack.name,
            tools.join(&pack.name).display()
        ));
        pack.setup(tools, &mut |line| ui.note(line)).map_err(of_pack)?;
    }
    // Whatever its setup says: what counts is whether it is found.
    let found = pack.tools(Some(tools)).map_err(of_pack)?;
    ui.note(&format!("{} is ready: {}", pack.name, found.versions.join(", ")));
    Ok(())
}

fn of_pack(error: PackError) -> CommandError {
    let failed = CommandError::failed(match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    });
    match error.hint() {
        Some(hint) => failed.hinted(hint),
        None => failed,
    }
}
