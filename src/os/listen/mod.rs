//! Listening sockets and what they accept.

mod asked;
mod file;
mod inherited;
mod place;
mod shut;
mod unix;

use std::cell::Cell;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::libc;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

pub use self::asked::{Asked, open_asked, open_udp};
use self::file::SocketFile;
pub use self::file::{Owner, directory_of};
pub use self::inherited::own_pidfd_id;
use self::inherited::{adopt, adopt_passed};
pub use self::place::{Place, places_of};
pub use self::unix::name_of_path;
use self::unix::{address_of_abstract, open_unix, unix_path};
use super::errors;
use crate::logic::config::Listen;

/// How many connections the kernel may hold before they are accepted; it caps this at
/// `net.core.somaxconn` (`listen(2)`).
const BACKLOG: i32 = 4096;

/// For how long the kernel is asked to keep a connection without a byte to itself. It keeps some
/// longer, and when it has too many it keeps none (`tcp_syncookies` of `tcp(7)`).
pub const DEFERRED: Duration = Duration::from_secs(1);

/// When a SYN-ACK is sent again for the first time (RFC 6298, section 2.1).
const SYN_ACK_TIMEOUT: Duration = Duration::from_secs(1);

/// How many ports are tried that are free in one family alone.
const MOST_PICKS: usize = 128;

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    about: About,
    /// Clients of the next connection may have sent descriptors along.
    brings_descriptors: Cell<bool>,
    /// Those of connections that are made from now on cannot.
    refuses_descriptors: bool,
}

/// What there is to know about a listener beside its socket.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct About {
    name: String,
    deferred: bool,
    mode: Mode,
    /// What was asked for when it was opened, if the user did.
    asked: Option<Listen>,
    /// Other processes may listen on it too.
    shared: bool,
    /// The socket's file, which goes with the listener.
    file: Option<SocketFile>,
}

/// The mode of the sockets of connections, which workers share.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Mode {
    /// Blocking, as from `accept(2)`.
    Blocking,
    /// Non-blocking, for workers that expect this of sockets which they are given.
    NonBlocking,
}

/// A connection, as it was accepted.
#[derive(Debug)]
pub struct Accepted {
    /// The socket, close-on-exec and in the mode asked for.
    pub socket: OwnedFd,
    /// The address of the client; a client of a Unix socket has none.
    pub client: Option<SocketAddr>,
    /// Its client may have sent descriptors along, whose close may wait.
    pub brings_descriptors: bool,
}

/// Why a socket does not listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {name}: {}{hint}", errors::text(.error))]
pub struct ListenError {
    name: String,
    hint: &'static str,
    error: io::Error,
}

impl ListenError {
    /// Says so if one of these open listeners, which are the supervisor's own, is the cause.
    #[must_use]
    pub fn looked_for_among<'a>(mut self, mut own: impl Iterator<Item = &'a About>) -> Self {
        let port = |name: &str| name.parse().map(|address: SocketAddr| address.port()).ok();
        let is_here = |about: &About| {
            about.name == self.name
                || port(&about.name).is_some_and(|own| port(&self.name) == Some(own))
        };
        if self.error.raw_os_error() == Some(libc::EADDRINUSE)
            && let Some(about) = own.find(|about| is_here(about))
        {
            self.hint = match about.asked {
                Some(_) => {
                    " (this supervisor itself listens there: upgrade once without that address and \
                     once more with the new one, or stop and start anew)"
                }
                None => {
                    " (workers listen there themselves: leave that address out, or stop and start \
                     anew)"
                }
            };
        }
        self
    }
}

/// Opens everything that one `--listen` asks for. `defer` asks the kernel to hold back TCP
/// connections without a byte, for about [`DEFERRED`] (`TCP_DEFER_ACCEPT` of `tcp(7)`). The file of a
/// Unix socket has this owner.
pub fn open(
    listen: &Listen,
    defer: bool,
    mode: Mode,
    owner: &Owner,
) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = match listen {
        Listen::Tcp(address) => vec![open_tcp(*address, defer)?],
        Listen::Port(port) => open_both_families(*port, defer)?,
        Listen::Unix(path) => {
            let opened = open_unix(path, BACKLOG, owner);
            vec![opened.map_err(|error| ListenError::new(name_of_path(path), error))?]
        }
        Listen::Abstract(name) => {
            let address = address_of_abstract(name);
            let opened = open_unix(&address, BACKLOG, owner);
            vec![opened.map_err(|error| ListenError::new(name_of_path(&address), error))?]
        }
        Listen::Inherited(fd) => {
            let opened = adopt(*fd);
            vec![opened.map_err(|error| ListenError::new(format!("fd:{fd}"), error))?]
        }
        Listen::Passed { fd, name } => vec![adopt_passed(*fd, name)?],
    };
    for listener in &mut listeners {
        listener.about.mode = mode;
        listener.about.asked = Some(listen.clone());
    }
    Ok(listeners)
}

