//! What the bits of an id mean.
//!
//! ```text
//!  63 62                                    22 21          12 11             0
//! +--+----------------------------------------+--------------+----------------+
//! | 0| timestamp: ticks since the epoch       | machine id   | sequence       |   the server's layout
//! +--+----------------------------------------+--------------+----------------+
//!     `-------------- stamp, high part                        `-- low part
//! ```
//!
//! A *stamp* is timestamp and sequence side by side in one integer: what the allocator counts. With machine id and
//! backend number put in their places it is an id. The timestamp is highest; below it machine, backend and sequence
//! stand in any order, and each width may be 0. Without timestamp bits the stamp is a counter.

use super::{Micros, SECOND};
use std::{fmt, str::FromStr};

/// Some bits of an id: `bits` of them, the lowest at `shift`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Field {
    bits: u32,
    shift: u32,
}

impl Field {
    const fn max(self) -> u64 {
        (1 << self.bits) - 1
    }

    #[inline(always)]
    const fn put(self, value: u64) -> u64 {
        value << self.shift
    }

    #[inline(always)]
    const fn get(self, id: u64) -> u64 {
        id >> self.shift & self.max()
    }
}

/// Fields, epoch and tick of the ids of one generator. They never change once it has given out an id.
///
/// Its text form names the fields from the highest down, then the epoch and the tick in microseconds:
/// `timestamp:41 machine:10 sequence:12 epoch:1735689600000000 tick:1000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    timestamp: Field,
    machine: Field,
    backend: Field,
    sequence: Field,
    /// Where timestamp 0 begins.
    epoch: Micros,
    /// How long one timestamp lasts.
    tick: Micros,
}

/// The layout of `idgen_next()`: 41 bits of milliseconds since 2025-01-01 00:00:00 UTC, 10 machine, 12 sequence.
/// It lasts until September 2094.
pub const SERVER: Layout = Layout {
    timestamp: Field { bits: 41, shift: 22 },
    machine: Field { bits: 10, shift: 12 },
    backend: Field { bits: 0, shift: 0 },
    sequence: Field { bits: 12, shift: 0 },
    epoch: 1_735_689_600 * SECOND,
    tick: SECOND / 1000,
};

impl Layout {
    /// Whether ids count instead of telling a time.
    #[inline(always)]
    pub const fn is_counter(&self) -> bool {
        self.timestamp.bits == 0
    }

    /// Whether each backend has a stream of its own.
    #[inline(always)]
    pub const fn has_backend(&self) -> bool {
        self.backend.bits != 0
    }

    /// How many stamps there are: the first that can no longer be given.
    #[inline(always)]
    pub const fn stamps(&self) -> u64 {
        1 << (self.timestamp.bits + self.sequence.bits)
    }

    /// The largest machine id.
    #[inline(always)]
    pub const fn max_machine(&self) -> u64 {
        self.machine.max()
    }

    /// The largest backend number.
    pub const fn max_backend(&self) -> u64 {
        self.backend.max()
    }

    /// Where timestamp 0 begins.
    #[inline(always)]
    pub const fn epoch(&self) -> Micros {
        self.epoch
    }

    /// How long one timestamp lasts.
    pub const fn tick(&self) -> Micros {
        self.tick
    }

    /// The end of the last timestamp, which may be beyond what [`Micros`] can hold.
    pub const fn end(&self) -> i128 {
        self.epoch as i128 + self.tick as i128 * (self.timestamp.max() as i128 + 1)
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
        if ticks > self.timestamp.max() { self.stamps() } else { ticks << self.sequence.bits }
    }

    /// The last stamp of the tick that holds `at`.
    #[inline(always)]
    pub const fn last_stamp_at(&self, at: Micros) -> u64 {
        self.stamp_at(at) | self.sequence.max()
    }

    /// When the tick of `stamp` begins.
    #[inline(always)]
    pub const fn tick_start(&self, stamp: u64) -> Micros {
        self.epoch.saturating_add(self.tick.saturating_mul((stamp >> self.sequence.bits) as i64))
    }

    /// When the tick of `stamp` ends.
    #[inline(always)]
    pub const fn tick_end(&self, stamp: u64) -> Micros {
        self.tick_start(stamp).saturating_add(self.tick)
    }

