//! Which generator has which place in shared memory.
//!
//! One LWLock guards it: held exclusively to give a place to a generator, to free it, and to change a counter's blocks;
//! shared by the worker while it opens the bounds of them all, so that no bound is ever written with another
//! generator's layout. Giving out ids does not take it.

use crate::{
    blocks::Leased,
    error::Error,
    mechanism::{
        allocator::Words,
        definition::{Definition, Order},
        layout::{Layout, SERVER},
    },
    settings,
    shmem::Shared,
};
use pgrx::prelude::*;
use std::ffi::CString;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::*};

/// As the setting idgen.max_generators says.
const _: () = assert!(size_of::<Place>() == 512);

const NAME_LENGTH: usize = pg_sys::NAMEDATALEN as usize;

/// What an authority knows a generator by. The server generator has neither schema nor name.
pub struct Named {
    pub schema: CString,
    pub name: CString,
    pub definition: CString,
}

/// Where a generator has its words.
///
/// Its number, for the member worker, is one more than the index of the place; 0 is the server generator.
pub struct Place {
    pub words: Words,
    /// Database and oid of the sequence; 0: free. Written under the lock.
    key: AtomicU64,
    /// The definition: see [`Layout::to_words`] and [`Order`]. Written under the lock, before the key.
    layout: [AtomicU64; 3],
    order: AtomicU8,
    flush_every: AtomicU32,
    /// Schema and name, each ended by 0, as of the last time that a backend looked. Under the lock.
    name: [AtomicU8; 2 * NAME_LENGTH],
    /// Of a counter: the file of the sequence that the block was taken from. Written by who takes a block.
    pub file: AtomicU32,
    /// Of a counter: the file that the block before was of, if that was another, and how far it went: a RESTART that is
    /// rolled back returns to it. Written under the lock.
    old_file: AtomicU32,
    old_last: AtomicU64,
    /// Of a counter: the block after the one in use, see [`Next`]. Written under the lock; `limit` 0: none.
    next: [AtomicU64; 4],
}

/// A block of a counter that is logged but perhaps not durable yet: values `first .. limit`, where its record ends, and
/// the file of the sequence that it was taken from (0: it is leased).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    pub first: u64,
    pub limit: u64,
    pub record: pg_sys::XLogRecPtr,
    pub file: u32,
}

impl Default for Place {
    fn default() -> Self {
        Place {
            words: Words::default(),
            key: AtomicU64::new(0),
            layout: Default::default(),
            order: AtomicU8::new(0),
            name: [const { AtomicU8::new(0) }; 2 * NAME_LENGTH],
            flush_every: AtomicU32::new(0),
            file: AtomicU32::new(0),
            old_file: AtomicU32::new(0),
            old_last: AtomicU64::new(0),
            next: Default::default(),
        }
    }
}

impl Place {
    /// The generator's layout and all of its definition, under the lock or while the generator is locked against DROP.
    fn layout(&self) -> Layout {
        Layout::from_words(self.layout.each_ref().map(|word| word.load(Relaxed)))
    }

    fn definition(&self) -> Definition {
        Definition {
            layout: self.layout(),
            flush_every: self.flush_every.load(Relaxed),
            order: Order::from_number(self.order.load(Relaxed)),
        }
    }

    /// Makes it a generator of this definition, which has no block.
    fn define(&self, definition: &Definition, name: &[CString; 2]) {
        self.file.store(0, Relaxed);
        self.old_file.store(0, Relaxed);
        self.set_next(None);
        self.set_name(name);

        for (word, value) in self.layout.iter().zip(definition.layout.to_words()) {
            word.store(value, Relaxed);
        }
        self.order.store(definition.order as u8, Relaxed);
        self.flush_every.store(definition.flush_every, Relaxed);
    }

    /// Of a counter whose sequence has `file`: how far it went in that file, or in the one that it is the successor of.
    pub fn went_to(&self, file: u32) -> u64 {
        if self.old_file.load(Relaxed) == file {
            self.old_last.load(Relaxed)
        } else if self.file.load(Relaxed) == 0 {
            // Of a place that is new the words say nothing.
            0
        } else {
            self.words.last()
        }
    }

    /// Whether its blocks come from the authority.
    fn is_leased(&self) -> bool {
        self.definition().order == Order::Block && !settings::is_authority()
    }

    /// The block after the one in use. Without the lock only whether there is one means anything.
    #[inline(always)]
    pub fn next(&self) -> Option<Next> {
        let [first, limit, record, file] = self.next.each_ref().map(|word| word.load(Relaxed));
        (limit != 0).then_some(Next { first, limit, record, file: file as u32 })
    }

    fn set_name(&self, name: &[CString; 2]) {
        for (half, text) in self.name.chunks(NAME_LENGTH).zip(name) {
            half.iter().zip(text.to_bytes_with_nul()).for_each(|(place, byte)| place.store(*byte, Relaxed));
        }
    }

