//! The fields that mean something, and where their values stand.

/// The fields that mean something in some message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    Accepted,
    Ack,
    Act,
    Address,
    AddressType,
    Backlog,
    Bytes,
    Closed,
    Cmd,
    Count,
    Data,
    Fd,
    Flags,
    Head,
    Index,
    Key,
    Message,
    Msg,
    Name,
    Nsp,
    Port,
    ReadableAll,
    RequesterUid,
    Seq,
    Source,
    Sticky,
    Type,
    Uid,
    Version,
    WritableAll,
}

impl Field {
    /// One more than the last.
    const COUNT: usize = Self::WritableAll as usize + 1;
    /// No name is longer than this, in bytes.
    pub(super) const LONGEST: usize = "requesterUid".len();

    /// The field that is written so.
    pub(super) fn of(text: &str) -> Option<Self> {
        Some(match text {
            "accepted" => Self::Accepted,
            "ack" => Self::Ack,
            "act" => Self::Act,
            "address" => Self::Address,
            "addressType" => Self::AddressType,
            "backlog" => Self::Backlog,
            "bytes" => Self::Bytes,
            "closed" => Self::Closed,
            "cmd" => Self::Cmd,
            "count" => Self::Count,
            "data" => Self::Data,
            "fd" => Self::Fd,
            "flags" => Self::Flags,
            "head" => Self::Head,
            "index" => Self::Index,
            "key" => Self::Key,
            "message" => Self::Message,
            "msg" => Self::Msg,
            "name" => Self::Name,
            "nsp" => Self::Nsp,
            "port" => Self::Port,
            "readableAll" => Self::ReadableAll,
            "requesterUid" => Self::RequesterUid,
            "seq" => Self::Seq,
            "source" => Self::Source,
            "sticky" => Self::Sticky,
            "type" => Self::Type,
            "uid" => Self::Uid,
            "version" => Self::Version,
            "writableAll" => Self::WritableAll,
            _ => return None,
        })
    }
}

/// Where the values of the fields of one object stand.
#[derive(Debug, Default)]
pub(super) struct Values<'a>([Option<&'a [u8]>; Field::COUNT]);

impl<'a> Values<'a> {
    /// Notes where a value stands; of two fields with one name the last counts, as in Node.
    pub(super) fn found(&mut self, name: Field, value: &'a [u8]) {
        self.0[name as usize] = Some(value);
    }

    /// Where the value of this field stands.
    pub(super) fn get(&self, name: Field) -> Option<&'a [u8]> {
        self.0[name as usize]
    }
}
