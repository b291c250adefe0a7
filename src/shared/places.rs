//! The places in shared memory, and which generator has which.
//!
//! One LWLock guards them. It is held exclusively to give a place to a generator, to free it, and to change a counter's
//! blocks; shared by the worker while it opens the bounds of all generators, so that no bound is ever written with another
//! generator's layout. Giving out ids does not take it.

use super::place::{Named, Place};
use crate::{
    error::Error,
    mechanism::{
        Micros,
        allocator::Words,
        definition::{Definition, Order},
        layout::{Layout, SERVER},
        loan,
    },
    postgres::{lock::Lock, sequence::Next, settings},
};
use pgrx::pg_sys;
use std::{
    ffi::CString,
    sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering::*},
};

/// A generator that has a place, with its number and key.
pub type Leased<'a> = (u32, u64, &'a Place);

fn key(database: pg_sys::Oid, sequence: pg_sys::Oid) -> u64 {
    u64::from(database.to_u32()) << 32 | u64::from(sequence.to_u32())
}

/// The words of all generators.
pub struct Places {
    /// The words of `idgen_next()`.
    pub server: Words,
    lock: Lock,
    places: *mut Place,
    count: usize,
    /// How many places were ever used. Written under the lock.
    used: AtomicU32,
    /// The database with places whose generators may be gone: see [`Places::doubt`].
    doubtful: AtomicU32,
    /// Written by the backend that keeps a next block: the worker should flush. The worker takes it.
    flush_wanted: AtomicBool,
    /// Set when a generator with leased blocks is used.
    leases: AtomicBool,
    /// Where a generator that gets a place begins, and on which floor: see [`loan`]. Raised by the worker.
    attach_at: AtomicI64,
    attach_floor: AtomicI64,
}

impl Places {
    pub const fn size(count: usize) -> usize {
        count * size_of::<Place>()
    }

    /// `count` free places, at `memory`.
    ///
    /// # Safety
    /// There must be [`Places::size`] bytes, aligned as a [`Place`], that nobody else uses for as long as the server lives.
    pub unsafe fn new(lock: Lock, memory: *mut u8, count: usize) -> Self {
        let places: *mut Place = memory.cast();
        // SAFETY: as the caller says.
        (0..count).for_each(|number| unsafe { places.add(number).write(Place::default()) });
        Places {
            server: Words::default(),
            lock,
            places,
            count,
            used: AtomicU32::new(0),
            doubtful: AtomicU32::new(0),
            flush_wanted: AtomicBool::new(false),
            leases: AtomicBool::new(false),
            attach_at: AtomicI64::new(0),
            attach_floor: AtomicI64::new(0),
        }
    }

    /// All places, also free ones.
    fn all(&self) -> &[Place] {
        // SAFETY: written in `new`; all their words are atomic.
        unsafe { std::slice::from_raw_parts(self.places, self.count) }
    }

    /// The time at which a stream begins that has no words in shared memory.
    pub fn attach_at(&self) -> Micros {
        self.attach_at.load(Relaxed)
    }

    /// Worker only: raises all floors, also for generators to come: at `boot`, no stamp up to `at` is a loan.
    pub fn raise_floors(&self, at: Micros, boot: Micros) {
        let floor = loan::floor(at, boot);
        self.attach_floor.fetch_max(floor, Relaxed);
        self.for_each_clock(|words, _, _| words.raise_floor(floor));
    }

    /// Worker only: every generator goes on at or after `at`, also one to come. The streams of backends see it by themselves,
    /// in `attach_at`.
    pub fn raise_all(&self, at: Micros) {
        self.attach_at.fetch_max(at, Relaxed);
        self.for_each_clock(|words, layout, _| words.raise(layout.stamp_at(at).saturating_sub(1)));
    }

    /// The server generator goes on after an id from outside whose tick ends at `reach`.
    pub fn observe(&self, reach: Micros, boot: Micros) {
        self.server.raise_floor(loan::floor(reach, boot));
        self.server.raise(SERVER.stamp_at(reach).saturating_sub(1));
    }

    /// The end of the tick of the highest stamp of the generators of order `gossip`.
    pub fn gossip_reach(&self) -> Micros {
        let mut reach = 0;
        self.for_each_clock(|words, layout, order| {
            if order == Order::Gossip && words.last() != 0 {
                reach = reach.max(layout.tick_end(words.last()));
            }
        });
        reach
    }

    /// The generators of order `gossip` go on at or after `reach`, which is no loan.
    pub fn follow_gossip(&self, reach: Micros, boot: Micros) {
        let floor = loan::floor(reach, boot);
        self.for_each_clock(|words, layout, order| {
            if order == Order::Gossip {
                words.raise_floor(floor);
                words.raise(layout.stamp_at(reach).saturating_sub(1));
            }
        });
    }

