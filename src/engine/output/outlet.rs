//! Our own standard output and error: lines of workers go there as far as there is room.
//!
//! What has no room waits in a queue of its stream, and lines are dropped and counted when that is
//! full. The loop tells when there is room again; it is not asked to when nothing waits.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::ops::Bound::{Excluded, Included};

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use tracing::warn;

use super::part::Part;
use crate::engine::tokens::Subject;
use crate::logic::output::{Label, Queue, Stream};
use crate::os::standard;

/// Where the lines of all workers go.
#[derive(Debug)]
pub(super) struct Outlet {
    /// What waits, of each slot and stream.
    queues: BTreeMap<(Stream, u16), Queue>,
    /// The queue that was written last.
    last: (Stream, u16),
    /// Our own streams that had no room, which the loop watches.
    full: Vec<Stream>,
}

impl Outlet {
    pub(super) fn new() -> Self {
        Self { queues: BTreeMap::new(), last: (Stream::Stdout, 0), full: Vec::new() }
    }

    /// What waits.
    pub(super) fn save(&self) -> Vec<Queue> {
        self.queues.values().cloned().collect()
    }

    /// Goes on with what waited.
    pub(super) fn restore(&mut self, registry: &Registry, queues: Vec<Queue>) {
        for queue in queues {
            let Label { slot, stream, format: _ } = queue.label();
            self.queues.insert((stream, slot), queue);
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.write_waiting(registry, stream);
        }
    }

    /// Lines to write, all of one stream.
    pub(super) fn say(&mut self, registry: &Registry, label: Label, lines: &[Vec<u8>]) {
        let key = (label.stream, label.slot);
        let is_full = self.full.contains(&label.stream);
        for line in lines {
            let queue = self.queues.entry(key).or_insert_with(|| Queue::new(label));
            while !is_full && queue.is_full_for(line) && write_some(queue) == Written::Some {}
            queue.push(line);
        }
        if !is_full && !lines.is_empty() {
            self.write_waiting(registry, label.stream);
        }
    }

    /// Writes what waits for one of our own streams, as far as there is room, and has the loop tell
    /// when there is more.
    pub(super) fn write_waiting(&mut self, registry: &Registry, stream: Stream) {
        let is_full = !self.write_in_turn(stream);
        let was_full = self.full.contains(&stream);
        let fd = standard::number(stream);
        if is_full && !was_full {
            let token = Subject::Output(Part::Room(stream)).into();
            // What cannot be watched, such as a file, has always room.
            if registry.register(&mut SourceFd(&fd), token, Interest::WRITABLE).is_ok() {
                self.full.push(stream);
            }
        } else if was_full && !is_full {
            self.full.retain(|full| *full != stream);
            if let Err(error) = registry.deregister(&mut SourceFd(&fd)) {
                warn!("cannot stop waiting for room for output: {error}");
            }
        }
    }

    /// Writes some of each queue of a stream in turn, until nothing waits or there is no room, which is
    /// `false`.
    fn write_in_turn(&mut self, stream: Stream) -> bool {
        let (first, last) = ((stream, 0), (stream, u16::MAX));
        let mut idle = false;
        while !mem::replace(&mut idle, true) {
            let middle = self.last.clamp(first, last);
            for bounds in [(Excluded(middle), Included(last)), (Included(first), Included(middle))]
            {
                for (key, queue) in self.queues.range_mut(bounds) {
                    match write_some(queue) {
                        Written::Some => idle = false,
                        Written::Nothing => continue,
                        Written::NoRoom => return false,
                    }
                    self.last = *key;
                }
            }
        }
        true
    }
}

/// What became of an attempt to write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Written {
    /// There may be more to write.
    Some,
    /// Nothing waits.
    Nothing,
    NoRoom,
}

/// Writes what can be written at once of a queue. What cannot be written at all, such as to a full
/// disk, is dropped.
fn write_some(queue: &mut Queue) -> Written {
    let stream = queue.label().stream;
    let next = queue.batch();
    let len = next.len();
    if len == 0 {
        return Written::Nothing;
    }
    match standard::write(stream, next) {
        Ok(()) => queue.written(len),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Written::NoRoom,
        Err(_) => {
            queue.lost(len);
            return Written::Nothing;
        }
    }
    Written::Some
}
