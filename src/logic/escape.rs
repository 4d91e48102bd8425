//! Escaping of text that others have chosen, clients, workers or whoever named a file, for the log.

use std::fmt::{self, Display, Write};

/// Text that cannot break a line or control a terminal.
///
/// Characters that end the line, move the cursor, change colours or the direction of writing, or are
/// invisible are escaped as in Rust, such as `\n` and `\u{1b}`.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<T>(pub T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escape =
            |f: &mut fmt::Formatter<'_>, found: char| write!(f, "{}", found.escape_default());
        write!(Escaper(f, escape), "{}", self.0)
    }
}

/// A line of JSON without such characters. Most are escaped in it already; the others can only be in its
/// strings.
#[derive(Clone, Copy, Debug)]
pub struct EscapedJson<'a>(pub &'a str);

impl Display for EscapedJson<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escape = |f: &mut fmt::Formatter<'_>, found: char| {
            let mut units = [0; 2];
            found.encode_utf16(&mut units).iter().try_for_each(|unit| write!(f, "\\u{unit:04x}"))
        };
        Escaper(f, escape).write_str(self.0)
    }
}

/// Escapes what is not harmless.
struct Escaper<'a, 'f, F>(&'a mut fmt::Formatter<'f>, F);

impl<'f, F: Fn(&mut fmt::Formatter<'f>, char) -> fmt::Result> Write for Escaper<'_, 'f, F> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(needs_escape) {
            let (before, found) = rest.split_at(at);
            let mut found = found.chars();
            self.0.write_str(before)?;
            if let Some(found) = found.next() {
                (self.1)(self.0, found)?;
            }
            rest = found.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Whether a character is not printable: controls (C0, DEL, C1), what ends lines or changes the direction of
/// writing (Unicode Standard Annex 9), and what is invisible.
fn needs_escape(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_as_it_is() {
        for text in ["", "worker 0 is ready", "grüße, 世界 \\n 🦀", "{\"a\":\"\\u001b\"}"] {
            assert_eq!(Escaped(text).to_string(), text);
            assert_eq!(EscapedJson(text).to_string(), text);
        }
    }

    #[test]
    fn what_does_something_is_shown() {
        for (text, shown, json) in [
            ("a\nb\r\tc", "a\\nb\\r\\tc", "a\\u000ab\\u000d\\u0009c"),
            ("\x1b[31mred\x7f", "\\u{1b}[31mred\\u{7f}", "\\u001b[31mred\\u007f"),
            ("\0", "\\u{0}", "\\u0000"),
            ("\u{9b}2J", "\\u{9b}2J", "\\u009b2J"),
            ("\u{202e}txt.exe", "\\u{202e}txt.exe", "\\u202etxt.exe"),
            ("a\u{2028}\u{200b}b", "a\\u{2028}\\u{200b}b", "a\\u2028\\u200bb"),
            ("\u{e0041}", "\\u{e0041}", "\\udb40\\udc41"),
        ] {
            assert_eq!(Escaped(text).to_string(), shown);
            assert_eq!(EscapedJson(text).to_string(), json);
        }
    }

    #[test]
    fn json_means_what_it_meant() {
        let value = serde_json::json!({ "a": "\u{9b}\u{202e}\u{e0041}\u{7f}\n\"\\" });
        let line = EscapedJson(&value.to_string()).to_string();
        assert!(line.is_ascii(), "{line}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);
    }
}
