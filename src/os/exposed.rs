//! Whether somebody can change what is at a path, or put something else there.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{self, Path, PathBuf};

use nix::libc;
use nix::unistd::AccessFlags;

use super::rights::{self, Beside, act_as};
use crate::logic::config::Account;

/// How many links are followed, as many as the kernel does (`path_resolution(7)`).
const MOST_LINKS: usize = 40;

/// Where this account could change what is at a path: the file itself, or the first directory on the way
/// in which it could put something else. None also where that cannot be told, and for who is root.
pub fn weak_spot(path: &Path, account: &Account) -> Option<PathBuf> {
    search(path, account, may_write).ok().flatten()
}

/// Whether this account could have a path lead to another directory than it does now, also if that cannot
/// be told, such as while it does.
pub fn may_lead_elsewhere(path: &Path, account: &Account) -> bool {
    match search(path, account, |_, _, _| false) {
        Ok(found) => found.is_some(),
        // It is out of its reach, and none of the directories before is its own.
        Err(error) => error.kind() != io::ErrorKind::PermissionDenied,
    }
}

/// Goes along a path as this account; `is_weak` says whether what is at its end counts.
fn search(
    path: &Path,
    account: &Account,
    is_weak: impl Fn(&Path, &Metadata, u32) -> bool + Sync,
) -> io::Result<Option<PathBuf>> {
    let Some(uid) = account.uid.filter(|_| account.is_unprivileged()) else { return Ok(None) };
    let mut path = path::absolute(path)?;
    // As the account, for whom access lists and groups count too.
    act_as(account, Beside::Nothing, || {
        for _ in 0..MOST_LINKS {
            match walk(&path, uid)? {
                Walked::Weak(place) => return Ok(Some(place)),
                Walked::Link(leads) => path = leads,
                Walked::Arrived(found) => {
                    return Ok(is_weak(&path, &found, uid).then(|| path.clone()));
                }
            }
        }
        Err(io::Error::from_raw_os_error(libc::ELOOP))
    })
}

/// What came of the way along a path.
enum Walked {
    /// Here the account can change it.
    Weak(PathBuf),
    /// There is a link on the way, and this is the path without it.
    Link(PathBuf),
    /// This is there.
    Arrived(Metadata),
}

/// Goes from the root to what is at an absolute path, up to the first link.
fn walk(path: &Path, uid: u32) -> io::Result<Walked> {
    let mut way: Vec<_> = path.ancestors().collect();
    way.reverse();
    let mut around: Option<(&Path, Metadata)> = None;
    for place in way {
        if let Some((above, directory)) = &around
            && directory.uid() == uid
        {
            return Ok(Walked::Weak((*above).to_owned()));
        }
        let found = place.symlink_metadata()?;
        if let Some((above, directory)) = &around
            && may_replace(above, directory, &found, uid)
        {
            return Ok(Walked::Weak((*above).to_owned()));
        }
        if found.is_symlink() {
            let rest = path.strip_prefix(place).map_err(io::Error::other)?;
            let leads = place.parent().unwrap_or(place).join(place.read_link()?);
            // What ends with a slash is another path.
            let leads = if rest.as_os_str().is_empty() { leads } else { leads.join(rest) };
            return Ok(Walked::Link(leads));
        }
        if place == path {
            return Ok(Walked::Arrived(found));
        }
        around = Some((place, found));
    }
    Err(io::ErrorKind::InvalidInput.into())
}

/// Whether the account can put something else in the place of what is in a directory of somebody else.
fn may_replace(above: &Path, directory: &Metadata, entry: &Metadata, uid: u32) -> bool {
    let is_kept = directory.mode() & libc::S_ISVTX != 0 && entry.uid() != uid;
    !is_kept && rights::access(above, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
}

/// Whether the account has the right to write, or can give it to itself.
fn may_write(place: &Path, found: &Metadata, uid: u32) -> bool {
    found.uid() == uid || rights::access(place, AccessFlags::W_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use nix::unistd::geteuid;

    use super::*;

    /// What is done to the files, and which of them is weak then.
    type Case = (&'static str, fn(&Path), Option<&'static str>);

    fn set(path: PathBuf, uid: u32, gid: u32, mode: u32) {
        chown(&path, Some(uid), Some(gid)).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_way_is_as_strong_as_its_weakest_directory() {
        if !geteuid().is_root() {
            eprintln!("not tested: only root can be somebody else");
            return;
        }
        let account = Account { uid: Some(54_321), gid: 54_322, groups: vec![54_323], home: None };
        let cases: [Case; 12] = [
            ("all of it is root's", |_| {}, None),
            ("its file", |home| set(home.join("a/b/file"), 54_321, 0, 0o444), Some("a/b/file")),
            ("anybody's file", |home| set(home.join("a/b/file"), 0, 0, 0o646), Some("a/b/file")),
            (
                "its group's file",
                |home| set(home.join("a/b/file"), 0, 54_323, 0o664),
                Some("a/b/file"),
            ),
            ("another group's", |home| set(home.join("a/b/file"), 0, 1, 0o664), None),
            ("its directory", |home| set(home.join("a"), 54_321, 0, 0o555), Some("a")),
            ("anybody's directory", |home| set(home.join("a/b"), 0, 0, 0o777), Some("a/b")),
            ("where all keep their own", |home| set(home.join("a/b"), 0, 0, 0o1777), None),
            (
                "out of its reach",
                |home| {
                    set(home.join("a/b"), 0, 0, 0o777);
                    set(home.join("a"), 0, 0, 0o700);
                },
                None,
            ),
            (
                "a link of its own",
                |home| {
                    fs::rename(home.join("a"), home.join("c")).unwrap();
                    fs::create_dir(home.join("own")).unwrap();
                    symlink(home.join("c"), home.join("own/a")).unwrap();
                    symlink("own/a", home.join("a")).unwrap();
                    set(home.join("own"), 54_321, 0, 0o755);
                },
                Some("own"),
            ),
            (
                "a file behind a link",
                |home| {
                    fs::rename(home.join("a/b/file"), home.join("real")).unwrap();
                    symlink("../../real", home.join("a/b/file")).unwrap();
                    set(home.join("real"), 54_321, 0, 0o755);
                },
                Some("a/b/../../real"),
            ),
            (
                "links without end",
                |home| {
                    fs::remove_file(home.join("a/b/file")).unwrap();
                    symlink("file", home.join("a/b/file")).unwrap();
                },
                None,
            ),
        ];
        for (name, change, weak) in cases {
            let home = tempfile::tempdir().unwrap();
            set(home.path().to_owned(), 0, 0, 0o755);
            fs::create_dir_all(home.path().join("a/b")).unwrap();
            fs::write(home.path().join("a/b/file"), "").unwrap();
            change(home.path());
            let found = weak_spot(&home.path().join("a/b/file"), &account);
            assert_eq!(found, weak.map(|weak| home.path().join(weak)), "{name}");
            let leads = may_lead_elsewhere(&home.path().join("a/b/file"), &account);
            let is_directory =
                weak.is_some_and(|weak| !weak.ends_with("file") && !weak.ends_with("real"));
            assert_eq!(leads, is_directory || name == "links without end", "{name}");
        }
    }
}
