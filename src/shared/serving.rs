//! Whether ids can be given, and if not, why and since when: for calls that must wait, the log, `idgen_status()` and the
//! doctor. A call that is served at once does not come here.

use super::Shared;
use crate::{
    error::{Error, moment},
    mechanism::{
        Micros, SECOND,
        definition::Order,
        layout::{Layout, SERVER},
    },
    postgres::{clock, process, settings},
    protocol::grants::Grant,
};
use pgrx::{PgSqlErrorCode, log, pg_sys};
use std::sync::atomic::Ordering::Relaxed;

/// A worker that has not looked at the clock for this long stands still: it looks twice a second.
const STANDS_STILL: Micros = 5 * SECOND;

/// The machine id to put into ids, and the time when it is no longer this server's; `max` is the layout's largest machine id.
/// A layout without machine bits (0) needs none.
pub fn machine(shared: &Shared, max: u64) -> Result<(u64, Micros), Error> {
    machine_of(shared.grant.held(), max)
}

/// As [`machine`], where `grant` is held.
pub fn machine_of(grant: Option<Grant>, max: u64) -> Result<(u64, Micros), Error> {
    if max == 0 || settings::MACHINE_ID.get() >= 0 || settings::authority().is_none() {
        return own_machine(max).map(|machine| (machine, Micros::MAX));
    }
    let grant = grant.ok_or(Error::NoGrant)?;
    if grant.machine > max {
        return Err(Error::MachineIdTooLarge { machine: grant.machine, max });
    }
    Ok((grant.machine, grant.until))
}

/// The machine id of the setting, for a layout whose largest is `max`: a counter takes no granted one.
pub fn own_machine(max: u64) -> Result<u64, Error> {
    match settings::MACHINE_ID.get() {
        _ if max == 0 => Ok(0),
        id if id < 0 && settings::authority().is_some() => Err(Error::CounterWithGrant),
        id if id < 0 => Err(Error::MachineIdUnset),
        id if id as u64 > max => Err(Error::MachineIdTooLarge { machine: id as u64, max }),
        id => Ok(id as u64),
    }
}

/// An error if it is useless to wait for `first`. Else the reason for the wait, if that is not the horizon. `now` says nothing
/// if the horizon had not started before it was read.
pub fn check_can_be_served(
    shared: &Shared,
    layout: &Layout,
    has_started: bool,
    now: Micros,
    first: u64,
) -> Result<Option<Error>, Error> {
    check_not_in_recovery()?;
    if layout.max_machine() != 0
        && let Some(rival) = shared.gossip.rival()
    {
        return Err(rival);
    }
    let until = match machine(shared, layout.max_machine()) {
        Err(error @ Error::NoGrant) => return Ok(Some(error)),
        machine => machine?.1,
    };
    if has_no_origin(shared) {
        Err(Error::NoOrigin)
    } else if !has_started {
        Ok(None)
    } else if first >= layout.stamps() {
        Err(Error::Exhausted)
    } else if now < layout.epoch() {
        Err(Error::BeforeEpoch)
    } else if first >= layout.stamp_at(until) {
        Ok(Some(Error::GrantEnded))
    } else {
        Ok(None)
    }
}

/// Whether the worker ended because there is no place for the horizon.
fn has_no_origin(shared: &Shared) -> bool {
    shared.horizon.fault.load(Relaxed) == PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED as i32
}

/// The error of a server in recovery, which gives out nothing.
pub fn check_not_in_recovery() -> Result<(), Error> {
    // SAFETY: may be asked at any time.
    if unsafe { pg_sys::RecoveryInProgress() } { Err(Error::InRecovery) } else { Ok(()) }
}

fn message(error: Error) -> String {
    error.told().message
}

/// Counts an error that a call for an id ends with.
pub fn noted<T>(shared: &Shared, result: Result<T, Error>) -> Result<T, Error> {
    if let Err(error) = &result {
        let state = &shared.state;
        state.last_refusal.store(error.clone().told().code as i32, Relaxed);
        state.last_refused.store(clock::both().wall, Relaxed);
        state.refusals.fetch_add(1, Relaxed);
    }
    result
}

/// Whether all ids of this order come from another server.
pub fn is_remote(order: Order) -> bool {
    order == Order::Strict && !settings::is_authority()
}

/// Why `idgen_next()` gives no id now, as the worker sees it.
fn in_the_way(shared: &Shared, waits_for_standby: bool) -> Option<String> {
    if is_remote(settings::order()) {
        return match settings::authority() {
            None => Some(message(Error::NoAuthority)),
            Some(_) if shared.member.connected.load(Relaxed) => None,
            Some(_) => Some(shared.member.error().unwrap_or_else(|| message(Error::AuthorityTimeout))),
        };
    }
    let has_started = shared.horizon.started() != 0;
    let now = shared.horizon.now();
    let first = SERVER.stamp_at(now).max(shared.places.server.last() + 1);
    match check_can_be_served(shared, &SERVER, has_started, now, first) {
        Err(error) | Ok(Some(error)) => Some(message(error)),
        // A horizon that nobody needed, and that was not moved, does not count.
        Ok(None) if waits_for_standby && shared.horizon.durable() <= now => {
            Some("the synchronous standby has not acknowledged the horizon".into())
        }
        Ok(None) => None,
    }
}

/// Worker only: shows in the process title whether ids are given, and logs when they begin, stop and go on.
pub fn report(shared: &Shared, waits_for_standby: bool) {
    let state = &shared.state;
    if shared.horizon.started() == 0 && !waits_for_standby {
        return;
    }
    let why = in_the_way(shared, waits_for_standby);
    process::show(&why.as_ref().map_or("gives ids".into(), |why| format!("no ids: {why}")));
    let now = clock::both().wall;
    let before = state.why();
    if why == before && (why.is_some() || state.has_begun()) {
        return;
    }
    state.set_why(why.as_deref());
    match (why, state.stopped()) {
        (Some(why), stopped) => {
            state.set_stopped(stopped.unwrap_or(now));
            log!("idgen: no ids: {why}");
        }
        (None, _) if state.begin() => {
            state.set_stopped(0);
            let machine =
                machine(shared, SERVER.max_machine()).map_or("none".into(), |(machine, _)| machine.to_string());
            let (horizon, clock) = (moment(shared.horizon.durable()), moment(shared.horizon.now()));
            log!("idgen: ids begin: machine id {machine}, horizon {horizon}, clock {clock}");
        }
        (None, stopped) => {
            state.set_stopped(0);
            log!("idgen: ids go on after {} ms", (now - stopped.unwrap_or(now)) / 1000);
        }
    }
}

/// Why `idgen_next()` gives no id now, or will give none soon.
pub fn obstacle(shared: &Shared) -> Option<String> {
    let boot = clock::boot();
    // SAFETY: may be asked at any time.
    if unsafe { pg_sys::RecoveryInProgress() } {
        return Some(message(Error::InRecovery));
    }
    let idle = boot - shared.horizon.clock().seen;
    if shared.horizon.worker_pid().is_none() {
        return Some(message(if has_no_origin(shared) { Error::NoOrigin } else { Error::NoWorker }));
    } else if shared.horizon.started() != 0 && idle > STANDS_STILL {
        return Some(format!("the background worker has stood still for {} seconds", idle / SECOND));
    }
    shared.state.why().or_else(|| in_the_way(shared, false))
}
