//! Which generator has which place in shared memory.
//!
//! One LWLock guards it: held exclusively to give a place to a generator, to free it, and to change a counter's blocks;
//! shared by the worker while it opens the bounds of them all, so that no bound is ever written with another
//! generator's layout. Giving out ids does not take it.

use crate::{
    error::Error,
    mechanism::{
        allocator::Words,
        layout::{Layout, SERVER},
    },
    shmem::Shared,
};
use pgrx::prelude::*;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

/// Where a generator has its words.
pub struct Place {
    pub words: Words,
    /// Database and oid of the sequence; 0: free. Written under the lock.
    key: AtomicU64,
    /// See [`Layout::to_words`]. Written under the lock, before the key.
    layout: [AtomicU64; 3],
    /// Of a counter: the file of the sequence that the block was taken from. Written by who takes a block.
    pub file: AtomicU32,
    /// Of a counter: the block after the one in use, see [`Next`]. Written under the lock; `limit` 0: none.
    next: [AtomicU64; 3],
}

/// A block of a counter that is logged but perhaps not durable yet: values `first .. limit`, and where its record ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    pub first: u64,
    pub limit: u64,
    pub record: pg_sys::XLogRecPtr,
}

impl Default for Place {
    fn default() -> Self {
        Place {
            words: Words::default(),
            key: AtomicU64::new(0),
            layout: Default::default(),
            file: AtomicU32::new(0),
            next: Default::default(),
        }
    }
}

impl Place {
    /// The generator's layout, under the lock or while the generator is locked against DROP.
    fn layout(&self) -> Layout {
        Layout::from_words([&self.layout[0], &self.layout[1], &self.layout[2]].map(|word| word.load(Relaxed)))
    }

    /// The block after the one in use. Without the lock only whether there is one means anything.
    #[inline(always)]
    pub fn next(&self) -> Option<Next> {
        let [first, limit, record] = [&self.next[0], &self.next[1], &self.next[2]].map(|word| word.load(Relaxed));
        (limit != 0).then_some(Next { first, limit, record })
    }

    fn set_next(&self, next: Option<Next>) {
        let next = next.map_or([0; 3], |next| [next.first, next.limit, next.record]);
        for (word, value) in self.next.iter().zip(next) {
            word.store(value, Relaxed);
        }
    }
}

fn key(database: pg_sys::Oid, sequence: pg_sys::Oid) -> u64 {
    u64::from(database.to_u32()) << 32 | u64::from(sequence.to_u32())
}

impl Shared {
    fn locked<T>(&self, mode: pg_sys::LWLockMode::Type, action: impl FnOnce() -> T) -> T {
        // SAFETY: a lock in shared memory; should `action` raise, PostgreSQL releases it at the end of the transaction
        // or of the process.
        unsafe {
            pg_sys::LWLockAcquire(self.lock, mode);
            let result = action();
            pg_sys::LWLockRelease(self.lock);
            result
        }
    }

    /// The place of the generator that stands on `sequence`, which the caller has locked against DROP. A new one is
    /// closed, and begins above everything that its generator can have given out.
    pub fn attach(
        &'static self,
        database: pg_sys::Oid,
        sequence: pg_sys::Oid,
        layout: &Layout,
    ) -> Result<&'static Place, Error> {
        let key = key(database, sequence);
        self.locked(pg_sys::LWLockMode::LW_EXCLUSIVE, || {
            let find = |key| self.places().iter().find(|place| place.key.load(Relaxed) == key);
            let place = match find(key) {
                Some(place) if place.layout() == *layout => return Ok(place),
                // Its label was set, used and rolled back, and then another was set.
                Some(place) => place,
                None => find(0).ok_or(Error::NoPlace)?,
            };
            place.words.reset(layout.stamp_at(self.attach_at.load(Relaxed)).saturating_sub(1));
            place.file.store(0, Relaxed);
            place.set_next(None);
            for (word, value) in place.layout.iter().zip(layout.to_words()) {
                word.store(value, Relaxed);
            }
            place.key.store(key, Release);
            Ok(place)
        })
    }

    /// Frees the place of `sequence`, or of all of `database`, for good: the transaction that drops it has committed, or
    /// the one that made it has not, and still holds its lock, so that nobody takes ids from it.
    pub fn free(&self, database: pg_sys::Oid, sequence: Option<pg_sys::Oid>) {
        let dropped = |place: &&Place| {
            let held = place.key.load(Relaxed);
            sequence.map_or(held >> 32 == u64::from(database.to_u32()), |sequence| held == key(database, sequence))
        };
        self.locked(pg_sys::LWLockMode::LW_EXCLUSIVE, || {
            for place in self.places().iter().filter(dropped) {
                place.words.reset(0);
                place.set_next(None);
                place.key.store(0, Relaxed);
            }
        });
    }

    /// Worker only: calls `action` with the words and layout of every generator that a horizon covers, the server
    /// generator first, while no place can change.
    pub fn for_each_clock(&self, mut action: impl FnMut(&Words, &Layout)) {
        action(&self.server, &SERVER);
        self.locked(pg_sys::LWLockMode::LW_SHARED, || {
            for place in self.places().iter().filter(|place| place.key.load(Acquire) != 0) {
                let layout = place.layout();
                if !layout.is_counter() {
                    action(&place.words, &layout);
                }
            }
        });
    }

    /// Keeps `next` as the block after the one in use, and asks the worker to make it durable.
    pub fn keep_next(&self, place: &Place, next: Next) {
        self.locked(pg_sys::LWLockMode::LW_EXCLUSIVE, || place.set_next(Some(next)));
        self.flush_wanted.store(true, Release);
        self.wake_worker();
    }

    /// Takes what [`Shared::keep_next`] kept.
    pub fn take_next(&self, place: &Place) -> Option<Next> {
        self.locked(pg_sys::LWLockMode::LW_EXCLUSIVE, || {
            let next = place.next();
            place.set_next(None);
            next
        })
    }

    /// Begins to use a block of `file` that is durable, for `machine`: anew at its start if the counter was set back.
    pub fn use_block(&self, place: &Place, layout: &Layout, file: u32, block: Next, machine: u64, set_back: bool) {
        self.locked(pg_sys::LWLockMode::LW_EXCLUSIVE, || {
            if set_back {
                place.words.reset(block.first - 1);
            } else {
                place.words.raise(block.first - 1);
            }
            place.file.store(file, Release);
            place.words.open(layout, block.limit, machine);
        });
    }

    /// Worker only: makes kept blocks durable, and opens each that goes on where the block in use ends, so that nobody
    /// has to wait for it. False if a synchronous standby does not have one yet.
    pub fn flush_next(&self, flush: impl Fn(pg_sys::XLogRecPtr) -> bool) -> bool {
        if !self.flush_wanted.swap(false, AcqRel) {
            return true;
        }
        let mut all = true;
        for place in self.places() {
            let kept = self.locked(pg_sys::LWLockMode::LW_SHARED, || place.next());
            let Some(next) = kept else { continue };
            if !flush(next.record) {
                self.flush_wanted.store(true, Relaxed);
                all = false;
                continue;
            }
            self.locked(pg_sys::LWLockMode::LW_EXCLUSIVE, || {
                // Taken meanwhile, or of another generator: a record ends where no other does.
                let layout = place.layout();
                if place.next() == kept && place.words.limit(&layout) == next.first {
                    place.words.extend(&layout, next.limit);
                    place.set_next(None);
                }
            });
        }
        all
    }
}