    /// The id of `stamp` on `machine`. For `stamp` = [`Layout::stamps`] it is a number above all ids, which is why
    /// bounds are `u64`.
    #[inline(always)]
    pub const fn id(&self, stamp: u64, machine: u64) -> u64 {
        self.timestamp.put(stamp >> self.sequence.bits)
            | self.machine.put(machine)
            | self.sequence.put(stamp & self.sequence.max())
    }

    /// What a backend adds to its ids.
    pub const fn backend_part(&self, backend: u64) -> u64 {
        self.backend.put(backend)
    }

    /// The stamp of an id or of a bound.
    #[inline(always)]
    pub const fn stamp_of(&self, id: u64) -> u64 {
        id >> self.timestamp.shift << self.sequence.bits | self.sequence.get(id)
    }

    /// The machine id in an id or in a bound.
    #[inline(always)]
    pub const fn machine_of(&self, id: u64) -> u64 {
        self.machine.get(id)
    }

    /// The backend number in an id.
    pub const fn backend_of(&self, id: u64) -> u64 {
        self.backend.get(id)
    }

    /// The sequence number in an id; of a counter, the whole count.
    pub const fn sequence_of(&self, id: u64) -> u64 {
        self.sequence.get(id)
    }

    /// When the tick in an id begins; none in a counter.
    pub fn timestamp_of(&self, id: u64) -> Option<Micros> {
        (!self.is_counter()).then(|| self.tick_start(self.stamp_of(id)))
    }

    /// The smallest and the largest id of the tick that holds `at`, over all machines; none outside the layout's time.
    #[inline(always)]
    pub fn ids_at(&self, at: Micros) -> Option<(u64, u64)> {
        let first = self.stamp_at(at);
        (!self.is_counter() && at >= self.epoch && first < self.stamps()).then(|| {
            let last = self.id(self.last_stamp_at(at), self.max_machine());
            (self.id(first, 0), last | self.backend.put(self.backend.max()))
        })
    }

    /// What every id of the tick that holds `at`, and of later ones, is at or above, and no earlier one is. Outside the
    /// layout's time the nearest number of which that is true.
    #[inline(always)]
    pub fn min_id_at(&self, at: Micros) -> u64 {
        match self.ids_at(at) {
            Some((min, _)) => min,
            None if at < self.epoch => 0,
            None => (self.max_id() + 1).min(i64::MAX as u64),
        }
    }

    /// What every id of the tick that holds `at`, and of earlier ones, is at or below, and no later one is. Outside the
    /// layout's time the nearest number of which that is true; -1: below all ids.
    #[inline(always)]
    pub fn max_id_at(&self, at: Micros) -> i64 {
        match self.ids_at(at) {
            Some((_, max)) => max as i64,
            None if at < self.epoch => -1,
            None => self.max_id() as i64,
        }
    }

    /// The largest id that can be given out.
    pub fn max_id(&self) -> u64 {
        self.id(self.stamps() - 1, self.max_machine()) | self.backend.put(self.backend.max())
    }

    /// The layout in three words, for shared memory.
    pub const fn to_words(&self) -> [u64; 3] {
        const fn pack(fields: [Field; 4]) -> u64 {
            let mut packed = 0;
            let mut i = 0;
            while i < fields.len() {
                packed = packed << 16 | (fields[i].bits << 8 | fields[i].shift) as u64;
                i += 1;
            }
            packed
        }
        [pack([self.timestamp, self.machine, self.backend, self.sequence]), self.epoch as u64, self.tick as u64]
    }

