//! What the member worker tells the other processes, and what they tell it.

use super::text::Text;
use crate::{
    mechanism::Micros,
    postgres::{lock::Lock, process::Process},
};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::*};

/// Unless it says otherwise, a word is written by the worker, relaxed.
pub struct Member {
    pub lock: Lock,
    pub process: Process,
    pub idle: Idle,
    pub connected: AtomicBool,
    /// The round trip of the last answer, in microseconds.
    pub round_trip: AtomicI64,
    /// The host that was tried last, and the last failure; both under idgen's lock.
    pub host: Text<64>,
    pub error: Text<256>,
    /// Written by a superuser's idgen_release_machine() and idgen_take_machine(): whether to hold no machine id.
    pub release: AtomicBool,
    /// Whether this server holds no machine id, and the authority knows that.
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

    /// The last failure, if it still lasts.
    pub fn error(&self) -> Option<String> {
        self.lock.shared(|| self.error.get())
    }

    /// The host, whether it is connected, and the last round trip.
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

    /// Asks it to hold one again, unless it holds none by now.
    pub fn call_release_off(&self) {
        if !self.is_released() {
            self.want_release(false);
        }
    }

    /// Whether this server holds no machine id, and the authority knows that.
    pub fn is_released(&self) -> bool {
        self.released.load(Acquire)
    }
}

/// Whether a worker sleeps and must be woken. Set before it looks for work a last time.
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
