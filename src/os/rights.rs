//! The rights of somebody else in the file system, `setfsuid(2)`: what is made for an account is made by
//! it, so that it can neither get what is not its own nor lack what is.
//!
//! A thread of its own does it, since the rights of a thread are its own and go with it: there is nothing
//! to get back, and nothing that could fail to come back. The user of the process stays, so that the
//! account can neither signal nor trace that thread.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{io, panic, thread};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::{AccessFlags, Gid, Uid, setfsgid, setfsuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_groups,
};

use crate::logic::config::Account;

/// The stack of such a thread, which calls the kernel and little else.
const STACK: usize = 128 * 1024;

/// What holds beside the rights of the account.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Beside {
    /// Nothing.
    Nothing,
    /// What this process may do: files are the account's, wherever they are made.
    Ours,
}

/// Does something in the file system as this account. Errors are those of `work` and of `clone(2)`,
/// `setgroups(2)` and `capset(2)`.
pub fn act_as<T: Send>(
    account: &Account,
    beside: Beside,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    thread::scope(|scope| {
        // Signals are for the loop.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || {
            take_on(account, beside)?;
            work()
        });
        before.thread_set_mask()?;
        thread?.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}

/// Whose what this thread makes is.
pub fn user() -> Uid {
    // It is no user, so it changes nothing.
    setfsuid(Uid::from_raw(u32::MAX))
}

/// Whether this thread may do that with what is at a path. Unlike `access(2)` it does not ask for the user
/// of the process; Linux before 5.8 cannot say (`faccessat2(2)`).
pub fn access(path: &Path, how: AccessFlags) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path ends with a null byte and outlives the call, which keeps nothing of it.
    #[expect(unsafe_code, reason = "faccessat2(2) has no wrapper that never asks for the process")]
    let asked = unsafe {
        libc::syscall(
            libc::SYS_faccessat2,
            libc::AT_FDCWD,
            path.as_ptr(),
            how.bits(),
            libc::AT_EACCESS,
        )
    };
    Errno::result(asked).map(drop).map_err(io::Error::from)
}

/// Takes on the rights of an account, for the rest of this thread.
fn take_on(account: &Account, beside: Beside) -> io::Result<()> {
    let ours = capabilities(None)?;
    let groups: Vec<_> =
        account.groups.iter().copied().map(rustix::process::Gid::from_raw).collect();
    set_thread_groups(&groups)?;
    let gid = Gid::from_raw(account.gid);
    setfsgid(gid);
    // Neither call says whether it worked, but the next one says what holds.
    let mut worked = setfsgid(Gid::from_raw(u32::MAX)) == gid;
    if let Some(uid) = account.uid.map(Uid::from_raw) {
        setfsuid(uid);
        worked &= user() == uid;
    }
    if !worked {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    let effective = match beside {
        // Not only those that go with the user (`capabilities(7)`): not all are of root.
        Beside::Nothing if account.is_unprivileged() => CapabilitySet::empty(),
        Beside::Nothing | Beside::Ours => ours.effective,
    };
    Ok(set_capabilities(None, CapabilitySets { effective, ..ours })?)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

    use nix::unistd::{geteuid, getgroups};

    use super::*;

    #[test]
    fn what_is_made_is_the_accounts_and_what_it_may_not_is_refused() {
        if !geteuid().is_root() {
            eprintln!("not tested: only root can be somebody else");
            return;
        }
        let account = Account { uid: Some(54_321), gid: 54_322, groups: vec![54_323], home: None };
        let outer = tempfile::tempdir().unwrap();
        fs::set_permissions(outer.path(), Permissions::from_mode(0o755)).unwrap();
        let make = |name: &str, beside| {
            let path = outer.path().join(name);
            let made = act_as(&account, beside, || File::create(&path));
            made.map(|file| file.metadata().unwrap()).map(|made| (made.uid(), made.gid()))
        };
        let groups = getgroups().unwrap();
        assert_eq!(make("a", Beside::Nothing).unwrap_err().raw_os_error(), Some(libc::EACCES));
        assert_eq!(make("b", Beside::Ours).unwrap(), (54_321, 54_322));
        chown(outer.path(), Some(0), Some(54_323)).unwrap();
        fs::set_permissions(outer.path(), Permissions::from_mode(0o770)).unwrap();
        assert_eq!(make("c", Beside::Nothing).unwrap(), (54_321, 54_322));
        // Nothing of it holds in this thread.
        assert_eq!(getgroups().unwrap(), groups);
        assert_eq!(File::create(outer.path().join("d")).unwrap().metadata().unwrap().uid(), 0);
    }
}
