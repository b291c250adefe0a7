//! The horizon: the durable promise that no id beyond it was ever given out. Where it goes, when, and by which steps.
//!
//! ```text
//! Start -> Raise -> Done                                            once in the life of the shared memory
//! Decide -> Write -> Flush -> Acknowledge -> Publish -> Open -> Done    each time that it moves
//! ```

use super::{Micros, SECOND};

/// The next step of the one process that moves the horizon. Between two steps it may end, and the server may crash: a value
/// read from the register permits nothing. Only bounds opened after flush and acknowledgement permit ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step<R> {
    /// Reads the register, which may not be flushed yet.
    Start,
    /// Goes on from the horizon that was read: sets the clock, and raises every `last`.
    Raise(Micros),
    /// Follows the wall clock and decides where the horizon moves to.
    Decide,
    /// Writes the register.
    Write(Micros),
    /// Flushes the record.
    Flush(Micros, R),
    /// Waits for the synchronous standbys.
    Acknowledge(Micros, R),
    /// Says where the horizon is now.
    Publish(Micros),
    /// Opens the bounds, one part of the generators after another.
    Open(Micros, usize),
    Done,
}

/// The server that the steps act on. It alone reads clocks.
pub trait Server {
    /// Where a record of the WAL ends.
    type Record: Copy;
    /// Whether this life of the shared memory has gone on from the register already.
    fn has_started(&self) -> bool;
    fn read_register(&self) -> Micros;
    /// The clock of a server that goes on from `horizon`: see [`Clock::start`](super::clock::Clock::start).
    fn start_clock(&mut self, horizon: Micros);
    /// Raises every floor, so that no stamp up to `horizon` is a loan: see [`super::loan::at_start`].
    fn start_floor(&mut self, horizon: Micros);
    /// Raises every `last`, also of generators that come later, to the last stamp before `at`.
    fn raise_all(&mut self, at: Micros);
    fn follow_clock(&mut self);
    fn position(&self) -> Position;
    fn write_register(&mut self, to: Micros) -> Self::Record;
    fn flush(&mut self, record: Self::Record);
    /// Whether all synchronous standbys have it on disk, if there are any.
    fn is_acknowledged(&self, record: Self::Record) -> bool;
    fn publish(&mut self, horizon: Micros);
    /// Permits the ids up to `horizon` to part number `part` of the generators. True: there are more parts.
    fn open(&mut self, horizon: Micros, part: usize) -> bool;
}

impl<R: Copy> Step<R> {
    /// Does this step, and gives the next one. [`Step::Acknowledge`] comes again until the record is acknowledged.
    pub fn take(self, server: &mut impl Server<Record = R>) -> Step<R> {
        match self {
            Step::Start if server.has_started() => Step::Done,
            Step::Start => Step::Raise(server.read_register()),
            Step::Raise(horizon) => {
                server.start_clock(horizon);
                server.start_floor(horizon);
                server.raise_all(horizon);
                Step::Done
            }
            Step::Decide => {
                server.follow_clock();
                Step::Write(server.position().target())
            }
            Step::Write(target) => Step::Flush(target, server.write_register(target)),
            Step::Flush(target, record) => {
                server.flush(record);
                Step::Acknowledge(target, record)
            }
            Step::Acknowledge(target, record) if server.is_acknowledged(record) => Step::Publish(target),
            Step::Acknowledge(..) => self,
            Step::Publish(target) => {
                server.publish(target);
                Step::Open(target, 0)
            }
            Step::Open(target, part) if server.open(target, part) => Step::Open(target, part + 1),
            Step::Open(..) | Step::Done => Step::Done,
        }
    }
}

/// The longest that the flush of one move takes when nothing is wrong.
const FLUSH: Micros = SECOND / 100;

/// What the worker knows when it asks whether, and where to, the horizon should move.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    /// The effective clock.
    pub clock: Micros,
    /// The end of the latest tick that the next stamp of a generator is in: the horizon that is wanted now.
    pub reach: Micros,
    /// The durable horizon, 0 if there is none.
    pub horizon: Micros,
    /// How far ahead of the clock it is promised.
    pub lead: Micros,
    /// How long this server has been giving out ids.
    pub up: Micros,
}

impl Position {
    /// How far beyond the highest stamp the horizon goes: an eighth of a lead, but after a start not more than a tenth of the
    /// time that the server has been up. Ids at nine tenths of the rate have fallen back by as much in that time, so crash
    /// after crash the horizon does not get further ahead of the clock.
    fn margin(&self) -> Micros {
        (self.up / 10).clamp((self.lead / 256).min(FLUSH) + 1, self.lead / 8 + 1)
    }

