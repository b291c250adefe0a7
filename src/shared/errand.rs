//! What one process asks another to do: one thing at a time, which can be withdrawn until it is begun.
//!
//! | state      | set by       | meaning |
//! |------------|--------------|---------|
//! | `FREE`     | both         | nothing is asked |
//! | `CLAIMED`  | who asks     | it is about to say what |
//! | `ASKED`    | who asks     | it is to be done |
//! | `TAKEN`    | who does it  | it has begun |
//! | `LEFT`     | who asks     | it has begun, and nobody waits for it |
//! | `DONE`     | who does it  | the outcome is there |
//!
//! What it is about is in words beside it, which are written by who has claimed it, before `ASKED`, and by who does it,
//! before `DONE`.

use std::sync::atomic::{AtomicU8, Ordering::*};

const FREE: u8 = 0;
const CLAIMED: u8 = 1;
const ASKED: u8 = 2;
const TAKEN: u8 = 3;
const LEFT: u8 = 4;
const DONE: u8 = 5;

/// In shared memory.
#[derive(Default)]
pub struct Errand(AtomicU8);

impl Errand {
    fn go(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, AcqRel, Acquire).is_ok()
    }

    /// Claims it, if nobody else has: what is asked can be said now.
    pub fn claim(&self) -> Option<Asking<'_>> {
        self.go(FREE, CLAIMED).then(|| Asking(self))
    }

    /// Who does it: whether there is something to do, which has begun now.
    pub fn take(&self) -> bool {
        self.go(ASKED, TAKEN)
    }

    /// Who does it: it is done.
    pub fn done(&self) {
        if !self.go(TAKEN, DONE) {
            self.go(LEFT, FREE);
        }
    }

    /// Whoever does it, at the start of its life: what one before it had begun is to be done again.
    pub fn put_back(&self) {
        self.go(TAKEN, ASKED);
        self.go(LEFT, ASKED);
    }
}

/// The process that asks. When it goes, what has not begun is withdrawn.
pub struct Asking<'a>(&'a Errand);

impl Asking<'_> {
    /// Has it be done.
    pub fn ask(&self) {
        self.0.go(CLAIMED, ASKED);
    }

    pub fn is_done(&self) -> bool {
        self.0.0.load(Acquire) == DONE
    }

    /// Does not wait for it any more; whether it was withdrawn, and will not be done.
    pub fn withdraw(self) -> bool {
        let withdrawn = self.leave();
        // Another may have it by now.
        std::mem::forget(self);
        withdrawn
    }

    fn leave(&self) -> bool {
        // In the order in which it may go on meanwhile.
        self.0.go(CLAIMED, FREE) || self.0.go(ASKED, FREE) || {
            _ = self.0.go(TAKEN, LEFT) || self.0.go(DONE, FREE);
            false
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_begun_is_withdrawn_and_what_has_goes_on_alone() {
        let errand = Errand::default();
        let asking = errand.claim().unwrap();
        assert!(errand.claim().is_none(), "claimed by two");
        asking.ask();
        assert!(asking.withdraw());
        assert!(!errand.take(), "withdrawn");
        let asking = errand.claim().unwrap();
        asking.ask();
        assert!(errand.take());
        assert!(!asking.withdraw(), "it has begun");
        assert!(errand.claim().is_none());
        errand.done();
        assert!(errand.claim().is_some(), "it is free again");
    }

    #[test]
    fn what_was_begun_by_who_is_gone_is_done_by_the_next() {
        let errand = Errand::default();
        let asking = errand.claim().unwrap();
        asking.ask();
        assert!(errand.take());
        errand.put_back();
        assert!(errand.take());
        errand.done();
        assert!(asking.is_done());
        drop(asking);
        assert!(errand.claim().is_some());
    }
}
