//! Somebody else on this machine: a user without rights of root, in a thread of the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::privileges::{GROUP, USER};

/// Becomes the user of the workers, with its group and no other, in this thread alone.
fn become_user() {
    let (uid, gid) = (Uid::from_raw(USER), Gid::from_raw(GROUP));
    set_thread_groups(&[]).expect("we are root");
    set_thread_res_gid(gid, gid, gid).expect("we are root");
    set_thread_res_uid(uid, uid, uid).expect("we are root");
}

/// Does this as the user of the workers.
pub fn as_user<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(|| {
        become_user();
        work()
    });
    thread.join().expect("it does not panic")
}

/// What the user of the workers does again and again, until this is dropped.
pub struct Attack {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Attack {
    /// Begins it.
    pub fn begin(mut step: impl FnMut() + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let thread = thread::spawn(move || {
            become_user();
            while !ends.load(Ordering::Relaxed) {
                step();
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is dropped once");
        // A panic of it is not what the test is about.
        thread.join().ok();
    }
}