    /// The layout that [`Layout::to_words`] was called on.
    pub const fn from_words(words: [u64; 3]) -> Self {
        const fn field(packed: u64, place: u32) -> Field {
            Field { bits: (packed >> (16 * place + 8) & 0xff) as u32, shift: (packed >> (16 * place) & 0xff) as u32 }
        }
        Layout {
            timestamp: field(words[0], 3),
            machine: field(words[0], 2),
            backend: field(words[0], 1),
            sequence: field(words[0], 0),
            epoch: words[1] as Micros,
            tick: words[2] as Micros,
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = [
            ("timestamp", self.timestamp),
            ("machine", self.machine),
            ("backend", self.backend),
            (if self.is_counter() { "counter" } else { "sequence" }, self.sequence),
        ];
        fields.sort_by_key(|(_, field)| std::cmp::Reverse(field.shift));
        for (i, (name, field)) in fields.iter().filter(|(_, field)| field.bits > 0).enumerate() {
            write!(f, "{}{name}:{}", if i == 0 { "" } else { " " }, field.bits)?;
        }
        if !self.is_counter() {
            write!(f, " epoch:{} tick:{}", self.epoch, self.tick)?;
        }
        Ok(())
    }
}

/// Reads the text form; an error says in a clause what is wrong with it.
impl FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for word in text.split_ascii_whitespace() {
            let (name, value) =
                word.split_once(':').ok_or_else(|| format!("\"{word}\" is not of the form name:number"))?;
            if names.contains(&name) {
                return Err(format!("\"{name}\" is given twice"));
            }
            names.push(name);
            values.push(value.parse::<u64>().map_err(|_| format!("\"{value}\" is not a number"))?);
        }
        let take = |name: &str| names.iter().position(|n| *n == name).map(|i| values[i]);
        let is_counter = take("counter").is_some();
        let fields =
            if is_counter { &["counter", "machine"][..] } else { &["timestamp", "machine", "backend", "sequence"] };
        let settings = if is_counter { &[][..] } else { &["epoch", "tick"] };
        if names.first() != fields.first() {
            return Err("the first field is neither timestamp nor counter".into());
        }
        let mut found = [Field::default(); 4];
        let mut shift = 0;
        for (name, bits) in names.iter().zip(&values).rev() {
            if let Some(field) = fields.iter().position(|field| field == name) {
                if *bits == 0 || *bits > 63 || shift + *bits as u32 > 63 {
                    return Err("the fields do not have 1 to 63 bits in all".into());
                }
                found[field] = Field { bits: *bits as u32, shift };
                shift += *bits as u32;
            } else if !settings.contains(name) {
                return Err(format!("\"{name}\" has no meaning here"));
            }
        }
        if found[1].bits > 31 || found[2].bits > 31 {
            return Err("machine and backend have at most 31 bits each".into());
        }
        if is_counter {
            let [counter, machine, ..] = found;
            let none = Field { bits: 0, shift };
            return Ok(Layout {
                timestamp: none,
                machine,
                backend: Field::default(),
                sequence: counter,
                epoch: 0,
                tick: 1,
            });
        }
        let [timestamp, machine, backend, sequence] = found;
        let setting = |name: &str, min: u64, max: Micros| {
            let value = take(name).ok_or_else(|| format!("{name} is missing"))?;
            let fits = (min..=max as u64).contains(&value);
            fits.then_some(value as Micros).ok_or_else(|| format!("{name} is not between {min} and {max} microseconds"))
        };
        // The horizon must reach the end of the tick that it permits: a tick adds itself to how far that is ahead.
        let (epoch, tick) = (setting("epoch", 0, 253_402_300_800 * SECOND)?, setting("tick", 1, SECOND)?);
        Ok(Layout { timestamp, machine, backend, sequence, epoch, tick })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Layouts with fields in any order.
    fn layouts() -> impl Strategy<Value = Layout> {
        let fields = (1u32..=63, 0u32..=31, 0u32..=31, 0u32..=40)
            .prop_filter("at most 63 bits", |(t, m, b, s)| t + m + b + s <= 63)
            .prop_flat_map(|(t, m, b, s)| {
                let low = vec![("machine", m), ("backend", b), ("sequence", s)];
                (Just(t), Just(low).prop_shuffle(), 0..4_000_000_000 * SECOND, 1..=SECOND)
            });
        fields.prop_map(|(t, low, epoch, tick)| {
            let low: String = low.iter().filter(|f| f.1 > 0).map(|(name, bits)| format!("{name}:{bits} ")).collect();
            format!("timestamp:{t} {low}epoch:{epoch} tick:{tick}").parse().unwrap()
        })
    }

    #[test]
    fn the_server_layout_is_the_documented_one() {
        let id = SERVER.id(1 << 12 | 7, 3);
        assert_eq!(id, 1 << 22 | 3 << 12 | 7);
        assert_eq!(SERVER.timestamp_of(id), Some(1_735_689_600_001_000));
        assert_eq!(SERVER.end(), 3_934_712_855_552_000, "2094-09-07 15:47:35.552 UTC");
        assert_eq!((SERVER.max_machine(), SERVER.sequence.max()), (1023, 4095));
        assert_eq!(SERVER.to_string(), "timestamp:41 machine:10 sequence:12 epoch:1735689600000000 tick:1000");
    }

