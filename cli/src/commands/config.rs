//! `gilliam config`.

use gilliam_model::{api::ConfigPatch, config::ConfigChange, name::ConfigKey};

use crate::{
    args::Waiting,
    commands::released,
    context::Context,
    failure::{CommandError, CommandResult},
};

/// Shows or changes an app's configuration.
///
/// Processes get it as environment. A change makes a new release, and what the previous one ran moves to it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Forms:\n  \
    gilliam config                     KEY=VALUE lines\n  \
    gilliam config KEY=VALUE ...       sets; also `config set` and `config:set`\n  \
    gilliam config unset KEY ...       removes; also `config --unset KEY` and `config:unset`\n  \
    gilliam config get KEY             one value, exactly as it is when piped")]
pub(crate) struct Args {
    /// KEY=VALUE to set; or `set`, `unset`, `get`, `list` and their arguments.
    #[arg(value_name = "KEY=VALUE")]
    words: Vec<String>,
    /// Removes a key.
    #[arg(long, value_name = "KEY", num_args = 1)]
    unset: Vec<String>,
    /// Leaves what runs on its release.
    #[arg(long)]
    no_migrate: bool,
    #[command(flatten)]
    waiting: Waiting,
}

/// What the words ask for.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    List,
    Get(ConfigKey),
    Change(ConfigChange),
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    match parse(&args.words, &args.unset)? {
        Request::List => list(context).await,
        Request::Get(key) => get(context, &key).await,
        Request::Change(change) => self::change(context, change, &args).await,
    }
}

async fn list(context: &Context<'_>) -> CommandResult {
    let ui = context.ui;
    let app = context.app()?;
    let config = context.client()?.config(&app).await?;
    if ui.wants_json() {
        return ui.json(&config);
    }
    if config.config.0.is_empty() {
        ui.note(&format!("{app} has no configuration"));
        ui.hint("gilliam config KEY=VALUE sets one");
    }
    for (key, value) in &config.config.0 {
        ui.data(&format!("{key}={value}"))?;
    }
    Ok(())
}

async fn get(context: &Context<'_>, key: &ConfigKey) -> CommandResult {
    let app = context.app()?;
    let config = context.client()?.config(&app).await?;
    let value = config
        .config
        .0
        .get(key)
        .ok_or_else(|| CommandError::failed(format!("{key} is not set")))?;
    if context.ui.wants_json() {
        context.ui.json(value)
    } else {
        context.ui.data_exact(value)
    }
}

async fn change(context: &Context<'_>, change: ConfigChange, args: &Args) -> CommandResult {
    let app = context.app()?;
    let client = context.client()?;
    let patch = ConfigPatch {
        change,
        migrate: !args.no_migrate,
    };
    let release = client.change_config(&app, &patch).await?;
    let after = released::After {
        context,
        client: &client,
        app: &app,
        waiting: &args.waiting,
    };
    after.finish(&release).await
}

fn parse(words: &[String], unset: &[String]) -> CommandResult<Request> {
    let mut change = ConfigChange {
        unset: keys(unset)?,
        ..ConfigChange::default()
    };
    match words.split_first() {
        None if unset.is_empty() => return Ok(Request::List),
        None => {}
        Some((word, rest)) => match (word.as_str(), rest) {
            ("list", []) if unset.is_empty() => return Ok(Request::List),
            ("get", [key]) if unset.is_empty() => return Ok(Request::Get(key.parse()?)),
            ("get", _) => return Err(CommandError::usage("config get takes one key")),
            ("set", []) => return Err(CommandError::usage("config set takes KEY=VALUE")),
            ("set", pairs) => assign(&mut change, pairs)?,
            ("unset", []) => return Err(CommandError::usage("config unset takes a key")),
            ("unset", names) => change.unset.extend(keys(names)?),
            _ => assign(&mut change, words)?,
        },
    }
    match change.unset.iter().find(|key| change.set.contains_key(*key)) {
        Some(key) => Err(CommandError::usage(format!("{key} is both set and unset"))),
        None => Ok(Request::Change(change)),
    }
}

fn keys(names: &[String]) -> CommandResult<Vec<ConfigKey>> {
    names.iter().map(|name| Ok(name.parse()?)).collect()
}

fn assign(change: &mut ConfigChange, pairs: &[String]) -> CommandResult {
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=') else {
            let hint = match pair.parse::<ConfigKey>() {
                Ok(key) => format!("gilliam config {key}=VALUE sets it, gilliam config get {key} shows it"),
                Err(_) => "such as gilliam config POOL_SIZE=64".to_string(),
            };
            return Err(CommandError::usage(format!("{pair:?} is not KEY=VALUE")).hinted(hint));
        };
        let key: ConfigKey = key.parse()?;
        if change.set.insert(key.clone(), value.to_string()).is_some() {
            return Err(CommandError::usage(format!("{key} is set twice")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str, unset: &[&str]) -> Result<Request, String> {
        let words: Vec<String> = words.split_whitespace().map(str::to_string).collect();
        let unset: Vec<String> = unset.iter().map(|k| k.to_string()).collect();
        parse(&words, &unset).map_err(|e| e.message)
    }

    fn changed(set: &[(&str, &str)], unset: &[&str]) -> Result<Request, String> {
        Ok(Request::Change(ConfigChange {
            set: set
                .iter()
                .map(|(k, v)| (k.parse().expect("key"), v.to_string()))
                .collect(),
            unset: unset.iter().map(|k| k.parse().expect("key")).collect(),
        }))
    }

    #[test]
    fn every_form_is_understood() {
        assert_eq!(parsed("", &[]), Ok(Request::List));
        assert_eq!(parsed("list", &[]), Ok(Request::List));
        assert_eq!(parsed("get A", &[]), Ok(Request::Get("A".parse().expect("key"))));
        assert_eq!(
            parsed("A=1 B=x=y", &[]),
            changed(&[("A", "1"), ("B", "x=y")], &[])
        );
        assert_eq!(parsed("set A=", &["B"]), changed(&[("A", "")], &["B"]));
        assert_eq!(parsed("unset A B", &[]), changed(&[], &["A", "B"]));
        assert_eq!(parsed("", &["A"]), changed(&[], &["A"]));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        assert_eq!(
            parsed("POOL_SIZE", &[]),
            Err("\"POOL_SIZE\" is not KEY=VALUE".to_string())
        );
        assert_eq!(parsed("A=1 A=2", &[]), Err("A is set twice".to_string()));
        assert_eq!(parsed("A=1", &["A"]), Err("A is both set and unset".to_string()));
        assert!(
            parsed("PORT=1", &[])
                .expect_err("refused")
                .contains("set by the platform")
        );
        assert!(parsed("set", &[]).is_err() && parsed("get A B", &[]).is_err());
    }
}
