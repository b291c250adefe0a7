//! How a session waits for the workers. No lock is held; cancel and terminate end it at once.

use super::{Shared, errand::Asking, horizon::Repair};
use crate::{
    error::Error,
    mechanism::{Micros, SECOND},
    postgres::{clock, latch, register, wait_event::Wait},
};
use pgrx::pg_sys;

/// How long the book and leased blocks wait for the synchronous standby: shorter than a member's patience.
pub const PATIENCE: Micros = SECOND;

/// Asks the running worker for a repair and waits until it is done and durable.
pub fn repair(shared: &Shared, repair: Repair) -> Result<(), Error> {
    wait_until_done(shared, || shared.horizon.ask(repair))
}

/// Waits until what `ask` asks for is done. If the wait ends before it has begun, it is withdrawn.
pub fn wait_until_done<'a>(shared: &Shared, ask: impl Fn() -> Option<Asking<'a>>) -> Result<(), Error> {
    let mut asking = None;
    let done = wait_for_move(shared, || {
        if asking.is_none() {
            asking = ask();
        }
        Ok(asking.as_ref().is_some_and(Asking::is_done).then_some(()))
    });
    done.map_err(|_| Error::RepairTimeout { has_begun: asking.is_some_and(|asking| !asking.withdraw()) })
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
