//! Submodules: commits of other repositories that a commit names. Their files are deployed where they are at hand: a
//! folder's own git has fetched them, a server fetches them.
//!
//! Invariant: only the commit that is named is taken, whatever a branch of that repository has now.

use super::{
    ArchiveError,
    git::{self, Source},
};

/// Submodules of submodules, so many times over.
pub(super) const DEPTH_MAX: usize = 4;
/// Submodules of one project, those of submodules among them.
const MODULES_MAX: usize = 64;

/// A submodule.
#[derive(Debug, Clone, Default)]
pub(super) struct Module {
    /// Where its files are in the project.
    pub(super) path: String,
    /// The commit.
    pub(super) id: String,
    /// Which commit names it, and where that one's files are.
    pub(super) commit: String,
    pub(super) folder: String,
    /// Where the repository that names it was fetched from.
    pub(super) parent_url: Option<String>,
    /// Where it was fetched from.
    pub(super) url: Option<String>,
}

/// Those that are here, on a server after they were fetched; the paths of the others.
pub(super) fn at_hand(
    source: Source<'_>,
    mut modules: Vec<Module>,
    depth: usize,
) -> Result<(Vec<Module>, Vec<String>), ArchiveError> {
    if modules.len() > MODULES_MAX || depth == DEPTH_MAX {
        return Ok((
            Vec::new(),
            modules.into_iter().map(|module| module.path).collect(),
        ));
    }
    if let Source::Received(received) = source {
        for module in &mut modules {
            let own = match module.folder.as_str() {
                "" => module.path.as_str(),
                folder => module.path[folder.len()..].trim_start_matches('/'),
            };
            let urls = git::submodule_urls(source, &module.commit);
            let url = urls.into_iter().find(|(path, _)| path == own).map(|(_, url)| url);
            let fetched = received.fetch_submodule(url.as_deref(), module.parent_url.as_deref(), &module.id);
            module.url = fetched.map_err(|why| ArchiveError::Submodule {
                path: module.path.clone(),
                why,
            })?;
        }
    }
    let (here, absent): (Vec<Module>, Vec<Module>) = modules
        .into_iter()
        .partition(|module| git::has_commit(source, &module.id));
    Ok((here, absent.into_iter().map(|module| module.path).collect()))
}

/// What is said of those that are not here.
pub(super) fn hint(paths: &[String]) -> Option<String> {
    let (is, them) = match paths {
        [] => return None,
        [_] => ("the submodule", "is"),
        _ => ("the submodules", "are"),
    };
    Some(format!(
        "{is} {} {them} not deployed: not fetched here; git submodule update --init --recursive",
        paths.join(", ")
    ))
}
