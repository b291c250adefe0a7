//! Whether ids are given, and if not, why and since when: for the log, `idgen_status()` and the doctor. Nothing here is on
//! the way of a call that is served.

use crate::{
    error::{Error, moment},
    generator::check_can_be_served,
    machine_clock,
    mechanism::{Micros, SECOND, layout::SERVER},
    process,
    shmem::{Shared, Text},
};
use pgrx::{log, pg_sys};
use std::sync::atomic::{AtomicI32, AtomicI64, Ordering::Relaxed};

/// A worker that has not looked at the clock for so long stands still: it does so every second.
const STANDS_STILL: Micros = 5 * SECOND;

/// Words of the state, in shared memory.
#[derive(Default)]
pub struct State {
    /// Counted by callers: how many were refused, with which SQLSTATE last, and when by the wall clock.
    pub refusals: AtomicI64,
    pub last_refusal: AtomicI32,
    pub last_refused: AtomicI64,
    /// Added up by callers: how long they slept for loans.
    pub slept: AtomicI64,
    /// Since when by the wall clock what a restart goes on with could not be kept, 0: it is kept.
    not_kept: AtomicI64,
    /// Written by the worker: since when by the wall clock no ids are given, 0: they are; and why, under the lock of the places.
    stopped: AtomicI64,
    why: Text<200>,
    /// Whether ids were ever given in this life of the shared memory.
    begun: AtomicI32,
}

impl State {
    /// Since when what a restart goes on with could not be written, by the wall clock.
    pub fn not_kept(&self) -> Option<Micros> {
        Some(self.not_kept.load(Relaxed)).filter(|at| *at != 0)
    }

    /// Notes whether the file could be written, and logs it once if not.
    pub fn note_kept(&self, error: Option<&std::io::Error>, file: &str) {
        match error {
            None => self.not_kept.store(0, Relaxed),
            Some(why) => {
                if self.not_kept.compare_exchange(0, machine_clock::both().wall, Relaxed, Relaxed).is_ok() {
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

fn message(error: Error) -> String {
    error.told().1.message().to_owned()
}

/// Has an error on the way to an id be counted.
pub fn noted<T>(shared: &Shared, result: Result<T, Error>) -> Result<T, Error> {
    if let Err(error) = &result {
        let state = &shared.state;
        state.last_refusal.store(error.clone().told().0 as i32, Relaxed);
        state.last_refused.store(machine_clock::both().wall, Relaxed);
        state.refusals.fetch_add(1, Relaxed);
    }
    result
}

/// Why `idgen_next()` gives no id now, as the worker sees it.
fn in_the_way(shared: &Shared, waits_for_standby: bool) -> Option<String> {
    let now = shared.now();
    let first = SERVER.stamp_at(now).max(shared.server.last() + 1);
    match check_can_be_served(shared, &SERVER, now, first) {
        Err(error) | Ok(Some(error)) => Some(message(error)),
        // A horizon that was not moved because nobody needed it is in nobody's way.
        Ok(None) if waits_for_standby && shared.horizon() <= now => {
            Some("the synchronous standby has not acknowledged the horizon".into())
        }
        Ok(None) => None,
    }
}

/// Worker only: says in its title whether ids are given, and in the log when they begin, stop and go on.
pub fn report(shared: &Shared, waits_for_standby: bool) {
    let state = &shared.state;
    if shared.started() == 0 && !waits_for_standby {
        return;
    }
    let why = in_the_way(shared, waits_for_standby);
    process::show(&why.as_ref().map_or("gives ids".into(), |why| format!("no ids: {why}")));
    let now = machine_clock::both().wall;
    let before = shared.locked(pg_sys::LWLockMode::LW_SHARED, || state.why.get());
    if why == before && (why.is_some() || state.begun.load(Relaxed) != 0) {
        return;
    }
    shared.locked(pg_sys::LWLockMode::LW_EXCLUSIVE, || state.why.set(why.as_deref().unwrap_or_default()));
    match (why, state.stopped()) {
        (Some(why), stopped) => {
            state.stopped.store(stopped.unwrap_or(now), Relaxed);
            log!("idgen: no ids: {why}");
        }
        (None, _) if state.begun.swap(1, Relaxed) == 0 => {
            state.stopped.store(0, Relaxed);
            let machine =
                shared.machine(SERVER.max_machine()).map_or("none".into(), |(machine, _)| machine.to_string());
            let (horizon, clock) = (moment(shared.horizon()), moment(shared.now()));
            log!("idgen: ids begin: machine id {machine}, horizon {horizon}, clock {clock}");
        }
        (None, stopped) => {
            state.stopped.store(0, Relaxed);
            log!("idgen: ids go on after {} ms", (now - stopped.unwrap_or(now)) / 1000);
        }
    }
}

/// Why `idgen_next()` gives no id now, or will give none soon.
pub fn obstacle(shared: &Shared) -> Option<String> {
    let boot = machine_clock::boot();
    // SAFETY: may be asked at any time.
    if unsafe { pg_sys::RecoveryInProgress() } {
        return Some(message(Error::InRecovery));
    }
    let idle = boot - shared.clock().seen;
    if shared.worker_pid().is_none() {
        return Some(message(Error::NoWorker));
    } else if shared.started() != 0 && idle > STANDS_STILL {
        return Some(format!("the background worker has stood still for {} seconds", idle / SECOND));
    }
    let why = shared.locked(pg_sys::LWLockMode::LW_SHARED, || shared.state.why.get());
    why.or_else(|| in_the_way(shared, false))
}
