//! What each backend has in shared memory, by its place among the processes: a slot in which it waits for strict ids, and how
//! far its own streams have reached.
//!
//! | state      | set by                | meaning |
//! |------------|-----------------------|---------|
//! | `FREE`     | the caller            | it does not wait (any more) |
//! | `WAITING`  | the caller            | a request should be made |
//! | `TAKEN`    | the member worker     | it has the ticket |
//! | `ANSWERED` | the member worker     | the result is there |
//!
//! State and generation are one word: an answer for a caller that has gone finds another generation, and its ids become a
//! gap. Only the worker writes results.

use crate::{
    mechanism::allocator::Run,
    postgres::latch,
    protocol::tickets::{self, Ticket},
};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::*};

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
    /// The number of the generator that is wanted: see [`super::place::Place`]. Written by the caller before it waits.
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

    /// Worker only: gives the caller of `ticket` its result, if it still waits.
    pub fn answer(&self, ticket: Ticket, run: tickets::Run) {
        self.first.store(run.first, Relaxed);
        self.count.store(run.count, Relaxed);
        self.machine.store(run.machine, Relaxed);
        let taken = word(ticket.generation, TAKEN);
        if self.word.compare_exchange(taken, word(ticket.generation, ANSWERED), AcqRel, Relaxed).is_ok() {
            latch::wake(ticket.slot as i32);
        }
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

/// The slots and streams of all backends.
pub struct Backends {
    slots: *mut Slot,
    reached: *mut AtomicI64,
    count: usize,
}

impl Backends {
    pub const fn size(count: usize) -> usize {
        count * (size_of::<Slot>() + size_of::<AtomicI64>())
    }

    /// The slots and streams of `count` backends, at `memory`.
    ///
    /// # Safety
    /// There must be [`Backends::size`] bytes, aligned as a [`Slot`], that nobody else uses for as long as the server lives.
    pub unsafe fn new(memory: *mut u8, count: usize) -> Self {
        let slots: *mut Slot = memory.cast();
        // SAFETY: as the caller says.
        unsafe {
            let reached: *mut AtomicI64 = slots.add(count).cast();
            (0..count).for_each(|number| slots.add(number).write(Slot::default()));
            (0..count).for_each(|number| reached.add(number).write(AtomicI64::new(0)));
            Backends { slots, reached, count }
        }
    }

    /// The slots in which backends wait for strict ids, one for each backend number.
    pub fn slots(&self) -> &[Slot] {
        // SAFETY: written in `new`; all their words are atomic.
        unsafe { std::slice::from_raw_parts(self.slots, self.count) }
    }

    /// How far the streams of each backend number reached, published when a backend ends. Written by the backend that
    /// has the number.
    pub fn reached(&self) -> &[AtomicI64] {
        // SAFETY: written in `new`; all atomic.
        unsafe { std::slice::from_raw_parts(self.reached, self.count) }
    }
}
