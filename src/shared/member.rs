//! What the member worker tells the others, and is told.

use super::text::Text;
use crate::{
    mechanism::Micros,
    postgres::{lock::Lock, process::Process},
};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::*};

/// Unless it says otherwise written by the worker, relaxed.
pub struct Member {
    pub lock: Lock,
    pub process: Process,
    pub idle: Idle,
    pub connected: AtomicBool,
    /// Of the last answer, in microseconds.
    pub round_trip: AtomicI64,
    /// The host that was tried last, and what went wrong last; both under idgen's lock.
    pub host: Text<64>,
    pub error: Text<256>,
    /// Written by a superuser's idgen_release_machine() and idgen_take_machine(): whether to hold no machine id.
    pub release: AtomicBool,
    /// Whether nothing is held, and the authority knows.
    pub released: AtomicBool,
}

impl Member {
    pub fn new(lock: Lock) -> Self {
        Member {
            lock,
            process: Process::default(),
            idle: Idle::default(),
            connected: AtomicBool::new(false),
            round_trip: AtomicI64::new(0),
            host: Text::default(),
            error: Text::default(),
            release: AtomicBool::new(false),
            released: AtomicBool::new(false),
        }
    }

    /// Wakes the worker if it sleeps.
    pub fn wake_if_idle(&self) {
        if self.idle.get() {
            self.process.wake();
        }
    }

    /// What went wrong last, if that is still so.
    pub fn error(&self) -> Option<String> {
        self.lock.shared(|| self.error.get())
    }

    /// Host, whether it is connected, and the last round trip.
    pub fn state(&self) -> (Option<String>, bool, Option<Micros>) {
        let host = self.lock.shared(|| self.host.get());
        (
            host,
            self.connected.load(Relaxed) && self.process.pid().is_some(),
            Some(self.round_trip.load(Relaxed)).filter(|time| *time != 0),
        )
    }

    /// Asks the worker to hold no machine id, or to hold one again.
    pub fn want_release(&self, release: bool) {
        self.released.store(false, Relaxed);
        self.release.store(release, SeqCst);
        self.process.wake();
    }

    /// Whether nothing is held, and the authority knows.
    pub fn is_released(&self) -> bool {
        self.released.load(Acquire)
    }
}

/// Whether a worker sleeps and must be woken: said before it looks a last time.
#[derive(Default)]
pub struct Idle(AtomicBool);

impl Idle {
    pub fn set(&self, idle: bool) {
        self.0.store(idle, SeqCst);
    }

    pub fn get(&self) -> bool {
        self.0.load(SeqCst)
    }
}
