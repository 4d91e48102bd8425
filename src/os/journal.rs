//! The journal as the reader of standard error (`systemd.exec(5)`, `sd-daemon(3)`): it takes a line for
//! an entry, and has its time itself.

use std::ffi::OsStr;
use std::fmt::Display;
use std::os::fd::BorrowedFd;

use nix::sys::stat::fstat;
use tracing::Level;

use crate::logic::escape::Escaped;

/// Whether a descriptor is the stream to the journal that `JOURNAL_STREAM` names by its device and
/// inode. The variable is inherited by many who write elsewhere.
pub fn is_stream(descriptor: BorrowedFd<'_>, named: &OsStr) -> bool {
    let number = fstat(descriptor).map(|file| format!("{}:{}", file.st_dev, file.st_ino));
    number.is_ok_and(|number| named == number.as_str())
}

/// The one line that becomes an entry of this level. Plain text has none of the characters at which another entry
/// begins, with a priority of its own.
pub fn entry<T: Display>(level: Level, message: Escaped<T>) -> String {
    let priority = match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    };
    format!("<{priority}>{message}\n")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_stream_is_known_by_its_device_and_inode() {
        let (reader, writer) = std::io::pipe().unwrap();
        let file = fstat(&writer).unwrap();
        let (device, inode) = (file.st_dev, file.st_ino);
        let named = format!("{device}:{inode}");
        assert!(is_stream(writer.as_fd(), named.as_ref()));
        // Both ends of a pipe are one file.
        assert!(is_stream(reader.as_fd(), named.as_ref()));
        let other = fs::File::open("/dev/null").unwrap();
        assert!(!is_stream(other.as_fd(), named.as_ref()));
        let others = [format!("{inode}:{device}"), format!("{named}0"), format!("{device}")];
        for named in others.iter().map(String::as_str).chain(["", ":", "x:y"]) {
            assert!(!is_stream(writer.as_fd(), named.as_ref()), "{named}");
        }
    }

    #[test]
    fn a_message_is_one_entry_whatever_is_in_it() {
        for (level, line) in [
            (Level::ERROR, "<3>a\\n<0>b\\u{0}c\n"),
            (Level::WARN, "<4>a\\n<0>b\\u{0}c\n"),
            (Level::INFO, "<6>a\\n<0>b\\u{0}c\n"),
            (Level::DEBUG, "<7>a\\n<0>b\\u{0}c\n"),
            (Level::TRACE, "<7>a\\n<0>b\\u{0}c\n"),
        ] {
            assert_eq!(entry(level, Escaped("a\n<0>b\0c")), line);
        }
    }
}
