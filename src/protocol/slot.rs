//! Where one backend of a member waits for strict ids, and the member worker leaves them.
//!
//! | state      | set by                | meaning |
//! |------------|-----------------------|---------|
//! | `FREE`     | the caller            | it does not wait (any more) |
//! | `WAITING`  | the caller            | a request should be made |
//! | `TAKEN`    | the member worker     | it has the ticket |
//! | `ANSWERED` | the member worker     | the result is there |
//!
//! State and generation are one word, and only the worker goes on from `WAITING` and from `TAKEN`. A ticket whose caller has
//! gone may be answered at any time, also when the next caller has its result already: the worker finds another generation,
//! leaves the result alone, and the ids become a gap.

use super::tickets::{Run, Ticket};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

const FREE: u64 = 0;
const WAITING: u64 = 1;
const TAKEN: u64 = 2;
const ANSWERED: u64 = 3;

/// Where one backend waits.
#[derive(Default)]
#[repr(align(64))]
pub struct Slot {
    /// Generation and state. Whoever writes it releases, whoever reads it acquires.
    word: AtomicU64,
    /// The number of the generator that is wanted: see `shared/place.rs`. Written by the caller before it waits.
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
    /// Makes the backend that has the slot wait for up to `want` stamps of this generator.
    pub fn wait(&self, generator: u32, want: u64) -> Waiting<'_> {
        let generation = (self.word.load(Relaxed) >> 2) as u32;
        let waiting = Waiting { slot: self, generation: generation.wrapping_add(1) };
        self.generator.store(generator, Relaxed);
        self.want.store(want.min(u64::from(u32::MAX)) as u32, Relaxed);
        self.word.store(word(waiting.generation, WAITING), SeqCst);
        waiting
    }

    /// Worker only: takes the ticket of the caller that waits here; None if none does.
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

    /// Worker only: gives the caller of `ticket` its result, if it still waits; whether it does, and is to be woken.
    pub fn answer(&self, ticket: Ticket, run: Run) -> bool {
        let taken = word(ticket.generation, TAKEN);
        if self.word.load(Relaxed) != taken {
            return false;
        }
        // Nobody reads this before `ANSWERED`, and the next caller is not `TAKEN` before the worker is back.
        self.first.store(run.first, Relaxed);
        self.count.store(run.count, Relaxed);
        self.machine.store(run.machine, Relaxed);
        self.word.compare_exchange(taken, word(ticket.generation, ANSWERED), AcqRel, Relaxed).is_ok()
    }

    /// Worker only, when it starts: tickets that an earlier worker had taken are to be taken again.
    pub fn put_back(&self) {
        let seen = self.word.load(Acquire);
        if seen & 3 == TAKEN {
            _ = self.word.compare_exchange(seen, seen & !3 | WAITING, AcqRel, Relaxed);
        }
    }
}

/// A caller in its slot, which becomes free again however the caller leaves it.
pub struct Waiting<'a> {
    slot: &'a Slot,
    generation: u32,
}

impl Waiting<'_> {
    /// The result, once it is there. Count 0: refused.
    pub fn result(&self) -> Option<Run> {
        let slot = self.slot;
        (slot.word.load(Acquire) == word(self.generation, ANSWERED)).then(|| Run {
            first: slot.first.load(Relaxed),
            count: slot.count.load(Relaxed),
            machine: slot.machine.load(Relaxed),
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.slot.word.store(word(self.generation, FREE), Release);
    }
}
