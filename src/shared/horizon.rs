//! The effective clock, the horizon and the lease, as the horizon's worker publishes them; and how callers ask it to move and
//! wait for that.

use crate::{
    mechanism::{Micros, clock::Clock},
    postgres::{
        clock, latch, register, settings,
        wait_event::{Wait, event},
    },
    protocol::lease::Lease,
    shared::errand::{Asking, Errand},
};
use pgrx::pg_sys;
use std::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64, Ordering::*},
};

/// Unless it says otherwise, a word is written by the worker only and read by everyone, relaxed: each word stands for itself,
/// and ids are permitted by the words of the generators alone.
pub struct Horizon {
    /// See [`Clock`], field for field. `offset` and `max_borrow` are read by every call.
    offset: AtomicI64,
    max_borrow: AtomicI64,
    /// Set by backends that have streams of their own, which the worker cannot see; cleared by the worker.
    pub own_streams_active: AtomicBool,
    base: AtomicI64,
    held: AtomicI64,
    seen: AtomicI64,
    seen_offset: AtomicI64,
    steps: AtomicI64,
    stepped: AtomicI64,
    /// A hash of the setting that names the synchronous standbys that must have a record before it permits anything; 0: none.
    /// Before the setting was read: some must. Acquire and release: who sees it sees the word below.
    standbys: AtomicU64,
    /// The end of the WAL when the setting was read.
    named_at: AtomicU64,
    /// See [`Lease`], field for field.
    strict_from: AtomicI64,
    strict_until: AtomicI64,
    /// Set by callers of a strict generator that found no lease; cleared by the worker.
    pub strict_wanted: AtomicBool,
    /// The boot-time clock when ids were first permitted; 0 before.
    started: AtomicI64,
    /// The durable horizon; no bound is beyond it.
    durable: AtomicI64,
    moves: AtomicI64,
    /// The SQLSTATE that last stopped the worker; 0 after the next move. It does not decide whether ids are permitted.
    pub fault: AtomicI32,
    /// The worker's place among the processes and its pid; -1 and 0 while there is none.
    worker: AtomicI32,
    worker_pid: AtomicI32,
    /// Written by a caller that waits: the horizon that its next stamp needs. The worker takes it and sets it to 0.
    wanted: AtomicI64,
    /// A superuser's repair: the time that the horizon is raised to, or [`ACCEPT`] for accepting the clock.
    repair: Errand,
    repair_to: AtomicI64,
    /// Counted by callers, off the hot path.
    pub waits: AtomicI64,
    pub loan_sleeps: AtomicI64,
    /// Wakes the callers that wait for a move. It has a lock of its own inside.
    moved: UnsafeCell<pg_sys::ConditionVariable>,
}

/// Not a time that a horizon can be raised to.
const ACCEPT: Micros = Micros::MIN;

/// What a superuser's repair asks the worker for.
#[derive(Clone, Copy)]
pub enum Repair {
    AcceptClock,
    RaiseHorizon(Micros),
}

impl Default for Horizon {
    /// The state after every start of the server and every crash restart: nothing is permitted.
    fn default() -> Self {
        let mut moved = pg_sys::ConditionVariable::default();
        // SAFETY: a valid place to initialize; it holds no pointer to itself and may be moved.
        unsafe { pg_sys::ConditionVariableInit(&mut moved) };
        Horizon {
            offset: AtomicI64::new(0),
            max_borrow: AtomicI64::new(0),
            own_streams_active: AtomicBool::new(false),
            base: AtomicI64::new(0),
            held: AtomicI64::new(0),
            seen: AtomicI64::new(0),
            seen_offset: AtomicI64::new(0),
            steps: AtomicI64::new(0),
            stepped: AtomicI64::new(0),
            standbys: AtomicU64::new(u64::MAX),
            named_at: AtomicU64::new(0),
            strict_from: AtomicI64::new(Micros::MAX),
            strict_until: AtomicI64::new(0),
            strict_wanted: AtomicBool::new(false),
            started: AtomicI64::new(0),
            durable: AtomicI64::new(0),
            moves: AtomicI64::new(0),
            fault: AtomicI32::new(0),
            worker: AtomicI32::new(-1),
            worker_pid: AtomicI32::new(0),
            wanted: AtomicI64::new(0),
            repair: Errand::default(),
            repair_to: AtomicI64::new(0),
            waits: AtomicI64::new(0),
            loan_sleeps: AtomicI64::new(0),
            moved: UnsafeCell::new(moved),
        }
    }
}

impl Horizon {
    /// The effective clock. The one clock read of a call.
    #[inline(always)]
    pub fn now(&self) -> Micros {
        clock::boot() + self.offset.load(Relaxed)
    }

    /// How far a burst may run ahead of the clock.
    #[inline(always)]
    pub fn max_borrow(&self) -> Micros {
        self.max_borrow.load(Relaxed)
    }

    /// The durable horizon that permits ids, 0 before the first move.
    pub fn durable(&self) -> Micros {
        self.durable.load(Relaxed)
    }

    /// How often it moved.
    pub fn moves(&self) -> i64 {
        self.moves.load(Relaxed)
    }

