//! Whether ids are given, as the worker last saw it, and how many calls were refused.

use super::text::Text;
use crate::{
    mechanism::Micros,
    postgres::{clock, lock::Lock},
};
use pgrx::log;
use std::sync::atomic::{AtomicI32, AtomicI64, Ordering::Relaxed};

pub struct State {
    lock: Lock,
    /// Counted by callers: how many calls were refused, the last SQLSTATE, and when by the wall clock.
    pub refusals: AtomicI64,
    pub last_refusal: AtomicI32,
    pub last_refused: AtomicI64,
    /// Added up by callers: how long they slept for loans.
    pub slept: AtomicI64,
    /// Since when, by the wall clock, the state for a restart could not be written to disk; 0: it can.
    not_kept: AtomicI64,
    /// Written by the worker: since when, by the wall clock, no ids are given (0: they are); and why, under idgen's lock.
    stopped: AtomicI64,
    why: Text<200>,
    /// Whether ids were ever given in this life of the shared memory.
    begun: AtomicI32,
}

impl State {
    pub fn new(lock: Lock) -> Self {
        State {
            lock,
            refusals: AtomicI64::new(0),
            last_refusal: AtomicI32::new(0),
            last_refused: AtomicI64::new(0),
            slept: AtomicI64::new(0),
            not_kept: AtomicI64::new(0),
            stopped: AtomicI64::new(0),
            why: Text::default(),
            begun: AtomicI32::new(0),
        }
    }

    /// Why no ids are given, as the worker saw it last.
    pub fn why(&self) -> Option<String> {
        self.lock.shared(|| self.why.get())
    }

    /// Worker only.
    pub fn set_why(&self, why: Option<&str>) {
        self.lock.exclusive(|| self.why.set(why.unwrap_or_default()));
    }

    /// Worker only: since when no ids are given, by the wall clock; 0: they are.
    pub fn set_stopped(&self, at: Micros) {
        self.stopped.store(at, Relaxed);
    }

    /// Whether ids were given in this life of the shared memory.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Relaxed) != 0
    }

    /// Worker only: ids are given. True: for the first time.
    pub fn begin(&self) -> bool {
        self.begun.swap(1, Relaxed) == 0
    }

    /// Since when, by the wall clock, the state for a restart could not be written to disk.
    pub fn not_kept(&self) -> Option<Micros> {
        Some(self.not_kept.load(Relaxed)).filter(|at| *at != 0)
    }

    /// Notes whether `file` could be written, and logs a failure once.
    pub fn note_kept(&self, error: Option<&std::io::Error>, file: &str) {
        match error {
            None => self.not_kept.store(0, Relaxed),
            Some(why) => {
                if self.not_kept.compare_exchange(0, clock::both().wall, Relaxed, Relaxed).is_ok() {
                    log!(
                        "idgen: {file} in the data directory could not be written, so that a restart will not know of it: {why}"
                    );
                }
            }
        }
    }

    /// Since when no ids are given, by the wall clock.
    pub fn stopped(&self) -> Option<Micros> {
        Some(self.stopped.load(Relaxed)).filter(|at| *at != 0)
    }
}
