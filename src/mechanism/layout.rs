//! What the bits of an id mean.
//!
//! ```text
//!  63 62                                    22 21          12 11             0
//! +--+----------------------------------------+--------------+----------------+
//! | 0| timestamp: ticks since the epoch       | machine id   | sequence       |
//! +--+----------------------------------------+--------------+----------------+
//!     `-------------- stamp, high part                        `-- low part
//! ```
//!
//! A *stamp* is timestamp and sequence side by side in one integer: what the allocator counts. With the machine id
//! between them it is an id.

use super::{Micros, SECOND};

/// Widths, epoch and tick of the ids of one generator. They never change once it has given out an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    timestamp_bits: u32,
    machine_bits: u32,
    sequence_bits: u32,
    /// Where timestamp 0 begins.
    epoch: Micros,
    /// How long one timestamp lasts.
    tick: Micros,
}

/// The layout of `idgen_next()`: 41 bits of milliseconds since 2025-01-01 00:00:00 UTC, 10 machine, 12 sequence.
/// It lasts until September 2094.
pub const SERVER: Layout = Layout::new(41, 10, 12, 1_735_689_600 * SECOND, SECOND / 1000);

impl Layout {
    /// A layout of `timestamp | machine | sequence`; the widths sum to at most 63 and the epoch is not before 1970.
    pub const fn new(timestamp: u32, machine: u32, sequence: u32, epoch: Micros, tick: Micros) -> Self {
        assert!(timestamp > 0 && machine < 32 && sequence < 32 && timestamp + machine + sequence <= 63);
        assert!(epoch >= 0 && tick > 0);
        Layout { timestamp_bits: timestamp, machine_bits: machine, sequence_bits: sequence, epoch, tick }
    }

    /// How many stamps there are: the first that can no longer be given.
    #[inline(always)]
    pub const fn stamps(&self) -> u64 {
        1 << (self.timestamp_bits + self.sequence_bits)
    }

    /// The largest machine id.
    #[inline(always)]
    pub const fn max_machine(&self) -> u64 {
        (1 << self.machine_bits) - 1
    }

    /// The largest sequence number of a tick.
    #[inline(always)]
    const fn max_sequence(&self) -> u64 {
        (1 << self.sequence_bits) - 1
    }

    /// Where timestamp 0 begins.
    pub const fn epoch(&self) -> Micros {
        self.epoch
    }

    /// The end of the last timestamp, saturating at the end of [`Micros`].
    pub const fn end(&self) -> Micros {
        self.epoch.saturating_add(self.tick.saturating_mul(1 << self.timestamp_bits))
    }

    /// The first stamp of the tick that holds `at`; before the epoch 0, after the end [`Layout::stamps`].
    ///
    /// One function for two questions, which is why they can never disagree: given a horizon, the stamps below it
    /// are those whose tick ends at or before the horizon, and may be given out; and a start begins at it.
    #[inline(always)]
    pub const fn stamp_at(&self, at: Micros) -> u64 {
        if at < self.epoch {
            return 0;
        }
        let ticks = (at - self.epoch) as u64 / self.tick as u64;
        if ticks >> self.timestamp_bits != 0 { self.stamps() } else { ticks << self.sequence_bits }
    }

    /// The last stamp of the tick that holds `at`.
    #[inline(always)]
    pub const fn last_stamp_at(&self, at: Micros) -> u64 {
        self.stamp_at(at) | self.max_sequence()
    }

    /// When the tick of `stamp` begins.
    #[inline(always)]
    pub const fn tick_start(&self, stamp: u64) -> Micros {
        self.epoch.saturating_add(self.tick.saturating_mul((stamp >> self.sequence_bits) as i64))
    }

    /// When the tick of `stamp` ends.
    pub const fn tick_end(&self, stamp: u64) -> Micros {
        self.tick_start(stamp).saturating_add(self.tick)
    }

    /// The id of `stamp` on `machine`. For `stamp` = [`Layout::stamps`] it is the first number above all ids, which
    /// is why bounds are `u64`.
    #[inline(always)]
    pub const fn id(&self, stamp: u64, machine: u64) -> u64 {
        let timestamp = stamp >> self.sequence_bits;
        (timestamp << self.machine_bits | machine) << self.sequence_bits | stamp & self.max_sequence()
    }

