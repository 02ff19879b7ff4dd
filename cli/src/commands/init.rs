//! `gilliam init`: a project to begin with.
//!
//! In flows a language, out flow the files of a project that deploys as it stands. It asks no cluster.
//!
//! Invariant: no file that is there is written to: all are new, or none is written.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use gilliam_builder::{
    packs::{self, PackError, Packs},
    procfile::{self, PROCFILE},
};
use gilliam_model::name::AppName;
use serde::Serialize;

use crate::{
    builds_flag::PacksFlags,
    context::{Context, working_directory},
    failure::{CommandError, CommandResult},
};

const HEADER: &[&str] = &["LANGUAGE", "STATE"];
/// Other names that people have for languages.
const ALIASES: &[(&str, &str)] = &[
    ("c++", "c"),
    ("cpp", "c"),
    ("golang", "go"),
    ("js", "javascript"),
    ("node", "javascript"),
    ("py", "python"),
    ("python3", "python"),
    ("rs", "rust"),
    ("ts", "typescript"),
];

/// Writes a new project: Procfile, sources, README.
///
/// Without --lang it lists the languages that there are, and whether this machine builds them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The language: rust, javascript, python, …
    #[arg(long, short = 'l', value_name = "LANG")]
    lang: Option<String>,
    /// The project's folder, made when there is none; by default the working folder.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    packs: PacksFlags,
}

/// A language, as scripts read it.
#[derive(Debug, Serialize)]
struct Choice {
    language: &'static str,
    ready: bool,
    missing: Option<String>,
    hint: Option<String>,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    let all = packs::languages();
    let asked = match &args.lang {
        Some(lang) => Some(lang.clone()),
        None if ui.wants_json() => None,
        None => ui.ask(&format!("Which language? ({})", all.join(", ")))?,
    };
    let Some(asked) = asked.filter(|text| !text.is_empty()) else {
        return list(context, &all, &args.packs);
    };
    let language = choose(&all, &asked)?;
    let current = working_directory()?;
    let folder = args
        .dir
        .as_ref()
        .map_or_else(|| current.clone(), |dir| current.join(dir));
    let written = write(&folder, language)?;
    if ui.wants_json() {
        ui.json(&serde_json::json!({ "language": language, "files": written }))?;
    } else {
        written.iter().try_for_each(|path| ui.data(path))?;
    }
    let choice = readiness(context, language, &args.packs)?;
    if let Some(reason) = &choice.missing {
        ui.note(&format!("this machine does not build {language} yet: {reason}"));
        if let Some(way) = &choice.hint {
            ui.hint(&format!("{way}; a server elsewhere may be ready"));
        }
    }
    let steps = next(&folder, args.dir.as_deref());
    ui.hint(&steps);
    Ok(())
}

/// The language of this name, or of this other name.
fn choose(all: &[&'static str], asked: &str) -> CommandResult<&'static str> {
    let asked = asked.to_lowercase();
    let alias = ALIASES
        .iter()
        .find(|(alias, _)| *alias == asked)
        .map(|(_, name)| *name);
    let found = all
        .iter()
        .find(|language| **language == asked || Some(**language) == alias);
    found.copied().ok_or_else(|| {
        CommandError::failed(format!("there is no new project in {asked:?}"))
            .hinted(format!("there are: {}", all.join(", ")))
    })
}

fn list(context: &Context<'_>, all: &[&'static str], flags: &PacksFlags) -> CommandResult {
    let ui = context.ui;
    let choices = all.iter().map(|language| readiness(context, language, flags));
    let choices: Vec<Choice> = choices.collect::<Result<_, _>>()?;
    if ui.wants_json() {
        return ui.json(&choices);
    }
    let row = |choice: &Choice| {
        let state = choice
            .missing
            .as_ref()
            .map_or("ready".to_string(), |reason| format!("missing: {reason}"));
        vec![choice.language.to_string(), state]
    };
    ui.table(HEADER, &choices.iter().map(row).collect::<Vec<_>>())?;
    ui.hint("gilliam init --lang LANG DIR writes a project");
    Ok(())
}

/// Whether this machine builds what a new project in this language is made of.
fn readiness(context: &Context<'_>, language: &'static str, flags: &PacksFlags) -> CommandResult<Choice> {
    let failed = |error: PackError| CommandError::failed(error.to_string());
    let folder = tempfile::tempdir().map_err(|e| CommandError::file("cannot make a temporary folder", &e))?;
    let packs = Packs::open(folder.path(), flags.own().as_deref()).map_err(failed)?;
    let tools = flags.tools(&context.environment, context.environment.data.as_deref());
    let procfile = packs::init_files(language).find(|(path, _)| *path == PROCFILE);
    let entries = procfile::parse(procfile.map_or(&[], |(_, text)| text));
    let words = entries.into_iter().flatten().map(|entry| entry.words[0].clone());
    let mut used = words.filter_map(|word| packs.of_word(&word));
    let error = used.find_map(|pack| pack.tools(tools.as_deref()).err());
    let (missing, hint) = match error {
        None => (None, None),
        Some(PackError::NotReady { reason, hint, .. }) => (Some(reason), hint),
        Some(error) => (Some(error.to_string()), error.hint()),
    };
    Ok(Choice {
        language,
        ready: missing.is_none(),
        missing,
        hint,
    })
}

/// Writes the project's files and gives their paths.
fn write(folder: &Path, language: &str) -> CommandResult<Vec<&'static str>> {
    let files: Vec<(&str, &[u8])> = packs::init_files(language).collect();
    let there: Vec<&str> = files
        .iter()
        .map(|(path, _)| *path)
        // A link that leads nowhere is there as well.
        .filter(|path| folder.join(path).symlink_metadata().is_ok())
        .collect();
    if !there.is_empty() {
        let message = format!("{} has {} already", folder.display(), there.join(", "));
        return Err(CommandError::failed(message)
            .hinted("nothing was written; name a new folder: gilliam init --lang LANG DIR"));
    }
    let mut written = Vec::with_capacity(files.len());
    for (path, bytes) in files {
        let place = folder.join(path);
        let make = || {
            fs::create_dir_all(place.parent().expect("a path in a folder"))?;
            fs::File::create_new(&place)?.write_all(bytes)
        };
        make().map_err(|e| CommandError::file(format!("cannot write {}", place.display()), &e))?;
        written.push(path);
    }
    Ok(written)
}

/// The commands that come next.
fn next(folder: &Path, dir: Option<&Path>) -> String {
    let enter = dir.map_or_else(String::new, |dir| format!("cd {} && ", dir.display()));
    let name = folder
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let name = name
        .parse::<AppName>()
        .map_or("NAME".to_string(), |name| name.to_string());
    format!("{enter}gilliam create {name} && gilliam deploy --scale web=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_has_the_names_that_people_have_for_it() {
        let all = ["python", "typescript"];
        for (asked, want) in [("python", "python"), ("Py", "python"), ("ts", "typescript")] {
            assert_eq!(choose(&all, asked).expect(asked), want);
        }
        let error = choose(&all, "cobol").expect_err("unknown");
        assert_eq!(error.hint.as_deref(), Some("there are: python, typescript"));
    }

    #[test]
    fn the_next_commands_fit_the_folder() {
        let next = |folder: &str, dir: Option<&str>| next(Path::new(folder), dir.map(Path::new));
        assert_eq!(
            next("/home/me/hello", Some("hello")),
            "cd hello && gilliam create hello && gilliam deploy --scale web=1"
        );
        assert_eq!(
            next("/home/me/My App", None),
            "gilliam create NAME && gilliam deploy --scale web=1"
        );
    }
}
