//! A fake worker of the walk.

use super::{Exit, Input, Worker};

/// What became of one worker that was asked for.
#[derive(Debug, Default)]
pub(super) struct Fake {
    /// The process exists.
    pub(super) alive: bool,
    /// It was alive once.
    pub(super) born: bool,
    /// There was an answer to its `Spawn`.
    pub(super) answered: bool,
    /// Its slot was taken away before that.
    pub(super) given_up: bool,
    pub(super) placed: bool,
    pub(super) withdrawn: bool,
    /// Its slot was taken away, so nobody asked how many drain.
    pub(super) removed: bool,
    pub(super) retired: bool,
    pub(super) drained: bool,
    /// It was asked to end.
    pub(super) closed: bool,
    pub(super) terminated: bool,
    pub(super) killed: bool,
    /// Not even KILL ends it.
    pub(super) stuck: bool,
    /// It had a ping and has not answered.
    pub(super) owes: bool,
}

impl Fake {
    /// Whether it is the one that gets new keys.
    pub(super) fn serves(&self) -> bool {
        self.placed && self.alive && !self.withdrawn && !self.retired
    }

    pub(super) fn has_something_to_do(&self) -> bool {
        !self.answered
            || self.alive && (!self.placed || self.withdrawn || self.retired || self.owes)
    }

    /// What it does when all goes well.
    pub(super) fn what_to_do(&self, worker: Worker) -> Input {
        if !self.answered {
            Input::Spawned(worker)
        } else if self.retired {
            Input::Exited(worker, Exit::Code(0))
        } else if !self.placed {
            Input::Ready(worker)
        } else if self.withdrawn {
            Input::Drained(worker)
        } else {
            Input::Pong(worker)
        }
    }

    pub(super) fn do_it(&mut self, input: Input) {
        self.answered = true;
        self.owes = false;
        self.alive = !matches!(input, Input::Exited(..));
    }
}
