//! Giving out ids: the fast step, and how a call goes on that the fast step cannot serve.

pub mod copy;
pub mod counter;
pub mod drops;
pub mod find;
pub mod label;
pub mod strict;

use crate::{
    error::Error,
    mechanism::{
        Micros,
        allocator::{Refusal, Run, Words, leave_tick},
        definition::{Definition, Order},
        layout::{Layout, SERVER},
        loan,
    },
    postgres::{clock, latch, settings, wait_event::Wait},
    shared::{
        self, Shared,
        serving::{self, check_can_be_served},
        waiting,
    },
};
use find::{Generator, Kind, Stream, find, named};
use pgrx::pg_sys;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// How often a caller that waits for the lease of strict ids asks for it.
const LOOK: Micros = 100_000;

/// The next id of the server generator, if it can be had without waiting. Raises nothing.
#[inline(always)]
pub fn next_at_once() -> Option<u64> {
    let shared = shared::attached()?;
    let now = shared.horizon.now();
    let run = shared.places.server.take(&SERVER, now, now + shared.horizon.max_borrow(), 1).ok()?;
    Some(SERVER.id(run.first, run.machine))
}

/// The next id of the server generator.
pub fn next() -> Result<u64, Error> {
    let shared = shared::shared()?;
    let run = serving::noted(shared, take_of_server(shared, 1))?;
    Ok(SERVER.id(run.first, run.machine))
}

/// Takes up to `want` stamps of the server generator.
fn take_of_server(shared: &Shared, want: u64) -> Result<Run, Error> {
    let order = settings::order();
    if serving::is_remote(order) {
        strict::take(shared, 0, want)
    } else {
        take_waiting(shared, &shared.places.server, &SERVER, order, None, want)
    }
}

/// The next id of the generator that stands on `sequence`, if it is the one that this transaction used last, and it can
/// be had without waiting. Raises nothing.
#[inline(always)]
pub fn next_of_at_once(sequence: pg_sys::Oid) -> Option<u64> {
    let shared = shared::attached()?;
    let generator = find::current(sequence)?;
    let run = generator.take_at_once(shared, 1)?;
    Some(generator.id(&run))
}

/// The next id of the generator that stands on `sequence`.
pub fn next_of(sequence: pg_sys::Oid) -> Result<u64, Error> {
    let shared = shared::shared()?;
    let generator = find(sequence)?;
    find::make_current(&generator);
    let run = serving::noted(shared, generator.take(shared, 1))?;
    Ok(generator.id(&run))
}

/// Up to `want` stamps for another server: of the generator with this name, or of the server generator.
pub fn allocate(schema: &[u8], name: &[u8], definition: &str, want: u64) -> Result<Run, Error> {
    if name.is_empty() {
        let order = settings::order();
        return if order == Order::Strict {
            take_of_server(shared::shared()?, want)
        } else {
            Err(Error::OtherDefinition(format!("of order {order}")))
        };
    }
    let generator = named(schema, name, definition)?;
    if generator.definition.order == Order::Strict {
        generator.take(shared::shared()?, want)
    } else {
        Err(Error::OtherDefinition(generator.definition.to_string()))
    }
}

/// `n` increasing ids, taken in runs of consecutive stamps. Each run is one atomic operation, when the run before it is used
/// up.
pub struct Ids {
    /// None: the server generator.
    sequence: Option<pg_sys::Oid>,
    wanted: u64,
    given: u64,
    run: Run,
    layout: Layout,
    backend_part: u64,
}

impl Ids {
    pub fn new(sequence: Option<pg_sys::Oid>, wanted: u64) -> Self {
        let run = Run { first: 0, count: 0, machine: 0 };
        Ids { sequence, wanted, given: 0, run, layout: SERVER, backend_part: 0 }
    }

    /// The next id; None when all were given.
    pub fn next(&mut self) -> Result<Option<u64>, Error> {
        if self.run.count == 0 {
            if self.wanted == 0 {
                return Ok(None);
            }
            let shared = shared::shared()?;
            self.run = match self.sequence {
                None => serving::noted(shared, take_of_server(shared, self.wanted))?,
                Some(sequence) => {
                    let generator = find(sequence)?;
                    (self.layout, self.backend_part) = (generator.definition.layout, generator.backend_part);
                    // Values of a counter that are not used are lost: it takes at most as many at once as were used before.
                    let most = if self.layout.is_counter() { self.given.max(1) } else { u64::MAX };
                    serving::noted(shared, generator.take(shared, self.wanted.min(most)))?
                }
            };
            self.wanted -= self.run.count;
            self.given += self.run.count;
        }
        let id = self.layout.id(self.run.first, self.run.machine) | self.backend_part;
        self.run.first += 1;
        self.run.count -= 1;
        Ok(Some(id))
    }
}

impl Generator {
    fn id(&self, run: &Run) -> u64 {
        self.definition.layout.id(run.first, run.machine) | self.backend_part
    }

