//! Randomness, from the kernel.

use std::fs::File;
use std::io::{self, Read};

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// Unpredictable numbers, `getrandom(2)`.
pub fn numbers<const COUNT: usize>() -> io::Result<[u64; COUNT]> {
    let mut numbers = [0; COUNT];
    for number in &mut numbers {
        *number = u64::from_ne_bytes(bytes()?);
    }
    Ok(numbers)
}

/// Unpredictable bytes, `getrandom(2)`, or `random(4)` where a sandbox refuses the call.
///
/// A system call of our own: in a static program, libraries look for the function of the C
/// library in vain and then open `/dev/urandom`, which an empty root does not have.
pub fn bytes<const COUNT: usize>() -> io::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    let mut filled = 0;
    while filled < COUNT {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(Errno::INTR) => {}
            Err(Errno::NOSYS | Errno::PERM) => {
                File::open("/dev/urandom")?.read_exact(&mut bytes[filled..])?;
                filled = COUNT;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}