    /// The place of the generator that stands on `sequence`, which the caller has locked against DROP. A new place is closed,
    /// and begins above everything that its generator can have given out.
    pub fn attach(
        &'static self,
        database: pg_sys::Oid,
        sequence: pg_sys::Oid,
        definition: &Definition,
        name: &[CString; 2],
    ) -> Result<&'static Place, Error> {
        let key = key(database, sequence);
        self.lock
            .exclusive(|| {
                let find = |key| self.ever_used().iter().find(|place| place.key.load(Relaxed) == key);
                let place = match find(key) {
                    Some(place) if place.definition() == *definition => {
                        place.set_name(name);
                        return Ok(place);
                    }
                    // A label was set, used and rolled back, and then another was set: it goes on above the ids of the first.
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
                place.words.reset(first.saturating_sub(1), self.attach_floor.load(Relaxed));
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
    fn ever_used(&self) -> &[Place] {
        &self.all()[..self.used.load(Acquire) as usize]
    }

    /// The places that have a generator.
    fn taken(&self) -> impl Iterator<Item = &Place> {
        self.ever_used().iter().filter(|place| place.key.load(Acquire) != 0)
    }

    /// A place that was never used. Under the lock.
    fn use_one_more(&self) -> Option<&Place> {
        let used = self.used.load(Relaxed);
        let place = self.all().get(used as usize)?;
        self.used.store(used + 1, Release);
        Some(place)
    }

    /// Worker only: closes the generators for whose layout `which` is true, until they are opened again. A counter skips the
    /// rest of its block. Blocks leased from the authority stay open: they are durable there, and have no machine id.
    pub fn close(&self, which: impl Fn(&Layout) -> bool) {
        if which(&SERVER) {
            self.server.close();
        }
        self.lock.shared(|| {
            self.taken()
                .filter(|place| which(&place.layout()) && !place.is_leased())
                .for_each(|place| place.words.close());
        });
    }

    /// How many generators have a place.
    pub fn generators_in_use(&self) -> usize {
        self.taken().count()
    }

    /// Whether a place was ever used.
    pub fn has_places(&self) -> bool {
        self.used.load(Relaxed) != 0
    }

    /// Notes that some generators with places in `database` may be gone. One database is noted; after a second one, all are
    /// in doubt.
    pub fn doubt(&self, database: pg_sys::Oid) {
        let own = database.to_u32();
        let other = |held| Some(if held == 0 || held == own { own } else { u32::MAX });
        _ = self.doubtful.fetch_update(Relaxed, Relaxed, other);
    }

    /// Whether `database` is in doubt; the caller looks now.
    pub fn take_doubt(&self, database: pg_sys::Oid) -> bool {
        let held = self.doubtful.load(Relaxed);
        // If all databases are in doubt, they stay so: another one may have places to look at.
        held == u32::MAX
            || held == database.to_u32() && self.doubtful.compare_exchange(held, 0, Relaxed, Relaxed).is_ok()
    }

    /// The sequences of `database` that have a place.
    pub fn attached_in(&self, database: pg_sys::Oid) -> Vec<pg_sys::Oid> {
        self.lock.shared(|| {
            let keys = self.ever_used().iter().map(|place| place.key.load(Relaxed)).filter(|key| *key != 0);
            let own = keys.filter(|key| key >> 32 == u64::from(database.to_u32()));
            own.map(|key| pg_sys::Oid::from(key as u32)).collect()
        })
    }

    /// How far the counter on `sequence`, which has `file`, ever went here by blocks of its own sequence; 0: no block was taken.
    pub fn counter_went_to(&self, database: pg_sys::Oid, sequence: pg_sys::Oid, file: u32) -> u64 {
        let key = key(database, sequence);
        self.lock.shared(|| {
            let is_it = |place: &&Place| place.key.load(Relaxed) == key && !place.is_leased();
            self.taken().find(is_it).map_or(0, |place| place.ever_went_to(file))
        })
    }

    /// Frees the places of these sequences of `database`, or of the whole database, for good. The transaction that dropped
    /// them has committed, or the one that made them has not; it still holds its locks, so nobody takes ids from them.
    pub fn free(&self, database: pg_sys::Oid, sequences: Option<&[pg_sys::Oid]>) {
        let dropped = |place: &&Place| {
            let held = place.key.load(Relaxed);
            held >> 32 == u64::from(database.to_u32())
                && sequences.is_none_or(|all| all.contains(&pg_sys::Oid::from(held as u32)))
        };
        self.lock.exclusive(|| {
            for place in self.ever_used().iter().filter(dropped) {
                place.words.reset(0, 0);
                place.set_next(None);
                place.key.store(0, Relaxed);
            }
        });
    }

    /// Worker only: calls `action` with the words, layout and order of every generator that the horizon covers, the server
    /// generator first. No place can change meanwhile.
    pub fn for_each_clock(&self, mut action: impl FnMut(&Words, &Layout, Order)) {
        action(&self.server, &SERVER, settings::order());
        self.lock.shared(|| {
            for place in self.taken().filter(|place| !place.layout().is_counter()) {
                action(&place.words, &place.layout(), place.definition().order);
            }
        });
    }

    /// The names by which the authority knows the generator with this number.
    pub fn generator_name(&self, number: u32) -> Named {
        match number.checked_sub(1).and_then(|index| self.all().get(index as usize)) {
            Some(place) => self.lock.shared(|| place.named()),
            None => {
                let definition = Definition { layout: SERVER, flush_every: 0, order: Order::Strict }.to_string();
                let definition = CString::new(definition).unwrap_or_default();
                Named { schema: CString::default(), name: CString::default(), definition }
            }
        }
    }

    /// The number of the generator that has this place.
    pub fn generator_number(&self, place: &Place) -> u32 {
        let index = self.all().iter().position(|other| std::ptr::eq(other, place));
        index.map_or(0, |index| index as u32 + 1)
    }

    /// Whether a generator with leased blocks was ever in use.
    pub fn has_leased(&self) -> bool {
        self.leases.load(Relaxed)
    }

    /// The generators with leased blocks.
    pub fn leased(&self) -> Vec<Leased<'_>> {
        self.lock.shared(|| {
            let leased = |place: &Place| place.key.load(Acquire) != 0 && place.is_leased();
            let numbered = (1..).zip(self.ever_used()).filter(|(_, place)| leased(place));
            numbered.map(|(number, place)| (number, place.key.load(Relaxed), place)).collect()
        })
    }

    /// Member worker only: changes the place of the generator with this number, if that still has `key`.
    pub fn change_leased(&self, number: u32, key: u64, change: impl FnOnce(&Place)) {
        self.lock.exclusive(|| {
            let place = &self.all()[number as usize - 1];
            if place.key.load(Relaxed) == key {
                change(place);
            }
        });
    }

    /// Keeps `next` as the block after the one in use.
    pub fn keep_next(&self, place: &Place, next: Next) {
        self.lock.exclusive(|| place.set_next(Some(next)));
    }

    /// Asks for the kept blocks to be made durable; the worker is to be woken.
    pub fn want_flush(&self) {
        self.flush_wanted.store(true, Release);
    }

    /// Takes the block that [`Places::keep_next`] kept.
    pub fn take_next(&self, place: &Place) -> Option<Next> {
        self.lock.exclusive(|| {
            let next = place.next();
            place.set_next(None);
            next
        })
    }

    /// Begins to use a durable block of `file`, for `machine`; if the counter was set back, or this is its first block here, anew
    /// from the block's start. False: it is refused, by what holds while nobody closes it.
    pub fn use_block(
        &self,
        place: &Place,
        file: u32,
        block: Next,
        machine: u64,
        set_back: bool,
        is_refused: impl Fn() -> bool,
    ) -> bool {
        self.lock.exclusive(|| {
            let layout = place.layout();
            if is_refused() {
                return false;
            }
            let before = place.file.load(Relaxed);
            place.note_set_back(file, block.first);
            if before != file {
                place.old_file.store(before, Relaxed);
                place.old_last.store(place.words.last(), Relaxed);
            }
            if set_back || before == 0 {
                place.words.reset(block.first - 1, 0);
            } else {
                place.words.raise(block.first - 1);
            }
            place.file.store(file, Release);
            place.words.open(&layout, block.limit, machine);
            true
        })
    }

    /// Worker only: makes kept blocks durable, and opens those that continue the block in use, so that no caller has to wait.
    /// False if a synchronous standby does not have one of them yet.
    pub fn flush_next(&self, flush: impl Fn(pg_sys::XLogRecPtr) -> bool) -> bool {
        if !self.flush_wanted.swap(false, AcqRel) {
            return true;
        }
        let mut all = true;
        for place in self.ever_used() {
            let kept = self.lock.shared(|| place.next());
            let Some(next) = kept else { continue };
            if !flush(next.record) {
                self.flush_wanted.store(true, Relaxed);
                all = false;
                continue;
            }
            self.lock.exclusive(|| {
                // Not one that was taken meanwhile, or of another generator: no two records end at the same place.
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
