//! One bare repository per app, as files.
//!
//! It holds packs and one ref, nothing else: configuration is written once, hooks there are none. A ref is a file of
//! its own for ever, for nothing here packs refs.
//!
//! Invariant: a push is kept by one rename of the ref, after its packs are durable: killed at any moment, the
//! repository is what it was before or after.
//! Invariant: one that belonged to an earlier app of the name is never used.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use gilliam_model::{Timestamp, app::App, name::AppName};

use crate::git::request::{BRANCHES, ObjectId};

/// The file that says of which app a repository is: when that was created.
const OWNER: &str = "gilliam-app";
/// The file that a new ref is written to.
const NEW_REF: &str = "gilliam-ref";
/// Where pushes are on their way, beside the repositories: one file system, so that packs are renamed.
const INCOMING: &str = "incoming";
/// All that git is told by a repository.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n";
/// Packs of which one is made when there are more: each push adds one, and every look-up asks all.
pub(crate) const PACKS_MAX: usize = 32;
/// A repository that is larger is begun anew: history is kept for short pushes, not for ever.
pub(crate) const REPOSITORY_BYTES_MAX: u64 = 1 << 30;

/// An app's repository.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    path: PathBuf,
}

/// A folder of one push: its objects, and the archive of its commit. It goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Incoming {
    path: PathBuf,
}

/// Prepares the folder at the start of a life: what an earlier one left half way goes.
pub(crate) fn prepare(folder: &Path) -> io::Result<()> {
    let incoming = folder.join(INCOMING);
    match fs::remove_dir_all(&incoming) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(incoming),
    }
}

