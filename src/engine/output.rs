//! The output of workers, when lines are to say whose they are: read from pipes, written to our own.
//!
//! Nobody is held up: not the loop, which reads little at a time and leaves writing to others (`standard`),
//! nor the workers, whose pipes are always read, or a moment later if what waits to be written is much.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::tokens::Subject;
use crate::logic::Worker;
use crate::logic::config::{LogFormat, OutputConfig};
use crate::logic::output::{Buffer, Label, LineSplitter, Stream};
use crate::logic::time::Time;
use crate::os::kept::{Keeper, Kept};
use crate::os::pipe::{Pipe, PipeRead};
use crate::os::{clock, standard};

/// How long processes that a worker left behind may go on writing.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Read from one pipe before others get their turn.
const BATCH: usize = 16 * 1024;
/// Read in one turn of the loop, from all pipes together.
const TURN: usize = 32 * 1024;
/// How long a pipe is left unread while the lines before it are written, before some are dropped.
const PATIENCE: Duration = Duration::from_millis(20);
/// How often it is looked meanwhile whether there is room.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// As much as a pipe usually holds, read of a worker that has ended.
const WHOLE_PIPE: usize = 64 * 1024;

/// All output of workers.
#[derive(Debug)]
pub(super) struct Output {
    config: OutputConfig,
    /// By their numbers, none of which is used twice.
    pipes: BTreeMap<u32, Source>,
    next: u32,
    /// Those that can be read, in turn.
    readable: VecDeque<u32>,
    /// Those to close, and when: their workers have ended.
    ending: VecDeque<(Time, u32)>,
    /// Those that have to wait until there is room for their lines, and when to look again.
    held: Option<(Time, Vec<u32>)>,
}

/// One stream of a worker.
#[derive(Debug)]
struct Source {
    worker: Worker,
    pipe: Pipe,
    cutter: LineSplitter,
    /// Whether it is among those that can be read.
    readable: bool,
    /// Until when it waits for room at most, and since then.
    held_until: Option<Time>,
}

/// The output in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct SavedOutput {
    pipes: Vec<SavedSource>,
    /// The workers of those that are to be closed, and when.
    ending: Vec<(Time, Worker)>,
    unwritten: [Buffer; 2],
}

#[derive(Debug, Deserialize, Serialize)]
struct SavedSource {
    worker: Worker,
    pipe: Kept,
    cutter: LineSplitter,
}

impl Output {
    pub(super) fn new(config: OutputConfig) -> Self {
        Self {
            config,
            pipes: BTreeMap::new(),
            next: 0,
            readable: VecDeque::new(),
            ending: VecDeque::new(),
            held: None,
        }
    }

    /// Pipes for a worker that is about to be started, our ends and what it gets as its standard output
    /// and error; none if it inherits our own.
    pub(super) fn pipes(&self) -> io::Result<Option<([Pipe; 2], [OwnedFd; 2])>> {
        if !self.config.prefix {
            return Ok(None);
        }
        let (first, second) = (Pipe::new()?, Pipe::new()?);
        Ok(Some(([first.0, second.0], [first.1, second.1])))
    }

    /// A worker has been started with these pipes.
    pub(super) fn started(
        &mut self,
        registry: &Registry,
        worker: Worker,
        pid: Pid,
        pipes: [Pipe; 2],
    ) {
        for (stream, pipe) in [Stream::Stdout, Stream::Stderr].into_iter().zip(pipes) {
            let (slot, pid, format) = (Some(worker.slot), Some(pid.as_raw()), self.config.format);
            let cutter = LineSplitter::new(Label { slot, pid, stream, format, journal: false });
            if let Err(error) = self.add(registry, worker, pipe, cutter) {
                warn!(
                    name: "output_watch_failed", worker = worker.slot,
                    "cannot watch the output of {worker}, which is lost: {error}"
                );
            }
        }
    }

    fn add(
        &mut self,
        registry: &Registry,
        worker: Worker,
        pipe: Pipe,
        cutter: LineSplitter,
    ) -> io::Result<()> {
        let number = self.next;
        let token = Subject::Output(number).into();
        registry.register(&mut SourceFd(&pipe.as_raw_fd()), token, Interest::READABLE)?;
        self.next += 1;
        self.pipes
            .insert(number, Source { worker, pipe, cutter, readable: false, held_until: None });
        Ok(())
    }

    /// The loop tells that a pipe can be read.
    pub(super) fn became_readable(&mut self, number: u32) {
        if let Some(source) = self.pipes.get_mut(&number)
            && !mem::replace(&mut source.readable, true)
        {
            self.readable.push_back(number);
        }
    }

    /// Whether there is something to read at once.
    pub(super) fn has_more(&self) -> bool {
        !self.readable.is_empty()
    }

    /// When the next pipe is to be read or closed.
    pub(super) fn due(&self) -> Option<Time> {
        let closes = self.ending.front().map(|(at, _)| *at);
        closes.into_iter().chain(self.held.as_ref().map(|(at, _)| *at)).min()
    }

    /// Reads some of what there is, of one pipe after the other, and closes those that are due.
    pub(super) fn read_some(&mut self, now: Time) {
        if let Some((_, numbers)) = self.held.take_if(|(at, _)| *at <= now) {
            self.readable.extend(numbers);
        }
        let mut left = TURN;
        while left > 0
            && let Some(number) = self.readable.pop_front()
        {
            if self.has_to_wait(now, number) {
                self.held.get_or_insert((now + LOOK_AGAIN, Vec::new())).1.push(number);
                continue;
            }
            left -= self.read(number, left.min(BATCH));
            if self.pipes.get(&number).is_some_and(|source| source.readable) {
                self.readable.push_back(number);
            }
        }
        while let Some((_, number)) = self.ending.pop_front_if(|(at, _)| *at <= now) {
            self.read(number, WHOLE_PIPE);
            self.close(number);
        }
    }

