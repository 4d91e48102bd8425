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
