//! The effective clock: the machine's boot-time clock, which nobody can set, plus an offset that follows the wall
//! clock in a way that cannot hurt.
//!
//! ```text
//! effective clock = boot-time clock + offset        offset only changes in `start` and `follow`
//! ```
//!
//! Upwards the offset follows at once, but only up to a limit: an id from the future cannot be taken back. Downwards it
//! follows by at most a tenth of the time that passed: the effective clock never stands still or goes back, and no call ever
//! waits for a clock.

use super::{Micros, SECOND, layout::SERVER};

/// A wall clock this far past the horizon at a start is not believed.
const MAX_AWAY: Micros = 366 * 86_400 * SECOND;

/// The longest that idgen.horizon_lead can be.
pub const MAX_LEAD: Micros = 3600 * SECOND;

/// A change of the wall clock against the boot-time clock by more than this is a step, not a slew.
const STEP: Micros = SECOND / 10;

/// One reading of the machine's two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Since the machine started; counts sleep; cannot be set.
    pub boot: Micros,
    /// What the machine believes the time is.
    pub wall: Micros,
}

impl Reading {
    /// The offset that would make the effective clock the wall clock.
    fn offset(&self) -> Micros {
        self.wall.saturating_sub(self.boot)
    }
}

/// How the effective clock stands to the machine's clocks. Written by the worker alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Effective clock less boot-time clock.
    pub offset: Micros,
    /// Forward leaps are measured from here: the offset at the start or at the last acceptance, or a lower one that was
    /// followed since. If the wall clock was not believed at the start, it is higher, so that a leap may go as far as a start
    /// would have believed.
    pub base: Micros,
    /// How far the wall clock is ahead without being followed; 0 when it is followed.
    pub held: Micros,
    /// The boot-time clock when the wall clock was last followed, and the wall clock's offset then.
    pub seen: Micros,
    pub seen_offset: Micros,
    /// How many steps of the wall clock were seen since the start, and when the last one was.
    pub steps: i64,
    pub stepped: Micros,
}

impl Clock {
    /// The clock of a server that starts with `horizon` (0: none). It is the wall clock, unless that is earlier than the
    /// effective clock can have been when `horizon` was promised, whatever the lead was then: in that case it is the horizon
    /// less the lead. A wall clock over a year past the horizon is held as a leap would be, unless `max_jump` is negative. A
    /// wall clock that is not believed for one of these reasons, or because it is from before idgen's epoch, does not tell
    /// how far it will leap once it is set right: that leap is believed if a start would have believed it.
    pub fn start(now: Reading, horizon: Micros, lead: Micros, max_jump: Micros) -> Clock {
        let stood = if horizon == 0 { now.wall } else { horizon - lead };
        let away = horizon != 0 && max_jump >= 0 && now.wall > horizon.saturating_add(MAX_AWAY);
        let before = horizon != 0 && now.wall <= horizon.saturating_sub(MAX_LEAD.max(lead));
        let effective = if away || before { stood } else { now.wall };
        let offset = effective - now.boot;
        let base = match horizon {
            0 if now.wall < SERVER.epoch() => Micros::MAX / 2,
            _ if away || before => offset + (MAX_AWAY - max_jump).max(0),
            _ => offset,
        };
        Clock {
            offset,
            base,
            held: if away { now.wall - effective } else { 0 },
            seen: now.boot,
            seen_offset: now.offset(),
            steps: 0,
            stepped: 0,
        }
    }

    /// The clock after a look at the machine's clocks, by the rules at the module's head. A leap that would lift the offset
    /// more than `max_jump` above its base is held: not followed at all. Negative `max_jump`: no limit.
    #[must_use]
    pub fn follow(mut self, now: Reading, max_jump: Micros) -> Clock {
        let target = now.offset();
        let passed = (now.boot - self.seen).max(0);
        self.held = 0;
        if target <= self.offset {
            self.offset = target.max(self.offset - passed / 10);
        } else if max_jump < 0 || target <= self.base.saturating_add(max_jump) {
            self.offset = target;
            // A wall clock from before idgen's epoch is no measure for later leaps, even while it is followed.
            if now.wall >= SERVER.epoch() {
                self.base = self.base.min(target);
            }
        } else {
            // The two clocks are read one after the other: they never agree to the microsecond.
            self.held = Some(target - self.offset).filter(|held| *held > STEP).unwrap_or(0);
        }
        if target.abs_diff(self.seen_offset) > STEP as u64 {
            self.steps += 1;
            self.stepped = now.boot;
        }
        self.seen = now.boot;
        self.seen_offset = target;
        self
    }

    /// The clock after its wall clock was declared right: followed upwards at once, however far.
    #[must_use]
    pub fn accept(mut self, now: Reading) -> Clock {
        self.offset = self.offset.max(now.offset());
        self.base = self.offset;
        self.follow(now, 0)
    }

