//! The header lines of a head, with everything that some server lets pass: lines that end in LF or CR
//! alone, and values that go on in the next line.

/// Where a head that is read byte by byte ends: behind an empty line.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Place {
    /// In a line with something in it.
    #[default]
    Within,
    /// At the beginning of a line.
    Beginning,
    /// Behind a CR at the beginning of a line.
    Return,
    /// The head is whole.
    End,
}

impl Place {
    /// Where the next byte leads.
    pub(super) fn step(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::End, _) | (Self::Beginning | Self::Return, b'\n') => Self::End,
            (Self::Within, b'\n') => Self::Beginning,
            (Self::Beginning, b'\r') => Self::Return,
            (Self::Within | Self::Beginning | Self::Return, _) => Self::Within,
        }
    }
}

/// A header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Field<'a> {
    pub(super) name: &'a [u8],
    /// Without the white space around it; one that goes on in another line has the line's end in it.
    pub(super) value: &'a [u8],
}

impl Field<'_> {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// What follows a request line: the headers up to the empty line, if that is there.
pub(super) fn whole(bytes: &[u8]) -> Option<Fields<'_>> {
    let mut place = Place::default();
    let end = bytes.iter().position(|byte| {
        place = place.step(*byte);
        place == Place::End
    })?;
    Some(Fields(after_line(&bytes[..end])))
}

/// The headers of a whole head, up to a line that no server takes for one: that ends the headers for
/// whoever does not refuse it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        // One that goes on from the request line belongs to nothing.
        while self.0.first().is_some_and(|byte| is_fold(*byte)) {
            self.0 = after_line(self.0);
        }
        let colon = self.0.iter().position(|byte| *byte == b':')?;
        let name = &self.0[..colon];
        if !name.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let behind = &self.0[colon + 1..];
        let mut rest = after_line(behind);
        while rest.first().is_some_and(|byte| is_fold(*byte)) {
            rest = after_line(rest);
        }
        self.0 = rest;
        Some(Field { name, value: behind[..behind.len() - rest.len()].trim_ascii() })
    }
}

/// What stands behind the first end of a line.
fn after_line(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    let rest = &bytes[end..];
    let ends: [&[u8]; 3] = [b"\r\n", b"\n", b"\r"];
    ends.iter().find_map(|end| rest.strip_prefix(*end)).unwrap_or_default()
}

/// Whether a line that begins like this goes on with the one before (`obs-fold` of RFC 9112, section 5.2).
fn is_fold(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}
