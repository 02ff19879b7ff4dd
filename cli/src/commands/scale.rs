//! `gilliam scale`.

use std::collections::BTreeMap;

use gilliam_client::Client;
use gilliam_model::{
    api::{ScaleInfo, ScalePatch},
    name::{AppName, ProcessName},
    release::ReleaseId,
    scale::{Scale, ScaleError, parse_count},
};

use crate::{
    args::Waiting,
    context::Context,
    failure::{CommandError, CommandResult},
    progress::{self, Goal},
};

/// Shows or changes how many instances should run.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "gilliam scale v2 web=2 worker=4\n\nWithout a release, the one that is scaled is meant, or the \
                        newest. Without counts, what should run is shown: `v2 web=2 worker=4`."
)]
pub(crate) struct Args {
    /// The release, then counts by process type.
    #[arg(value_name = "vN | PROCESS=COUNT")]
    words: Vec<String>,
    #[command(flatten)]
    waiting: Waiting,
}

/// Whether a change prints its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Print {
    Json,
    Nothing,
}

pub(super) type Counts = BTreeMap<ProcessName, u32>;

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let (release, counts) = parse(&args.words)?;
    let app = context.app()?;
    let client = context.client()?;
    if counts.is_empty() {
        return show(context, &client.scale(&app).await?, release);
    }
    let print = if context.ui.wants_json() {
        Print::Json
    } else {
        Print::Nothing
    };
    change(context, &client, &app, release, counts, &args.waiting, print).await
}

fn show(context: &Context<'_>, info: &ScaleInfo, release: Option<ReleaseId>) -> CommandResult {
    let ui = context.ui;
    if ui.wants_json() {
        return ui.json(info);
    }
    let shown: Vec<_> = info
        .scale
        .iter()
        .filter(|(id, _)| release.is_none_or(|wanted| wanted == **id))
        .collect();
    if shown.is_empty() {
        let of = release.map(|id| format!(" of {id}")).unwrap_or_default();
        ui.note(&format!("nothing{of} should run"));
        ui.hint("gilliam scale web=1 starts an instance");
    }
    for (id, scale) in shown {
        ui.data(&format!("{id} {scale}"))?;
    }
    Ok(())
}

/// Sets counts, waits until they run, says how to take it back.
pub(super) async fn change(
    context: &Context<'_>,
    client: &Client,
    app: &AppName,
    release: Option<ReleaseId>,
    counts: Counts,
    waiting: &Waiting,
    print: Print,
) -> CommandResult {
    let ui = context.ui;
    let info = client
        .change_scale(
            app,
            &ScalePatch {
                release,
                counts: counts.clone(),
            },
        )
        .await?;
    if print == Print::Json {
        ui.json(&info)?;
    }
    let words: Vec<String> = counts
        .iter()
        .map(|(process, n)| format!("{process}={n}"))
        .collect();
    let Some(target) = release.or(info.release) else {
        ui.note(&format!("{} recorded", words.join(" ")));
        return Ok(());
    };
    match waiting.limit() {
        Some(limit) => {
            let goal = Goal::Counts {
                release: target,
                counts: counts.clone(),
            };
            let label = format!("Scaling {}", words.join(" "));
            progress::wait_for(ui, client, app, &goal, &label, limit).await?;
        }
        None => ui.note(&format!(
            "scaling {target} {}; gilliam ps -w shows how far it is",
            words.join(" ")
        )),
    }
    if let Some(undo) = info
        .previous
        .as_ref()
        .and_then(|previous| undo(target, &counts, previous))
    {
        ui.undo(&undo);
    }
    Ok(())
}

/// The command that sets the counts that were there before; none when nothing changed.
fn undo(release: ReleaseId, counts: &Counts, previous: &Scale) -> Option<String> {
    let changed: Vec<String> = counts
        .iter()
        .filter(|(process, count)| previous.count(process) != **count)
        .map(|(process, _)| format!("{process}={}", previous.count(process)))
        .collect();
    (!changed.is_empty()).then(|| format!("gilliam scale {release} {}", changed.join(" ")))
}

fn parse(words: &[String]) -> CommandResult<(Option<ReleaseId>, Counts)> {
    match words.split_first() {
        Some((first, rest)) if !first.contains('=') => {
            let release = first.parse::<ReleaseId>().map_err(|e| {
                CommandError::usage(e.to_string()).hinted("gilliam scale [vN] PROCESS=COUNT, such as web=2")
            })?;
            Ok((Some(release), parse_counts(rest)?))
        }
        _ => Ok((None, parse_counts(words)?)),
    }
}

/// Parses `web=2 worker=4`.
pub(super) fn parse_counts(words: &[String]) -> CommandResult<Counts> {
    let mut counts = Counts::new();
    for word in words {
        let (process, count) = parse_count(word).map_err(|error| match error {
            ScaleError::Name(error) => CommandError::from(error),
            error => CommandError::usage(error.to_string()),
        })?;
        if counts.insert(process.clone(), count).is_some() {
            return Err(CommandError::usage(format!("{process} is given twice")));
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<String, String> {
        let words: Vec<String> = words.split_whitespace().map(str::to_string).collect();
        let (release, counts) = parse(&words).map_err(|e| e.message)?;
        Ok(format!("{release:?} {counts:?}"))
    }

    #[test]
    fn a_release_and_counts_are_told_apart() {
        assert_eq!(parsed(""), Ok("None {}".to_string()));
        assert_eq!(parsed("v2"), Ok("Some(v2) {}".to_string()));
        assert!(
            parsed("v2 web=2 worker=4")
                .expect("both")
                .starts_with("Some(v2) {")
        );
        assert!(parsed("web=2").expect("counts").starts_with("None {"));
        assert_eq!(parsed("web=1 web=2"), Err("web is given twice".to_string()));
        assert!(
            parsed("web=1 v2")
                .expect_err("order")
                .contains("\"v2\" is not PROCESS=COUNT")
        );
        assert!(
            parsed("nope web=1")
                .expect_err("word")
                .contains("\"nope\" is not a release")
        );
        assert!(
            parsed("web=-1")
                .expect_err("negative")
                .contains("not a whole number")
        );
    }

    #[test]
    fn undo_names_what_changed() {
        let counts = parse_counts(&["web=2".into(), "worker=1".into()]).expect("counts");
        let previous: Scale = serde_json::from_str(r#"{"worker":1}"#).expect("scale");
        assert_eq!(
            undo(ReleaseId::FIRST, &counts, &previous).as_deref(),
            Some("gilliam scale v1 web=0")
        );
        let same: Scale = serde_json::from_str(r#"{"web":2,"worker":1}"#).expect("scale");
        assert_eq!(undo(ReleaseId::FIRST, &counts, &same), None);
    }
}
