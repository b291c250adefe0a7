//! What SQL can call. Each function guards, calls and converts; sql/ says what it means.

use crate::{
    error::{Error, OrRaise},
    generator, label, machine_clock,
    mechanism::{
        Micros, SECOND,
        definition::Definition,
        layout::{Layout, SERVER},
    },
    register, sequence, settings,
    shmem::{self, Repair, Shared},
    state, worker,
};
use pgrx::{pg_sys, prelude::*};

/// 2000-01-01, where a timestamptz counts from.
const POSTGRES_EPOCH: Micros = 946_684_800 * SECOND;

/// Defines what SQL calls in the usual case without pgrx's guard, which costs more than the function: the quick part
/// takes the arguments and gives a result or none, and raises nothing; without a result the guarded part is called.
macro_rules! quick_function {
    ($name:ident, $info:ident, $quick:expr, $guarded:expr) => {
        #[unsafe(no_mangle)]
        extern "C" fn $info() -> &'static pg_sys::Pg_finfo_record {
            &pg_sys::Pg_finfo_record { api_version: 1 }
        }

        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            #[cold]
            #[inline(never)]
            #[pg_guard]
            unsafe extern "C-unwind" fn guarded(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
                let guarded: fn(Arguments) -> i64 = $guarded;
                guarded(Arguments(call)).into()
            }
            let quick: fn(Arguments) -> Option<i64> = $quick;
            match quick(Arguments(call)) {
                Some(result) => result.into(),
                // SAFETY: the call that PostgreSQL made.
                None => unsafe { guarded(call) },
            }
        }
    };
}

/// The arguments of a call of a STRICT function: none is null.
#[derive(Clone, Copy)]
struct Arguments(pg_sys::FunctionCallInfo);

impl Arguments {
    /// The first argument.
    #[inline(always)]
    fn first(self) -> pg_sys::Datum {
        // SAFETY: PostgreSQL hands in a valid call; sql/ declares every function that asks with at least one argument.
        unsafe { (*(*self.0).args.as_ptr()).value }
    }

    #[inline(always)]
    fn id(self) -> i64 {
        self.first().value() as i64
    }

    #[inline(always)]
    fn generator(self) -> pg_sys::Oid {
        pg_sys::Oid::from_u32(self.first().value() as u32)
    }

    #[inline(always)]
    fn at(self) -> Micros {
        (self.first().value() as i64).saturating_add(POSTGRES_EPOCH)
    }
}

quick_function!(
    idgen_next_wrapper,
    pg_finfo_idgen_next_wrapper,
    |_| generator::next_at_once().map(|id| id as i64),
    |_| generator::next().or_raise() as i64
);
quick_function!(
    idgen_next_of_wrapper,
    pg_finfo_idgen_next_of_wrapper,
    |call| generator::next_of_at_once(call.generator()).map(|id| id as i64),
    |call| generator::next_of(call.generator()).or_raise() as i64
);
quick_function!(
    idgen_timestamp_wrapper,
    pg_finfo_idgen_timestamp_wrapper,
    |call| u64::try_from(call.id()).ok().and_then(|id| SERVER.timestamp_of(id)).map(|at| at - POSTGRES_EPOCH),
    |_| Error::NegativeId.raise()
);
quick_function!(
    idgen_machine_wrapper,
    pg_finfo_idgen_machine_wrapper,
    |call| u64::try_from(call.id()).ok().map(|id| SERVER.machine_of(id) as i64),
    |_| Error::NegativeId.raise()
);
quick_function!(
    idgen_sequence_wrapper,
    pg_finfo_idgen_sequence_wrapper,
    |call| u64::try_from(call.id()).ok().map(|id| SERVER.sequence_of(id) as i64),
    |_| Error::NegativeId.raise()
);
quick_function!(
    idgen_min_id_wrapper,
    pg_finfo_idgen_min_id_wrapper,
    |call| Some(SERVER.min_id_at(call.at()) as i64),
    |_| 0
);
quick_function!(idgen_max_id_wrapper, pg_finfo_idgen_max_id_wrapper, |call| Some(SERVER.max_id_at(call.at())), |_| 0);

