//! What SQL can call. Each function guards, calls and converts; sql/ says what it means.

use super::{POSTGRES_EPOCH, checked, from_timestamptz, timestamp, to_timestamptz};
use crate::{
    error::{Error, OrRaise},
    generator::{self, label},
    mechanism::{
        Micros, SECOND,
        definition::Definition,
        layout::{Layout, SERVER},
    },
    postgres::sequence,
    shared,
};
use pgrx::{pg_sys, prelude::*};

/// Defines a function without pgrx's guard, which costs more than the usual call. The quick part takes the arguments, gives a
/// result or none, and raises nothing; without a result the guarded part is called.
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
        // SAFETY: PostgreSQL hands in a valid call; sql/ declares every function that calls this with at least one argument.
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

/// The definition of a generator in parts, for `idgen_generators()`.
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

/// The parts of a definition that is given as text.
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

/// How many values of a counter were taken from its sequence; null if it is no counter, or the caller may not know.
#[pg_extern]
fn idgen_count(generator: pg_sys::Oid) -> Option<i64> {
    // Who only looks does not wait for one that drops it.
    sequence::count(generator, false, |_| is_counter(generator))
}

/// Up to which value a counter repeats what this server has given; null if it was not set back.
#[pg_extern]
fn idgen_repeats_until(generator: pg_sys::Oid) -> Option<i64> {
    let shared = shared::attached()?;
    // SAFETY: written when the backend connects to its database.
    let database = unsafe { pg_sys::MyDatabaseId };
    // What was given is looked at first: the sequence only goes on meanwhile.
    let mut went_to = 0;
    let count = sequence::count(generator, false, |file| {
        went_to = shared.places.counter_went_to(database, generator, file) as i64;
        is_counter(generator)
    })?;
    (count < went_to).then_some(went_to)
}

fn is_counter(generator: pg_sys::Oid) -> bool {
    label::definition(generator).is_ok_and(|definition| definition.layout.is_counter())
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

fn timed_layout_of(generator: pg_sys::Oid) -> Layout {
    let layout = layout_of(generator);
    if layout.is_counter() { Error::NoTime.raise() } else { layout }
}
