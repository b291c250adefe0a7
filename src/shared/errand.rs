//! An errand: one thing that one process asks another to do, which can be withdrawn until it has begun.
//!
//! | state      | set by       | meaning |
//! |------------|--------------|---------|
//! | `FREE`     | both         | nothing is asked |
//! | `CLAIMED`  | the asker    | it is about to say what is to be done |
//! | `ASKED`    | the asker    | it is to be done |
//! | `TAKEN`    | the worker   | it has begun |
//! | `LEFT`     | the asker    | it has begun, and nobody waits for it |
//! | `AGAIN`    | the worker   | it is to be done, and nobody waits for it |
//! | `DONE`     | the worker   | the outcome is there |
//!
//! What is to be done stands in words beside it: the asker writes them after `CLAIMED` and before `ASKED`, the worker before
//! `DONE`.

use std::sync::atomic::{AtomicU8, Ordering::*};

const FREE: u8 = 0;
const CLAIMED: u8 = 1;
const ASKED: u8 = 2;
const TAKEN: u8 = 3;
const LEFT: u8 = 4;
const DONE: u8 = 5;
const AGAIN: u8 = 6;

/// The state, in shared memory.
#[derive(Default)]
pub struct Errand(AtomicU8);

impl Errand {
    fn go(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, AcqRel, Acquire).is_ok()
    }

    /// Claims the errand, if nobody else has: the asker can now say what is to be done.
    pub fn claim(&self) -> Option<Asking<'_>> {
        self.go(FREE, CLAIMED).then(|| Asking(self))
    }

    /// For the worker: begins what is asked. False: nothing is.
    pub fn take(&self) -> bool {
        self.go(ASKED, TAKEN) || self.go(AGAIN, LEFT)
    }

    /// For the worker: it is done.
    pub fn done(&self) {
        if !self.go(TAKEN, DONE) {
            self.go(LEFT, FREE);
        }
    }

    /// For the worker, at the start of its life: what an earlier worker had begun is to be done again.
    pub fn put_back(&self) {
        self.go(TAKEN, ASKED);
        self.go(LEFT, AGAIN);
    }

    /// For the asker, if it ends without its [`Asking`]: an errand that has not begun is withdrawn. True: it was.
    pub fn leave(&self) -> bool {
        // In the order of the states through which the worker may go meanwhile.
        self.go(CLAIMED, FREE) || self.go(ASKED, FREE) || {
            _ = self.go(TAKEN, LEFT) || self.go(DONE, FREE);
            false
        }
    }
}

/// The asker. When it is dropped, an errand that has not begun is withdrawn.
pub struct Asking<'a>(&'a Errand);

impl Asking<'_> {
    /// Asks for it to be done.
    pub fn ask(&self) {
        self.0.go(CLAIMED, ASKED);
    }

    pub fn is_done(&self) -> bool {
        self.0.0.load(Acquire) == DONE
    }

    pub fn errand(&self) -> &Errand {
        self.0
    }

    /// Stops waiting. True: the errand was withdrawn, and will not be done.
    pub fn withdraw(self) -> bool {
        let withdrawn = self.0.leave();
        // Another asker may have claimed it by now.
        std::mem::forget(self);
        withdrawn
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.leave();
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

    #[test]
    fn what_nobody_waits_for_is_done_by_the_next_and_then_free() {
        let errand = Errand::default();
        let asking = errand.claim().unwrap();
        asking.ask();
        assert!(errand.take());
        drop(asking);
        errand.put_back();
        assert!(errand.claim().is_none(), "it is still to be done");
        assert!(errand.take());
        errand.done();
        assert!(errand.claim().is_some());
    }
}
