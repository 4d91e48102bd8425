//! How much memory a process holds, and giving some back.

use std::fs;
use std::io;
use std::ops::Range;

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

/// Gives back the pages of the program's code; those that are used again come back from the cache of the
/// kernel (`MADV_DONTNEED` of `madvise(2)`). Breakpoints of a debugger are lost by it.
///
/// Errors are those of reading `/proc/self/maps`, `proc(5)`, and of `madvise(2)`.
#[expect(unsafe_code, reason = "madvise(2) takes addresses")]
pub fn give_back_code() -> io::Result<()> {
    let here = give_back_code as fn() -> io::Result<()> as usize;
    let maps = fs::read_to_string("/proc/self/maps")?;
    let Some(code) = maps.lines().filter_map(code).find(|code| code.contains(&here)) else {
        return Ok(());
    };
    let start = code.start as *mut nix::libc::c_void;
    // SAFETY: the range is the mapping of the code that runs this. It is a private mapping of a file
    // that nobody can write to while it runs (`ETXTBSY`) and that was never written to itself, so that
    // what is read again is what was there.
    let done = unsafe { nix::libc::madvise(start, code.len(), nix::libc::MADV_DONTNEED) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The addresses of a line of `/proc/self/maps`, if it is about code.
fn code(line: &str) -> Option<Range<usize>> {
    let (addresses, rest) = line.split_once(' ')?;
    let (start, end) = addresses.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    rest.starts_with("r-xp ").then_some(number(start)?..number(end)?)
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

    #[test]
    fn code_that_was_given_back_still_runs() {
        give_back_code().unwrap();
        let lines =
            ["7f00-7f10 r-xp 00000000 08:01 7 /bin/a", "7f10-7f20 r--p 00000000 08:01 7 /bin/a"];
        assert_eq!(lines.map(code), [Some(0x7f00..0x7f10), None]);
        assert_eq!(code("nonsense"), None);
    }
}