impl About {
    /// What was asked for when it was opened, if the user did.
    pub fn asked(&self) -> Option<&Listen> {
        self.asked.as_ref()
    }
}

impl Listener {
    fn new(socket: Socket, name: String) -> Self {
        let mode = Mode::Blocking;
        let (deferred, asked, shared, file) = (false, None, false, None);
        Self::with(socket, About { name, deferred, mode, asked, shared, file })
    }

    /// A listener that is open already, of which this is known.
    pub fn restore(socket: OwnedFd, about: About) -> Self {
        Self::with(socket.into(), about)
    }

    fn with(socket: Socket, about: About) -> Self {
        let is_unix = socket.domain().is_ok_and(|domain| domain == Domain::UNIX);
        let refuses_descriptors = is_unix && unix::refuse_descriptors(&socket);
        // What waits in the backlog may be older.
        Self { socket, about, brings_descriptors: Cell::new(is_unix), refuses_descriptors }
    }

    /// What there is to know about it beside its socket.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Forgets what was asked for when it was opened: somebody else needs it.
    pub fn disown(&mut self) {
        self.about.asked = None;
    }

    /// Has the socket's file, if it has one of its own, be of this user and group and have this mode;
    /// none of them stays as it is.
    pub fn set_file(
        &self,
        uid: Option<u32>,
        gid: Option<u32>,
        mode: Option<u32>,
    ) -> io::Result<()> {
        self.about.file.as_ref().map_or(Ok(()), |file| file.set(uid, gid, mode))
    }

    /// Lets everybody read from or write to the socket's file, if it has one. Errors are those of
    /// `chmod(2)`.
    pub fn open_to_all(&self, read: bool, write: bool) -> io::Result<()> {
        match &self.about.file {
            Some(file) if read || write => file.open_to_all(read, write),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether this process may remove the socket's file, if it has one of its own.
    pub fn file_may_be_removed(&self) -> io::Result<()> {
        self.about.file.as_ref().map_or(Ok(()), SocketFile::may_be_removed)
    }

    /// The next connection. Errors are those of `accept(2)`.
    pub fn accept(&self) -> io::Result<Accepted> {
        let flags = match self.about.mode {
            Mode::Blocking => SocketFlags::CLOEXEC,
            Mode::NonBlocking => SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        };
        let accepted = acceptfrom_with(&self.socket, flags);
        if self.refuses_descriptors && matches!(accepted, Err(Errno::WOULDBLOCK)) {
            self.brings_descriptors.set(false);
        }
        let (socket, client) = accepted?;
        Ok(Accepted {
            socket,
            client: client.and_then(|client| client.try_into().ok()),
            brings_descriptors: self.brings_descriptors.get(),
        })
    }

    /// The address of a TCP listener, with the port that the kernel picked.
    pub fn address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()?.as_socket()
    }

    /// Where it really listens, whoever opened it.
    pub fn bound_to(&self) -> String {
        self.socket.local_addr().map_or_else(|_| self.about.name.clone(), |it| name_of(&it))
    }

    /// The number of the descriptor that it was inherited as.
    pub fn given_as(&self) -> Option<RawFd> {
        match self.about.asked {
            Some(Listen::Inherited(fd) | Listen::Passed { fd, name: _ }) => Some(fd),
            Some(Listen::Tcp(_) | Listen::Port(_) | Listen::Unix(_) | Listen::Abstract(_))
            | None => None,
        }
    }

    /// The path of a Unix listener; for an abstract one, its name after a null byte.
    pub fn path(&self) -> Option<PathBuf> {
        unix_path(&self.socket.local_addr().ok()?)
    }

    /// Lets nobody new in, while those whom the kernel has let in can still be accepted: closing
    /// resets whoever comes after the last accept. Errors are those of `shutdown(2)` and
    /// `setsockopt(2)`.
    ///
    /// A shared socket stays as it is, since it is for the others to say who may come.
    pub fn let_nobody_in(&self) -> io::Result<()> {
        if self.about.shared {
            return Ok(());
        }
        match self.address() {
            Some(_) => shut::shut_tcp(&self.socket),
            // Clients of a Unix socket are refused from now on.
            None => self.socket.shutdown(Shutdown::Read),
        }
    }

    /// Whether clients can find it: the file of a Unix socket may have been removed or replaced.
    pub fn is_in_place(&self) -> bool {
        self.about.file.as_ref().is_none_or(SocketFile::is_in_place)
    }

    /// Whether the kernel holds back connections without a byte.
    pub fn is_deferred(&self) -> bool {
        self.about.deferred
    }
}

impl fmt::Display for Listener {
    /// Where it really listens, with the port that the kernel picked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.about.name)
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl ListenError {
    fn new(name: String, error: io::Error) -> Self {
        let hint = match error.raw_os_error() {
            Some(libc::EACCES) if !name.starts_with("unix:") => {
                " (ports below 1024 need root or CAP_NET_BIND_SERVICE)"
            }
            Some(libc::EACCES) => " (whose it is to be needs the right to write to its directory)",
            Some(libc::EADDRINUSE) => " (another process listens there: stop it or choose another)",
            Some(libc::EADDRNOTAVAIL) => " (this machine does not have that address)",
            Some(libc::ENOENT) => " (the directory of the socket has to exist)",
            Some(libc::EBADF) => {
                " (the descriptor has to be inherited open from the parent process)"
            }
            _ => "",
        };
        Self { name, hint, error }
    }
}

/// A port on every address of both families, as two sockets: one for both would show IPv4 clients
/// as `::ffff:` addresses.
fn open_both_families(port: u16, defer: bool) -> Result<Vec<Listener>, ListenError> {
    // These keep their ports, so that the kernel picks another one each time.
    let mut half = Vec::new();
    loop {
        let v4 = open_tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), defer)?;
        let picked = v4.address().map_or(port, |address| address.port());
        let v6 = open_tcp(SocketAddr::from((Ipv6Addr::UNSPECIFIED, picked)), defer);
        match v6.map_err(|error| (error.error.raw_os_error(), error)) {
            Ok(v6) => return Ok(vec![v4, v6]),
            // A machine without IPv6 is no reason not to serve.
            Err((Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL), _)) => return Ok(vec![v4]),
            Err((Some(libc::EADDRINUSE), _)) if port == 0 && half.len() < MOST_PICKS => {
                half.push(v4);
            }
            Err((_, error)) => return Err(error),
        }
    }
}

