//! What SQL can call. Each function guards, calls and converts; sql/ says what it means.

use crate::{
    error::{Error, OrRaise},
    generator, label, machine_clock,
    mechanism::{
        Micros, SECOND,
        layout::{Layout, SERVER},
    },
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
    let wanted = checked_count(n);
    stream(generator::Ids::new(None, wanted))
}

#[pg_extern]
fn idgen_next_of(generator: pg_sys::Oid) -> i64 {
    generator::next_of(generator).or_raise() as i64
}

#[pg_extern]
fn idgen_next_many_of(generator: pg_sys::Oid, n: i32) -> SetOfIterator<'static, i64> {
    stream(generator::Ids::new(Some(generator), checked_count(n)))
}

#[pg_extern]
fn idgen_timestamp(id: i64) -> TimestampWithTimeZone {
    timestamp(SERVER, id)
}

#[pg_extern]
fn idgen_timestamp_of(id: i64, generator: pg_sys::Oid) -> TimestampWithTimeZone {
    timestamp(layout_of(generator), id)
}

#[pg_extern]
fn idgen_machine(id: i64) -> i32 {
    SERVER.machine_of(checked(SERVER, id)) as i32
}

#[pg_extern]
fn idgen_machine_of(id: i64, generator: pg_sys::Oid) -> i32 {
    let layout = layout_of(generator);
    layout.machine_of(checked(layout, id)) as i32
}

#[pg_extern]
fn idgen_backend_of(id: i64, generator: pg_sys::Oid) -> i32 {
    let layout = layout_of(generator);
    layout.backend_of(checked(layout, id)) as i32
}

#[pg_extern]
fn idgen_sequence(id: i64) -> i64 {
    SERVER.sequence_of(checked(SERVER, id)) as i64
}

#[pg_extern]
fn idgen_sequence_of(id: i64, generator: pg_sys::Oid) -> i64 {
    let layout = layout_of(generator);
    layout.sequence_of(checked(layout, id)) as i64
}

#[pg_extern]
fn idgen_min_id(at: TimestampWithTimeZone) -> i64 {
    ids_at(SERVER, at).0 as i64
}

#[pg_extern]
fn idgen_min_id_of(at: TimestampWithTimeZone, generator: pg_sys::Oid) -> i64 {
    ids_at(layout_of(generator), at).0 as i64
}

#[pg_extern]
fn idgen_max_id(at: TimestampWithTimeZone) -> i64 {
    ids_at(SERVER, at).1 as i64
}

#[pg_extern]
fn idgen_max_id_of(at: TimestampWithTimeZone, generator: pg_sys::Oid) -> i64 {
    ids_at(layout_of(generator), at).1 as i64
}

/// The definition of a generator in parts, for the view idgen_generators.
#[pg_extern]
#[allow(clippy::type_complexity)]
fn idgen_definition(
    generator: pg_sys::Oid,
) -> TableIterator<
    'static,
    (
        name!(definition, String),
        name!(epoch, Option<TimestampWithTimeZone>),
        name!(ends, Option<TimestampWithTimeZone>),
        name!(tick, Option<Interval>),
        name!(per_second, Option<f64>),
        name!(max_id, i64),
        name!(flush_every, Option<i64>),
    ),
> {
    let definition = label::definition(generator).or_raise();
    let layout = definition.layout;
    let clock = !layout.is_counter();
    // 294276 AD is the last year that PostgreSQL knows; a layout may last longer.
    let end = |at: Micros| TimestampWithTimeZone::try_from(at.saturating_sub(POSTGRES_EPOCH)).ok();
    TableIterator::once((
        definition.to_string(),
        clock.then(|| to_timestamptz(layout, layout.epoch())),
        end(layout.end()).filter(|_| clock),
        clock.then(|| Interval::from_micros(layout.tick())),
        clock.then(|| (layout.sequence_of(u64::MAX) + 1) as f64 * SECOND as f64 / layout.tick() as f64),
        layout.max_id() as i64,
        (!clock).then_some(i64::from(definition.flush_every)),
    ))
}

#[pg_extern]
fn idgen_accept_clock() {
    worker::repair(primary(), Repair::AcceptClock).or_raise();
}

#[pg_extern]
fn idgen_raise_horizon(at: TimestampWithTimeZone) {
    ids_at(SERVER, at);
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
        last.map(|id| timestamp(SERVER, id as i64)),
        running.then(|| to_timestamptz(SERVER, clock.at(now.boot))),
        running.then(|| Interval::from_micros(clock.at(now.boot) - now.wall)),
        running.then(|| Interval::from_micros(clock.held)),
        Some(register::read()).filter(|at| *at != 0).map(|at| to_timestamptz(SERVER, at)),
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
    generator::check_not_in_recovery().or_raise();
    shared
}

fn stream(mut ids: generator::Ids) -> SetOfIterator<'static, i64> {
    SetOfIterator::new(std::iter::from_fn(move || ids.next().or_raise().map(|id| id as i64)))
}

fn layout_of(generator: pg_sys::Oid) -> Layout {
    label::definition(generator).or_raise().layout
}

fn checked_count(n: i32) -> u64 {
    u64::try_from(n).map_err(|_| Error::NegativeCount).or_raise()
}

fn checked(layout: Layout, id: i64) -> u64 {
    match u64::try_from(id) {
        Err(_) => Error::NegativeId.raise(),
        Ok(id) if id > layout.max_id() => Error::IdTooLarge { max: layout.max_id() }.raise(),
        Ok(id) => id,
    }
}

fn timestamp(layout: Layout, id: i64) -> TimestampWithTimeZone {
    let at = layout.timestamp_of(checked(layout, id)).ok_or(Error::NoTime).or_raise();
    to_timestamptz(layout, at)
}

fn ids_at(layout: Layout, at: TimestampWithTimeZone) -> (u64, u64) {
    if layout.is_counter() {
        Error::NoTime.raise();
    }
    layout.ids_at(from_timestamptz(at)).ok_or(Error::OutsideLayout(layout)).or_raise()
}

fn from_timestamptz(at: TimestampWithTimeZone) -> Micros {
    pg_sys::TimestampTz::from(at).saturating_add(POSTGRES_EPOCH)
}

fn to_timestamptz(layout: Layout, at: Micros) -> TimestampWithTimeZone {
    TimestampWithTimeZone::try_from(at.saturating_sub(POSTGRES_EPOCH))
        .map_err(|_| Error::OutsideLayout(layout))
        .or_raise()
}
