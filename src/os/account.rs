//! Users and groups as `/etc/passwd` and `/etc/group` have them, `passwd(5)` and `group(5)`.
//!
//! The files are read by hand: `getpwnam(3)` and `getgrouplist(3)` of glibc load libraries for the sources of
//! `nsswitch.conf(5)`, and in the static build, which is one of glibc too, these are those of the system that
//! it runs on and need not fit. Numbers work without any file.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;

use nix::unistd::{getegid, geteuid};

use super::capabilities::may_be_others;
use super::errors;
use crate::logic::config::{Account, SocketConfig};

const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// A line of `/etc/passwd`.
#[derive(Clone, Debug, Eq, PartialEq)]
struct User {
    name: Vec<u8>,
    uid: u32,
    gid: u32,
    home: Vec<u8>,
}

/// A line of `/etc/group`.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Group {
    name: Vec<u8>,
    gid: u32,
    members: Vec<Vec<u8>>,
}

/// Why a worker cannot be who it should.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The name is not in the file, nor a number.
    #[error("--{what} {name}: there is none in {file}; write a name as it is there, or a number")]
    Unknown {
        /// The flag, such as `user`, without its dashes.
        what: &'static str,
        /// As it was typed.
        name: String,
        /// Where it was looked for.
        file: &'static str,
    },
    /// The group of a number is known by its entry only.
    #[error("--user {0}: it has no entry in {USERS} that would say its group; add --group")]
    NoGroup(u32),
    /// A file is there and cannot be read.
    #[error("cannot read {file}: {}", errors::text(.error))]
    Unreadable {
        /// Which.
        file: &'static str,
        /// Why.
        error: io::Error,
    },
    /// Only some may become somebody else.
    #[error(
        "--user or --group: only root, or who has CAP_SETUID and CAP_SETGID, can run workers as somebody else; start \
         sticky-run as root, or as the user itself without --user and --group"
    )]
    NotAllowed,
}

/// Who workers are, from the names or numbers of a user and a group; none if they stay who the
/// supervisor is.
pub fn find(user: Option<&str>, group: Option<&str>) -> Result<Option<Account>, AccountError> {
    if user.is_none() && group.is_none() {
        return Ok(None);
    }
    let (users, groups) = (read(USERS)?, read(GROUPS)?);
    let account = resolve(user, group, &parse_users(&users), &parse_groups(&groups))?;
    if may_be_others() {
        return Ok(Some(account));
    }
    // Who is that already has nothing to ask for.
    if is_own(&account) { Ok(None) } else { Err(AccountError::NotAllowed) }
}

/// The user and the group of a file, from their names or numbers; a user brings its group, if it has an
/// entry.
pub fn owner(
    user: Option<&str>,
    group: Option<&str>,
) -> Result<(Option<u32>, Option<u32>), AccountError> {
    let (users, groups) = (read(USERS)?, read(GROUPS)?);
    let gid = group.map(|name| gid("socket-group", name, &parse_groups(&groups))).transpose()?;
    let Some(name) = user else { return Ok((None, gid)) };
    if let Some(entry) = entry(name, &parse_users(&users)) {
        return Ok((Some(entry.uid), gid.or(Some(entry.gid))));
    }
    let unknown =
        || AccountError::Unknown { what: "socket-user", name: name.to_owned(), file: USERS };
    Ok((Some(number(name).ok_or_else(unknown)?), gid))
}

/// Whose the Unix sockets of `--listen` are, if not this process's and if it may give them to others: the
/// workers' or those of whom it was asked for.
pub fn of_sockets(asked: &SocketConfig, workers: Option<&Account>) -> Option<Account> {
    let is_own = workers.is_none() && asked.uid.is_none() && asked.gid.is_none();
    if is_own || !may_be_others() {
        return None;
    }
    let (uid, gid) = (workers.and_then(|own| own.uid), workers.map(|own| own.gid));
    let uid = asked.uid.or(uid);
    let own = workers.filter(|own| own.uid == uid);
    Some(Account {
        uid,
        gid: asked.gid.or(gid).unwrap_or_else(|| getegid().as_raw()),
        groups: own.map(|own| own.groups.clone()).unwrap_or_default(),
        home: None,
    })
}

/// The file as it is; nobody has a name where there is none.
fn read(file: &'static str) -> Result<Vec<u8>, AccountError> {
    match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(|error| AccountError::Unreadable { file, error }),
    }
}

fn resolve(
    user: Option<&str>,
    group: Option<&str>,
    users: &[User],
    groups: &[Group],
) -> Result<Account, AccountError> {
    let group = group.map(|name| gid("group", name, groups)).transpose()?;
    let Some(name) = user else {
        let gid = group.expect("one of the two was given");
        return Ok(Account { uid: None, gid, groups: vec![gid], home: None });
    };
    let Some(entry) = entry(name, users) else {
        let unknown = || AccountError::Unknown { what: "user", name: name.to_owned(), file: USERS };
        let uid = number(name).ok_or_else(unknown)?;
        let gid = group.ok_or(AccountError::NoGroup(uid))?;
        return Ok(Account { uid: Some(uid), gid, groups: Vec::new(), home: None });
    };
    let gid = group.unwrap_or(entry.gid);
    let is_member = |group: &&Group| group.members.contains(&entry.name);
    let mut all: Vec<_> = groups.iter().filter(is_member).map(|group| group.gid).collect();
    all.push(gid);
    all.sort_unstable();
    all.dedup();
    let text = |bytes: &[u8]| OsString::from(OsStr::from_bytes(bytes));
    let home = Some((text(&entry.name), text(&entry.home)));
    Ok(Account { uid: Some(entry.uid), gid, groups: all, home })
}

