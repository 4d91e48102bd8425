//! The ledger: a file in which workers note whom they pick up, before they do it. A worker that is
//! killed has noted everybody whom it takes with it.

use std::collections::HashMap;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};
use nix::time::{ClockId, clock_gettime};

/// The variable that names the file.
const VARIABLE: &str = "STICKY_TEST_LEDGER";

/// The ledger as a worker sees it: lines `pid nanoseconds client`.
pub struct Ledger(File);

impl Ledger {
    /// The one that the environment names.
    pub fn from_environment() -> Option<Self> {
        let file = OpenOptions::new().append(true).open(env::var_os(VARIABLE)?);
        Some(Self(file.expect("the test has made it")))
    }

    /// Notes whom the next message in the channel brings, and returns that message.
    pub fn note_next(&self, channel: &UnixDatagram) -> String {
        let mut bytes = [0; 1024];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let count = recv(channel.as_raw_fd(), &mut bytes, flags).unwrap_or(0);
        let message = String::from_utf8_lossy(&bytes[..count]).into_owned();
        self.note(&message);
        message
    }

    /// Notes whom this message brings.
    pub fn note(&self, message: &str) {
        let client = message.split_whitespace().find_map(|word| word.strip_prefix("client="));
        if let Some(client) = client {
            let line = format!("{} {} {client}\n", process::id(), now().as_nanos());
            // One write, so that the lines of several workers do not mix.
            (&self.0).write_all(line.as_bytes()).expect("a file takes it");
        }
    }
}

/// The time on the clock of the ledger, which all processes share.
pub fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has it").into()
}

/// Somebody was picked up.
#[derive(Clone, Copy, Debug)]
pub struct Pickup {
    /// By the worker with this pid.
    pub pid: i32,
    /// On the clock of the ledger.
    pub at: Duration,
}

/// A new ledger as the test sees it. The file is removed with it.
pub struct Book(PathBuf);

impl Book {
    /// A new one below this directory.
    pub fn new(directory: &Path, name: &str) -> Self {
        fs::create_dir_all(directory).expect("target can be written to");
        let path = directory.join(format!("{name}-{}.ledger", process::id()));
        File::create(&path).expect("target can be written to");
        Self(path)
    }

    /// The variable that leads workers to it.
    pub fn variable(&self) -> (&str, &str) {
        (VARIABLE, self.0.to_str().expect("its path is text"))
    }

    /// Everything in it, by client, in the order of time.
    pub fn read(&self) -> HashMap<SocketAddr, Vec<Pickup>> {
        let mut pickups: HashMap<SocketAddr, Vec<Pickup>> = HashMap::new();
        for line in fs::read_to_string(&self.0).expect("nobody removed it").lines() {
            let mut words = line.split(' ');
            let mut word = || words.next().expect("three words");
            let pid = word().parse().expect("a pid");
            let at = Duration::from_nanos(word().parse().expect("a time"));
            let client = word().parse().expect("an address");
            pickups.entry(client).or_default().push(Pickup { pid, at });
        }
        for of_one in pickups.values_mut() {
            of_one.sort_by_key(|pickup| pickup.at);
        }
        pickups
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}
