//! The lease under which an authority gives strict ids: it never serves while another, promoted in its place, does.
//! All times are of its own boot-time clock. Uniqueness does not rest on it, only the order.
//!
//! A standby that was promoted has acknowledged every move that the old authority's lease rests on before its recovery
//! ended, so the old one stops serving at most a [`LEASE`] later; and any two clocks within 10 % of the true rate agree
//! that this is over after [`WAIT`].

use super::{Micros, SECOND};

/// How long an acknowledged move of the horizon lets an authority serve, from just before the move.
pub const LEASE: Micros = 2 * SECOND;

/// How long after the end of recovery an authority serves nothing: a lease on the slowest clock, seen by the fastest,
/// 1.1 / 0.9 of it.
pub const WAIT: Micros = if cfg!(feature = "no_lease") { 0 } else { 2_450_000 };

/// Until when a move that began at `began` lets an authority serve, both on its effective clock. That goes back by at
/// most a tenth of the time that passes: where it shows this, at most a [`LEASE`] has passed.
pub const fn on_effective_clock(began: Micros) -> Micros {
    if cfg!(feature = "no_lease") { began + 3600 * SECOND } else { began + LEASE / 10 * 9 }
}

/// When an authority serves strict ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Not before this.
    pub from: Micros,
    /// Not at this or after it.
    pub until: Micros,
}

impl Lease {
    /// Of an authority whose recovery ended, after a start or a promotion, when the boot-time clock showed `boot`.
    pub fn start(boot: Micros) -> Lease {
        Lease { from: boot.saturating_add(WAIT), until: 0 }
    }

    /// After the synchronous standby acknowledged a move; `began` was read before the move's record was written.
    /// Without a synchronous standby what is flushed counts as acknowledged: the next failover is not covered.
    pub fn acknowledged(&mut self, began: Micros) {
        self.until = self.until.max(began.saturating_add(LEASE));
    }

    /// Whether it may allocate. `boot` is read after the request arrived.
    pub fn serves(&self, boot: Micros) -> bool {
        self.from <= boot && boot < self.until
    }

    /// Whether it is time for another move, so that serving does not pause.
    pub fn is_due(&self, boot: Micros) -> bool {
        self.until.saturating_sub(boot) < LEASE / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_serves_from_the_wait_after_recovery_to_a_lease_after_the_last_move_began() {
        let mut lease = Lease::start(SECOND);
        assert!(!lease.serves(SECOND + WAIT), "no move was acknowledged");
        lease.acknowledged(2 * SECOND);
        lease.acknowledged(SECOND);
        assert!(!lease.serves(SECOND + WAIT - 1) && lease.serves(SECOND + WAIT));
        assert!(lease.serves(4 * SECOND - 1) && !lease.serves(4 * SECOND));
        assert!(!lease.is_due(3 * SECOND) && lease.is_due(3 * SECOND + 1));
    }

    proptest! {
        /// True time 0 is when the promoted one's recovery ends. Clocks run at 0.9 to 1.1 of it.
        #[test]
        fn the_old_authority_and_the_promoted_one_never_serve_at_once(
            old_rate in 0.9f64..1.1, new_rate in 0.9f64..1.1,
            old_at in 0i64..1000 * SECOND, new_at in 0i64..1000 * SECOND,
            before in 0i64..10 * SECOND, at in 0i64..10 * SECOND,
        ) {
            let old_clock = |time: Micros| old_at + (time as f64 * old_rate) as Micros;
            let new_clock = |time: Micros| new_at + (time as f64 * new_rate) as Micros;
            let mut old = Lease { from: 0, until: 0 };
            old.acknowledged(old_clock(-before));
            let mut new = Lease::start(new_clock(0));
            new.acknowledged(new_clock(at));
            prop_assert!(!(old.serves(old_clock(at)) && new.serves(new_clock(at))));
        }
    }
}