/// The entry of a name or number; as chown(1) does it, a name that is a number comes first.
fn entry<'a>(name: &str, users: &'a [User]) -> Option<&'a User> {
    let number = number(name);
    let by_name = users.iter().find(|user| user.name == name.as_bytes());
    by_name.or_else(|| users.iter().find(|user| Some(user.uid) == number))
}

fn gid(what: &'static str, name: &str, groups: &[Group]) -> Result<u32, AccountError> {
    let entry = groups.iter().find(|group| group.name == name.as_bytes());
    let unknown = || AccountError::Unknown { what, name: name.to_owned(), file: GROUPS };
    entry.map(|group| group.gid).or_else(|| number(name)).ok_or_else(unknown)
}

/// The number of a user or group. The last one means "no change" to the kernel, `setresuid(2)`.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number != u32::MAX)
}

fn parse_users(file: &[u8]) -> Vec<User> {
    let parse = |fields: Vec<&[u8]>| {
        let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
        Some(User { name: name.to_vec(), uid: id(uid)?, gid: id(gid)?, home: home.to_vec() })
    };
    lines(file).filter_map(parse).collect()
}

fn parse_groups(file: &[u8]) -> Vec<Group> {
    let parse = |fields: Vec<&[u8]>| {
        let [name, _, gid, members, ..] = fields[..] else { return None };
        let members = members.split(|byte| *byte == b',').filter(|member| !member.is_empty());
        let members = members.map(|member| member.trim_ascii().to_vec()).collect();
        Some(Group { name: name.to_vec(), gid: id(gid)?, members })
    };
    lines(file).filter_map(parse).collect()
}

/// The fields of each line that has a name; comments and what NIS would add are no entries.
fn lines(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let lines = file.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let entries = lines.filter(|line| !line.is_empty() && !b"#+-:".contains(&line[0]));
    entries.map(|line| line.split(|byte| *byte == b':').collect())
}

fn id(field: &[u8]) -> Option<u32> {
    number(str::from_utf8(field).ok()?)
}

fn is_own(account: &Account) -> bool {
    let is_own_user = account.uid.is_none_or(|uid| uid == geteuid().as_raw());
    is_own_user && account.gid == getegid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\n\
        # a comment\n\
        +@netgroup\n\
        www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n\
        broken:x:what:1::\n\
        short:x:1\n\
        77:x:1077:1077::/home/77:/bin/sh\n\
        last:*:500:100:\xff:/home/last:";
    const GROUP: &[u8] = b"root:x:0:\nwww-data:x:33:\nssl:x:110:last,www-data,www-data\n\
        broken:x::www-data\nusers:x:100:www-data , last\n";

    fn found(user: Option<&str>, group: Option<&str>) -> Result<Account, String> {
        resolve(user, group, &parse_users(PASSWD), &parse_groups(GROUP))
            .map_err(|error| error.to_string())
    }

    fn ids(account: &Account) -> (Option<u32>, u32, &[u32]) {
        (account.uid, account.gid, &account.groups)
    }

    #[test]
    fn a_user_has_its_own_group_and_those_that_it_is_a_member_of() {
        let www = found(Some("www-data"), None).unwrap();
        assert_eq!(ids(&www), (Some(33), 33, &[33, 100, 110][..]));
        assert_eq!(www.home, Some(("www-data".into(), "/var/www".into())));
        assert_eq!(found(Some("33"), None).unwrap(), www);
        let last = found(Some("last"), Some("ssl")).unwrap();
        assert_eq!(ids(&last), (Some(500), 110, &[100, 110][..]));
    }

    #[test]
    fn numbers_need_no_entry_and_names_come_before_numbers() {
        let unknown = found(Some("4242"), Some("4343")).unwrap();
        assert_eq!(ids(&unknown), (Some(4242), 4343, &[][..]));
        assert_eq!(found(Some("77"), None).unwrap().uid, Some(1077));
        assert_eq!(ids(&found(None, Some("ssl")).unwrap()), (None, 110, &[110][..]));
    }

    #[test]
    fn who_is_not_there_is_an_error_that_says_what_to_do() {
        let wrong = |user, group| found(user, group).unwrap_err();
        assert!(
            wrong(Some("nobody"), None).contains("--user nobody: there is none in /etc/passwd")
        );
        assert!(
            wrong(None, Some("nobody")).contains("--group nobody: there is none in /etc/group")
        );
        assert!(wrong(Some("4242"), None).contains("add --group"));
        for name in ["", "broken", "short", "-1", "+1", "4294967295", "99999999999"] {
            assert!(wrong(Some(name), Some("0")).contains("there is none"), "{name}");
        }
    }
}
