//! What one worker makes the supervisor keep: answers that it does not read, connections that it hands back,
//! sockets on their way to it. Each kind ends by itself with a worker that does as it should, so that one
//! sum says of all together whether it is too much.

use std::cell::Cell;
use std::rc::Rc;

/// So much may be kept because of one worker, in bytes.
pub const MOST_KEPT: usize = 16 * 1024 * 1024;

/// What is kept because of one worker, in bytes.
#[derive(Clone, Debug, Default)]
pub struct Burden(Rc<Cell<usize>>);

/// A part of a [`Burden`], for as long as this is there.
#[derive(Debug)]
pub struct Part {
    whole: Burden,
    bytes: usize,
}

impl Burden {
    /// So many bytes more are kept.
    #[must_use]
    pub fn add(&self, bytes: usize) -> Part {
        self.0.set(self.0.get() + bytes);
        Part { whole: self.clone(), bytes }
    }

    /// Whether that is more than may be kept.
    pub fn is_too_much(&self) -> bool {
        self.0.get() > MOST_KEPT
    }
}

impl Part {
    /// Whether it is a part of this one.
    pub fn is_of(&self, burden: &Burden) -> bool {
        Rc::ptr_eq(&self.whole.0, &burden.0)
    }
}

impl Clone for Part {
    fn clone(&self) -> Self {
        self.whole.add(self.bytes)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.whole.0.set(self.whole.0.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_much_as_its_parts() {
        let burden = Burden::default();
        let first = burden.add(MOST_KEPT);
        assert!(!burden.is_too_much());
        let second = burden.add(1);
        let copy = second.clone();
        assert!(copy.is_of(&burden) && !copy.is_of(&Burden::default()));
        drop(second);
        assert!(burden.is_too_much());
        drop(copy);
        assert!(!burden.is_too_much());
        drop(first);
        assert_eq!(burden.0.get(), 0);
    }
}
