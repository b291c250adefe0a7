//! What SQL can call. Each function guards, calls and converts; sql/ says what it means.

use crate::{
    error::{Error, OrRaise},
    generator, machine_clock,
    mechanism::{Micros, SECOND, layout::SERVER},
    register, settings,
    shmem::{self, Repair, Shared},
    worker,
};
use pgrx::{pg_sys, prelude::*};

/// 2000-01-01, where a timestamptz counts from.
const POSTGRES_EPOCH: Micros = 946_684_800 * SECOND;

#[pg_extern]
fn idgen_next() -> i64 {
    generator::next().or_raise() as i64
}

#[pg_extern]
fn idgen_next_many(n: i32) -> SetOfIterator<'static, i64> {
    let wanted = u64::try_from(n).map_err(|_| Error::NegativeCount).or_raise();
    let mut ids = generator::Ids::new(wanted);
    SetOfIterator::new(std::iter::from_fn(move || ids.next().or_raise().map(|id| id as i64)))
}

#[pg_extern]
fn idgen_timestamp(id: i64) -> TimestampWithTimeZone {
    to_timestamptz(SERVER.timestamp_of(checked(id)))
}

#[pg_extern]
fn idgen_machine(id: i64) -> i32 {
    SERVER.machine_of(checked(id)) as i32
}

#[pg_extern]
fn idgen_sequence(id: i64) -> i64 {
    SERVER.sequence_of(checked(id)) as i64
}

#[pg_extern]
fn idgen_min_id(at: TimestampWithTimeZone) -> i64 {
    ids_at(at).0 as i64
}

#[pg_extern]
fn idgen_max_id(at: TimestampWithTimeZone) -> i64 {
    ids_at(at).1 as i64
}

#[pg_extern]
fn idgen_accept_clock() {
    worker::repair(primary(), Repair::AcceptClock).or_raise();
}

#[pg_extern]
fn idgen_raise_horizon(at: TimestampWithTimeZone) {
    ids_at(at);
    worker::repair(primary(), Repair::RaiseHorizon(from_timestamptz(at))).or_raise();
}

#[pg_extern]
#[allow(clippy::type_complexity)]
fn idgen_status() -> TableIterator<
    'static,
    (
        name!(machine_id, Option<i32>),
        name!(last_id, Option<i64>),
        name!(last_timestamp, Option<TimestampWithTimeZone>),
        name!(effective_clock, Option<TimestampWithTimeZone>),
        name!(clock_ahead, Option<Interval>),
        name!(clock_held, Option<Interval>),
        name!(horizon, Option<TimestampWithTimeZone>),
        name!(horizon_moves, i64),
        name!(horizon_waits, i64),
        name!(loan_sleeps, i64),
        name!(clock_steps, i64),
        name!(worker_pid, Option<i32>),
    ),
> {
    use std::sync::atomic::Ordering::Relaxed;
    let shared = shmem::shared().or_raise();
    let (clock, now) = (shared.clock(), machine_clock::both());
    let machine = Some(settings::MACHINE_ID.get()).filter(|id| *id >= 0);
    let running = shared.started() != 0;
    let last = machine.map(|id| SERVER.id(shared.server.last(), id as u64)).filter(|_| running);
    TableIterator::once((
        machine,
        last.map(|id| id as i64),
        last.map(|id| to_timestamptz(SERVER.timestamp_of(id))),
        running.then(|| to_timestamptz(clock.at(now.boot))),
        running.then(|| Interval::from_micros(clock.at(now.boot) - now.wall)),
        running.then(|| Interval::from_micros(clock.held)),
        Some(register::read()).filter(|at| *at != 0).map(to_timestamptz),
        shared.moves(),
        shared.horizon_waits.load(Relaxed),
        shared.loan_sleeps.load(Relaxed),
        clock.steps,
        shared.worker_pid(),
    ))
}

/// The shared words, on a server that is not in recovery.
fn primary() -> &'static Shared {
    let shared = shmem::shared().or_raise();
    // SAFETY: may be asked at any time.
    if unsafe { pg_sys::RecoveryInProgress() } {
        Error::InRecovery.raise();
    }
    shared
}

fn checked(id: i64) -> u64 {
    u64::try_from(id).map_err(|_| Error::NegativeId).or_raise()
}

fn ids_at(at: TimestampWithTimeZone) -> (u64, u64) {
    SERVER.ids_at(from_timestamptz(at)).ok_or(Error::OutsideLayout(SERVER)).or_raise()
}

fn from_timestamptz(at: TimestampWithTimeZone) -> Micros {
    pg_sys::TimestampTz::from(at).saturating_add(POSTGRES_EPOCH)
}

fn to_timestamptz(at: Micros) -> TimestampWithTimeZone {
    TimestampWithTimeZone::try_from(at - POSTGRES_EPOCH).map_err(|_| Error::OutsideLayout(SERVER)).or_raise()
}
