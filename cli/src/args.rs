//! The command line's grammar: global flags, and Heroku's colon forms turned into the canonical words.

use std::ffi::OsString;

use clap::{Args, Parser};

use crate::commands::Command;

/// gilliam runs small services as WebAssembly components: deploy a Procfile, scale its processes, watch them.
#[derive(Debug, Parser)]
#[command(
    name = "gilliam",
    version,
    disable_help_subcommand = false,
    max_term_width = 110
)]
#[command(
    after_help = "The app comes from --app, GILLIAM_APP, a .gilliam.app file or the `gilliam` git remote. \
                        Exit codes: 0 done, 1 refused or failed, 2 usage."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Globals {
    /// The app to act on.
    #[arg(
        long,
        short = 'a',
        global = true,
        value_name = "NAME",
        help_heading = "Global options"
    )]
    pub(crate) app: Option<String>,
    /// The cluster to speak to, by its name in `gilliam clusters`.
    #[arg(long, global = true, value_name = "NAME", help_heading = "Global options")]
    pub(crate) cluster: Option<String>,
    /// Prints data as JSON.
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// Prints no progress and no hints.
    #[arg(long, short = 'q', global = true, help_heading = "Global options")]
    pub(crate) quiet: bool,
}

/// Whether and how long a command waits for what it changed to run.
#[derive(Debug, Clone, Args)]
pub(crate) struct Waiting {
    /// Waits until what should run is running (the default).
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Returns as soon as the change is recorded.
    #[arg(long, overrides_with = "wait")]
    no_wait: bool,
    /// Gives up waiting after this time; the change stays.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

impl Waiting {
    /// How long to wait; none for not at all.
    pub(crate) fn limit(&self) -> Option<std::time::Duration> {
        (!self.no_wait).then(|| std::time::Duration::from_secs(self.timeout))
    }
}

/// A span of time on the command line: `10s`, `500ms`, `1h`.
pub(crate) fn span(text: &str) -> Result<std::time::Duration, String> {
    let unit = gilliam_model::quantity::Unit::Millis;
    let millis = unit.parse(text).filter(|millis| *millis > 0);
    let millis = millis.ok_or_else(|| format!("not {}, more than none", unit.expected()))?;
    Ok(std::time::Duration::from_millis(millis))
}

/// The silence after which a node is held dead, on the command line.
pub(crate) fn dead_after(text: &str) -> Result<std::time::Duration, String> {
    use gilliam_scheduler::{LOST_AFTER_MAX, LOST_AFTER_MIN};
    let asked = span(text)?;
    match (LOST_AFTER_MIN..=LOST_AFTER_MAX).contains(&asked) {
        true => Ok(asked),
        false => Err(format!(
            "it is from {} s to {} h",
            LOST_AFTER_MIN.as_secs(),
            LOST_AFTER_MAX.as_secs() / 3_600
        )),
    }
}

/// The least time between two due times of a cron, on the command line.
pub(crate) fn cron_interval(text: &str) -> Result<std::time::Duration, String> {
    let asked = span(text)?;
    match asked.subsec_nanos() == 0 && (1..=3_600).contains(&asked.as_secs()) {
        true => Ok(asked),
        false => Err("it is a whole number of seconds, from 1s to 1h".to_string()),
    }
}

/// A number of bytes on the command line: `2GiB`, `500MB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let unit = gilliam_model::quantity::Unit::Bytes;
    unit.parse(text).ok_or_else(|| format!("not {}", unit.expected()))
}

/// Colon forms and the words they stand for.
const COLON_FORMS: &[(&str, &[&str])] = &[
    ("apps:create", &["create"]),
    ("apps:destroy", &["destroy"]),
    ("apps:list", &["apps"]),
    ("clusters:add", &["clusters", "add"]),
    ("clusters:list", &["clusters", "list"]),
    ("clusters:remove", &["clusters", "remove"]),
    ("clusters:use", &["clusters", "use"]),
    ("config:get", &["config", "get"]),
    ("config:list", &["config", "list"]),
    ("config:set", &["config", "set"]),
    ("drain", &["nodes", "drain"]),
    ("image:pull", &["image", "pull"]),
    ("image:push", &["image", "push"]),
    ("image:show", &["image", "show"]),
    ("images:list", &["images"]),
    ("nodes:drain", &["nodes", "drain"]),
    ("nodes:forget", &["nodes", "forget"]),
    ("nodes:join-token", &["nodes", "join-token"]),
    ("nodes:show", &["nodes", "show"]),
    ("nodes:undrain", &["nodes", "undrain"]),
    ("undrain", &["nodes", "undrain"]),
    ("config:unset", &["config", "unset"]),
    ("packs:install", &["packs", "install"]),
    ("packs:list", &["packs", "list"]),
    ("ps:restart", &["restart"]),
    ("ps:scale", &["scale"]),
    ("releases:rollback", &["rollback"]),
    ("run:detached", &["run", "--detach"]),
];

/// Global flags that take a value, which is not the command's name.
const VALUE_FLAGS: &[&str] = &["-a", "--app", "--cluster"];

/// Replaces a colon form (`config:set`) in the place of the command by its canonical words (`config set`).
pub(crate) fn expand_colons(arguments: Vec<OsString>) -> Vec<OsString> {
    let mut is_value = false;
    let verb = arguments.iter().skip(1).position(|argument| {
        let is_flag = argument.to_str().is_some_and(|a| a.starts_with('-'));
        let found = !is_value && !is_flag;
        is_value = argument.to_str().is_some_and(|a| VALUE_FLAGS.contains(&a));
        found
    });
    let Some(place) = verb.map(|n| n + 1) else {
        return arguments;
    };
    let words = COLON_FORMS
        .iter()
        .find(|(form, _)| arguments[place] == *form)
        .map(|(_, words)| *words);
    let Some(words) = words else { return arguments };
    let mut expanded = arguments[..place].to_vec();
    expanded.extend(words.iter().map(OsString::from));
    expanded.extend_from_slice(&arguments[place + 1..]);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(given: &str, want: &str) {
        let expanded = expand_colons(given.split(' ').map(OsString::from).collect());
        assert_eq!(expanded.join(std::ffi::OsStr::new(" ")), want);
    }

    #[test]
    fn colon_forms_become_the_canonical_words_in_the_place_of_the_command_only() {
        check("gilliam config:set A=1", "gilliam config set A=1");
        check(
            "gilliam -a config:set ps:scale web=1",
            "gilliam -a config:set scale web=1",
        );
        check(
            "gilliam --app=x -q ps:scale web=1",
            "gilliam --app=x -q scale web=1",
        );
        check("gilliam config set ps:scale", "gilliam config set ps:scale");
        check("gilliam nope:set", "gilliam nope:set");
        check("gilliam --json", "gilliam --json");
    }

    #[test]
    fn a_node_is_held_dead_neither_at_once_nor_never() {
        for (text, want) in [
            ("1s", Ok(1)),
            ("1h", Ok(3_600)),
            ("999ms", Err("it is from 1 s to 1 h".to_owned())),
            ("61m", Err("it is from 1 s to 1 h".to_owned())),
        ] {
            assert_eq!(dead_after(text).map(|span| span.as_secs()), want, "{text}");
        }
    }

    #[test]
    fn the_grammar_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
