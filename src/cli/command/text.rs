//! The text of a command for the shell: which simple commands it consists of.
//!
//! Only what can be told without running anything (POSIX, "Shell Command Language"): simple
//! commands in a row, with quotes and redirections. Everything else is left to the shell.

use std::iter::Peekable;
use std::str::Chars;

/// One simple command.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Simple {
    /// Its words, assignments first.
    pub(super) words: Vec<Word>,
    /// Whether there are redirections.
    pub(super) redirected: bool,
    /// Whether its output goes to the next one.
    pub(super) piped: bool,
}

/// One word.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Word {
    /// Without its quotes.
    pub(super) text: String,
    /// Whether the shell puts something else into it.
    pub(super) expanded: bool,
    /// Where the first unquoted `=` behind an unquoted name is.
    pub(super) assignment: Option<usize>,
    quoted: bool,
}

/// The simple commands of a text; `None` if there is more to it.
pub(super) fn read(text: &str) -> Option<Vec<Simple>> {
    let mut reader = Reader::new(text);
    while let Some(character) = reader.characters.next() {
        reader.step(character)?;
    }
    reader.end_command(false)?;
    if reader.commands.last()?.piped { None } else { Some(reader.commands) }
}

/// Words for a shell.
pub(super) fn quoted<'a>(words: impl Iterator<Item = &'a str>) -> String {
    // A zero byte cannot stand in an argument, so nothing is left out.
    let words = words.filter_map(|word| shlex::try_quote(word).ok());
    words.collect::<Vec<_>>().join(" ")
}

struct Reader<'a> {
    characters: Peekable<Chars<'a>>,
    commands: Vec<Simple>,
    command: Simple,
    /// The word that has begun.
    word: Option<Word>,
    /// The next word is the file of a redirection.
    file: bool,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        let characters = text.chars().peekable();
        Self {
            characters,
            commands: Vec::new(),
            command: Simple::default(),
            word: None,
            file: false,
        }
    }

    fn word(&mut self) -> &mut Word {
        self.word.get_or_insert_default()
    }

    /// One character outside of quotes.
    fn step(&mut self, character: char) -> Option<()> {
        match character {
            ' ' | '\t' => self.end_word(),
            '\n' | ';' => return self.end_command(false),
            '&' => {
                self.characters.next_if_eq(&'&')?;
                self.end_command(false)?;
                self.commands.last()?;
            }
            '|' if !matches!(self.characters.peek(), Some('|' | '&')) => {
                return self.end_command(true);
            }
            '|' | '(' | ')' | '`' => return None,
            '<' | '>' => return self.redirect(character),
            '#' if self.word.is_none() => {
                while self.characters.next_if(|next| *next != '\n').is_some() {}
            }
            '\'' => self.single_quotes()?,
            '"' => self.double_quotes()?,
            '\\' => match self.characters.next()? {
                '\n' => {}
                next => self.add_quoted(next),
            },
            '$' => self.expansion()?,
            '*' | '?' | '[' | ']' | '{' | '}' | '~' | '!' => {
                self.word().expanded = true;
                self.word().text.push(character);
            }
            '=' => self.equals(),
            other => self.word().text.push(other),
        }
        Some(())
    }

    fn equals(&mut self) {
        let word = self.word();
        if word.assignment.is_none() && !word.quoted && is_name(&word.text) {
            word.assignment = Some(word.text.len());
        }
        word.text.push('=');
    }

    fn add_quoted(&mut self, character: char) {
        self.word().quoted = true;
        self.word().text.push(character);
    }

    fn single_quotes(&mut self) -> Option<()> {
        self.word().quoted = true;
        loop {
            match self.characters.next()? {
                '\'' => return Some(()),
                other => self.word().text.push(other),
            }
        }
    }

    fn double_quotes(&mut self) -> Option<()> {
        self.word().quoted = true;
        loop {
            match self.characters.next()? {
                '"' => return Some(()),
                '`' => return None,
                '$' => self.expansion()?,
                '\\' => match self.characters.next()? {
                    '\n' => {}
                    escaped @ ('$' | '`' | '"' | '\\') => self.word().text.push(escaped),
                    other => self.word().text.extend(['\\', other]),
                },
                other => self.word().text.push(other),
            }
        }
    }

    /// After a dollar: a variable, plain or in braces.
    fn expansion(&mut self) -> Option<()> {
        self.word().expanded = true;
        self.word().text.push('$');
        match self.characters.peek() {
            Some('(' | '\'' | '"') => None,
            Some('{') => loop {
                match self.characters.next()? {
                    '}' => return Some(()),
                    '\'' | '"' | '`' | '\\' | '$' => return None,
                    _ => {}
                }
            },
            _ => Some(()),
        }
    }

    /// A redirection; a here-document and a process as a file are not known.
    fn redirect(&mut self, direction: char) -> Option<()> {
        // The number of a descriptor belongs to the redirection.
        let number = |word: &Word| !word.quoted && word.text.bytes().all(|b| b.is_ascii_digit());
        if self.word.as_ref().is_some_and(number) {
            self.word = None;
        }
        self.end_word();
        if self.file {
            return None;
        }
        let next = self.characters.next_if(|next| matches!(next, '<' | '>' | '&' | '|' | '('));
        if matches!((direction, next), (_, Some('(')) | ('<', Some('<'))) {
            return None;
        }
        self.command.redirected = true;
        self.file = true;
        Some(())
    }

    fn end_word(&mut self) {
        if let Some(word) = self.word.take()
            && !std::mem::take(&mut self.file)
        {
            self.command.words.push(word);
        }
    }

    /// Ends a simple command, unless there is none.
    fn end_command(&mut self, piped: bool) -> Option<()> {
        self.end_word();
        if self.file {
            return None;
        }
        let mut command = std::mem::take(&mut self.command);
        if command.words.is_empty() {
            // After a pipe, a line may end without one.
            return (!command.redirected && !piped).then_some(());
        }
        let first = &command.words[0];
        if !first.quoted && RESERVED.contains(&first.text.as_str()) {
            return None;
        }
        command.piped = piped;
        self.commands.push(command);
        Some(())
    }
}

