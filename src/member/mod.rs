//! idgen's member worker: the one connection of this server to its authority. Over it go machine ids, strict ids and
//! blocks, each decided in `protocol`; [`link`] sends, hears and waits. Here is what the others see of it.
//!
//! It runs while `idgen.authority` is set, and is launched by the worker of the horizon.

mod link;

use crate::{
    mechanism::Micros,
    process::Process,
    settings,
    shmem::{self, Shared, Text},
    strict::Idle,
};
use link::Link;
use pgrx::{pg_sys, prelude::*};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::*};

/// What the member worker tells the others, and is told. Unless it says otherwise written by the worker, relaxed.
pub struct MemberWords {
    pub process: Process,
    idle: Idle,
    connected: AtomicBool,
    /// Of the last answer, in microseconds.
    round_trip: AtomicI64,
    /// The host that was tried last, and what went wrong last; both under the lock of the places.
    host: Text<64>,
    error: Text<256>,
    /// Written by a superuser's idgen_release_machine() and idgen_take_machine(): whether to hold no machine id.
    release: AtomicBool,
    /// Whether nothing is held, and the authority knows.
    released: AtomicBool,
}

impl Default for MemberWords {
    fn default() -> Self {
        MemberWords {
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
}

impl MemberWords {
    /// Wakes the worker if it sleeps.
    pub fn wake_if_idle(&self) {
        if self.idle.get() {
            self.process.wake();
        }
    }

    /// What went wrong last, if that is still so.
    pub fn error(&self, shared: &Shared) -> Option<String> {
        shared.locked(pg_sys::LWLockMode::LW_SHARED, || self.error.get())
    }

    /// Host, whether it is connected, and the last round trip.
    pub fn state(&self, shared: &Shared) -> (Option<String>, bool, Option<Micros>) {
        let host = shared.locked(pg_sys::LWLockMode::LW_SHARED, || self.host.get());
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

/// Launches the worker, if it is not there.
pub fn launch(shared: &Shared) {
    shared.member.process.launch("idgen member", "idgen_member_main");
}

/// Where the worker's process begins.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn idgen_member_main(_arg: pg_sys::Datum) {
    if let Ok(shared) = shmem::shared() {
        shared.member.process.live(None, || run(shared));
    }
}

/// Works until there is no authority any more, with 0, or the process is told to end, with 1.
fn run(shared: &'static Shared) -> i32 {
    let mut link = Link::new(shared);
    loop {
        let Some(authority) = settings::authority() else {
            shared.set_grant(None);
            return 0;
        };
        link.follow(&authority);
        if let Err(why) = link.work() {
            link.lose(&why);
        }
        if !link.wait() {
            return 1;
        }
    }
}
