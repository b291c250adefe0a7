//! What all processes of the server share. There is no lock: each word says who writes it.
//!
//! Wiped by every crash and restart; the register brings back what must be kept.

use crate::{
    error::Error,
    machine_clock,
    mechanism::{Micros, allocator::Words, clock::Clock},
    settings,
};
use once_cell::sync::OnceCell;
use pgrx::{PGRXSharedMemory, PgAtomic, pg_shmem_init, prelude::*};
use std::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64, Ordering::*},
};

/// The shared words. Unless it says otherwise a word is written by the worker only and read by everyone, relaxed:
/// each stands for itself, and what permits an id is [`Words`] alone.
pub struct Shared {
    /// The words of `idgen_next()`.
    pub server: Words,
    /// See [`Clock`], field for field. `offset` and `max_borrow` are read by every call.
    offset: AtomicI64,
    max_borrow: AtomicI64,
    /// A time that is nobody's loan: what a start, a clock set back or a raised horizon reached.
    floor: AtomicI64,
    base: AtomicI64,
    held: AtomicI64,
    seen: AtomicI64,
    seen_offset: AtomicI64,
    steps: AtomicI64,
    /// The boot-time clock when ids were first permitted; 0 before.
    started: AtomicI64,
    /// The horizon up to which bounds are open.
    horizon: AtomicI64,
    moves: AtomicI64,
    /// The SQLSTATE that stopped the worker last; 0 after the next move. Ids are permitted or not whatever it says.
    pub fault: AtomicI32,
    /// The worker's place among the processes and its pid; -1 and 0 while there is none.
    worker: AtomicI32,
    worker_pid: AtomicI32,

    /// Written by whoever waits: a move is wanted now.
    wanted: AtomicBool,
    /// Written by superusers' repairs, see [`Shared::ask`]: how many were asked for, and what for.
    asked: AtomicU64,
    accept: AtomicBool,
    raise_to: AtomicI64,
    /// Written by the worker: how many repairs are done.
    answered: AtomicU64,

    /// Counted by callers, off the hot path.
    pub horizon_waits: AtomicI64,
    pub loan_sleeps: AtomicI64,

    /// Wakes who waits for a move. It has a lock of its own inside.
    moved: UnsafeCell<pg_sys::ConditionVariable>,
}

// SAFETY: plain words without pointers, all atomic but `moved`, which is only handed to PostgreSQL's functions for
// condition variables: made for shared memory, and locked inside.
unsafe impl PGRXSharedMemory for Shared {}

/// What a superuser's repair asks the worker for.
#[derive(Clone, Copy)]
pub enum Repair {
    AcceptClock,
    RaiseHorizon(Micros),
}

// SAFETY: no other shared memory of this name is asked for.
static SHARED: PgAtomic<Shared> = unsafe { PgAtomic::new(c"idgen") };

/// Set in the postmaster while preloading, and inherited by its children.
static PRELOADED: OnceCell<()> = OnceCell::new();

/// Asks for the shared memory. While preloading only.
pub fn request() {
    pg_shmem_init!(SHARED = Shared::new());
    PRELOADED.get_or_init(|| ());
}

/// The shared words, or the error of a session that loaded the library by itself.
#[inline(always)]
pub fn shared() -> Result<&'static Shared, Error> {
    match PRELOADED.get() {
        Some(()) => Ok(SHARED.get()),
        None => Err(Error::NotPreloaded),
    }
}

impl Shared {
    /// As it is after every start of the server and every crash restart: nothing is permitted.
    fn new() -> Self {
        let mut moved = pg_sys::ConditionVariable::default();
        // SAFETY: a valid place to initialize; it holds no pointer to itself and may be moved.
        unsafe { pg_sys::ConditionVariableInit(&mut moved) };
        Shared {
            server: Words::default(),
            offset: AtomicI64::new(0),
            max_borrow: AtomicI64::new(0),
            floor: AtomicI64::new(0),
            base: AtomicI64::new(0),
            held: AtomicI64::new(0),
            seen: AtomicI64::new(0),
            seen_offset: AtomicI64::new(0),
            steps: AtomicI64::new(0),
            started: AtomicI64::new(0),
            horizon: AtomicI64::new(0),
            moves: AtomicI64::new(0),
            fault: AtomicI32::new(0),
            worker: AtomicI32::new(-1),
            worker_pid: AtomicI32::new(0),
            wanted: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            accept: AtomicBool::new(false),
            raise_to: AtomicI64::new(0),
            answered: AtomicU64::new(0),
            horizon_waits: AtomicI64::new(0),
            loan_sleeps: AtomicI64::new(0),
            moved: UnsafeCell::new(moved),
        }
    }

    /// The effective clock. The one clock read of a call.
    #[inline(always)]
    pub fn now(&self) -> Micros {
        machine_clock::boot() + self.offset.load(Relaxed)
    }

    /// How far a burst may run ahead.
    #[inline(always)]
    pub fn max_borrow(&self) -> Micros {
        self.max_borrow.load(Relaxed)
    }

    pub fn floor(&self) -> Micros {
        self.floor.load(Relaxed)
    }

