//! `gilliam git`: what git needs to push to an app.

use std::{
    env,
    io::{self, Read as _},
    path::Path,
};

use clap::Subcommand;
use gilliam_model::name::AppName;

use crate::{
    archive::git,
    context::{Context, working_directory},
    failure::{CommandError, CommandResult},
};

/// The remote that is pushed to, as Heroku's users know theirs.
pub(crate) const REMOTE: &str = "gilliam";
/// The user in what git asks for; the token alone counts.
const USER: &str = "gilliam";
/// Longest question of git's: some short lines.
const QUESTION_BYTES_MAX: u64 = 16 << 10;

/// Sets up `git push gilliam main`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Adds the remote `gilliam` to this repository, or points it at another app.
    Remote {
        /// The app; by default this folder's.
        #[arg(value_name = "APP")]
        name: Option<String>,
    },
    /// Answers git when it asks for a password: the token of the cluster that it pushes to.
    ///
    /// `gilliam git remote` makes git ask here (git's documentation: gitcredentials).
    #[command(hide = true)]
    Credential {
        /// What git wants: get, store or erase.
        operation: String,
    },
}

/// What git asks a credential for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Question {
    protocol: String,
    host: String,
}

pub(crate) async fn run(context: &Context<'_>, args: Args) -> CommandResult {
    match args.action {
        Action::Remote { name } => {
            let app: AppName = match &name {
                Some(name) => name.parse()?,
                None => context.app()?,
            };
            let dir = working_directory()?;
            let url = set_remote(context, &dir, &app).await?;
            context.ui.data(&format!("{REMOTE} {url}"))?;
            context
                .ui
                .hint("git push gilliam main builds and releases the branch");
            Ok(())
        }
        Action::Credential { operation } => match operation.as_str() {
            "get" => credential(context),
            // Tokens are kept by gilliam itself: there is nothing to store or to erase.
            _ => Ok(()),
        },
    }
}

/// Points the remote of the repository around `dir` at `app`, and makes git ask us for the token; gives its URL.
pub(crate) async fn set_remote(context: &Context<'_>, dir: &Path, app: &AppName) -> CommandResult<String> {
    let base = context.api()?;
    let url = format!("{base}/git/{app}.git");
    let helper = format!("credential.{base}.helper");
    let fetch = format!("+refs/heads/*:refs/remotes/{REMOTE}/*");
    let ask = format!("!{} git credential", own_command());
    configure(dir, "--replace-all", &format!("remote.{REMOTE}.url"), &url)?;
    configure(dir, "--replace-all", &format!("remote.{REMOTE}.fetch"), &fetch)?;
    // First an empty one: no other helper shall get to know, and keep, the token.
    configure(dir, "--replace-all", &helper, "")?;
    configure(dir, "--add", &helper, &ask)?;
    if let Some(ca) = context.ca()? {
        let pem = context.client()?.ca().await?;
        let path = context.home()?.save_ca(&ca, &pem)?;
        configure(
            dir,
            "--replace-all",
            &format!("http.{base}.sslCAInfo"),
            &path.display().to_string(),
        )?;
    }
    Ok(url)
}

fn configure(dir: &Path, how: &str, key: &str, value: &str) -> CommandResult {
    git::configure(dir, how, key, value).map_err(|reason| {
        CommandError::failed(format!("git does not take the remote: {reason}"))
            .hinted("run it in a git repository: git init makes one")
    })
}

/// The command by which a shell finds this program.
fn own_command() -> String {
    let found = env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join("gilliam").is_file()));
    match env::current_exe() {
        Ok(path) if !found => format!("'{}'", path.display().to_string().replace('\'', r"'\''")),
        _ => "gilliam".to_string(),
    }
}

/// Tells git the token for the server that it asks about, and of no other.
fn credential(context: &Context<'_>) -> CommandResult {
    let mut text = String::new();
    io::stdin()
        .lock()
        .take(QUESTION_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|e| CommandError::file("cannot read git's question", &e))?;
    let question = Question::parse(&text);
    let base = format!("{}://{}", question.protocol, question.host);
    // Without an answer git asks its user.
    let Some(token) = context.token_for(&base)? else {
        return Ok(());
    };
    context.ui.data(&format!("username={USER}"))?;
    context.ui.data(&format!("password={token}"))
}

impl Question {
    fn parse(text: &str) -> Self {
        let mut question = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match key {
                "protocol" => question.protocol = value.to_string(),
                "host" => question.host = value.to_string(),
                _ => {}
            }
        }
        question
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_that_git_asks_about_is_read() {
        let question = Question::parse(
            "protocol=http\nhost=127.0.0.1:7788\npath=git/hello.git\nwwwauth[]=Basic realm=x\n",
        );
        assert_eq!(
            (question.protocol.as_str(), question.host.as_str()),
            ("http", "127.0.0.1:7788")
        );
        assert_eq!(Question::parse("nonsense"), Question::default());
    }
}