    /// The stamp of an id or of a bound.
    #[inline(always)]
    pub const fn stamp_of(&self, id: u64) -> u64 {
        id >> (self.machine_bits + self.sequence_bits) << self.sequence_bits | id & self.max_sequence()
    }

    /// The machine id in an id or in a bound.
    #[inline(always)]
    pub const fn machine_of(&self, id: u64) -> u64 {
        id >> self.sequence_bits & self.max_machine()
    }

    /// The sequence number in an id.
    pub const fn sequence_of(&self, id: u64) -> u64 {
        id & self.max_sequence()
    }

    /// When the tick in an id begins.
    pub const fn timestamp_of(&self, id: u64) -> Micros {
        self.tick_start(self.stamp_of(id))
    }

    /// The smallest and the largest id of the tick that holds `at`, over all machines; none outside the layout's time.
    pub fn ids_at(&self, at: Micros) -> Option<(u64, u64)> {
        let first = self.stamp_at(at);
        (at >= self.epoch && first < self.stamps())
            .then(|| (self.id(first, 0), self.id(self.last_stamp_at(at), self.max_machine())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layouts() -> impl Strategy<Value = Layout> {
        (1u32..=63, 0u32..=31, 0u32..=31, 0..4_000_000_000 * SECOND, 1..=SECOND)
            .prop_filter("at most 63 bits", |(t, m, s, ..)| t + m + s <= 63)
            .prop_map(|(t, m, s, epoch, tick)| Layout::new(t, m, s, epoch, tick))
    }

    #[test]
    fn the_server_layout_is_the_documented_one() {
        let id = SERVER.id(1 << 12 | 7, 3);
        assert_eq!(id, 1 << 22 | 3 << 12 | 7);
        assert_eq!(SERVER.timestamp_of(id), 1_735_689_600_001_000);
        assert_eq!(SERVER.end(), 3_934_712_855_552_000, "2094-09-07 15:47:35.552 UTC");
        assert_eq!((SERVER.max_machine(), SERVER.max_sequence()), (1023, 4095));
    }

    proptest! {
        #[test]
        fn an_id_decodes_to_what_it_was_made_of(l in layouts(), stamp: u64, machine: u64) {
            let (stamp, machine) = (stamp % l.stamps(), machine & l.max_machine());
            let id = l.id(stamp, machine);
            prop_assert!(id <= i64::MAX as u64);
            prop_assert_eq!((l.stamp_of(id), l.machine_of(id)), (stamp, machine));
        }

        #[test]
        fn ids_are_ordered_as_their_stamps_on_every_machine(l in layouts(), a: u64, b: u64, machine: u64) {
            let (a, b, machine) = (a % l.stamps(), b % l.stamps(), machine & l.max_machine());
            prop_assert_eq!(a.cmp(&b), l.id(a, machine).cmp(&l.id(b, machine)));
        }

        #[test]
        fn the_bound_at_the_end_is_above_every_id_and_keeps_its_machine(l in layouts(), machine: u64) {
            let machine = machine & l.max_machine();
            let bound = l.id(l.stamps(), machine);
            prop_assert!(bound > l.id(l.stamps() - 1, l.max_machine()));
            prop_assert_eq!((l.stamp_of(bound), l.machine_of(bound)), (l.stamps(), machine));
        }

        #[test]
        fn stamps_below_a_horizon_are_in_ticks_that_end_by_it(l in layouts(), at in 0..8_000_000_000 * SECOND) {
            let first = l.stamp_at(at);
            prop_assert!(first == 0 || l.tick_end(first - 1) <= at);
            prop_assert!(first >= l.stamps() || at < l.tick_end(first));
        }

        #[test]
        fn later_horizons_never_mean_fewer_stamps(l in layouts(), a: i64, b: i64) {
            prop_assert!(l.stamp_at(a.min(b)) <= l.stamp_at(a.max(b)));
        }

        #[test]
        fn the_ids_of_an_instant_enclose_its_tick(l in layouts(), at in 0..8_000_000_000 * SECOND, machine: u64) {
            match l.ids_at(at) {
                None => prop_assert!(at < l.epoch() || at >= l.end()),
                Some((min, max)) => {
                    let id = l.id(l.stamp_at(at), machine & l.max_machine());
                    prop_assert!(min <= id && id <= max);
                    prop_assert!(l.timestamp_of(min) <= at && at < l.tick_end(l.stamp_of(max)));
                    prop_assert_eq!(l.timestamp_of(min), l.timestamp_of(max));
                }
            }
        }
    }
}