    /// The durable horizon that permits ids, 0 before the first move.
    pub fn horizon(&self) -> Micros {
        self.horizon.load(Relaxed)
    }

    /// How often it moved.
    pub fn moves(&self) -> i64 {
        self.moves.load(Relaxed)
    }

    /// The boot-time clock at the first move, 0 before it.
    pub fn started(&self) -> Micros {
        self.started.load(Relaxed)
    }

    /// The worker's pid, if there is one.
    pub fn worker_pid(&self) -> Option<i32> {
        Some(self.worker_pid.load(Relaxed)).filter(|pid| *pid != 0)
    }

    pub fn clock(&self) -> Clock {
        Clock {
            offset: self.offset.load(Relaxed),
            base: self.base.load(Relaxed),
            held: self.held.load(Relaxed),
            seen: self.seen.load(Relaxed),
            seen_offset: self.seen_offset.load(Relaxed),
            steps: self.steps.load(Relaxed),
        }
    }

    /// Worker only.
    pub fn set_clock(&self, clock: Clock) {
        self.offset.store(clock.offset, Relaxed);
        self.base.store(clock.base, Relaxed);
        self.held.store(clock.held, Relaxed);
        self.seen.store(clock.seen, Relaxed);
        self.seen_offset.store(clock.seen_offset, Relaxed);
        self.steps.store(clock.steps, Relaxed);
        self.max_borrow.store(settings::max_borrow(), Relaxed);
    }

    /// Worker only: nothing up to `floor` counts as a loan.
    pub fn raise_floor(&self, floor: Micros) {
        self.floor.fetch_max(floor, Relaxed);
    }

    /// Worker only: the horizon has moved to `horizon` and the bounds are open up to it.
    pub fn set_horizon(&self, horizon: Micros, boot: Micros) {
        self.horizon.store(horizon, Relaxed);
        if self.started() == 0 {
            self.started.store(boot, Relaxed);
        }
        self.moves.fetch_add(1, Relaxed);
        self.fault.store(0, Relaxed);
    }

    /// Worker only: says where the worker is to be woken, or that it has gone.
    pub fn set_worker(&self, place: i32, pid: i32) {
        self.worker_pid.store(pid, Relaxed);
        self.worker.store(place, Release);
    }

    /// Asks the worker for a move.
    pub fn want_move(&self) {
        self.wanted.store(true, Release);
        self.wake_worker();
    }

    /// Worker only: whether a move was wanted since it last asked.
    pub fn take_wanted(&self) -> bool {
        self.wanted.swap(false, AcqRel)
    }

    /// Asks the worker for a repair, and returns the ticket that [`Shared::is_answered`] takes.
    pub fn ask(&self, repair: Repair) -> u64 {
        match repair {
            Repair::AcceptClock => self.accept.store(true, Release),
            Repair::RaiseHorizon(to) => _ = self.raise_to.fetch_max(to, AcqRel),
        }
        let ticket = self.asked.fetch_add(1, AcqRel) + 1;
        self.wake_worker();
        ticket
    }

    /// Whether the repair of `ticket` is done and durable.
    pub fn is_answered(&self, ticket: u64) -> bool {
        self.answered.load(Acquire) >= ticket
    }

    /// Worker only: the repairs to do now, with the count to hand to [`Shared::answer`].
    pub fn repairs(&self) -> (u64, bool, Micros) {
        // The count first: what is asked for after it waits for the next round.
        let asked = self.asked.load(Acquire);
        (asked, self.accept.swap(false, AcqRel), self.raise_to.load(Acquire))
    }

    /// Worker only.
    pub fn answer(&self, asked: u64) {
        self.answered.store(asked, Release);
    }

    /// Sleeps until the next move or for `timeout`, whichever is first; a spurious return is possible. Raises if the
    /// session is cancelled or terminated.
    pub fn sleep_until_moved(&self, timeout: Micros) {
        // SAFETY: initialized in `new`; called by processes that have a PGPROC.
        unsafe {
            let milliseconds = timeout / 1000 + 1;
            pg_sys::ConditionVariableTimedSleep(self.moved.get(), milliseconds, pg_sys::PG_WAIT_EXTENSION);
        }
    }

    /// Ends what [`Shared::sleep_until_moved`] began.
    pub fn end_sleep(&self) {
        // SAFETY: takes no argument, and may be called when nothing was begun.
        unsafe { pg_sys::ConditionVariableCancelSleep() };
    }

    /// Worker only: wakes who waits for a move.
    pub fn wake_waiting(&self) {
        // SAFETY: initialized in `new`.
        unsafe { pg_sys::ConditionVariableBroadcast(self.moved.get()) };
    }

    fn wake_worker(&self) {
        let place = self.worker.load(Acquire);
        if place >= 0 {
            // SAFETY: a place in the array of all processes stays valid; should the worker have gone, whoever has the
            // place now is woken for nothing, which every latch user allows for.
            unsafe { pg_sys::SetLatch(&raw mut (*(*pg_sys::ProcGlobal).allProcs.add(place as usize)).procLatch) };
        }
    }
}