    /// The effective clock when the boot-time clock shows `boot`.
    pub fn at(&self, boot: Micros) -> Micros {
        boot + self.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Micros = 3600 * SECOND;
    const DAY: Micros = 24 * HOUR;
    const YEAR: Micros = 365 * DAY;
    const LEAD: Micros = 4 * SECOND;
    const NOON: Micros = 1_800_000_000 * SECOND;

    fn at(boot: Micros, wall: Micros) -> Reading {
        Reading { boot, wall }
    }

    /// A server up since boot 0 whose wall clock was right, seen at boot 0.
    fn running() -> Clock {
        Clock::start(at(0, NOON), 0, LEAD, DAY)
    }

    #[test]
    fn a_start_takes_the_wall_clock_unless_that_is_before_what_any_lead_explains() {
        for (wall, horizon, expected) in [
            (NOON, 0, NOON),
            (NOON, NOON - HOUR, NOON),
            (NOON, NOON + HOUR / 2, NOON),
            (NOON - HOUR, NOON, NOON - LEAD),
            (0, NOON, NOON - LEAD),
            (NOON + YEAR, NOON, NOON + YEAR),
        ] {
            let clock = Clock::start(at(7, wall), horizon, LEAD, DAY);
            assert_eq!((clock.at(7), clock.held), (expected, 0));
        }
    }

    #[test]
    fn a_start_over_a_year_past_the_horizon_is_held_until_accepted() {
        let now = at(7, NOON + 10 * YEAR);
        let clock = Clock::start(now, NOON, LEAD, DAY);
        assert_eq!((clock.at(7), clock.held), (NOON - LEAD, 10 * YEAR + LEAD));
        assert_eq!(clock.follow(now, DAY).at(7), NOON - LEAD);
        let accepted = clock.accept(now);
        assert_eq!((accepted.at(7), accepted.held), (NOON + 10 * YEAR, 0));
        assert_eq!(Clock::start(now, NOON, LEAD, -1).at(7), NOON + 10 * YEAR, "-1 turns the limit off");
    }

    #[test]
    fn a_clock_that_was_wrong_at_the_start_is_followed_once_it_is_set_right() {
        for (wall, horizon, right) in [
            (0, 0, NOON),
            (0, NOON - 300 * DAY, NOON),
            (NOON - 30 * DAY, NOON - 7 * DAY, NOON),
            (NOON + 12 * YEAR, NOON - 7 * DAY, NOON),
        ] {
            // Its two readings never agree to the microsecond.
            let clock = Clock::start(at(0, wall), horizon, LEAD, DAY).follow(at(SECOND, wall + SECOND + 3), DAY);
            let set = clock.follow(at(2 * SECOND, right), DAY);
            assert_eq!((set.at(2 * SECOND), set.held), (right, 0));
            let leapt = set.follow(at(3 * SECOND, right + SECOND + 2 * DAY), DAY);
            assert_eq!((leapt.at(3 * SECOND), leapt.held), (right + SECOND, 2 * DAY), "from then on as ever");
        }
    }

    #[test]
    fn an_hour_forward_is_followed_at_once_and_back_it_heals_in_ten_hours() {
        let ahead = running().follow(at(SECOND, NOON + SECOND + HOUR), DAY);
        assert_eq!(ahead.at(SECOND), NOON + SECOND + HOUR);
        let mut clock = ahead;
        for second in 2..=36_000 {
            let now = at(second * SECOND, NOON + second * SECOND);
            let before = clock.at(now.boot);
            clock = clock.follow(now, DAY);
            assert_eq!(before - clock.at(now.boot), SECOND / 10, "by a tenth, second {second}");
        }
        let now = at(36_001 * SECOND, NOON + 36_001 * SECOND);
        assert_eq!(clock.follow(now, DAY).at(now.boot), now.wall);
        assert_eq!(clock.steps, 2);
    }

    #[test]
    fn ten_years_forward_are_held_and_back_again_nothing_is_left() {
        let held = running().follow(at(SECOND, NOON + 10 * YEAR), DAY);
        assert_eq!((held.at(SECOND), held.held), (NOON + SECOND, 10 * YEAR - SECOND));
        let back = held.follow(at(2 * SECOND, NOON + 2 * SECOND), DAY);
        assert_eq!((back.at(2 * SECOND), back.held), (NOON + 2 * SECOND, 0));
    }

    #[test]
    fn small_leaps_add_up_to_the_limit_and_no_further() {
        let mut clock = running();
        for step in 1..=100 {
            clock = clock.follow(at(step, NOON + step + step * HOUR), DAY);
        }
        assert_eq!(clock.offset - clock.base, DAY);
        assert_eq!(clock.held, 76 * HOUR);
    }

    proptest! {
        #[test]
        fn the_effective_clock_never_runs_slower_than_nine_tenths(
            looks in proptest::collection::vec((0i64..DAY, -2 * DAY..2 * DAY), 1..100),
        ) {
            let (mut clock, mut boot) = (running(), 0);
            for (passed, error) in looks {
                let before = clock.at(boot);
                boot += passed;
                clock = clock.follow(at(boot, NOON + boot + error), DAY);
                prop_assert!(clock.at(boot) - before >= passed - passed / 10);
                prop_assert!(clock.offset <= clock.base + DAY);
            }
        }
    }
}
