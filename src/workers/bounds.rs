//! Opens and closes the bounds of the generators. For the horizon's worker only, except [`follow_grant`].

use crate::{
    mechanism::{Micros, definition::Order},
    postgres::{clock, settings},
    protocol::grants::Grant,
    shared::{Shared, serving},
};
use std::sync::atomic::Ordering::*;

/// Permits the ids up to `horizon`, which is durable and acknowledged.
pub fn open(shared: &Shared, horizon: Micros) {
    let grant = shared.grant.held();
    let waits = !check_peers(shared) || shared.gossip.first_round(&shared.horizon.lease()).is_some();
    shared.places.for_each_clock(|words, layout, order| {
        let limit = match order {
            // Another server may have this machine id.
            _ if waits && layout.max_machine() != 0 => return,
            // All ids of this generator come from the authority.
            Order::Strict if !settings::is_authority() => return,
            Order::Strict => horizon.min(shared.horizon.lease().until),
            _ => horizon,
        };
        // Without a machine id that fits, the generator stays closed, and its callers are told why.
        if let Ok((machine, until)) = serving::machine_of(grant, layout.max_machine()) {
            words.open(layout, layout.stamp_at(limit.min(until)), machine);
        }
    });
}

/// Member worker only: publishes the grant that the bounds are to follow.
pub fn follow_grant(shared: &Shared, grant: Option<Grant>) {
    shared.grant.set(grant);
    // The horizon that is durable already may permit more now.
    shared.horizon.want_horizon(1);
}

/// If the bounds are open for another grant than the one that is held: closes them, leaves every tick that was begun, and
/// goes on at or after the start of the held grant. The bounds are left closed.
pub fn apply_grant(shared: &Shared) {
    let grant = shared.grant.held();
    let epoch = grant.map_or(0, |grant| grant.epoch);
    if epoch == shared.grant.applied() || settings::MACHINE_ID.get() >= 0 {
        return;
    }
    shared.places.for_each_clock(|words, layout, _| {
        if layout.max_machine() != 0 {
            words.close();
            words.leave_tick(layout);
        }
    });
    let from = grant.map_or(0, |grant| grant.from);
    shared.places.raise_floors(from, clock::boot());
    // Later than any raise before: backends see that, and leave the ticks of their own streams by themselves.
    shared.places.raise_all(from.max(shared.places.attach_at() + 1));
    shared.grant.set_applied(epoch);
}

/// Whether the bounds of layouts with machine bits may be open: closes them if another server has the machine id.
pub fn check_peers(shared: &Shared) -> bool {
    let gossip = &shared.gossip;
    let refused = gossip.is_rivalled();
    if refused && !gossip.closed.swap(true, Relaxed) {
        shared.places.close(|layout| layout.max_machine() != 0);
    } else if !refused && gossip.closed.swap(false, Relaxed) {
        shared.horizon.want_horizon(1);
    }
    !refused
}

/// From now on `standbys` (0: none) must have a record before it permits anything. The ids permitted so far are not known to
/// be covered there: the bounds are closed, and opened again by a move that the standbys acknowledge.
pub fn follow_standbys(shared: &Shared, standbys: u64) {
    if shared.horizon.set_standbys(standbys) {
        shared.places.close(|_| true);
    }
    if standbys != 0 {
        // What waits for them needs a record that they acknowledge from now on.
        shared.horizon.want_horizon(1);
    }
}