    /// Takes up to `want` stamps, if they can be had without waiting. Raises nothing.
    #[inline(always)]
    fn take_at_once(&self, shared: &Shared, want: u64) -> Option<Run> {
        if let Kind::Counter(counter) = &self.kind {
            return counter::take_at_once(self, counter, want);
        }
        let now = shared.horizon.now();
        let latest = now + shared.horizon.max_borrow();
        // A strict generator on a member has closed words: nothing is taken here.
        let own = match &self.kind {
            Kind::Stream(stream) => Some(&**stream),
            _ => None,
        };
        if own.is_some() && !shared.horizon.own_streams_active.load(Relaxed) {
            shared.horizon.own_streams_active.store(true, Relaxed);
        }
        take_permitted(shared, &self.place.words, &self.definition.layout, own, now, latest, want).ok()
    }

    /// Takes up to `want` stamps.
    fn take(&self, shared: &Shared, want: u64) -> Result<Run, Error> {
        if let Some(run) = self.take_at_once(shared, want) {
            return Ok(run);
        }
        let own = match &self.kind {
            Kind::Counter(counter) => return counter::take_with_new_block(shared, self, counter, want),
            Kind::Strict => return strict::take(shared, shared.places.generator_number(self.place), want),
            Kind::Stream(stream) => Some(&**stream),
            Kind::Clock => None,
        };
        let Definition { layout, order, .. } = &self.definition;
        take_waiting(shared, &self.place.words, layout, *order, own, want)
    }
}

/// Takes up to `want` stamps, from the stream `own` of this backend if there is one: see [`Words::take`].
///
/// Only its backend raises such a stream. The backend looks whether it must after it has read the bound, because whoever
/// opened the bound has moved `attach_at` before. Stamps that were taken too low are a gap.
#[inline(always)]
fn take_permitted(
    shared: &Shared,
    words: &Words,
    layout: &Layout,
    own: Option<&Stream>,
    now: Micros,
    latest: Micros,
    want: u64,
) -> Result<Run, Refusal> {
    let Some(stream) = own else { return words.take(layout, now, latest, want) };
    loop {
        let run = words.take_after::<false>(&stream.last, layout, now, latest, want)?;
        let attach_at = shared.places.attach_at();
        if stream.since.get() == attach_at {
            return Ok(run);
        }
        leave_tick(&stream.last, layout);
        stream.last.fetch_max(layout.stamp_at(attach_at).saturating_sub(1), Relaxed);
        stream.since.set(attach_at);
    }
}

/// As [`take_permitted`], but waits for the horizon, and sleeps until the loan is no more than is allowed, for no longer than
/// `idgen.wait_timeout` in all.
#[cold]
#[inline(never)]
fn take_waiting(
    shared: &Shared,
    words: &Words,
    layout: &Layout,
    order: Order,
    own: Option<&Stream>,
    want: u64,
) -> Result<Run, Error> {
    let (mut slept, mut waited, mut reason, mut lease_wanted) = (false, false, None, Micros::MIN / 2);
    let deadline = latch::deadline();
    let result = waiting::wait_for_move(shared, || {
        loop {
            let has_started = shared.horizon.started() != 0;
            let boot = clock::boot();
            let (now, floor, borrow) = (shared.horizon.clock().at(boot), words.floor(), shared.horizon.max_borrow());
            let latest = loan::latest(now, floor, boot, borrow);
            let due = match take_permitted(shared, words, layout, own, now, latest, want) {
                Ok(run) => return Ok(Some(run)),
                // Not a loan: the sleep would last until the epoch.
                Err(Refusal::Loan { .. }) if now < layout.epoch() => return Err(Error::BeforeEpoch),
                Err(Refusal::Loan { due }) => due,
                Err(Refusal::Bound) => {
                    let last = own.map_or_else(|| words.last(), |stream| stream.last.load(Relaxed));
                    let first = layout.stamp_at(now).max(last + 1);
                    count_once(&mut waited, &shared.horizon.waits);
                    reason = check_can_be_served(shared, layout, has_started, now, first)?;
                    if reason.is_some() || !has_started {
                        return Ok(None);
                    }
                    if order == Order::Strict && first >= layout.stamp_at(shared.horizon.lease().until) {
                        reason = Some(Error::NoLease);
                        // Not each time: when the worker is woken, it wakes everybody.
                        if now >= lease_wanted + LOOK {
                            lease_wanted = now;
                            shared.horizon.want_lease();
                        }
                        return Ok(None);
                    }
                    // A horizon cannot be taken back: none is asked for that may not be used yet.
                    let due = layout.tick_start(first);
                    if due <= latest {
                        shared.horizon.want_horizon(layout.tick_end(first));
                        return Ok(None);
                    }
                    due
                }
            };
            let time = loan::wait(due, now, floor, boot, borrow);
            if boot + time > deadline {
                return Err(Error::LoanTooLong { due: now + time });
            }
            count_once(&mut slept, &shared.horizon.loan_sleeps);
            latch::sleep(time, Wait::Loan);
            shared.state.slept.fetch_add(clock::boot() - boot, Relaxed);
        }
    });
    result.map_err(|error| match (error, reason) {
        (Error::HorizonTimeout, Some(reason)) => reason,
        (error, _) => error,
    })
}

fn count_once(done: &mut bool, counter: &AtomicI64) {
    if !std::mem::replace(done, true) {
        counter.fetch_add(1, Relaxed);
    }
}
