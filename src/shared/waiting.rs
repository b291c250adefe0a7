//! How a session waits for the workers. No lock is held; cancel and terminate end it at once.

use super::{
    Shared,
    errand::{Asking, Errand},
    horizon::Repair,
};
use crate::{
    error::Error,
    mechanism::{Micros, SECOND},
    postgres::{clock, latch, process::AtExit, register, wait_event::Wait},
};
use pgrx::{pg_guard, pg_sys};

/// How long the book and leased blocks wait for the synchronous standby: shorter than a member's patience.
pub const PATIENCE: Micros = SECOND;

/// An errand that is left also if the session is terminated.
pub struct Guarded<'a> {
    pub asking: Asking<'a>,
    _leave: AtExit,
}

impl<'a> Guarded<'a> {
    pub fn new(asking: Asking<'a>) -> Self {
        #[pg_guard]
        unsafe extern "C-unwind" fn leave(_code: i32, errand: pg_sys::Datum) {
            // SAFETY: the errand below, in shared memory.
            unsafe { (*errand.cast_mut_ptr::<Errand>()).leave() };
        }
        Guarded { _leave: AtExit::new(leave, asking.errand()), asking }
    }
}

/// Asks the running worker for a repair and waits until it is done and durable.
pub fn repair(shared: &Shared, repair: Repair) -> Result<(), Error> {
    wait_until_done(shared, || shared.horizon.ask(repair))
}

/// Waits until what `ask` asks for is done. If the wait ends before it has begun, it is withdrawn.
pub fn wait_until_done<'a>(shared: &Shared, ask: impl Fn() -> Option<Asking<'a>>) -> Result<(), Error> {
    let mut asking = None;
    let done = wait_for_move(shared, || {
        if asking.is_none() {
            asking = ask().map(Guarded::new);
        }
        Ok(asking.as_ref().is_some_and(|guarded| guarded.asking.is_done()).then_some(()))
    });
    done.map_err(|_| Error::RepairTimeout { has_begun: asking.is_some_and(|guarded| !guarded.asking.withdraw()) })
}

/// Calls `attempt` until it gives a result or fails, and waits for the worker between two attempts, for `idgen.wait_timeout` in
/// all. No lock is held; cancel and terminate end it at once.
pub fn wait_for_move<T>(shared: &Shared, mut attempt: impl FnMut() -> Result<Option<T>, Error>) -> Result<T, Error> {
    let deadline = latch::deadline();
    let result = loop {
        if let Some(result) = attempt().transpose() {
            break result;
        }
        let left = deadline - clock::boot();
        if left <= 0 {
            break Err(late(shared, Error::HorizonTimeout));
        }
        shared.horizon.sleep_until_moved(left, Wait::Horizon);
    };
    shared.horizon.end_sleep();
    result
}

/// Waits until the horizon is at `reach` or beyond.
pub fn wait_for_horizon(shared: &Shared, reach: Micros) -> Result<(), Error> {
    wait_for_move(shared, || {
        let is_there = shared.horizon.durable() >= reach;
        if !is_there {
            shared.horizon.want_horizon(reach);
        }
        Ok(is_there.then_some(()))
    })
}

/// `error`, with which a wait ends; or its reason, that there is no worker.
pub fn late(shared: &Shared, error: Error) -> Error {
    if shared.horizon.started() == 0 && shared.horizon.worker_pid().is_none() { Error::NoWorker } else { error }
}

/// Returns when everything up to `record` is on disk and on the synchronous standbys.
pub fn wait_until_durable(shared: &Shared, record: pg_sys::XLogRecPtr) -> Result<(), Error> {
    register::flush(record);
    let deadline = clock::boot() + PATIENCE;
    while !shared.horizon.is_acknowledged(record) {
        if clock::boot() >= deadline {
            return Err(Error::HorizonTimeout);
        }
        latch::sleep(1_000, Wait::Durable);
    }
    Ok(())
}
