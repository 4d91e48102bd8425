//! Descriptors in a state: by their numbers, which stay the same across `execve(2)`.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::os::closing::{self, Sender};
use crate::os::upgrade::take_over;

/// A descriptor in a state.
#[derive(Debug, Deserialize, Serialize)]
pub struct Kept(RawFd);

/// The descriptors that have to stay open for a state to be true.
#[derive(Debug, Default)]
pub struct Keeper(Vec<RawFd>);

/// Descriptors with several owners, which a state names several times.
#[derive(Debug, Default)]
pub struct Shared(BTreeMap<RawFd, Rc<OwnedFd>>);

impl Keeper {
    /// Notes that this one has to stay open.
    pub fn keep(&mut self, descriptor: &impl AsRawFd) -> Kept {
        let number = descriptor.as_raw_fd();
        self.0.push(number);
        Kept(number)
    }

    /// Notes that these have to stay open which await closing.
    pub fn keep_unclosed(&mut self) -> Vec<(Sender, Kept)> {
        let unclosed = closing::unclosed();
        self.0.extend(unclosed.iter().map(|(_, number)| number));
        unclosed.into_iter().map(|(sender, number)| (sender, Kept(number))).collect()
    }

    /// All of them.
    pub fn numbers(&self) -> &[RawFd] {
        &self.0
    }
}

impl Kept {
    /// Takes the descriptor over. It is an error if it is not open.
    pub fn take_over(&self) -> io::Result<OwnedFd> {
        take_over(self.0)
    }

    /// The same, for one that a state may name several times.
    pub fn share(&self, shared: &mut Shared) -> io::Result<Rc<OwnedFd>> {
        if let Some(taken) = shared.0.get(&self.0) {
            return Ok(Rc::clone(taken));
        }
        let taken = Rc::new(self.take_over()?);
        shared.0.insert(self.0, Rc::clone(&taken));
        Ok(taken)
    }
}
