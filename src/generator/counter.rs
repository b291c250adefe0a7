//! Counters: a sequence from which blocks of `flush_every` values are taken. The block is in shared memory, the sequence is
//! its durable mark. Its page is changed as nextval() changes it, but logged with exactly the end of the block, and flushed
//! to disk and to the synchronous standbys before the first value is given out.
//!
//! Unlike nextval() this works in READ ONLY transactions and in parallel workers, needs no transaction id, and skips
//! nothing but the rest of a block after a crash.
//!
//! One backend at a time takes a block, under the sequence's relation extension lock, which the end of the transaction always
//! releases. The others look again every few milliseconds, so each keeps its own deadline. When half of a block is used up,
//! the next one is logged, and the worker makes it durable while the other half lasts: steady use waits for no disk. A caller
//! that is faster than the disk waits for two blocks at once. At most two blocks are in flight, and a stop loses at most the
//! rest of them.

use super::find::{Blocks, Counter, Generator, Kind};
use crate::{
    error::Error,
    mechanism::{Micros, allocator::Run},
    postgres::{
        clock, faults, latch, register,
        sequence::{Locked, Next, advance},
        settings,
        wait_event::Wait,
    },
    shared::{
        Shared,
        place::Refusal,
        serving::{self, check_not_in_recovery},
        waiting,
    },
};
use pgrx::prelude::*;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// How long a backend sleeps between two looks while another one takes a block.
const LOOK: Micros = 2_000;

/// Takes up to `want` values of the block in use. None: it is used up, the sequence has another file by now, or the next
/// block must be logged first. Raises nothing.
#[inline(always)]
pub fn take_at_once(generator: &Generator, counter: &Counter, want: u64) -> Option<Run> {
    let place = generator.place;
    if place.file.load(Acquire) != counter.file || matches!(counter.blocks, Blocks::Own { .. }) && needs_next(generator)
    {
        return None;
    }
    place.words.take(&generator.definition.layout, Micros::MIN, Micros::MAX, want).ok()
}

/// Whether half of the block is used up and there is none after it.
#[inline(always)]
fn needs_next(generator: &Generator) -> bool {
    let words = &generator.place.words;
    let left = words.limit(&generator.definition.layout).saturating_sub(words.last() + 1);
    left < u64::from(generator.definition.flush_every) / 2 && generator.place.next().is_none()
}

/// Takes up to `want` values, of a new block if need be, and has the next one logged in time.
#[cold]
#[inline(never)]
pub fn take_with_new_block(shared: &Shared, generator: &Generator, counter: &Counter, want: u64) -> Result<Run, Error> {
    check_not_in_recovery()?;
    // A granted machine id does not do: another server may have counted with it before.
    let max_machine = generator.definition.layout.max_machine();
    let machine = serving::own_machine(max_machine)?;
    let deadline = latch::deadline();
    loop {
        if max_machine != 0 {
            if let Some(rival) = shared.gossip.rival() {
                return Err(rival);
            } else if shared.gossip.first_round(&shared.horizon.lease()).is_some() {
                wait_until(deadline, || Error::BlockTimeout("the first round of gossip"))?;
                continue;
            }
        }
        if let Some(run) = take_from_block(generator, counter, want) {
            if let Blocks::Own { max } = counter.blocks
                && needs_next(generator)
            {
                look_ahead(shared, generator, counter, max);
            }
            return Ok(run);
        }
        let Blocks::Own { max } = counter.blocks else {
            if settings::authority().is_none() {
                return Err(Error::NoAuthority);
            }
            take_leased(shared, generator, counter, deadline)?;
            continue;
        };
        let Some(relation) = Locked::try_new(generator.sequence) else {
            wait_until(deadline, || Error::BlockTimeout("another session that takes a block"))?;
            continue;
        };
        // Another backend may have taken a block before this one had the lock.
        if let Some(run) = take_from_block(generator, counter, want) {
            return Ok(run);
        }
        take_block(shared, generator, counter, max, &relation, machine, deadline)?;
    }
}

/// Sleeps a little, if the deadline has not come.
fn wait_until(deadline: Micros, late: impl Fn() -> Error) -> Result<(), Error> {
    if clock::boot() >= deadline {
        return Err(late());
    }
    latch::sleep(LOOK, Wait::Block);
    Ok(())
}

/// Takes up to `want` values of the block in use. None: it is used up, or the sequence has another file by now.
fn take_from_block(generator: &Generator, counter: &Counter, want: u64) -> Option<Run> {
    let same_file = generator.place.file.load(Acquire) == counter.file;
    same_file.then(|| generator.place.words.take(&generator.definition.layout, Micros::MIN, Micros::MAX, want).ok())?
}

/// Logs the block after the one in use ahead of need, and leaves it to the worker to make it durable. Errors are dropped: the
/// caller that needs the block will meet them.
#[cold]
#[inline(never)]
fn look_ahead(shared: &Shared, generator: &Generator, counter: &Counter, max: u64) {
    let Some(relation) = Locked::try_new(generator.sequence) else { return };
    if generator.place.next().is_none()
        && generator.place.file.load(Relaxed) == counter.file
        && let Ok(next) = next_block(generator, counter, max, &relation)
    {
        shared.places.keep_next(generator.place, next);
        shared.places.want_flush();
        shared.horizon.wake_worker();
    }
}