    /// The boot-time clock at the first move, 0 before it. Before it the effective clock says nothing: what is read of it
    /// counts only if this was read before.
    pub fn started(&self) -> Micros {
        self.started.load(Acquire)
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
            stepped: self.stepped.load(Relaxed),
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
        self.stepped.store(clock.stepped, Relaxed);
        self.max_borrow.store(settings::max_borrow(), Relaxed);
    }

    /// Asks the worker for a lease to serve strict ids.
    pub fn want_lease(&self) {
        self.strict_wanted.store(true, Relaxed);
        self.wake_worker();
    }

    /// The lease, which says when strict ids are served here.
    pub fn lease(&self) -> Lease {
        Lease { from: self.strict_from.load(Relaxed), until: self.strict_until.load(Relaxed) }
    }

    /// Worker only.
    pub fn set_lease(&self, lease: Lease) {
        self.strict_from.store(lease.from, Relaxed);
        self.strict_until.store(lease.until, Relaxed);
    }

    /// Worker only: the horizon is at `horizon`, durable and acknowledged; `boot` is the boot-time clock.
    pub fn set_durable(&self, horizon: Micros, boot: Micros) {
        self.durable.store(horizon, Relaxed);
        if self.started() == 0 {
            self.started.store(boot, Release);
        }
        self.moves.fetch_add(1, Relaxed);
        self.fault.store(0, Relaxed);
    }

    /// Which standbys must have a record before it permits anything; 0: none.
    pub fn standbys(&self) -> u64 {
        self.standbys.load(Acquire)
    }

    /// Whether everything up to `record` is on the standbys that are named now, if any are. What was acknowledged before
    /// they were named may be on others only: it counts once they have something later.
    pub fn is_acknowledged(&self, record: pg_sys::XLogRecPtr) -> bool {
        self.standbys() == 0 || register::acknowledged() >= record.max(self.named_at() + 1)
    }

    /// The end of the WAL when the setting was read last.
    pub fn named_at(&self) -> pg_sys::XLogRecPtr {
        self.named_at.load(Relaxed)
    }

    /// Worker only: from now on `standbys` (0: none) must have a record before it permits anything. True: the horizon so far
    /// is not known to be on them, and permits nothing until a move that they acknowledge.
    pub fn set_standbys(&self, standbys: u64) -> bool {
        // Also if they are as before: others may have been named in between.
        self.named_at.store(register::end_of_wal(), Relaxed);
        let before = self.standbys.swap(standbys, AcqRel);
        let unknown = standbys != 0 && standbys != before && self.started() != 0;
        if unknown {
            self.durable.store(0, Relaxed);
        }
        unknown
    }

    /// Worker only: publishes where the worker can be woken, or that it has gone.
    pub fn set_worker(&self, place: i32, pid: i32) {
        self.worker_pid.store(pid, Relaxed);
        self.worker.store(place, Release);
    }

    /// Asks the worker for a horizon at or beyond `horizon`.
    pub fn want_horizon(&self, horizon: Micros) {
        self.wanted.fetch_max(horizon, AcqRel);
        self.wake_worker();
    }

    /// Worker only: the highest horizon that was wanted since the last call, 0 if none.
    pub fn take_wanted(&self) -> Micros {
        self.wanted.swap(0, AcqRel)
    }

    /// Asks the worker for a repair; None if it has another one to do.
    pub fn ask(&self, repair: Repair) -> Option<Asking<'_>> {
        let asking = self.repair.claim()?;
        let to = match repair {
            Repair::AcceptClock => ACCEPT,
            Repair::RaiseHorizon(to) => to,
        };
        self.repair_to.store(to, Relaxed);
        asking.ask();
        self.wake_worker();
        Some(asking)
    }

    /// Worker only: the repair to do now. [`Horizon::repaired`] ends it.
    pub fn take_repair(&self) -> Option<Repair> {
        self.repair.take().then(|| match self.repair_to.load(Relaxed) {
            ACCEPT => Repair::AcceptClock,
            to => Repair::RaiseHorizon(to),
        })
    }

    /// Worker only.
    pub fn repaired(&self) {
        self.repair.done();
    }

    /// Worker only, when it begins.
    pub fn put_repair_back(&self) {
        self.repair.put_back();
    }

    /// Sleeps until the next move, or for `timeout` if that is shorter; shown as `wait`. May return without cause. Raises an
    /// error if the session is cancelled or terminated.
    pub fn sleep_until_moved(&self, timeout: Micros, wait: Wait) {
        // SAFETY: initialized in `default`; called by processes that have a PGPROC.
        unsafe {
            let milliseconds = timeout / 1000 + 1;
            pg_sys::ConditionVariableTimedSleep(self.moved.get(), milliseconds, event(wait));
        }
    }

    /// Ends the sleep that [`Horizon::sleep_until_moved`] began.
    pub fn end_sleep(&self) {
        // SAFETY: takes no argument, and may be called when nothing was begun.
        unsafe { pg_sys::ConditionVariableCancelSleep() };
    }

    /// Wakes the callers that wait for a move or for a block.
    pub fn wake_waiting(&self) {
        // SAFETY: initialized in `default`.
        unsafe { pg_sys::ConditionVariableBroadcast(self.moved.get()) };
    }

    pub fn wake_worker(&self) {
        latch::wake(self.worker.load(Acquire));
    }
}
