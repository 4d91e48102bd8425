//! Reading files that others may put something else in the place of.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

/// The longest file that is read as a whole.
const LONGEST: u64 = 1 << 20;

/// The first bytes of a file, at most so many. What is no file is an error: it can be read only once, or
/// never ends, or has the reader wait for somebody.
pub fn start_of(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it has to be a file"));
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// All of a file.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = start_of(path, LONGEST + 1)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::other("it is longer than a megabyte"));
    }
    Ok(bytes)
}

/// All of a file of text.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(io::Error::other)
}