    #[test]
    fn a_counter_is_a_stamp_with_the_machine_below() {
        let counter: Layout = "counter:53 machine:10".parse().unwrap();
        assert!(counter.is_counter());
        assert_eq!((counter.id(7, 3), counter.stamps()), (7 << 10 | 3, 1 << 53));
        assert_eq!((counter.stamp_of(7 << 10 | 3), counter.machine_of(7 << 10 | 3)), (7, 3));
        assert_eq!((counter.timestamp_of(7 << 10), counter.ids_at(7)), (None, None));
        assert_eq!(counter.to_string(), "counter:53 machine:10");
    }

    #[test]
    fn a_wrong_text_is_refused_and_says_why() {
        for (text, why) in [
            ("", "the first field is neither timestamp nor counter"),
            ("timestamp", "\"timestamp\" is not of the form name:number"),
            ("timestamp:x", "\"x\" is not a number"),
            ("timestamp:-1", "\"-1\" is not a number"),
            ("timestamp:0 epoch:0 tick:1", "the fields do not have 1 to 63 bits in all"),
            ("timestamp:41 machine:10 sequence:13 epoch:0 tick:1", "the fields do not have 1 to 63 bits in all"),
            ("timestamp:18446744073709551615 epoch:0 tick:1", "the fields do not have 1 to 63 bits in all"),
            ("timestamp:41 machine:1 machine:1 epoch:0 tick:1", "\"machine\" is given twice"),
            ("timestamp:20 machine:32 epoch:0 tick:1", "machine and backend have at most 31 bits each"),
            ("timestamp:41 tick:1", "epoch is missing"),
            ("timestamp:41 epoch:0 tick:0", "tick is not between 1 and 1000000 microseconds"),
            ("counter:53 sequence:10", "\"sequence\" has no meaning here"),
            ("machine:10 timestamp:41 epoch:0 tick:1", "the first field is neither timestamp nor counter"),
        ] {
            assert_eq!(text.parse::<Layout>().unwrap_err(), why, "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_id_decodes_to_what_it_was_made_of(l in layouts(), stamp: u64, machine: u64) {
            let (stamp, machine) = (stamp % l.stamps(), machine & l.max_machine());
            let id = l.id(stamp, machine);
            prop_assert!(id <= i64::MAX as u64);
            prop_assert_eq!((l.stamp_of(id), l.machine_of(id)), (stamp, machine));
            let backend = !machine & l.max_backend();
            let with_backend = id | l.backend_part(backend);
            prop_assert_eq!((l.stamp_of(with_backend), l.backend_of(with_backend)), (stamp, backend));
            prop_assert!(with_backend <= l.max_id());
        }

        #[test]
        fn text_and_words_keep_a_layout(l in layouts()) {
            prop_assert_eq!(l.to_string().parse(), Ok(l));
            prop_assert_eq!(Layout::from_words(l.to_words()), l);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[a-z:0-9 ]{0,60}") {
            if let Ok(l) = text.parse::<Layout>() {
                prop_assert!(l.max_id() <= i64::MAX as u64);
            }
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
        fn bounds_of_any_time_keep_what_is_since_and_what_is_up_to(l in layouts(), at: i64, id: u64) {
            let id = id & l.max_id();
            if let Some(of) = l.timestamp_of(id) {
                // The largest id of all is the nearest number where nothing is above it.
                let last = id == l.max_id() && id == i64::MAX as u64;
                let since = of >= at || at < l.tick_end(l.stamp_of(id));
                prop_assert!(last || (id >= l.min_id_at(at)) == since);
                prop_assert_eq!(id as i64 <= l.max_id_at(at), of <= at);
            }
        }

        #[test]
        fn the_ids_of_an_instant_enclose_its_tick(l in layouts(), at in 0..8_000_000_000 * SECOND, machine: u64) {
            match l.ids_at(at) {
                None => prop_assert!(at < l.epoch() || i128::from(at) >= l.end()),
                Some((min, max)) => {
                    let id = l.id(l.stamp_at(at), machine & l.max_machine()) | l.backend_part(machine & l.max_backend());
                    prop_assert!(min <= id && id <= max);
                    prop_assert!(l.timestamp_of(min).unwrap() <= at && at < l.tick_end(l.stamp_of(max)));
                    prop_assert_eq!(l.timestamp_of(min), l.timestamp_of(max));
                }
            }
        }
    }
}
