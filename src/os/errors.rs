//! Errors of the system, for people.

use std::io;

/// The error's text in lower case, without its number.
pub fn text(error: &io::Error) -> String {
    let text = error.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
