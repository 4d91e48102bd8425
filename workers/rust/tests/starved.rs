//! A worker at its limit of file descriptors. Alone in its process: the limit is the process's.

mod support;

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sticky_worker::{Listener, Worker};
use support::{read_all, supervisor};

#[test]
fn without_a_free_descriptor_connections_wait_in_the_channel() {
    let (supervisor, channel) = supervisor();
    let worker = Listener::Worker(Worker::new(channel).unwrap());
    let clients: Vec<_> = (0..20).map(|_| supervisor.hand_over()).collect();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // From here on the process is full: files take every number that is left.
    setrlimit(Resource::RLIMIT_NOFILE, 128, hard).unwrap();
    let mut files: Vec<_> = (0..128).map_while(|_| File::open("/dev/null").ok()).collect();
    assert!(!files.is_empty() && files.len() < 128);
    let accepted = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while let Some(mut connection) = worker.accept().unwrap() {
                accepted.fetch_add(1, Ordering::SeqCst);
                connection.write_all(b"served").unwrap();
            }
        });
        // READY comes before the first look, so this worker is at its limit now.
        assert_eq!(supervisor.next(), "READY");
        assert_eq!(accepted.load(Ordering::SeqCst), 0);
        // One number is enough for all of them, one after the other.
        files.pop();
        clients.iter().for_each(|client| assert_eq!(read_all(client), "served"));
        supervisor.closed(20);
        drop(supervisor);
    });
    assert_eq!(accepted.load(Ordering::SeqCst), 20);
}
