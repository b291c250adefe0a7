//! The words of a generator, and the one step that gives out ids.
//!
//! | word    | meaning                                 | who writes it                           | who reads it |
//! |---------|-----------------------------------------|-----------------------------------------|--------------|
//! | `last`  | the last stamp given out                | every caller                            | everyone     |
//! | `bound` | the first id not to be given, 0: closed | the worker; of a counter, the backend that takes a block | everyone |
//! | `floor` | up to where a stamp is no loan          | the worker; sessions that observe an id | callers that would wait |
//!
//! `bound` is written as an id: its machine bits are the machine id in force, the rest is the limit in stamps, so
//! that one load reads both consistently. `last` and `bound` never wrap: both stay at or below [`Layout::stamps`].
//!
//! A caller reads `last`, then `bound`, decides, then exchanges `last`. A pause between the steps is harmless: the
//! bound only rises, and whoever would take ids back raises `last` first, so that the exchange fails.

use super::{Micros, layout::Layout};
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The words of one generator in shared memory.
#[derive(Debug, Default)]
pub struct Words {
    /// Acquire on load, so that `bound` is read after it; AcqRel on exchange. Contended: a cache line of its own.
    last: CachePadded<AtomicU64>,
    /// Release on store: whoever sees the new bound sees the `last` that the worker raised before it.
    bound: AtomicU64,
    /// See [`super::loan`]. Only looked at by a caller that would have to wait. Relaxed: it permits nothing.
    floor: AtomicI64,
}

/// Stamps `first .. first + count`, given to this caller and to nobody else, under `machine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub first: u64,
    pub count: u64,
    pub machine: u64,
}

/// Why no id was given. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The next stamp is not below the bound, or the generator is closed.
    Bound,
    /// The next stamp's tick begins after the latest that the caller allowed: it is due at `due`.
    Loan { due: Micros },
}

impl Words {
    /// Takes up to `want` (at least 1) consecutive stamps: above every stamp given before, not before the tick of
    /// `now`, below the bound, and in ticks that begin at or before `latest`.
    ///
    /// The checks come before the exchange: after it, a refused call would burn stamps.
    #[inline(always)]
    pub fn take(&self, layout: &Layout, now: Micros, latest: Micros, want: u64) -> Result<Run, Refusal> {
        self.take_after::<true>(&self.last, layout, now, latest, want)
    }

    /// As [`Words::take`], but for the stream whose `last` is `after`. Not `SHARED`: only one backend writes that word, so a
    /// plain store is enough.
    #[inline(always)]
    pub fn take_after<const SHARED: bool>(
        &self,
        after: &AtomicU64,
        layout: &Layout,
        now: Micros,
        latest: Micros,
        want: u64,
    ) -> Result<Run, Refusal> {
        loop {
            let last = after.load(Ordering::Acquire);
            let bound = self.bound.load(Ordering::Acquire);
            let first = if now < layout.tick_end(last) { last + 1 } else { stamp_past(layout, now).max(last + 1) };
            let machine = layout.machine_of(bound);
            // Ids of one machine id are in the order of their stamps.
            if layout.id(first, machine) >= bound {
                return Err(Refusal::Bound);
            }
            let due = layout.tick_start(first);
            if due > latest {
                return Err(Refusal::Loan { due });
            }
            // A run may not reach into ticks that a single call would have been refused.
            let count = if want == 1 {
                1
            } else {
                let limit = layout.stamp_of(bound);
                want.min(limit - first).min(layout.last_stamp_at(latest) - first + 1)
            };
            let next = first + count - 1;
            if !SHARED {
                after.store(next, Ordering::Relaxed);
            } else if after.compare_exchange_weak(last, next, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue;
            }
            return Ok(Run { first, count, machine });
        }
    }

    /// The last stamp given out or skipped.
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// The stamps below which ids are given out; 0 when closed.
    pub fn limit(&self, layout: &Layout) -> u64 {
        layout.stamp_of(self.bound.load(Ordering::Acquire))
    }

    /// The machine id in force; 0 when closed.
    pub fn machine(&self, layout: &Layout) -> u64 {
        layout.machine_of(self.bound.load(Ordering::Acquire))
    }

    /// Makes sure that no stamp up to `stamp` is given any more. Called before a bound is opened.
    pub fn raise(&self, stamp: u64) {
        self.last.fetch_max(stamp, Ordering::AcqRel);
    }

    /// Up to where a stamp is no loan: see [`super::loan`].
    pub fn floor(&self) -> Micros {
        self.floor.load(Ordering::Relaxed)
    }

    /// Raises the floor; a lower one changes nothing.
    pub fn raise_floor(&self, floor: Micros) {
        self.floor.fetch_max(floor, Ordering::Relaxed);
    }

    /// Starts over after `stamp`, on `floor`, closed. Only while nobody can take from these words, or for a counter that its
    /// owner has set back.
    pub fn reset(&self, stamp: u64, floor: Micros) {
        self.bound.store(0, Ordering::Release);
        self.last.store(stamp, Ordering::Release);
        self.floor.store(floor, Ordering::Relaxed);
    }

    /// Permits the ids of `machine` with stamps below `limit`; the horizon or the block that covers them is durable. Worker
    /// only; for a counter, the backend that holds the lock for a new block.
    pub fn open(&self, layout: &Layout, limit: u64, machine: u64) {
        self.bound.store(layout.id(limit, machine), Ordering::Release);
    }

    /// Permits nothing. Before another machine id is opened, [`Words::leave_tick`] must follow.
    pub fn close(&self) {
        self.bound.store(0, Ordering::Release);
    }

