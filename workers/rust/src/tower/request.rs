//! What a request asks of an Engine.IO server: decided by its path and query alone.

use ::form_urlencoded::parse;
use ::http::Uri;

/// A request of an Engine.IO client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Asks {
    /// A new session by polling.
    Handshake,
    /// Something of the session with this id, by polling or to upgrade it.
    Session(String),
    /// A new session that is a WebSocket from its start.
    Upgraded,
}

/// Where the server is.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    /// The path without its last slash.
    prefix: Box<str>,
}

impl Paths {
    pub(super) fn new(path: &str) -> Self {
        Self { prefix: path.trim_end_matches('/').into() }
    }

    /// What a request for this asks; none when it is for something else.
    pub(super) fn look(&self, uri: &Uri) -> Option<Asks> {
        let rest = uri.path().strip_prefix(&*self.prefix)?;
        if !rest.is_empty() && !rest.starts_with('/') {
            return None;
        }
        let query = || parse(uri.query().unwrap_or_default().as_bytes());
        let parameter = |name| query().find(|(found, _)| found == name).map(|(_, value)| value);
        let transport = parameter("transport")?;
        Some(match parameter("sid") {
            Some(sid) => Asks::Session(sid.into_owned()),
            None if transport == "polling" => Asks::Handshake,
            None => Asks::Upgraded,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(uri: &str) -> Option<Asks> {
        Paths::new("/socket.io/").look(&uri.parse().unwrap())
    }

    #[test]
    fn requests_are_told_by_path_and_query() {
        assert_eq!(look("/socket.io/?EIO=4&transport=polling&t=x"), Some(Asks::Handshake));
        assert_eq!(look("/socket.io?transport=polling&appsid=a"), Some(Asks::Handshake));
        assert_eq!(look("/socket.io/?transport=websocket"), Some(Asks::Upgraded));
        let session = Some(Asks::Session("a_b".into()));
        assert_eq!(look("/socket.io/?transport=polling&sid=a%5Fb"), session);
        assert_eq!(look("/socket.io/?sid=a_b&transport=websocket"), session);
        assert_eq!(look("/socket.iox/?transport=polling"), None);
        assert_eq!(look("/?transport=polling"), None);
        assert_eq!(look("/socket.io/socket.io.js"), None);
    }
}
