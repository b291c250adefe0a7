//! What SQL can look at: this server, its authority and its peers.

use super::{POSTGRES_EPOCH, timestamp, to_timestamptz};
use crate::{
    error::OrRaise,
    mechanism::{Micros, SECOND, layout::SERVER},
    postgres::{clock, keys, register, sequence, settings},
    shared::{self, serving},
};
use pgrx::prelude::*;
use std::ffi::CStr;

#[pg_extern]
#[allow(clippy::type_complexity)]
fn idgen_status() -> TableIterator<
    'static,
    (
        name!(version, &'static str),
        name!(machine_id, Option<i32>),
        name!(obstacle, Option<String>),
        name!(stopped_since, Option<TimestampWithTimeZone>),
        name!(last_id, Option<i64>),
        name!(last_timestamp, Option<TimestampWithTimeZone>),
        name!(effective_clock, Option<TimestampWithTimeZone>),
        name!(clock_ahead, Option<Interval>),
        name!(clock_ahead_seconds, Option<f64>),
        name!(clock_held, Option<Interval>),
        name!(clock_held_seconds, Option<f64>),
        name!(clock_steps, i64),
        name!(last_clock_step, Option<TimestampWithTimeZone>),
        name!(horizon, Option<TimestampWithTimeZone>),
        name!(horizon_moves, i64),
        name!(horizon_waits, i64),
        name!(loan_sleeps, i64),
        name!(slept_seconds, f64),
        name!(refusals, i64),
        name!(last_refusal, Option<String>),
        name!(last_refused, Option<TimestampWithTimeZone>),
        name!(not_kept_since, Option<TimestampWithTimeZone>),
        name!(generators_in_use, i32),
        name!(worker_pid, Option<i32>),
    ),
> {
    use std::sync::atomic::Ordering::Relaxed;
    let shared = shared::shared().or_raise();
    let (now, state) = (clock::both(), &shared.state);
    let clock = shared.horizon.clock();
    let machine = serving::machine(shared, SERVER.max_machine()).ok().map(|(machine, _)| machine as i32);
    let running = shared.horizon.started() != 0;
    let gives = running && !serving::is_remote(settings::order());
    let last = machine.map(|id| SERVER.id(shared.places.server.last(), id as u64)).filter(|_| gives);
    let at = |at: Micros| Some(at).filter(|at| *at != 0).map(|at| to_timestamptz(SERVER, at));
    // Stamps that a repair raised are ahead too, whatever the clock is.
    let ahead = clock.at(now.boot).max(SERVER.tick_start(shared.places.server.last())) - now.wall;
    let refusal = Some(state.last_refusal.load(Relaxed)).filter(|code| *code != 0);
    TableIterator::once((
        env!("CARGO_PKG_VERSION"),
        machine,
        serving::obstacle(shared),
        state.stopped().map(|at| to_timestamptz(SERVER, at)),
        last.map(|id| id as i64),
        last.map(|id| timestamp(SERVER, id as i64)),
        running.then(|| to_timestamptz(SERVER, clock.at(now.boot))),
        running.then(|| Interval::from_micros(ahead)),
        running.then(|| seconds(ahead)),
        running.then(|| Interval::from_micros(clock.held)),
        running.then(|| seconds(clock.held)),
        clock.steps,
        at(if clock.steps == 0 { 0 } else { now.wall - (now.boot - clock.stepped) }),
        at(register::read()),
        shared.horizon.moves(),
        shared.horizon.waits.load(Relaxed),
        shared.horizon.loan_sleeps.load(Relaxed),
        seconds(state.slept.load(Relaxed)),
        state.refusals.load(Relaxed),
        refusal.map(sqlstate),
        at(state.last_refused.load(Relaxed)),
        state.not_kept().map(|at| to_timestamptz(SERVER, at)),
        shared.places.generators_in_use() as i32,
        shared.horizon.worker_pid(),
    ))
}

fn seconds(time: Micros) -> f64 {
    time as f64 / SECOND as f64
}

/// The SQLSTATE as text: five digits and letters.
fn sqlstate(code: i32) -> String {
    (0..5).map(|place| ((code >> (6 * place) & 0x3f) as u8 + b'0') as char).collect()
}

#[pg_extern]
#[allow(clippy::type_complexity)]
fn idgen_authority() -> TableIterator<
    'static,
    (
        name!(host, Option<String>),
        name!(connected, bool),
        name!(round_trip, Option<Interval>),
        name!(round_trip_seconds, Option<f64>),
        name!(error, Option<String>),
        name!(machine_id, Option<i32>),
        name!(epoch, Option<i64>),
        name!(starts, Option<TimestampWithTimeZone>),
        name!(ends, Option<TimestampWithTimeZone>),
        name!(worker_pid, Option<i32>),
    ),
> {
    let shared = shared::shared().or_raise();
    let (host, connected, round_trip) = shared.member.state();
    let grant = shared.grant.held();
    let at = |at: Micros| TimestampWithTimeZone::try_from(at.saturating_sub(POSTGRES_EPOCH)).ok();
    TableIterator::once((
        host,
        connected,
        round_trip.map(Interval::from_micros),
        round_trip.map(seconds),
        shared.member.error(),
        grant.map(|grant| grant.machine as i32),
        grant.map(|grant| grant.epoch as i64),
        grant.and_then(|grant| at(grant.from)),
        grant.and_then(|grant| at(grant.until)),
        shared.member.process.pid(),
    ))
}

/// The state of each peer, and of servers that peers have heard of.
#[pg_extern]
#[allow(clippy::type_complexity)]
fn idgen_peers() -> TableIterator<
    'static,
    (
        name!(host, Option<String>),
        name!(server, Option<String>),
        name!(machine_id, Option<i32>),
        name!(state, String),
        name!(clock_offset, Option<Interval>),
        name!(clock_offset_seconds, Option<f64>),
        name!(round_trip, Option<Interval>),
        name!(round_trip_seconds, Option<f64>),
        name!(last_heard, Option<Interval>),
        name!(last_heard_seconds, Option<f64>),
        name!(order_bound, Option<Interval>),
        name!(order_bound_seconds, Option<f64>),
        name!(error, Option<String>),
    ),
> {
    let lines = shared::shared().or_raise().gossip.lines();
    let row = |line: &str| {
        let mut words = line.split('\t').map(|word| Some(word.to_owned()).filter(|word| word != "-"));
        let mut next = || words.next().flatten();
        let (host, server, machine, state) = (next(), next(), next(), next());
        let mut time = || {
            let micros: Option<Micros> = next().and_then(|text| text.parse().ok());
            (micros.map(Interval::from_micros), micros.map(seconds))
        };
        let [offset, round_trip, heard, bound] = [time(), time(), time(), time()];
        let machine = machine.and_then(|machine| machine.parse().ok());
        let state = state.unwrap_or_default();
        (
            host,
            server,
            machine,
            state,
            offset.0,
            offset.1,
            round_trip.0,
            round_trip.1,
            heard.0,
            heard.1,
            bound.0,
            bound.1,
            next(),
        )
    };
    TableIterator::new(lines.lines().map(row).collect::<Vec<_>>())
}

/// For `idgen_doctor()`: the largest key in this column of the table itself, if the sequence does not stand above it.
#[pg_extern]
fn idgen_key_beyond(relation: pg_sys::Oid, column: &CStr, sequence: pg_sys::Oid) -> Option<i64> {
    let key = keys::largest(relation, column)?;
    let used = sequence::count(sequence, true, |_| true)?;
    (key > used).then_some(key)
}