    /// Makes the next stamp begin another tick: within one tick, the ids of two machine ids are not in the order of their
    /// stamps. One atomic step, so that no caller comes in between.
    pub fn leave_tick(&self, layout: &Layout) {
        leave_tick(&self.last, layout);
    }

    /// Permits more ids of the same machine id. For a counter, with idgen's lock held.
    pub fn extend(&self, layout: &Layout, limit: u64) {
        let machine = layout.machine_of(self.bound.load(Ordering::Acquire));
        self.open(layout, limit, machine);
    }
}

/// The stamp of a clock that is past the tick of the last stamp. Not inlined: the compiler would divide in every call and
/// then choose, and the exchange would wait for the division.
#[cold]
#[inline(never)]
fn stamp_past(layout: &Layout, now: Micros) -> u64 {
    layout.stamp_at(now)
}

/// As [`Words::leave_tick`], for the stream that has this `last`. It always moves, so that the exchange fails for a caller
/// that has read the bound before it was closed. Only a stream that never gave a stamp stays where it is.
pub fn leave_tick(last: &AtomicU64, layout: &Layout) {
    _ = last.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| {
        (last != 0).then(|| layout.stamp_at(layout.tick_end(last + 1)).saturating_sub(1).max(last))
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mechanism::{SECOND, layout::SERVER};
    use proptest::prelude::*;

    const NOW: Micros = 1_800_000_000 * SECOND;

    fn opened(until: Micros) -> Words {
        let words = Words::default();
        words.open(&SERVER, SERVER.stamp_at(until), 5);
        words
    }

    #[test]
    fn a_closed_generator_gives_nothing() {
        let words = Words::default();
        assert_eq!(words.take(&SERVER, NOW, NOW, 1), Err(Refusal::Bound));
        assert_eq!(words.last(), 0);
    }

    #[test]
    fn the_first_id_of_a_tick_has_sequence_0_and_the_machine_of_the_bound() {
        let run = opened(NOW + SECOND).take(&SERVER, NOW, NOW, 1).unwrap();
        assert_eq!(run, Run { first: SERVER.stamp_at(NOW), count: 1, machine: 5 });
    }

    #[test]
    fn a_clock_that_stands_or_goes_back_does_not_stop_or_repeat() {
        let words = opened(NOW + SECOND);
        let a = words.take(&SERVER, NOW, NOW, 1).unwrap().first;
        let b = words.take(&SERVER, NOW - 3600 * SECOND, NOW, 1).unwrap().first;
        assert_eq!(b, a + 1);
    }

    #[test]
    fn a_refused_loan_says_when_it_is_due_and_burns_nothing() {
        let words = opened(NOW + SECOND);
        words.raise(SERVER.stamp_at(NOW + 5000) - 1);
        let before = words.last();
        assert_eq!(words.take(&SERVER, NOW, NOW, 1), Err(Refusal::Loan { due: NOW + 5000 }));
        assert_eq!(words.last(), before);
        assert_eq!(words.take(&SERVER, NOW, NOW + 5000, 1).unwrap().first, before + 1);
    }

    #[test]
    fn a_stream_of_its_own_leaves_the_shared_word_alone() {
        let words = opened(NOW + SECOND);
        let own = AtomicU64::new(0);
        let a = words.take_after::<false>(&own, &SERVER, NOW, NOW, 1).unwrap().first;
        let b = words.take_after::<false>(&own, &SERVER, NOW, NOW, 1).unwrap().first;
        assert_eq!((b, own.into_inner(), words.last()), (a + 1, a + 1, 0));
    }

    #[test]
    fn after_a_tick_was_left_another_machine_goes_on_in_the_next() {
        let words = opened(NOW + SECOND);
        let before = words.take(&SERVER, NOW, NOW + SECOND, 5).unwrap();
        words.close();
        assert_eq!(words.take(&SERVER, NOW, NOW + SECOND, 1), Err(Refusal::Bound));
        words.leave_tick(&SERVER);
        words.open(&SERVER, SERVER.stamp_at(NOW + SECOND), 2);
        let after = words.take(&SERVER, NOW, NOW + SECOND, 1).unwrap();
        assert_eq!(SERVER.tick_start(after.first), SERVER.tick_end(before.first));
        assert!(SERVER.id(after.first, after.machine) > SERVER.id(before.first + 4, before.machine));
        let unused = Words::default();
        unused.leave_tick(&SERVER);
        assert_eq!(unused.last(), 0);
    }

    #[test]
    fn the_last_stamp_of_the_layout_is_given_and_nothing_after_it() {
        let words = Words::default();
        words.open(&SERVER, SERVER.stamps(), 0);
        words.raise(SERVER.stamps() - 2);
        assert_eq!(words.take(&SERVER, NOW, i64::MAX, 9).unwrap().count, 1);
        assert_eq!(words.take(&SERVER, i64::MAX, i64::MAX, 9), Err(Refusal::Bound));
    }

    proptest! {
        #[test]
        fn runs_follow_each_other_and_stay_below_bound_and_loan(
            calls in proptest::collection::vec((-5000i64..5000, 0i64..3000, 1u64..20_000), 1..50),
            open in 1i64..20_000,
        ) {
            let words = opened(NOW + open);
            let mut next = 1;
            for (step, borrow, want) in calls {
                let (now, latest) = (NOW + step, NOW + step + borrow);
                if let Ok(run) = words.take(&SERVER, now, latest, want) {
                    let end = run.first + run.count;
                    prop_assert!(run.first == SERVER.stamp_at(now).max(next) && run.count >= 1 && run.count <= want);
                    prop_assert!(end <= SERVER.stamp_at(NOW + open));
                    prop_assert!(SERVER.tick_start(end - 1) <= latest);
                    next = end;
                }
            }
        }
    }
}