/// Removes the repositories of apps that are gone.
pub(crate) fn sweep(folder: &Path, apps: &BTreeMap<AppName, Timestamp>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".git"));
        let app = name.and_then(|name| name.parse::<AppName>().ok());
        let Some(app) = app else { continue };
        let is_known = apps.get(&app).is_some_and(|at| is_of(&path, *at));
        if !is_known {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// Removes the repository of an app, if there is one.
pub(crate) fn remove(folder: &Path, app: &AppName) -> io::Result<()> {
    match fs::remove_dir_all(path_of(folder, app)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn path_of(folder: &Path, app: &AppName) -> PathBuf {
    folder.join(format!("{app}.git"))
}

fn is_of(path: &Path, created_at: Timestamp) -> bool {
    fs::read_to_string(path.join(OWNER)).is_ok_and(|text| text.trim() == created_at.to_string())
}

// === impl Repository ===

impl Repository {
    /// The repository of an app; a new one when there is none yet, or one of an earlier app of the name.
    pub(crate) fn open(folder: &Path, app: &App) -> io::Result<Self> {
        let path = path_of(folder, &app.name);
        if !is_of(&path, app.created_at) {
            remove(folder, &app.name)?;
            // Made whole before it has its name.
            let new = Incoming::new(folder)?;
            for part in ["objects/pack", "objects/info", "refs/heads", "refs/tags"] {
                fs::create_dir_all(new.path.join(part))?;
            }
            fs::write(new.path.join("HEAD"), format!("ref: {}\n", BRANCHES[0]))?;
            fs::write(new.path.join("config"), CONFIG)?;
            fs::write(new.path.join(OWNER), format!("{}\n", app.created_at))?;
            if let Err(error) = fs::rename(&new.path, &path)
                && !is_of(&path, app.created_at)
            {
                return Err(error);
            }
        }
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The branches that are there.
    pub(crate) fn refs(&self) -> Vec<(&'static str, ObjectId)> {
        let found = BRANCHES.iter().filter_map(|name| Some((*name, self.at(name)?)));
        found.collect()
    }

    /// What a branch is at.
    pub(crate) fn at(&self, branch: &str) -> Option<ObjectId> {
        fs::read_to_string(self.path.join(branch))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Takes a push's packs, and moves the branch.
    pub(crate) fn keep(&self, incoming: &Incoming, branch: &str, new: &ObjectId) -> io::Result<()> {
        let packs = self.path.join("objects/pack");
        let mut files: Vec<PathBuf> = fs::read_dir(incoming.objects().join("pack"))?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<_>>()?;
        // A reader finds a pack by its index: that comes last.
        files.sort_by_key(|path| path.extension().is_some_and(|end| end == "idx"));
        for file in &files {
            fs::File::open(file)?.sync_all()?;
            let name = file.file_name().expect("listed files have names");
            fs::rename(file, packs.join(name))?;
        }
        fs::File::open(&packs)?.sync_all()?;
        self.replace(branch, &format!("{new}\n"))?;
        self.replace("HEAD", &format!("ref: {branch}\n"))
    }

    fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        let new = self.path.join(NEW_REF);
        let mut file = fs::File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        let to = self.path.join(name);
        fs::rename(&new, &to)?;
        let folder = to.parent().expect("it is below the repository");
        fs::File::open(folder)?.sync_all()
    }

    /// How many packs there are, and the bytes of all files beside them.
    pub(crate) fn size(&self) -> io::Result<(usize, u64)> {
        let (mut packs, mut bytes) = (0, 0);
        for entry in fs::read_dir(self.path.join("objects/pack"))? {
            let entry = entry?;
            bytes += entry.metadata()?.len();
            packs += usize::from(entry.path().extension().is_some_and(|end| end == "pack"));
        }
        Ok((packs, bytes))
    }
}

// === impl Incoming ===

impl Incoming {
    /// An empty one.
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(INCOMING).join(number.to_string());
        fs::create_dir_all(path.join("objects/pack"))?;
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where its objects go.
    pub(crate) fn objects(&self) -> PathBuf {
        self.path.join("objects")
    }

    /// Where its submodules are fetched to.
    pub(crate) fn modules(&self) -> PathBuf {
        self.path().join("modules")
    }

    /// Where the archive of its commit goes.
    pub(crate) fn archive(&self) -> PathBuf {
        self.path.join("archive.tar")
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove what a push brought");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "2222222222222222222222222222222222222222";

    fn app(name: &str, created_s: i64) -> App {
        let at = Timestamp::from_second(created_s).expect("an instant");
        App::new(name.parse().expect("name"), at)
    }

    #[test]
    fn a_push_is_kept_whole_and_its_folder_goes() {
        let data = tempfile::tempdir().expect("folder");
        prepare(data.path()).expect("prepared");
        let repository = Repository::open(data.path(), &app("hello", 1)).expect("opened");
        assert!(repository.refs().is_empty());
        let incoming = Incoming::new(data.path()).expect("made");
        for end in ["idx", "pack", "rev"] {
            fs::write(incoming.objects().join(format!("pack/pack-1.{end}")), "x").expect("written");
        }
        let id: ObjectId = ID.parse().expect("id");
        repository.keep(&incoming, BRANCHES[1], &id).expect("kept");
        drop(incoming);
        let again = Repository::open(data.path(), &app("hello", 1)).expect("opened");
        assert_eq!(again.refs(), [(BRANCHES[1], id)]);
        assert_eq!(again.size().expect("size"), (1, 3));
        let head = fs::read_to_string(again.path().join("HEAD")).expect("HEAD");
        assert_eq!(head, "ref: refs/heads/master\n");
        assert_eq!(
            fs::read_dir(data.path().join(INCOMING)).expect("folder").count(),
            0
        );
    }

    #[test]
    fn an_app_of_the_same_name_that_came_later_begins_anew() {
        let data = tempfile::tempdir().expect("folder");
        prepare(data.path()).expect("prepared");
        let first = Repository::open(data.path(), &app("hello", 1)).expect("opened");
        fs::write(first.path().join(BRANCHES[0]), ID).expect("written");
        assert_eq!(first.refs().len(), 1);
        assert!(
            Repository::open(data.path(), &app("hello", 2))
                .expect("opened")
                .refs()
                .is_empty()
        );
    }

    #[test]
    fn repositories_of_apps_that_are_gone_are_swept() {
        let data = tempfile::tempdir().expect("folder");
        prepare(data.path()).expect("prepared");
        for name in ["kept", "gone", "again"] {
            Repository::open(data.path(), &app(name, 1)).expect("opened");
        }
        let apps = [app("kept", 1), app("again", 2)];
        let apps = apps.into_iter().map(|app| (app.name, app.created_at)).collect();
        sweep(data.path(), &apps).expect("swept");
        remove(data.path(), &"never".parse().expect("name")).expect("nothing to remove");
        let mut left: Vec<String> = fs::read_dir(data.path())
            .expect("folder")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("name"))
            .collect();
        left.sort();
        assert_eq!(left, ["incoming", "kept.git"]);
    }
}
