//! What the supervisor buffers because of one worker: answers that it does not read, connections that it hands
//! back, sockets in flight to it. With a well-behaved worker each of them is released soon, so one sum over all
//! shows whether a worker is not.

use std::cell::Cell;
use std::rc::Rc;

/// So much may be buffered because of one worker, in bytes.
pub const MAX_BUFFERED: usize = 16 * 1024 * 1024;

/// What is buffered because of one worker, in bytes.
#[derive(Clone, Debug, Default)]
pub struct Quota(Rc<Cell<usize>>);

/// A part of a [`Quota`] that is in use until this is dropped.
#[derive(Debug)]
pub struct Charge {
    quota: Quota,
    bytes: usize,
}

impl Quota {
    /// Charges so many bytes, until the charge is dropped.
    #[must_use]
    pub fn charge(&self, bytes: usize) -> Charge {
        self.0.set(self.0.get() + bytes);
        Charge { quota: self.clone(), bytes }
    }

    /// Whether that is more than may be buffered.
    pub fn is_exceeded(&self) -> bool {
        self.0.get() > MAX_BUFFERED
    }
}

impl Charge {
    /// Whether it belongs to this quota.
    pub fn is_of(&self, quota: &Quota) -> bool {
        Rc::ptr_eq(&self.quota.0, &quota.0)
    }
}

impl Clone for Charge {
    fn clone(&self) -> Self {
        self.quota.charge(self.bytes)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.quota.0.set(self.quota.0.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_much_as_its_parts() {
        let quota = Quota::default();
        let first = quota.charge(MAX_BUFFERED);
        assert!(!quota.is_exceeded());
        let second = quota.charge(1);
        let copy = second.clone();
        assert!(copy.is_of(&quota) && !copy.is_of(&Quota::default()));
        drop(second);
        assert!(quota.is_exceeded());
        drop(copy);
        assert!(!quota.is_exceeded());
        drop(first);
        assert_eq!(quota.0.get(), 0);
    }
}