/// Words that begin something else than a simple command, in any of the usual shells.
const RESERVED: [&str; 20] = [
    "!", "[[", "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function",
    "if", "select", "then", "until", "while", "{", "}", "trap",
];

fn is_name(text: &str) -> bool {
    !text.starts_with(|first: char| first.is_ascii_digit())
        && !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Words with `~` for expanded ones, commands with `>` and `|`.
    fn shown(text: &str) -> String {
        let Some(commands) = read(text) else { return "?".to_owned() };
        let word = |word: &Word| {
            let mark = if word.expanded { "~" } else { "" };
            format!("{mark}[{}]", word.text)
        };
        let command = |command: &Simple| {
            let words: String = command.words.iter().map(word).collect();
            let redirected = if command.redirected { ">" } else { "" };
            let piped = if command.piped { "|" } else { "" };
            format!("{words}{redirected}{piped}")
        };
        commands.iter().map(command).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn simple_commands_are_told_apart() {
        for (text, expected) in [
            ("node a.js", "[node][a.js]"),
            ("cd x && A=b node a", "[cd][x] [A=b][node][a]"),
            ("a;b\nc;", "[a] [b] [c]"),
            ("'a b'\"c d\" e\\ f ''", "[a bc d][e f][]"),
            ("a 'x;y' \"p && q\" # z", "[a][x;y][p && q]"),
            ("a \"\\$x\\n\\\"\"", "[a][$x\\n\"]"),
            ("a $x \"$y\" ${z:-1} *.js", "[a]~[$x]~[$y]~[$]~[*.js]"),
            ("a 2>&1 >f b", "[a][b]>"),
            ("a | b", "[a]| [b]"),
            ("a >> f; b <g", "[a]> [b]>"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn everything_else_is_left_to_the_shell() {
        for text in [
            "a || b",
            "a &",
            "(a)",
            "`a`",
            "$(a)",
            "a <<E",
            "if a; then b; fi",
            "{ a; }",
            "! a",
            "a |",
            "'a",
            "\"a",
            "a >",
            "a <(b)",
            "\"${x:-\"y\"}\"",
            "$'a'",
            "",
            "trap x 0; a",
            "&& a",
            "| a",
        ] {
            assert_eq!(shown(text), "?", "{text}");
        }
    }

    #[test]
    fn an_assignment_has_an_unquoted_name() {
        let assignment = |text| read(text).unwrap()[0].words[0].assignment;
        assert_eq!(assignment("A_1=b=c x"), Some(3));
        assert_eq!(assignment("A='b c' x"), Some(1));
        for text in ["'A'=b x", "1=b x", "=b x", "a-b=c x", "\\A=b x"] {
            assert_eq!(assignment(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_quoted_words_come_back(words: Vec<String>, text: String) {
            read(&text);
            let words: Vec<_> = words.into_iter().filter(|word| !word.contains('\0')).collect();
            if words.is_empty() || words.iter().any(|word| word.contains(['\n', '\r'])) {
                return Ok(());
            }
            let back = read(&format!("x {}", quoted(words.iter().map(String::as_str)))).unwrap();
            let back: Vec<_> = back[0].words[1..].iter().map(|word| word.text.clone()).collect();
            prop_assert_eq!(back, words);
        }
    }
}
