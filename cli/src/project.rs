//! Which app a folder belongs to: `.gilliam.app`, one line with the name, or the `gilliam` git remote.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
};

use gilliam_model::name::AppName;

use crate::{
    archive::git,
    failure::{CommandError, CommandResult},
};

/// The file that names a folder's app.
pub(crate) const APP_FILE: &str = ".gilliam.app";
/// Far longer than any name.
const APP_FILE_BYTES_MAX: u64 = 4 << 10;

/// The app: by flag, by environment, by the nearest `.gilliam.app` upward from `dir`, by git remote.
pub(crate) fn find_app(flag: Option<&str>, environment: Option<&str>, dir: &Path) -> CommandResult<AppName> {
    if let Some(name) = flag {
        return Ok(name.parse()?);
    }
    if let Some(name) = environment {
        return name
            .parse()
            .map_err(|e| CommandError::failed(format!("GILLIAM_APP: {e}")));
    }
    for folder in dir.ancestors() {
        if let Some(app) = read_app_file(folder)? {
            return Ok(app);
        }
    }
    match git::remote_url(dir, "gilliam").as_deref().map(app_of_remote) {
        Some(Some(app)) => Ok(app),
        _ => Err(CommandError::failed("no app here").hinted("run gilliam create NAME, or pass --app")),
    }
}

/// The app that the folder's own file names; none without a file.
pub(crate) fn read_app_file(folder: &Path) -> CommandResult<Option<AppName>> {
    let path = folder.join(APP_FILE);
    let mut text = String::new();
    match fs::File::open(&path).and_then(|file| file.take(APP_FILE_BYTES_MAX).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => {
            return Err(CommandError::file(
                format!("cannot read {}", path.display()),
                &error,
            ));
        }
    }
    let name = text.trim().parse();
    name.map(Some).map_err(|e| {
        CommandError::failed(format!("{}: {e}", path.display()))
            .hinted("it holds one line, the app's name; mend it, or pass --app")
    })
}

/// Writes the folder's file.
pub(crate) fn write_app_file(folder: &Path, app: &AppName) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(file, "{app}")?;
    file.as_file()
        .set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.persist(folder.join(APP_FILE)).map(drop).map_err(|e| e.error)
}

/// Removes the folder's file when it names `app`.
pub(crate) fn forget_app_file(folder: &Path, app: &AppName) {
    if matches!(read_app_file(folder), Ok(Some(named)) if named == *app) {
        // It is only a convenience; a folder that cannot be written keeps it.
        let _ = fs::remove_file(folder.join(APP_FILE));
    }
}

/// `https://host/guestbook.git` and `git@host:guestbook` name guestbook.
fn app_of_remote(url: &str) -> Option<AppName> {
    let last = url.trim_end_matches('/').rsplit(['/', ':']).next()?;
    last.strip_suffix(".git").unwrap_or(last).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_file_upward_names_the_app() {
        let dir = tempfile::tempdir().expect("folder");
        let deep = dir.path().join("a/b");
        fs::create_dir_all(&deep).expect("folders");
        write_app_file(dir.path(), &"outer".parse().expect("name")).expect("write");
        assert_eq!(find_app(None, None, &deep).expect("app").as_str(), "outer");
        write_app_file(&deep, &"inner".parse().expect("name")).expect("write");
        assert_eq!(find_app(None, None, &deep).expect("app").as_str(), "inner");
        assert_eq!(find_app(None, Some("env"), &deep).expect("app").as_str(), "env");
        assert_eq!(
            find_app(Some("flag"), Some("env"), &deep).expect("app").as_str(),
            "flag"
        );
        forget_app_file(&deep, &"other".parse().expect("name"));
        assert!(deep.join(APP_FILE).exists());
        forget_app_file(&deep, &"inner".parse().expect("name"));
        assert!(!deep.join(APP_FILE).exists());
    }

    #[test]
    fn a_file_with_another_thing_in_it_is_named() {
        let dir = tempfile::tempdir().expect("folder");
        fs::write(dir.path().join(APP_FILE), "../evil\n").expect("write");
        let error = find_app(None, None, dir.path()).expect_err("refused");
        assert!(
            error
                .message
                .contains(".gilliam.app: app name \"../evil\" must begin"),
            "{}",
            error.message
        );
    }

    #[test]
    fn a_remote_names_the_app_by_its_last_part() {
        for (url, want) in [
            ("https://git.example.com/guestbook.git", Some("guestbook")),
            ("git@host:guestbook", Some("guestbook")),
            ("ssh://host/x/my-app/", Some("my-app")),
            ("https://host/UPPER.git", None),
            ("", None),
        ] {
            assert_eq!(app_of_remote(url).as_ref().map(AppName::as_str), want, "{url}");
        }
    }
}
