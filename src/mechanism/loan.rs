//! What counts as a loan: how far beyond the clock a stamp may be before its caller has to wait.
//!
//! A start, a repair, a peer or a clock that was set back leaves the last stamp ahead of the clock, though no caller has
//! borrowed. The *floor* says how far: a line that begins there and rises at nine tenths of real time. So a generator that is
//! used at up to nine tenths of its rate never waits for what was left behind, and the clock, which runs faster, catches up.
//!
//! All floors have the same slope: a floor is one number, the height at which its line would stand when the boot-time
//! clock shows 0, and of two the higher number is the higher line.

use super::{Micros, SECOND};

/// Room that a start leaves for calls that come close together, whatever was borrowed before it.
const SLACK: Micros = SECOND / 50;

/// How far a floor rises in `time` of real time.
fn run(time: Micros) -> Micros {
    time - time / 10
}

/// The floor that stands at `at` when the boot-time clock shows `boot`.
pub fn floor(at: Micros, boot: Micros) -> Micros {
    at.saturating_sub(run(boot))
}

/// At which time a floor stands when the boot-time clock shows `boot`.
pub fn height(floor: Micros, boot: Micros) -> Micros {
    floor.saturating_add(run(boot))
}

/// Where the floor begins on a server that starts at `horizon`, with its clock at `clock`. A horizon that is further ahead
/// than the lead tells what was borrowed before the start: that is not lent again, or each start would lend once more.
pub fn at_start(horizon: Micros, clock: Micros, lead: Micros, borrow: Micros) -> Micros {
    let borrowed = horizon.saturating_sub(clock.saturating_add(lead));
    horizon - borrowed.clamp(0, (borrow - SLACK).max(0))
}

/// The latest time at which the tick of a stamp that is given now may begin.
pub fn latest(clock: Micros, floor: Micros, boot: Micros, borrow: Micros) -> Micros {
    clock.max(height(floor, boot)).saturating_add(borrow)
}