fn open_tcp(address: SocketAddr, defer: bool) -> Result<Listener, ListenError> {
    let opened = bind_tcp(address, true, defer, BACKLOG);
    opened.map_err(|error| ListenError::new(address.to_string(), error))
}

/// Listens on a TCP address; `only_v6` is for IPv6 ones.
fn bind_tcp(address: SocketAddr, only_v6: bool, defer: bool, backlog: i32) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // Connections of an earlier run that linger in TIME_WAIT do not keep the port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    // It spares a look at most, so a kernel without it is no reason not to serve.
    let deferred = defer && defer_accept(&socket).is_ok();
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    let name = name_of(&socket.local_addr()?);
    let mut listener = Listener::new(socket, name);
    listener.about.deferred = deferred;
    Ok(listener)
}

/// For how long the kernel kept a connection to itself that came without a byte.
///
/// It gives such a one away after it has sent its SYN-ACK again, which it does after one second,
/// two more, four more and so on; the new socket counts these as retransmissions. Errors are those
/// of `getsockopt(2)`.
#[expect(unsafe_code, reason = "no crate has a getter for this option")]
pub fn held_back(socket: BorrowedFd<'_>) -> io::Result<Duration> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut size =
        libc::socklen_t::try_from(size_of::<libc::tcp_info>()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `size` bytes, which `info` has, and both outlive the call.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all its fields are numbers, for which zeros are fine where the kernel wrote nothing.
    let info = unsafe { info.assume_init() };
    Ok(SYN_ACK_TIMEOUT * ((1 << info.tcpi_total_retrans.min(6)) - 1))
}

fn defer_accept(socket: &Socket) -> io::Result<()> {
    let seconds = libc::c_int::try_from(DEFERRED.as_secs()).map_err(io::Error::other)?;
    set_number(socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds)
}

/// Sets an option that takes a number, `setsockopt(2)`.
#[expect(unsafe_code, reason = "no crate has setters for these options")]
pub(super) fn set_number(
    socket: &impl AsRawFd,
    level: i32,
    option: i32,
    number: libc::c_int,
) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of_val(&number)).map_err(io::Error::other)?;
    // SAFETY: the option takes an int, `number` is one and outlives the call.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const number).cast(), size)
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn name_of(address: &SockAddr) -> String {
    match (address.as_socket(), unix_path(address)) {
        (Some(address), _) => address.to_string(),
        (None, Some(path)) => name_of_path(&path),
        (None, None) => "an unnamed unix socket".to_owned(),
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(file) = &self.about.file {
            file.remove();
        }
    }
}

#[cfg(test)]
mod tests;
