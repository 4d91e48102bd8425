//! How much memory a process holds.

use std::fs;
use std::io;

use nix::unistd::{Pid, SysconfVar, sysconf};

use super::errors;

/// The resident memory of a process in bytes (the second number of `/proc/PID/statm`, `proc(5)`).
///
/// `NotFound` means that there is no such process any more, or no `/proc`, or one that hides it.
pub fn resident(pid: Pid) -> io::Result<u64> {
    let path = format!("/proc/{pid}/statm");
    let text = fs::read_to_string(&path).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot read {path}: {}", errors::text(&error)))
    })?;
    let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| io::Error::other("statm is not as expected"))?;
    let size = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|size| u64::try_from(size).ok());
    Ok(pages.saturating_mul(size.unwrap_or(4096)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_holds_what_it_has_touched() {
        let before = resident(Pid::this()).unwrap();
        let touched = vec![1_u8; 32 << 20];
        let after = resident(Pid::this()).unwrap();
        // Other tests of this process may free some meanwhile.
        assert!(after > before + (16 << 20), "{before} {after} {}", touched.len());
    }

    #[test]
    fn who_is_gone_holds_nothing() {
        let error = resident(Pid::from_raw(i32::MAX)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