    /// A worker has ended, so that only what it left behind can write any more.
    pub(super) fn ended(&mut self, now: Time, worker: Worker) {
        for number in self.of_worker(worker) {
            self.became_readable(number);
            self.read(number, WHOLE_PIPE);
            if self.pipes.contains_key(&number) {
                self.ending.push_back((now + LAST_WORDS, number));
            }
        }
    }

    /// Whether a pipe is to be left alone for a moment, since there is no room for its lines.
    fn has_to_wait(&mut self, now: Time, number: u32) -> bool {
        let Some(source) = self.pipes.get_mut(&number) else { return false };
        if !standard::is_full(source.cutter.label().stream, source.worker.slot) {
            source.held_until = None;
            return false;
        }
        now < *source.held_until.get_or_insert(now + PATIENCE)
    }

    /// Everything ends: what is there is read.
    pub(super) fn finish(&mut self) {
        let numbers: Vec<_> = self.pipes.keys().copied().collect();
        for number in numbers {
            self.became_readable(number);
            self.read(number, WHOLE_PIPE);
            self.close(number);
        }
    }

    /// Writes it down.
    pub(super) fn save(&self, keeper: &mut Keeper) -> SavedOutput {
        let save = |source: &Source| SavedSource {
            worker: source.worker,
            pipe: keeper.keep(&source.pipe),
            cutter: source.cutter.clone(),
        };
        let ends = |(at, number): &(Time, u32)| Some((*at, self.pipes.get(number)?.worker));
        SavedOutput {
            ending: self.ending.iter().filter_map(ends).collect(),
            unwritten: standard::unwritten(),
            pipes: self.pipes.values().map(save).collect(),
        }
    }

    /// Goes on with what was written down.
    pub(super) fn restore(
        registry: &Registry,
        config: OutputConfig,
        saved: SavedOutput,
    ) -> io::Result<Self> {
        let mut output = Self::new(config);
        for SavedSource { worker, pipe, cutter } in saved.pipes {
            let pipe = Pipe::resumed(pipe.take_over()?);
            output.add(registry, worker, pipe, cutter)?;
        }
        for (at, worker) in saved.ending {
            let numbers = output.of_worker(worker).into_iter().map(|number| (at, number));
            output.ending.extend(numbers);
        }
        standard::restore(saved.unwritten);
        Ok(output)
    }

    fn of_worker(&self, worker: Worker) -> Vec<u32> {
        let its = self.pipes.iter().filter(|(_, source)| source.worker == worker);
        its.map(|(number, _)| *number).collect()
    }

    /// Reads at most so many bytes from a pipe and returns how many. One that has ended is closed.
    fn read(&mut self, number: u32, most: usize) -> usize {
        let mut buffer = [0; 4096];
        let mut read = 0;
        while read < most {
            let Some(source) = self.pipes.get_mut(&number).filter(|source| source.readable) else {
                break;
            };
            match source.pipe.read(&mut buffer) {
                PipeRead::Bytes(len) => {
                    read += len;
                    let mut lines = Vec::new();
                    let time = timestamp(self.config.format);
                    source.cutter.push(&buffer[..len], &time, |line| lines.push(line));
                    standard::say(source.cutter.label(), &lines, &time);
                }
                PipeRead::Nothing => source.readable = false,
                PipeRead::End => self.close(number),
            }
        }
        read.min(most)
    }

    fn close(&mut self, number: u32) {
        let Some(mut source) = self.pipes.remove(&number) else { return };
        // Nobody else has this end, so that the kernel forgets it with the close.
        let mut last = None;
        let time = timestamp(self.config.format);
        source.cutter.finish(&time, |line| last = Some(line));
        standard::say(source.cutter.label(), last.as_slice(), &time);
    }
}

/// The time that lines say which are read now, if they say any.
fn timestamp(format: LogFormat) -> String {
    match format {
        LogFormat::Text => String::new(),
        LogFormat::Json => clock::timestamp(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use mio::Poll;

    use super::*;

    #[test]
    fn pipes_and_unfinished_lines_go_over_to_another_program() {
        let poll = Poll::new().unwrap();
        let registry = poll.registry();
        let config = OutputConfig { prefix: true, format: LogFormat::Text };
        let mut output = Output::new(config);
        let worker = Worker { slot: 3, generation: 7 };
        let (ours, theirs) = output.pipes().unwrap().unwrap();
        output.started(registry, worker, Pid::this(), ours);
        let [mut stdout, stderr] = theirs.map(File::from);
        stdout.write_all(b"unfin").unwrap();
        output.ended(Time::default(), worker);
        let saved = rmp_serde::to_vec(&output.save(&mut Keeper::default())).unwrap();
        let due = output.due();
        assert!(due.is_some());
        // As with execve(2), its descriptors stay open and nothing of it ends.
        let before = std::mem::ManuallyDrop::new(output);
        let other = Poll::new().unwrap();
        let saved = rmp_serde::from_slice(&saved).unwrap();
        let mut output = Output::restore(other.registry(), config, saved).unwrap();
        let cutters = |output: &Output| -> Vec<LineSplitter> {
            output.pipes.values().map(|source| source.cutter.clone()).collect()
        };
        assert_eq!((cutters(&output), output.due()), (cutters(&before), due));
        drop((stdout, stderr));
        output.became_readable(1);
        output.read_some(Time::default());
        assert_eq!(output.pipes.len(), 1, "the one that has ended is closed");
    }
}
