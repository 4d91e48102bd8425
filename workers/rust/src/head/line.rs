//! The request line, with everything that some server lets pass.
//!
//! Whoever serves a request that nobody here can read would get it wherever it is placed. So this reads
//! whatever Node, Python, Go or another server reads, and leaves it to them to refuse: white space of any
//! kind and number between the words (RFC 9112, section 3), any version, and none (HTTP/0.9). All of them
//! see the same target.

/// How far a request line has been read, byte by byte.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Place {
    /// In front of it, where lines may be empty.
    #[default]
    Before,
    Method,
    BehindMethod,
    Target,
    BehindTarget,
    /// In the name in front of the version, such as `HTTP`.
    Name,
    /// Behind the slash, and in the first number.
    Major,
    /// Behind the dot.
    Dot,
    /// It is whole, and a head follows.
    Whole,
    /// It is whole, without a version: nothing follows.
    Simple,
    /// It is no request line, whatever follows.
    Wrong,
}

impl Place {
    /// Where the next byte leads.
    pub(super) fn step(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Whole | Self::Simple | Self::Wrong, _) => self,
            (Self::Before, b'\n') => Self::Before,
            (Self::Target | Self::BehindTarget, b'\n') => Self::Simple,
            (Self::Before | Self::BehindMethod | Self::BehindTarget, byte) if is_space(byte) => {
                self
            }
            (Self::Method, byte) if is_space(byte) => Self::BehindMethod,
            (Self::Target, byte) if is_space(byte) => Self::BehindTarget,
            (Self::Before | Self::Method, byte) if is_token(byte) => Self::Method,
            (Self::BehindMethod, byte) if byte != b'\n' => Self::Target,
            (Self::Target, _) => Self::Target,
            (Self::BehindTarget | Self::Name, byte) if byte.is_ascii_uppercase() => Self::Name,
            (Self::Name, b'/') => Self::Major,
            (Self::Major, b'.') => Self::Dot,
            (Self::Major, byte) if byte.is_ascii_digit() => Self::Major,
            (Self::Dot, byte) if byte.is_ascii_digit() => Self::Whole,
            (
                Self::Before
                | Self::Method
                | Self::BehindMethod
                | Self::BehindTarget
                | Self::Name
                | Self::Major
                | Self::Dot,
                _,
            ) => Self::Wrong,
        }
    }

    /// Whether more bytes change nothing.
    pub(super) fn is_decided(self) -> bool {
        self == Self::Whole || self.has_no_head()
    }

    /// Whether no headers follow.
    pub(super) fn has_no_head(self) -> bool {
        matches!(self, Self::Simple | Self::Wrong)
    }
}

/// A request line, as far as it is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    pub(super) place: Place,
    pub(super) target: &'a [u8],
    /// What comes behind it, once it is decided.
    pub(super) rest: &'a [u8],
}

/// Reads the request line at the beginning of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Line<'_> {
    let mut place = Place::default();
    let (mut start, mut end) = (0, 0);
    for (at, byte) in bytes.iter().enumerate() {
        let before = place;
        place = before.step(*byte);
        if place == Place::Target {
            if before != place {
                start = at;
            }
            end = at + 1;
        }
        if place.is_decided() {
            return Line { place, target: &bytes[start..end], rest: &bytes[at + 1..] };
        }
    }
    Line { place, target: &bytes[start..end], rest: &[] }
}

/// White space in a line that is not its end.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | 0x0B | 0x0C)
}

/// What methods are made of (`tchar` of RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
