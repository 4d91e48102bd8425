//! A client that asks all the time, whatever happens.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use super::{eventually, pause, request};

/// Requests one after the other, each on a connection of its own, until this is dropped or asked for the result.
pub struct Load {
    shared: Arc<Shared>,
    client: Option<JoinHandle<Vec<String>>>,
}

#[derive(Default)]
struct Shared {
    answered: AtomicUsize,
    ends: AtomicBool,
}

impl Load {
    /// Begins.
    pub fn on(address: SocketAddr) -> Self {
        let shared = Arc::new(Shared::default());
        let its = Arc::clone(&shared);
        let client = thread::spawn(move || {
            let mut failed = Vec::new();
            while !its.ends.load(Ordering::Relaxed) {
                match request(address, "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                {
                    Ok(_) => _ = its.answered.fetch_add(1, Ordering::Relaxed),
                    Err(error) => failed.push(error.to_string()),
                }
                pause();
            }
            failed
        });
        let load = Self { shared, client: Some(client) };
        load.goes_on();
        load
    }

    /// Waits until some more were answered.
    #[track_caller]
    pub fn goes_on(&self) {
        let answered = || self.shared.answered.load(Ordering::Relaxed);
        let before = answered();
        eventually("requests are answered", || (answered() >= before + 3).then_some(()));
    }

    /// The end: all were answered.
    #[track_caller]
    pub fn assert_all_answered(mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        let failed = self.client.take().expect("it ends once").join().expect("it never panics");
        let answered = self.shared.answered.load(Ordering::Relaxed);
        assert!(failed.is_empty(), "{} of {}: {failed:?}", failed.len(), answered + failed.len());
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
    }
}
