//! An empty input: `/dev/null`, or a substitute where a root has none.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use nix::libc;

/// Has descriptors be open that were closed when the program started, before anything else runs: the
/// runtime of Rust opens `/dev/null` for them, and aborts where there is none.
#[expect(unsafe_code, reason = "the loader finds what runs before main by its section")]
#[used]
// SAFETY: the section holds functions of just this type (System V ABI, "Initialization and
// Termination Functions"), and this one needs nothing of the runtime, which is not there yet.
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = fill_closed;

/// Standard input for a process that has nothing to read.
pub(super) fn input() -> io::Result<Stdio> {
    if let Ok(null) = File::open("/dev/null") {
        return Ok(null.into());
    }
    // The other end is closed here, which is the end of file.
    let (ended, _) = io::pipe()?;
    Ok(OwnedFd::from(ended).into())
}

#[expect(unsafe_code, reason = "it runs before the runtime, so with plain system calls")]
extern "C" fn fill_closed() {
    for number in 0..=libc::STDERR_FILENO {
        // SAFETY: neither call touches memory of ours but `ends`, which is large enough. A new descriptor
        // gets the lowest free number, which is this one, since those below are open.
        unsafe {
            if libc::fcntl(number, libc::F_GETFD) >= 0
                || libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) >= 0
            {
                continue;
            }
            // Who reads finds the end, and who writes is told that it is not open for that, just as
            // if it were closed.
            let mut ends = [0; 2];
            if libc::pipe(ends.as_mut_ptr()) == 0 {
                libc::close(ends[1]);
            }
        }
    }
}
