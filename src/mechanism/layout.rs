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

    /// How many stamps there are, which is also the first number that is no stamp.
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
    /// One function for two questions, so that the answers never disagree: the stamps below it are those whose tick ends at
    /// or before `at`. A horizon permits those, and a start begins at it.
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

    /// The lower edge of the tick that holds `at`: the ids of this tick and of later ones are at or above it, and those of
    /// earlier ones below. Outside the layout's time, the nearest number for which that is true.
    #[inline(always)]
    pub fn min_id_at(&self, at: Micros) -> u64 {
        match self.ids_at(at) {
            Some((min, _)) => min,
            None if at < self.epoch => 0,
            None => (self.max_id() + 1).min(i64::MAX as u64),
        }
    }

    /// The upper edge of the tick that holds `at`: the ids of this tick and of earlier ones are at or below it, and those of
    /// later ones above. Outside the layout's time, the nearest number for which that is true; -1: below all ids.
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
        // At most a second: a horizon reaches the end of each tick that it permits, so a tick adds to its distance.
        let (epoch, tick) = (setting("epoch", 0, 253_402_300_800 * SECOND)?, setting("tick", 1, SECOND)?);
        Ok(Layout { timestamp, machine, backend, sequence, epoch, tick })
    }
}

#[cfg(test)]
mod tests;