#[pg_extern]
fn idgen_next_many(n: i32) -> SetOfIterator<'static, i64> {
    let wanted = checked_count(n);
    stream(generator::Ids::new(None, wanted))
}

#[pg_extern]
fn idgen_next_many_of(generator: pg_sys::Oid, n: i32) -> SetOfIterator<'static, i64> {
    stream(generator::Ids::new(Some(generator), checked_count(n)))
}

#[pg_extern]
fn idgen_timestamp_of(id: i64, generator: pg_sys::Oid) -> TimestampWithTimeZone {
    timestamp(layout_of(generator), id)
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
fn idgen_sequence_of(id: i64, generator: pg_sys::Oid) -> i64 {
    let layout = layout_of(generator);
    layout.sequence_of(checked(layout, id)) as i64
}

#[pg_extern]
fn idgen_min_id_of(at: TimestampWithTimeZone, generator: pg_sys::Oid) -> i64 {
    timed_layout_of(generator).min_id_at(from_timestamptz(at)) as i64
}

#[pg_extern]
fn idgen_max_id_of(at: TimestampWithTimeZone, generator: pg_sys::Oid) -> i64 {
    timed_layout_of(generator).max_id_at(from_timestamptz(at))
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
    describe(label::definition(generator).or_raise())
}

/// The same of a definition as text.
#[pg_extern]
#[allow(clippy::type_complexity)]
fn idgen_describe(
    definition: &[u8],
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
    let definition: Result<Definition, _> = String::from_utf8_lossy(definition).parse();
    describe(definition.map_err(Error::BadDefinition).or_raise())
}

type Parts = (
    String,
    Option<TimestampWithTimeZone>,
    Option<TimestampWithTimeZone>,
    Option<Interval>,
    Option<f64>,
    i64,
    Option<i64>,
);

fn describe(definition: Definition) -> TableIterator<'static, Parts> {
    let layout = definition.layout;
    let clock = !layout.is_counter();
    // 294276 AD is the last year that PostgreSQL knows; a layout may last longer.
    let end = i64::try_from(layout.end() - i128::from(POSTGRES_EPOCH)).ok();
    TableIterator::once((
        definition.to_string(),
        clock.then(|| to_timestamptz(layout, layout.epoch())),
        end.and_then(|end| TimestampWithTimeZone::try_from(end).ok()).filter(|_| clock),
        clock.then(|| Interval::from_micros(layout.tick())),
        clock.then(|| (layout.sequence_of(u64::MAX) + 1) as f64 * SECOND as f64 / layout.tick() as f64),
        layout.max_id() as i64,
        (!clock).then_some(i64::from(definition.flush_every)),
    ))
}

/// How many values of a counter were taken from its sequence; null if it is none, or who asks may not know.
#[pg_extern]
fn idgen_count(generator: pg_sys::Oid) -> Option<i64> {
    sequence::count(generator)
}

#[pg_extern]
fn idgen_accept_clock() {
    worker::repair(primary(), Repair::AcceptClock).or_raise();
}

