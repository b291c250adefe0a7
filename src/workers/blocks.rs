//! Blocks on a member: counters of order `block` get their values from the authority, ahead of need. The member worker leases
//! each block and leaves it where a counter keeps its next one; callers go from block to block by themselves.

use crate::{
    mechanism::Micros,
    postgres::{sequence::Next, settings},
    protocol::blocks::{Block, Blocks},
    shared::{Shared, place::Refusal},
};
use std::{collections::BTreeMap, ops::RangeInclusive};

/// How long a generator is not asked for after the authority refused it: an eighth of the time that it has refused it, at
/// least this, and at most [`LONG_PAUSE`].
const PAUSE: Micros = 1_000_000;

/// How long none is asked for after one was locked there: as long as the question waited for the lock, with all others behind it.
const REST: Micros = 250_000;

/// The same for a generator that was set back at the authority.
const LONG_PAUSE: Micros = 10_000_000;

/// A question for a block of the generator that has this number and this key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ask {
    pub generator: u32,
    key: u64,
}

/// The state of one generator's lease.
struct Lease {
    key: u64,
    blocks: Blocks,
    asked: bool,
    not_before: Micros,
    /// Since when the authority refuses, if it does.
    refused: Option<Micros>,
}

/// The leases of this server, by the number of the generator.
#[derive(Default)]
pub struct Leases {
    leases: BTreeMap<u32, Lease>,
    /// The one that was asked for last.
    last: u32,
    not_before: Micros,
}

fn sizes() -> RangeInclusive<u64> {
    let least = settings::MIN_BLOCK.get() as u64;
    least..=least.max(settings::MAX_BLOCK.get() as u64)
}

impl Leases {
    /// Looks which generators there are, and which of them have used up their next block.
    pub fn collect(&mut self, shared: &Shared, now: Micros) {
        if !shared.places.has_leased() {
            return;
        }
        let leased = shared.places.leased();
        self.leases.retain(|number, lease| leased.iter().any(|(other, key, _)| number == other && *key == lease.key));
        for (number, key, place) in leased {
            let lease = self.leases.entry(number).or_insert_with(|| Lease {
                key,
                blocks: Blocks::new(&sizes()),
                asked: false,
                not_before: 0,
                refused: None,
            });
            if place.next().is_none() {
                lease.blocks.advance(now, &sizes());
            }
        }
    }

    /// The next question, and how many values to ask for. One at a time, so that strict ids and machine ids come in between, and
    /// each generator in turn.
    fn wish(&self, now: Micros) -> Option<(Ask, u64)> {
        if now < self.not_before || self.leases.values().any(|lease| lease.asked) {
            return None;
        }
        let in_turn = self.leases.range(self.last + 1..).chain(self.leases.range(..=self.last));
        let mut due = in_turn.filter(|(_, lease)| now >= lease.not_before);
        due.find_map(|(number, lease)| Some((Ask { generator: *number, key: lease.key }, lease.blocks.want()?)))
    }

    /// Whether there is something to ask.
    pub fn has_wishes(&self, now: Micros) -> bool {
        self.wish(now).is_some()
    }

    /// The next question, and how many values to ask for; from then on it is open.
    pub fn next(&mut self, now: Micros) -> Option<(Ask, u64)> {
        let (ask, want) = self.wish(now)?;
        self.of(ask)?.asked = true;
        self.last = ask.generator;
        Some((ask, want))
    }

    fn of(&mut self, ask: Ask) -> Option<&mut Lease> {
        self.leases.get_mut(&ask.generator).filter(|lease| lease.key == ask.key)
    }

    /// Values `first .. limit` are this server's for good. False: it had some of them before, and takes none of them.
    pub fn answered(&mut self, shared: &Shared, ask: Ask, first: u64, limit: u64, now: Micros) -> bool {
        let Some(lease) = self.of(ask) else { return true };
        (lease.asked, lease.refused) = (false, None);
        let is_new = lease.blocks.accept(Block { first, count: limit.saturating_sub(first) });
        if is_new {
            shared.places.change_leased(ask.generator, ask.key, |place| {
                place.set_refusal(Refusal::None);
                place.set_next(Some(Next { first, limit, record: 0, file: 0 }));
            });
            shared.horizon.wake_waiting();
        } else {
            // Each question uses up values at the authority.
            lease.not_before = now + LONG_PAUSE;
        }
        is_new
    }

    /// The authority refuses: those who wait are told, unless the generator is only locked there.
    pub fn refused(&mut self, shared: &Shared, ask: Ask, refusal: Refusal, now: Micros) {
        if let Some(lease) = self.of(ask) {
            let lasts = now - *lease.refused.get_or_insert(now);
            (lease.asked, lease.not_before) = (false, now + (lasts / 8).clamp(PAUSE, LONG_PAUSE));
            if refusal == Refusal::None {
                self.not_before = now + REST;
            }
            shared.places.change_leased(ask.generator, ask.key, |place| place.set_refusal(refusal));
            shared.horizon.wake_waiting();
        }
    }

    /// The connection is gone: open questions are asked again. Blocks whose answers were lost are a gap.
    pub fn lost(&mut self, shared: &Shared) {
        for (number, lease) in &mut self.leases {
            lease.asked = false;
            shared.places.change_leased(*number, lease.key, |place| place.set_refusal(Refusal::None));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_generator_is_asked_for_in_turn_and_one_at_a_time() {
        let lease = || Lease { key: 0, blocks: Blocks::new(&(1..=1)), asked: false, not_before: 0, refused: None };
        let mut leases = Leases { leases: (1..=4).map(|number| (number, lease())).collect(), ..Leases::default() };
        let mut asked = Vec::new();
        // The first three are always due again.
        for _ in 0..8 {
            let (ask, _) = leases.next(0).unwrap();
            assert_eq!(leases.next(0), None, "one at a time");
            leases.of(ask).unwrap().asked = false;
            asked.push(ask.generator);
        }
        assert_eq!(asked, [1, 2, 3, 4, 1, 2, 3, 4]);
    }
}