    /// How long until the worker should look again, while ids are given out.
    pub fn look_again(&self) -> Micros {
        let left = self.horizon.saturating_sub(self.reach.saturating_add(self.margin() / 2));
        left.clamp(FLUSH / 10, (self.lead / 8).max(FLUSH / 10))
    }

    /// Where the horizon moves to. Never back.
    pub fn target(&self) -> Micros {
        (self.clock.saturating_add(self.lead)).max(self.reach.saturating_add(self.margin())).max(self.horizon)
    }

    /// Whether the horizon should move before a caller has to wait: it is less than half a lead ahead of the clock, or little
    /// ahead of the highest stamp.
    pub fn is_due(&self) -> bool {
        self.horizon < self.clock.saturating_add(self.lead / 2)
            || self.horizon < self.reach.saturating_add(self.margin() / 2)
    }
}

/// Whether ids will be wanted soon, so that the horizon is to be ready: calls at some distance are expected to go on like
/// that. Times are of the boot-time clock.
#[derive(Debug, Default)]
pub struct Demand {
    used: Option<Micros>,
    expected_until: Micros,
}

impl Demand {
    /// Ids were given out since the last look. More are expected for twice the time since the use before, if that is not more
    /// than `most`.
    pub fn used(&mut self, now: Micros, most: Micros) {
        let Some(before) = self.used.replace(now) else { return };
        let keep = 2 * (now - before);
        if keep <= most {
            self.expected_until = self.expected_until.max(now + keep);
        }
    }

    pub fn is_expected(&self, now: Micros) -> bool {
        now <= self.expected_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mechanism::{SECOND, clock::Clock, clock::Reading, layout::SERVER};
    use proptest::prelude::*;

    const LEAD: Micros = 4 * SECOND;
    const NOON: Micros = 1_800_000_000 * SECOND;

    #[test]
    fn a_thousand_quick_crashes_with_the_clock_set_back_keep_the_horizon_within_a_lead() {
        let mut horizon = NOON + LEAD;
        let uptime = SECOND / 20;
        for crash in 1..=1000 {
            let true_time = NOON + crash * uptime;
            let back = Reading { boot: 0, wall: NOON - 3600 * SECOND };
            let clock = Clock::start(back, horizon, LEAD, -1);
            let mut reach = SERVER.tick_end(SERVER.stamp_at(horizon).max(1) - 1);
            for up in [0, uptime] {
                let position = Position { clock: clock.at(up), reach, horizon, lead: LEAD, up };
                horizon = position.target();
                // One id a millisecond goes on from where the start stood.
                reach = reach.max(SERVER.tick_end(SERVER.stamp_at(horizon - LEAD)));
            }
            assert!(horizon <= true_time + 2 * LEAD, "{crash}: {} ahead", horizon - true_time);
        }
    }

    #[test]
    fn calls_are_expected_at_the_distance_at_which_they_came_and_not_for_long() {
        let mut demand = Demand::default();
        let most = 60 * SECOND;
        demand.used(NOON, most);
        assert!(!demand.is_expected(NOON + 1), "one call is no habit");
        demand.used(NOON + 5 * SECOND, most);
        // A second use in the same burst takes nothing away.
        demand.used(NOON + 6 * SECOND, most);
        assert!(demand.is_expected(NOON + 15 * SECOND) && !demand.is_expected(NOON + 15 * SECOND + 1));
        demand.used(NOON + 100 * SECOND, most);
        assert!(!demand.is_expected(NOON + 100 * SECOND + 1), "too seldom");
        demand.used(NOON + 100 * SECOND + 1, 0);
        assert!(!demand.is_expected(NOON + 100 * SECOND + 2), "turned off");
    }

    proptest! {
        #[test]
        fn after_a_move_it_is_not_due_and_ids_are_permitted(
            clock in NOON..2 * NOON, ahead in -10 * SECOND..10 * SECOND, lead in 100_000..60 * SECOND, up in 0..60 * SECOND,
        ) {
            let reach = SERVER.tick_end(SERVER.stamp_at(clock + ahead));
            let mut position = Position { clock, reach, horizon: 0, lead, up };
            prop_assert!(position.is_due());
            position.horizon = position.target();
            prop_assert!(!position.is_due());
            let limit = SERVER.stamp_at(position.horizon);
            prop_assert!(limit > SERVER.stamp_at(clock) && limit > SERVER.stamp_at(reach - 1));
        }
    }
}