#[pg_extern]
fn idgen_raise_horizon(at: TimestampWithTimeZone) {
    SERVER.ids_at(from_timestamptz(at)).ok_or(Error::OutsideLayout(SERVER)).or_raise();
    worker::repair(primary(), Repair::RaiseHorizon(from_timestamptz(at))).or_raise();
}

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
    let shared = shmem::shared().or_raise();
    let (clock, now, state) = (shared.clock(), machine_clock::both(), &shared.state);
    let machine = shared.machine(SERVER.max_machine()).ok().map(|(machine, _)| machine as i32);
    let running = shared.started() != 0;
    let last = machine.map(|id| SERVER.id(shared.server.last(), id as u64)).filter(|_| running);
    let at = |at: Micros| Some(at).filter(|at| *at != 0).map(|at| to_timestamptz(SERVER, at));
    // What was raised is ahead too, whatever the clock is.
    let ahead = clock.at(now.boot).max(SERVER.tick_start(shared.server.last())) - now.wall;
    let refusal = Some(state.last_refusal.load(Relaxed)).filter(|code| *code != 0);
    TableIterator::once((
        env!("CARGO_PKG_VERSION"),
        machine,
        state::obstacle(shared),
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
        shared.moves(),
        shared.horizon_waits.load(Relaxed),
        shared.loan_sleeps.load(Relaxed),
        seconds(state.slept.load(Relaxed)),
        state.refusals.load(Relaxed),
        refusal.map(sqlstate),
        at(state.last_refused.load(Relaxed)),
        state.not_kept().map(|at| to_timestamptz(SERVER, at)),
        shared.generators_in_use() as i32,
        shared.worker_pid(),
    ))
}

fn seconds(time: Micros) -> f64 {
    time as f64 / SECOND as f64
}

/// As text: five digits and letters.
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
    let shared = shmem::shared().or_raise();
    let (host, connected, round_trip) = shared.member.state(shared);
    let grant = shared.grant();
    let at = |at: Micros| TimestampWithTimeZone::try_from(at.saturating_sub(POSTGRES_EPOCH)).ok();
    TableIterator::once((
        host,
        connected,
        round_trip.map(Interval::from_micros),
        round_trip.map(seconds),
        shared.member.error(shared),
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
    let lines = shmem::shared().or_raise().peer_lines();
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

/// What a peer asks.
#[pg_extern]
fn idgen_gossip(cluster: &[u8], message: &[u8]) -> Option<String> {
    let shared = primary();
    if settings::cluster().as_bytes() != cluster {
        Error::OtherCluster.raise();
    }
    shared.answer_peer(&String::from_utf8_lossy(message)).or_raise()
}

#[pg_extern]
fn idgen_take_over() {
    let shared = primary();
    if shared.gossip.process.pid().is_none() {
        Error::NoPeers.raise();
    }
    worker::wait_until_done(shared, || shared.take_over()).or_raise();
}

#[pg_extern]
fn idgen_observe(id: i64) {
    let shared = primary();
    let reach = SERVER.tick_end(SERVER.stamp_of(checked(SERVER, id)));
    if reach > machine_clock::both().wall.saturating_add(settings::max_clock_offset()) {
        Error::ObservedTooFarAhead.raise();
    }
    shared.observe(reach);
}

#[pg_extern]
fn idgen_release_machine() {
    let shared = primary();
    if settings::MACHINE_ID.get() >= 0 || settings::authority().is_none() {
        Error::NotGranted.raise();
    }
    /// Who goes before it is given back calls it off.
    struct Wanted<'a>(&'a Shared);
    impl Drop for Wanted<'_> {
        fn drop(&mut self) {
            if !self.0.member.is_released() {
                self.0.member.want_release(false);
            }
        }
    }
    shared.member.want_release(true);
    let wanted = Wanted(shared);
    let released = worker::wait_for_move(shared, || Ok(shared.member.is_released().then_some(())));
    drop(wanted);
    released.map_err(|_| Error::ReleaseTimeout).or_raise();
}

#[pg_extern]
fn idgen_take_machine() {
    primary().member.want_release(false);
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

fn timed_layout_of(generator: pg_sys::Oid) -> Layout {
    let layout = layout_of(generator);
    if layout.is_counter() { Error::NoTime.raise() } else { layout }
}

fn from_timestamptz(at: TimestampWithTimeZone) -> Micros {
    pg_sys::TimestampTz::from(at).saturating_add(POSTGRES_EPOCH)
}

fn to_timestamptz(layout: Layout, at: Micros) -> TimestampWithTimeZone {
    TimestampWithTimeZone::try_from(at.saturating_sub(POSTGRES_EPOCH))
        .map_err(|_| Error::OutsideLayout(layout))
        .or_raise()
}