    fn named(&self) -> Named {
        let [schema, name] = [0, NAME_LENGTH].map(|start| {
            let bytes = self.name[start..].iter().map(|byte| byte.load(Relaxed)).take_while(|byte| *byte != 0);
            CString::new(bytes.take(NAME_LENGTH - 1).collect::<Vec<u8>>()).unwrap_or_default()
        });
        Named { schema, name, definition: CString::new(self.definition().to_string()).unwrap_or_default() }
    }

    fn set_next(&self, next: Option<Next>) {
        let next = next.map_or([0; 4], |next| [next.first, next.limit, next.record, u64::from(next.file)]);
        for (word, value) in self.next.iter().zip(next) {
            word.store(value, Relaxed);
        }
    }
}

fn key(database: pg_sys::Oid, sequence: pg_sys::Oid) -> u64 {
    u64::from(database.to_u32()) << 32 | u64::from(sequence.to_u32())
}

impl Shared {
    pub(crate) fn locked<T>(&self, mode: pg_sys::LWLockMode::Type, action: impl FnOnce() -> T) -> T {
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
        definition: &Definition,
        name: &[CString; 2],
    ) -> Result<&'static Place, Error> {
        let key = key(database, sequence);
        self.locked(pg_sys::LWLockMode::LW_EXCLUSIVE, || {
            let find = |key| self.used().iter().find(|place| place.key.load(Relaxed) == key);
            let place = match find(key) {
                Some(place) if place.definition() == *definition => {
                    place.set_name(name);
                    return Ok(place);
                }
                // Its label was set, used and rolled back, and then another was set. What was given by the first is above.
                Some(place) if place.layout() == definition.layout => {
                    place.words.close();
                    place.define(definition, name);
                    return Ok(place);
                }
                Some(place) => place,
                None => match find(0) {
                    Some(place) => place,
                    None => self.use_one_more().ok_or(Error::NoPlace)?,
                },
            };
            let first = definition.layout.stamp_at(self.attach_at.load(Relaxed));
            place.words.reset(first.saturating_sub(1), self.attach_floor());
            place.define(definition, name);
            place.key.store(key, Release);
            Ok(place)
        })
        .inspect(|place| {
            if place.is_leased() {
                self.leases.store(true, Relaxed);
            }
        })
    }

    /// The places that were ever used.
    fn used(&self) -> &[Place] {
        &self.places()[..self.used_places.load(Acquire) as usize]
    }

    /// One that was never used. Under the lock.
    fn use_one_more(&self) -> Option<&Place> {
        let used = self.used_places.load(Relaxed);
        let place = self.places().get(used as usize)?;
        self.used_places.store(used + 1, Release);
        Some(place)
    }

    /// Worker only: permits nothing of the generators whose layout is such, until they are opened again. Of a counter, the
    /// rest of its block is skipped; blocks of the authority are durable there, and have no machine id.
    pub fn close(&self, which: impl Fn(&Layout) -> bool) {
        self.for_each_clock(|words, layout, _| {
            if which(layout) {
                words.close();
            }
        });
        self.locked(pg_sys::LWLockMode::LW_SHARED, || {
            for place in self.used().iter().filter(|place| place.key.load(Acquire) != 0) {
                let layout = place.layout();
                if layout.is_counter() && !place.is_leased() && which(&layout) {
                    place.words.close();
                }
            }
        });
    }

    /// How many generators have a place.
    pub fn generators_in_use(&self) -> usize {
        self.used().iter().filter(|place| place.key.load(Relaxed) != 0).count()
    }

    /// Whether a place was ever used.
    pub fn has_places(&self) -> bool {
        self.used_places.load(Relaxed) != 0
    }

    /// Says that places of `database` may be those of generators that are gone. One database is remembered; of several, all
    /// are in doubt.
    pub fn doubt(&self, database: pg_sys::Oid) {
        let own = database.to_u32();
        let other = |held| Some(if held == 0 || held == own { own } else { u32::MAX });
        _ = self.doubtful.fetch_update(Relaxed, Relaxed, other);
    }

    /// Whether that was said of `database`, which looks now.
    pub fn take_doubt(&self, database: pg_sys::Oid) -> bool {
        let held = self.doubtful.load(Relaxed);
        // Where all are in doubt, they stay so: another may have places to look at.
        held == u32::MAX
            || held == database.to_u32() && self.doubtful.compare_exchange(held, 0, Relaxed, Relaxed).is_ok()
    }

    /// The sequences of `database` that have a place.
    pub fn attached_in(&self, database: pg_sys::Oid) -> Vec<pg_sys::Oid> {
        self.locked(pg_sys::LWLockMode::LW_SHARED, || {
            let keys = self.used().iter().map(|place| place.key.load(Relaxed)).filter(|key| *key != 0);
            let own = keys.filter(|key| key >> 32 == u64::from(database.to_u32()));
            own.map(|key| pg_sys::Oid::from(key as u32)).collect()
        })
    }

    /// Frees the places of these sequences of `database`, or of all of it, for good: the transaction that drops them has
    /// committed, or the one that made them has not, and still holds its locks, so that nobody takes ids from them.
    pub fn free(&self, database: pg_sys::Oid, sequences: Option<&[pg_sys::Oid]>) {
        let dropped = |place: &&Place| {
            let held = place.key.load(Relaxed);
            let sequence = pg_sys::Oid::from(held as u32);
            held >> 32 == u64::from(database.to_u32()) && sequences.is_none_or(|all| all.contains(&sequence))
        };
        self.locked(pg_sys::LWLockMode::LW_EXCLUSIVE, || {
            for place in self.used().iter().filter(dropped) {
                place.words.reset(0, 0);
                place.set_next(None);
                place.key.store(0, Relaxed);
            }
        });
    }

    /// Worker only: calls `action` with the words, layout and order of every generator that a horizon covers, the server
    /// generator first, while no place can change.
    pub fn for_each_clock(&self, mut action: impl FnMut(&Words, &Layout, Order)) {
        action(&self.server, &SERVER, settings::order());
        self.locked(pg_sys::LWLockMode::LW_SHARED, || {
            for place in self.used().iter().filter(|place| place.key.load(Acquire) != 0) {
                let layout = place.layout();
                if !layout.is_counter() {
                    action(&place.words, &layout, Order::from_number(place.order.load(Relaxed)));
                }
            }
        });
    }

    /// What the authority knows the generator with this number by.
    pub fn generator_name(&self, number: u32) -> Named {
        match number.checked_sub(1).and_then(|index| self.places().get(index as usize)) {
            Some(place) => self.locked(pg_sys::LWLockMode::LW_SHARED, || place.named()),
            None => {
                let definition = Definition { layout: SERVER, flush_every: 0, order: Order::Strict }.to_string();
                let definition = CString::new(definition).unwrap_or_default();
                Named { schema: CString::default(), name: CString::default(), definition }
            }
        }
    }

    /// The number of a generator, by its place.
    pub fn generator_number(&self, place: &Place) -> u32 {
        let index = self.places().iter().position(|other| std::ptr::eq(other, place));
        index.map_or(0, |index| index as u32 + 1)
    }

    /// Whether a generator was ever in use whose blocks are leased.
    pub fn has_leased(&self) -> bool {
        self.leases.load(Relaxed)
    }

    /// The generators whose blocks are leased.
    pub fn leased(&self) -> Vec<Leased<'_>> {
        self.locked(pg_sys::LWLockMode::LW_SHARED, || {
            let leased = |place: &Place| place.key.load(Acquire) != 0 && place.is_leased();
            let numbered = (1..).zip(self.used()).filter(|(_, place)| leased(place));
            numbered.map(|(number, place)| (number, place.key.load(Relaxed), place)).collect()
        })
    }

    /// Member worker only: keeps a leased block as the next of the generator with this number, if it is still the one
    /// that has `key`.
    pub fn keep_leased(&self, number: u32, key: u64, next: Next) {
        self.locked(pg_sys::LWLockMode::LW_EXCLUSIVE, || {
            let place = &self.places()[number as usize - 1];
            if place.key.load(Relaxed) == key {
                place.set_next(Some(next));
            }
        });
        self.wake_waiting();
    }

    /// Keeps `next` as the block after the one in use.
    pub fn keep_next(&self, place: &Place, next: Next) {
        self.locked(pg_sys::LWLockMode::LW_EXCLUSIVE, || place.set_next(Some(next)));
    }

    /// Asks the worker to make the kept blocks durable.
    pub fn want_flush(&self) {
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

    /// Begins to use a block of `file` that is durable, for `machine`: anew at its start if the counter was set back. False:
    /// another server has the machine id.
    pub fn use_block(
        &self,
        place: &Place,
        layout: &Layout,
        file: u32,
        block: Next,
        machine: u64,
        set_back: bool,
    ) -> bool {
        self.locked(pg_sys::LWLockMode::LW_EXCLUSIVE, || {
            if layout.max_machine() != 0 && self.is_rivalled() {
                return false;
            }
            let before = place.file.load(Relaxed);
            if before != file {
                place.old_file.store(before, Relaxed);
                place.old_last.store(place.words.last(), Relaxed);
            }
            if set_back {
                place.words.reset(block.first - 1, 0);
            } else {
                place.words.raise(block.first - 1);
            }
            place.file.store(file, Release);
            place.words.open(layout, block.limit, machine);
            true
        })
    }

    /// Worker only: makes kept blocks durable, and opens each that goes on where the block in use ends, so that nobody
    /// has to wait for it. False if a synchronous standby does not have one yet.
    pub fn flush_next(&self, flush: impl Fn(pg_sys::XLogRecPtr) -> bool) -> bool {
        if !self.flush_wanted.swap(false, AcqRel) {
            return true;
        }
        let mut all = true;
        for place in self.used() {
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
                let goes_on = place.file.load(Relaxed) == next.file && place.words.limit(&layout) == next.first;
                if place.next() == kept && goes_on {
                    place.words.extend(&layout, next.limit);
                    place.set_next(None);
                }
            });
        }
        all
    }
}
