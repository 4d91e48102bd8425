//! A client of the test workers: HTTP/1.1, one request a connection.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::uninterrupted;

/// No answer takes this long on the busiest machine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a test worker answers: who it is and what it saw.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The slot of the worker.
    pub slot: u16,
    /// Its pid.
    pub pid: i32,
    /// The rest of the answer, one `name=value` a line.
    pub text: String,
}

impl Answer {
    /// The value of this name in the answer.
    #[track_caller]
    pub fn value(&self, name: &str) -> &str {
        let mut values = self.text.lines().filter_map(|line| line.split_once('='));
        values.find(|(found, _)| *found == name).expect("the answer has the name").1
    }
}

/// Asks for a path on a new connection.
#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).expect("an answer")
}

/// Asks for a path on a new connection from a source address such as 127.1.2.3.
#[track_caller]
pub fn get_from(source: IpAddr, address: SocketAddr, path: &str) -> Answer {
    let mut stream = connect_from(source, address).expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request");
    read_answer(&mut stream).expect("an answer")
}

/// Sends these bytes on a new connection and reads the answer.
pub fn request(address: SocketAddr, bytes: &str) -> io::Result<Answer> {
    let mut stream = connect(address)?;
    stream.write_all(bytes.as_bytes())?;
    read_answer(&mut stream)
}

/// Sends these bytes on a new connection and leaves the answer for later.
#[track_caller]
pub fn send(address: SocketAddr, bytes: &str) -> TcpStream {
    let mut stream = connect(address).expect("a connection");
    stream.write_all(bytes.as_bytes()).expect("room for a request");
    stream
}

/// Has a worker hold a new connection open.
#[track_caller]
pub fn hold(address: SocketAddr, path: &str) -> (TcpStream, Answer) {
    let mut stream = send(address, &format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    let answer = read_reply(&mut stream).expect("an answer");
    (stream, answer)
}

/// A new connection that gives up after a time.
pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    limited(TcpStream::connect(address)?)
}

/// A new connection from this address of the machine.
pub fn connect_from(source: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect(&address.into())?;
    limited(socket.into())
}

/// The same connection; it gives up after a time.
fn limited(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// Reads an answer to the end of the connection.
pub fn read_answer(stream: &mut impl Read) -> io::Result<Answer> {
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    parse_answer(&text)
}

/// Reads an answer to the end of its body, on a connection that may stay open.
pub fn read_reply(stream: &mut impl Read) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
            if body.len() >= length {
                return parse_answer(&text);
            }
        }
        match uninterrupted(|| stream.read(&mut chunk))? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

fn parse_answer(text: &str) -> io::Result<Answer> {
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
    let body = body.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
    let value = |name: &str| {
        let found = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.ok_or_else(|| io::Error::other(format!("no {name} in {text:?}")))
    };
    let number = |text: &str| text.parse::<i32>().map_err(io::Error::other);
    let slot = u16::try_from(number(value("slot")?)?).map_err(io::Error::other)?;
    Ok(Answer { slot, pid: number(value("pid")?)?, text: body.to_owned() })
}
