//! What each backend has in shared memory, by its place among the processes: a slot in which it waits for strict ids, and how
//! far its own streams have reached.

use crate::protocol::slot::Slot;
use std::sync::atomic::AtomicI64;

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
