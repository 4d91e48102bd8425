//! Randomness, from the kernel.

use std::io;

/// Unpredictable numbers, `getrandom(2)`.
pub fn numbers<const COUNT: usize>() -> io::Result<[u64; COUNT]> {
    let mut numbers = [0; COUNT];
    for number in &mut numbers {
        *number = getrandom::u64()?;
    }
    Ok(numbers)
}

/// Unpredictable bytes, `getrandom(2)`.
pub fn bytes<const COUNT: usize>() -> io::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
