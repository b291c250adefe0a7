//! The lease under which an authority gives strict ids: it never serves while another, promoted in its place, does.
//! Uniqueness does not rest on it, only the order.
//!
//! A standby that was promoted has acknowledged every move that the old authority's lease rests on before its own recovery
//! ended. So the old authority stops serving at most a [`LEASE`] after that; and two clocks that are within 10 % of the true
//! rate agree that this time is over after [`WAIT`].

use super::{Micros, SECOND};

/// How long an authority may serve after an acknowledged move of the horizon, counted from just before the move.
pub const LEASE: Micros = 2 * SECOND;

/// How long after the end of recovery an authority serves nothing: a lease on the slowest clock, seen by the fastest,
/// 1.1 / 0.9 of it.
pub const WAIT: Micros = if cfg!(feature = "no_lease") { 0 } else { 2_450_000 };

/// When an authority serves strict ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// It serves from this time on, by the boot-time clock.
    pub from: Micros,
    /// It serves ids from before this, by the effective clock; 0: none.
    pub until: Micros,
}

impl Lease {
    /// The lease of an authority whose recovery ended, after a start or a promotion, when the boot-time clock showed `boot`.
    pub fn start(boot: Micros) -> Lease {
        Lease { from: boot.saturating_add(WAIT), until: 0 }
    }

    /// After the synchronous standby acknowledged a move: `boot` is now, and `began` the effective clock before the move's
    /// record was written. That clock loses at most a tenth of the time that passes: when it shows nine tenths of a [`LEASE`]
    /// more, at most a lease has passed. Without a synchronous standby a flush counts as the acknowledgement: the next
    /// failover is not covered.
    pub fn acknowledged(&mut self, boot: Micros, began: Micros) {
        if self.from <= boot {
            let length = if cfg!(feature = "no_lease") { 3600 * SECOND } else { LEASE / 10 * 9 };
            self.until = self.until.max(began.saturating_add(length));
        }
    }

    /// When the next move is due, on the boot-time clock, so that serving begins or goes on without a pause. `clock` is the
    /// effective clock at `boot`.
    pub fn due(&self, boot: Micros, clock: Micros) -> Micros {
        if boot < self.from { self.from } else { boot + (self.until - clock).max(0) - LEASE / 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOON: Micros = 1_800_000_000 * SECOND;

    #[test]
    fn it_serves_from_the_wait_after_recovery_to_nine_tenths_of_a_lease_after_the_last_move_began() {
        let mut lease = Lease::start(SECOND);
        lease.acknowledged(SECOND + WAIT - 1, NOON);
        assert_eq!((lease.until, lease.due(SECOND + WAIT - 1, NOON)), (0, SECOND + WAIT), "too early");
        lease.acknowledged(SECOND + WAIT, NOON + SECOND);
        lease.acknowledged(SECOND + WAIT, NOON);
        assert_eq!(lease.until, NOON + SECOND + 1_800_000);
        let boot = 5 * SECOND;
        assert_eq!(lease.due(boot, NOON + SECOND), boot + 800_000);
        assert_eq!(lease.due(boot, NOON + 10 * SECOND), boot - SECOND, "long ago");
    }

    proptest! {
        /// True time 0 is the end of the promoted server's recovery. Boot-time clocks run at 0.9 to 1.1 of true time, and the
        /// effective clock of the old authority at 0.9 of its boot-time clock or faster.
        #[test]
        fn the_old_authority_and_the_promoted_one_never_serve_at_once(
            old_rate in 0.9f64..1.1, new_rate in 0.9f64..1.1, slewed in 0.9f64..2.0,
            new_at in 0i64..1000 * SECOND, before in 0i64..10 * SECOND, at in 0i64..10 * SECOND,
        ) {
            let old_clock = |time: Micros| NOON + (time as f64 * old_rate * slewed) as Micros;
            let new_clock = |time: Micros| new_at + (time as f64 * new_rate) as Micros;
            let mut old = Lease::default();
            old.acknowledged(0, old_clock(-before));
            let mut new = Lease::start(new_clock(0));
            new.acknowledged(new_clock(at), NOON);
            prop_assert!(old_clock(at) >= old.until || new.until == 0);
        }
    }
}