/// A block of up to `size` values for another server, durable and on the synchronous standbys.
pub fn lease(shared: &Shared, generator: &Generator, size: u64) -> Result<Next, Error> {
    let Kind::Counter(Counter { blocks: Blocks::Own { max }, .. }) = generator.kind else {
        return Err(Error::NotACounter);
    };
    let deadline = latch::deadline();
    loop {
        if let Some(relation) = Locked::try_new(generator.sequence) {
            let block = advance(&relation, max, size, |_| Ok(()))?;
            drop(relation);
            faults::point("lease:logged");
            waiting::wait_until_durable(shared, block.record)?;
            return Ok(block);
        }
        wait_until(deadline, || Error::BlockTimeout("another session that takes a block"))?;
    }
}

/// Goes on to the block that the member worker has leased, or waits for it.
fn take_leased(shared: &Shared, generator: &Generator, counter: &Counter, deadline: Micros) -> Result<(), Error> {
    let place = generator.place;
    match shared.places.take_next(place) {
        Some(next) => {
            // The values are the authority's; the local file says only whether the place was used before.
            _ = shared.places.use_block(place, counter.file, next, 0, false, || false);
            shared.horizon.wake_waiting();
            shared.member.wake_if_idle();
        }
        None => {
            match place.refusal() {
                Refusal::None => {}
                Refusal::Exhausted => return Err(Error::CounterExhausted),
                Refusal::Other => return Err(Error::AuthorityRefused(shared.member.error())),
            }
            let left = deadline - clock::boot();
            if left <= 0 {
                return Err(shared.member.error().map_or(Error::AuthorityTimeout, Error::AuthorityAway));
            }
            shared.member.wake_if_idle();
            shared.horizon.sleep_until_moved(left, Wait::Block);
            shared.horizon.end_sleep();
        }
    }
    Ok(())
}

/// Takes a block, makes it durable, and opens the counter for it.
fn take_block(
    shared: &Shared,
    generator: &Generator,
    counter: &Counter,
    max: u64,
    relation: &Locked,
    machine: u64,
    deadline: Micros,
) -> Result<(), Error> {
    let (place, layout) = (generator.place, &generator.definition.layout);
    // Others that are named while it waits may not have the block: the call begins again.
    let named_at = shared.horizon.named_at();
    let same_file = place.file.load(Relaxed) == counter.file;
    let is_durable = |record| register::is_flushed(record) && shared.horizon.is_acknowledged(record);
    let kept = shared.places.take_next(place).filter(|next| next.file == counter.file);
    let block = match kept {
        Some(next) if !is_durable(next.record) => with_following(generator, counter, max, relation, next),
        Some(next) => next,
        // The worker has just opened the kept block: another one would skip it.
        None if same_file && place.words.limit(layout) > place.words.last() + 1 => return Ok(()),
        // One block, however many values a call wants: those that it does not use would be lost.
        None => next_block(generator, counter, max, relation)?,
    };
    // However the wait ends, the next caller finds the block here.
    shared.places.keep_next(place, block);
    register::flush(block.record);
    while !is_durable(block.record) {
        if clock::boot() >= deadline {
            let error = Error::BlockTimeout("its block to be on disk, or on the synchronous standby");
            return Err(waiting::late(shared, error));
        }
        latch::sleep(1_000, Wait::Durable);
    }
    // The worker may have opened it meanwhile.
    if shared.places.take_next(place).is_none() {
        return Ok(());
    }
    let went_to = place.went_to(counter.file);
    if block.first <= went_to {
        ereport!(
            PgLogLevel::WARNING,
            PgSqlErrorCode::ERRCODE_WARNING,
            "the counter was set back and may repeat values",
            format!("It went on to {went_to} before, and now goes on from {}.", block.first)
        );
    }
    let set_back = !same_file || block.first <= went_to;
    let is_rivalled = || layout.max_machine() != 0 && shared.gossip.is_rivalled();
    let is_refused = || is_rivalled() || shared.horizon.named_at() != named_at;
    if shared.places.use_block(place, counter.file, block, machine, set_back, is_refused) {
        return Ok(());
    }
    shared.places.keep_next(place, block);
    shared.gossip.rival().filter(|_| layout.max_machine() != 0).map_or(Ok(()), Err)
}

/// A caller that needs a block before it is durable is faster than the disk, and waits for two at once: `next` and the one
/// after it. Only for `next` if that is two already, or if others have moved the sequence between them.
fn with_following(generator: &Generator, counter: &Counter, max: u64, relation: &Locked, next: Next) -> Next {
    if next.limit - next.first > u64::from(generator.definition.flush_every) {
        return next;
    }
    match next_block(generator, counter, max, relation) {
        Ok(following) if following.first == next.limit => Next { first: next.first, ..following },
        _ => next,
    }
}

/// The block that comes next in the sequence, logged.
fn next_block(generator: &Generator, counter: &Counter, max: u64, relation: &Locked) -> Result<Next, Error> {
    advance(relation, max, u64::from(generator.definition.flush_every), |first| {
        check_is_count(generator, counter, first)
    })
}

/// Refuses to go on after an id. Tools "reset the sequence to the highest key", which sets a counter with machine bits to a
/// multiple of its count: a few times, and the counter is used up. Such a reset is recognized by this: the sequence stands
/// far from where this server left it, at an id that this server gave out.
fn check_is_count(generator: &Generator, counter: &Counter, first: u64) -> Result<(), Error> {
    let (words, layout) = (&generator.place.words, &generator.definition.layout);
    let id = first - 1;
    let (count, machine) = (layout.stamp_of(id), layout.machine_of(id));
    let went_to = generator.place.went_to(counter.file);
    let far = id / 2 > words.limit(layout).max(went_to);
    if layout.max_machine() != 0 && far && (1..=went_to).contains(&count) && machine == words.machine(layout) {
        return Err(Error::SetToAnId { id, count });
    }
    Ok(())
}
