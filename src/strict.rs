//! Strict ids on a member: each caller waits in a slot of its own until idgen's member worker has brought him what the
//! authority allocated after he began to wait.
//!
//! | state      | set by                | meaning |
//! |------------|-----------------------|---------|
//! | `FREE`     | the caller            | he does not wait, or no longer |
//! | `WAITING`  | the caller            | a request should be made |
//! | `TAKEN`    | the worker            | it has the ticket |
//! | `ANSWERED` | the worker            | the result is there |
//!
//! State and generation are one word: an answer that comes for a caller who has gone finds another generation, and its
//! ids become a gap. Only the worker writes results.

use crate::{
    error::Error,
    generator::check_not_in_recovery,
    machine_clock,
    mechanism::allocator::Run,
    protocol::tickets::{self, Ticket},
    settings,
    shmem::{self, Shared},
    wait_event::{Wait, event},
};
use pgrx::pg_sys;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};

const FREE: u64 = 0;
const WAITING: u64 = 1;
const TAKEN: u64 = 2;
const ANSWERED: u64 = 3;

/// Where one backend waits.
#[derive(Default)]
#[repr(align(64))]
pub struct Slot {
    /// Generation and state; release by who writes, acquire by who reads.
    word: AtomicU64,
    /// What is wanted: see [`crate::places::Place`] for the number of a generator. Written by the caller before he waits.
    generator: AtomicU32,
    want: AtomicU32,
    /// The result, written before `ANSWERED`. Count 0: refused.
    first: AtomicU64,
    count: AtomicU64,
    machine: AtomicU64,
}

const fn word(generation: u32, state: u64) -> u64 {
    (generation as u64) << 2 | state
}

impl Slot {
    /// Worker only: the ticket of a caller that waits here, taken; none if nobody does.
    pub fn take(&self, slot: usize) -> Option<(u32, Ticket)> {
        let seen = self.word.load(Acquire);
        if seen & 3 != WAITING {
            return None;
        }
        let (generator, want) = (self.generator.load(Relaxed), self.want.load(Relaxed));
        let generation = (seen >> 2) as u32;
        self.word.compare_exchange(seen, word(generation, TAKEN), AcqRel, Relaxed).ok()?;
        Some((generator, Ticket { slot: slot as u32, generation, want }))
    }

    /// Worker only: gives the caller of `ticket` his result, if he still waits.
    pub fn answer(&self, ticket: Ticket, run: tickets::Run) {
        self.first.store(run.first, Relaxed);
        self.count.store(run.count, Relaxed);
        self.machine.store(run.machine, Relaxed);
        let taken = word(ticket.generation, TAKEN);
        if self.word.compare_exchange(taken, word(ticket.generation, ANSWERED), AcqRel, Relaxed).is_ok() {
            shmem::wake(ticket.slot as i32);
        }
    }

    /// Worker only, when it starts: what one before it had taken is to be taken again.
    pub fn put_back(&self) {
        let seen = self.word.load(Acquire);
        if seen & 3 == TAKEN {
            _ = self.word.compare_exchange(seen, seen & !3 | WAITING, AcqRel, Relaxed);
        }
    }
}

/// A caller in his slot. However he leaves it, it is free again.
struct Waiting<'a> {
    slot: &'a Slot,
    generation: u32,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.slot.word.store(word(self.generation, FREE), Release);
    }
}

/// Takes up to `want` stamps from the authority. Waits at most `idgen.wait_timeout`; cancel and terminate end it at once.
pub fn take(shared: &Shared, generator: u32, want: u64) -> Result<Run, Error> {
    check_not_in_recovery()?;
    if settings::authority().is_none() {
        return Err(Error::NoAuthority);
    }
    let place = shmem::own_place();
    let slot = shared.slots().get(place as usize).ok_or(Error::AuthorityTimeout)?;
    let generation = (slot.word.load(Relaxed) >> 2) as u32;
    let waiting = Waiting { slot, generation: generation.wrapping_add(1) };
    slot.generator.store(generator, Relaxed);
    slot.want.store(want.min(u64::from(u32::MAX)) as u32, Relaxed);
    slot.word.store(word(waiting.generation, WAITING), SeqCst);
    shared.member.wake_if_idle();

    let deadline = machine_clock::boot() + settings::wait_timeout();
    loop {
        if slot.word.load(Acquire) == word(waiting.generation, ANSWERED) {
            let run = Run {
                first: slot.first.load(Relaxed),
                count: slot.count.load(Relaxed),
                machine: slot.machine.load(Relaxed),
            };
            return if run.count > 0 { Ok(run) } else { Err(Error::AuthorityRefused(shared.member.error(shared))) };
        }
        let left = deadline - machine_clock::boot();
        if left <= 0 {
            return Err(Error::AuthorityTimeout);
        }
        let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
        // SAFETY: the latch of this process; whoever else waits on it looks at his condition again.
        unsafe {
            pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, left / 1000 + 1, event(Wait::Answer));
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
        pgrx::check_for_interrupts!();
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