/// How long until `due` is no later than [`latest`]; 0: it is so now.
pub fn wait(due: Micros, clock: Micros, floor: Micros, boot: Micros, borrow: Micros) -> Micros {
    let wanted = due.saturating_sub(borrow);
    let of_clock = wanted.saturating_sub(clock);
    let of_floor = wanted.saturating_sub(height(floor, boot)).max(0);
    of_clock.min(of_floor.saturating_add((of_floor + 8) / 9)).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mechanism::{
        allocator::{Refusal, Words},
        clock::{Clock, Reading},
        horizon::Position,
        layout::Layout,
    };
    use proptest::prelude::*;

    const NOON: Micros = 1_800_000_000 * SECOND;
    const HOUR: Micros = 3600 * SECOND;
    const BORROW: Micros = SECOND;

    #[test]
    fn a_floor_runs_at_nine_tenths_and_of_two_the_higher_number_is_the_higher_line() {
        let (low, high) = (floor(NOON, 10 * SECOND), floor(NOON + 1, 10 * SECOND));
        for boot in [0, 10 * SECOND, HOUR] {
            assert!(height(low, boot) < height(high, boot));
        }
        assert_eq!(height(low, 20 * SECOND), NOON + 9 * SECOND);
        assert_eq!(height(0, HOUR), run(HOUR), "none: far below every clock");
    }

    #[test]
    fn who_waits_as_long_as_is_said_is_served_and_not_before() {
        for (clock, ahead) in [(NOON, 0), (NOON, 5 * SECOND), (NOON - HOUR, 0), (NOON, -HOUR)] {
            let boot = 77 * SECOND;
            let line = floor(NOON + ahead, boot);
            let due = latest(clock, line, boot, BORROW) + 3 * SECOND;
            let time = wait(due, clock, line, boot, BORROW);
            assert!(latest(clock + time, line, boot + time, BORROW) >= due);
            assert!(latest(clock + time - 2, line, boot + time - 2, BORROW) < due);
            assert_eq!(wait(due - 3 * SECOND, clock, line, boot, BORROW), 0);
        }
    }

    /// A server that crashes, or whose clocks and horizon are put right, while one caller takes ids at an even rate.
    struct Life {
        time: Micros,
        wall: Micros,
        lead: Micros,
        layout: Layout,
        words: Words,
        clock: Clock,
        floor: Micros,
        horizon: Micros,
        started: Micros,
    }

    impl Life {
        fn new(lead: Micros, layout: &str) -> Life {
            let layout: Layout = layout.parse().unwrap();
            let clock = Clock::start(Reading { boot: 0, wall: NOON }, 0, lead, -1);
            let floor = floor(NOON, 0);
            let (words, horizon) = (Words::default(), NOON + lead);
            words.open(&layout, layout.stamp_at(horizon), 0);
            Life { time: 0, wall: NOON, lead, layout, words, clock, floor, horizon, started: 0 }
        }

        fn reading(&self) -> Reading {
            Reading { boot: self.time, wall: self.wall + self.time }
        }

        fn raise(&mut self, at: Micros) {
            self.words.raise(self.layout.stamp_at(at).saturating_sub(1));
            self.floor = self.floor.max(floor(at, self.time));
        }

        fn restart(&mut self) {
            self.words = Words::default();
            self.clock = Clock::start(self.reading(), self.horizon, self.lead, -1);
            let at = at_start(self.horizon, self.clock.at(self.time), self.lead, BORROW);
            self.floor = floor(at, self.time);
            self.words.raise(self.layout.stamp_at(self.horizon).saturating_sub(1));
            self.started = self.time;
            self.work(true);
        }

        fn work(&mut self, must: bool) {
            let reach = self.layout.tick_end(self.words.last() + 1);
            let up = self.time - self.started;
            let mut position =
                Position { clock: self.clock.at(self.time), reach, horizon: self.horizon, lead: self.lead, up };
            if must || position.is_due() {
                let before = self.clock.at(self.time);
                self.clock = self.clock.follow(self.reading(), -1);
                let after = self.clock.at(self.time);
                if after < before {
                    self.floor = self.floor.max(floor(before, self.time));
                }
                position.clock = after;
                self.horizon = position.target();
                self.words.open(&self.layout, self.layout.stamp_at(self.horizon), 0);
            }
        }

        /// Takes ids at `rate` of the layout's for `length`; how long the longest had to sleep.
        fn load(&mut self, rate: f64, length: Micros) -> Micros {
            let every = self.layout.tick_end(1) - self.layout.tick_start(1);
            let each =
                (every as f64 / (self.layout.stamp_at(NOON + every) - self.layout.stamp_at(NOON)) as f64 / rate).ceil();
            let (end, mut longest) = (self.time + length, 0);
            while self.time < end {
                self.time += each as Micros;
                loop {
                    let now = self.clock.at(self.time);
                    let latest = latest(now, self.floor, self.time, BORROW);
                    match self.words.take(&self.layout, now, latest, 1) {
                        Ok(_) => break,
                        Err(Refusal::Bound) => self.work(true),
                        Err(Refusal::Loan { due }) => {
                            longest = longest.max(wait(due, now, self.floor, self.time, BORROW));
                            break;
                        }
                    }
                }
                self.work(false);
            }
            longest
        }

        fn ahead(&self) -> Micros {
            self.horizon.max(self.layout.tick_end(self.words.last())) - self.wall - self.time
        }
    }

    const MACHINE: &str = "timestamp:41 machine:10 epoch:1735689600000000 tick:1000";
    const COARSE: &str = "timestamp:39 sequence:1 machine:16 epoch:1409529600000000 tick:10000";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Starts, other leads, raised horizons and stepped clocks, in any order.
        #[test]
        #[cfg_attr(miri, ignore = "takes minutes")]
        fn at_nine_tenths_of_the_rate_nobody_ever_sleeps(
            lead in 100_000..600 * SECOND,
            coarse in any::<bool>(),
            steps in proptest::collection::vec((0u8..6, 0..HOUR, 0..5 * SECOND), 1..12),
        ) {
            let mut life = Life::new(lead, if coarse { COARSE } else { MACHINE });
            for (what, how_far, length) in steps {
                match what {
                    0 | 1 => life.restart(),
                    2 => { life.lead = how_far / 6 + 100_000; life.restart() }
                    3 => { let at = life.clock.at(life.time) + 3 * how_far; life.raise(at); life.work(true) }
                    4 => life.wall -= how_far,
                    _ => life.wall += how_far,
                }
                prop_assert_eq!(life.load(0.9, length), 0, "after {:?}", (what, how_far));
            }
        }

        /// Also where callers want more ids than there are between two crashes.
        #[test]
        #[cfg_attr(miri, ignore = "takes minutes")]
        fn quick_restarts_do_not_ratchet(
            lead in 100_000..600 * SECOND, uptime in SECOND / 5..3 * SECOND, rate in 0.1..3.0f64,
        ) {
            let mut life = Life::new(lead, MACHINE);
            for _ in 0..40 {
                life.load(rate, uptime);
                life.restart();
            }
            prop_assert!(life.ahead() <= lead + BORROW + 2 * SECOND, "{} s ahead", life.ahead() / SECOND);
        }

        #[test]
        #[cfg_attr(miri, ignore = "takes minutes")]
        fn what_a_start_left_ahead_heals(lead in 100_000..60 * SECOND) {
            let mut life = Life::new(lead, MACHINE);
            life.load(0.9, SECOND);
            life.restart();
            life.load(0.8, 12 * lead);
            let ahead = life.layout.tick_end(life.words.last()) - life.wall - life.time;
            prop_assert!(ahead <= SECOND / 10, "{ahead} us ahead");
        }
    }

    #[test]
    fn a_floor_that_stands_still_makes_callers_wait() {
        let mut life = Life::new(60 * SECOND, MACHINE);
        life.load(0.9, SECOND);
        life.restart();
        // As if the floor stood still: no more is lent than at the start.
        let stands = height(life.floor, life.time);
        let mut longest = 0;
        for _ in 0..20 {
            life.floor = floor(stands, life.time);
            longest = longest.max(life.load(0.9, SECOND / 10));
        }
        assert!(longest > 0);
    }
}
