//! Giving out ids: the fast step, and what a call does that it cannot serve.

use crate::{
    error::Error,
    mechanism::{
        Micros,
        allocator::{Refusal, Run},
        layout::SERVER,
    },
    settings,
    shmem::{self, Shared},
    worker,
};
use pgrx::{PgSqlErrorCode, pg_sys};
use std::sync::atomic::Ordering::Relaxed;

/// The next id of the server generator.
#[inline(always)]
pub fn next() -> Result<u64, Error> {
    let shared = shmem::shared()?;
    let now = shared.now();
    match shared.server.take(&SERVER, now, now + shared.max_borrow(), 1) {
        Ok(run) => Ok(SERVER.id(run.first, run.machine)),
        Err(_) => take_waiting(shared, 1).map(|run| SERVER.id(run.first, run.machine)),
    }
}

/// `n` ids, increasing, taken in runs of consecutive stamps: each run with one atomic operation, when the one before
/// it is used up.
pub struct Ids {
    wanted: u64,
    run: Run,
}

impl Ids {
    pub fn new(wanted: u64) -> Self {
        Ids { wanted, run: Run { first: 0, count: 0, machine: 0 } }
    }

    /// The next of them, if there is one left.
    pub fn next(&mut self) -> Result<Option<u64>, Error> {
        if self.run.count == 0 {
            if self.wanted == 0 {
                return Ok(None);
            }
            self.run = take_waiting(shmem::shared()?, self.wanted)?;
            self.wanted -= self.run.count;
        }
        let id = SERVER.id(self.run.first, self.run.machine);
        self.run.first += 1;
        self.run.count -= 1;
        Ok(Some(id))
    }
}

/// Takes up to `want` stamps, and waits for the horizon or sleeps for a loan as long as that takes.
#[cold]
#[inline(never)]
fn take_waiting(shared: &Shared, want: u64) -> Result<Run, Error> {
    let (mut slept, mut waited) = (false, false);
    worker::wait_for_move(shared, || {
        loop {
            let now = shared.now();
            let latest = now.max(shared.floor()).saturating_add(shared.max_borrow());
            match shared.server.take(&SERVER, now, latest, want) {
                Ok(run) => return Ok(Some(run)),
                Err(Refusal::Bound) => {
                    check_can_be_served(shared, now)?;
                    count_once(&mut waited, &shared.horizon_waits);
                    shared.want_move();
                    return Ok(None);
                }
                Err(Refusal::Loan { due }) => {
                    count_once(&mut slept, &shared.loan_sleeps);
                    sleep(due - latest);
                }
            }
        }
    })
}

fn count_once(done: &mut bool, counter: &std::sync::atomic::AtomicI64) {
    if !std::mem::replace(done, true) {
        counter.fetch_add(1, Relaxed);
    }
}

/// Why waiting for the horizon would be in vain, if it would.
fn check_can_be_served(shared: &Shared, now: Micros) -> Result<(), Error> {
    let machine = settings::MACHINE_ID.get();
    // SAFETY: may be asked at any time.
    if unsafe { pg_sys::RecoveryInProgress() } {
        Err(Error::InRecovery)
    } else if machine < 0 {
        Err(Error::MachineIdUnset)
    } else if machine as u64 > SERVER.max_machine() {
        Err(Error::MachineIdTooLarge { machine, max: SERVER.max_machine() })
    } else if shared.fault.load(Relaxed) == PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED as i32 {
        Err(Error::NoOrigin)
    } else if shared.started() == 0 {
        Ok(())
    } else if shared.server.last() + 1 >= SERVER.stamps() || SERVER.stamp_at(now) >= SERVER.stamps() {
        Err(Error::Exhausted)
    } else if now < SERVER.epoch() {
        Err(Error::BeforeEpoch)
    } else {
        Ok(())
    }
}

/// Sleeps until a loan is due, without a lock; cancel and terminate end it at once.
fn sleep(time: Micros) {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: the latch of this process; whoever else waits on it looks at his condition again.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, time / 1000 + 1, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}
