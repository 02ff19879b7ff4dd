//! `gilliam images`.

use gilliam_model::{Timestamp, images::ImageSummary, name::ProcessName, release::ReleaseId};

use crate::{amounts, context::Context, failure::CommandResult};

const HEADER: &[&str] = &["IMAGE", "RELEASES", "PROCESSES", "SIZE", "MADE", "BY", "MESSAGE"];

/// Lists an app's images, those made last first.
///
/// Among them are those that were built or pulled and not released yet: gilliam deploy --image IMAGE does.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Prints whole digests.
    #[arg(long)]
    digests: bool,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    let ui = context.ui;
    let app = context.app()?;
    let images = context.client()?.images(&app).await?;
    if ui.wants_json() {
        return ui.json(&images);
    }
    if images.is_empty() {
        ui.note(&format!("{app} has no images"));
        ui.hint("gilliam deploy makes the first, and a release of it");
        return Ok(());
    }
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = images.iter().map(|image| row(image, now, args.digests)).collect();
    ui.table(HEADER, &rows)
}

fn row(image: &ImageSummary, now: Timestamp, whole: bool) -> Vec<String> {
    let processes: Vec<&str> = image.processes.iter().map(ProcessName::as_str).collect();
    vec![
        match whole {
            true => image.digest.to_string(),
            false => image.digest.short(),
        },
        releases(&image.releases),
        processes.join(" "),
        amounts::bytes(image.bytes),
        amounts::ago(image.made_at, now),
        image.author.clone(),
        image.message.lines().next().unwrap_or_default().to_string(),
    ]
}

/// `v1-v3 v7`, for every change of config makes a release of the same image.
fn releases(releases: &[ReleaseId]) -> String {
    let mut spans: Vec<(ReleaseId, ReleaseId)> = Vec::new();
    for release in releases {
        match spans.last_mut() {
            Some((_, last)) if last.next() == *release => *last = *release,
            _ => spans.push((*release, *release)),
        }
    }
    let span = |(first, last): &(ReleaseId, ReleaseId)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    match spans.is_empty() {
        true => "-".to_string(),
        false => spans.iter().map(span).collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_in_a_row_are_one_span() {
        let ids = |text: &str| -> Vec<ReleaseId> {
            text.split_whitespace()
                .map(|id| id.parse().expect("release"))
                .collect()
        };
        for (all, want) in [
            ("", "-"),
            ("v1", "v1"),
            ("v1 v2 v3 v7", "v1-v3 v7"),
            ("v1 v3 v4", "v1 v3-v4"),
        ] {
            assert_eq!(releases(&ids(all)), want);
        }
    }
}
