//! What an authority does for its members: it keeps the book of grants, and gives out strict ids and blocks. Members call
//! these SQL functions over their connection.

mod book;
mod table;

use crate::{
    error::{Error, OrRaise, beginning},
    generator::{self, counter, find},
    mechanism::SECOND,
    postgres::{clock, faults, latch, settings, wait_event::Wait},
    protocol::grants::Question,
    shared::{
        self, Shared,
        book::QUESTION,
        serving::check_not_in_recovery,
        waiting::{Guarded, PATIENCE},
    },
};
use pgrx::{pg_sys, prelude::*};
use std::ffi::{CStr, CString};

/// The most stamps that one request gets; the member asks again for the rest.
const MAX_BATCH: u64 = 65_536;

/// Strict ids: up to `want` stamps, as "first count machine".
#[pg_extern]
fn idgen_allocate(cluster: &[u8], schema: &[u8], name: &[u8], definition: &[u8], want: i64) -> String {
    authority(cluster);
    let want = u64::try_from(want).unwrap_or(0).clamp(1, MAX_BATCH);
    let run = generator::allocate(schema, name, &beginning(definition), want).or_raise();
    faults::point("allocate:taken");
    format!("{} {} {}", run.first, run.count, run.machine)
}

/// A block of up to `want` values, durable, as "first limit".
#[pg_extern]
fn idgen_lease_block(cluster: &[u8], schema: &[u8], name: &[u8], definition: &[u8], want: i64) -> String {
    let shared = authority(cluster);
    let most = settings::MAX_BLOCK.get() as u64;
    let want = u64::try_from(want).unwrap_or(0).clamp(1, most);
    let counter = find::named(schema, name, &beginning(definition)).or_raise();
    let block = counter::lease(shared, &counter, want).or_raise();
    faults::point("lease:durable");
    format!("{} {}", block.first, block.limit)
}

/// The answer to a question for a machine id, as [`grants::Answer`] writes it, once it is durable.
#[pg_extern]
fn idgen_grant_machine(cluster: &[u8], question: &[u8], host: &[u8]) -> String {
    let shared = authority(cluster);
    if settings::authority().is_some() {
        Error::MemberAsAuthority.raise();
    }
    // Before the first move of the horizon neither the clock is known, nor since when members can show what they hold.
    if shared.horizon.started() == 0 {
        Error::BookTimeout.raise();
    }
    let question = String::from_utf8_lossy(question);
    if question.len() > QUESTION {
        Error::NotAMessage(format!("there are more than {QUESTION} bytes")).raise();
    }
    question.parse::<Question>().map_err(Error::NotAMessage).or_raise();
    ask(shared, &question, &beginning(host)).or_raise()
}

/// The shared words of a server that may allocate for members of `cluster`.
fn authority(cluster: &[u8]) -> &'static Shared {
    let shared = shared::shared().or_raise();
    check_not_in_recovery().or_raise();
    // Only one database has the book: two books would grant a machine id twice.
    if settings::authority_database() != Some(own_database()) {
        Error::NotAnAuthority.raise();
    }
    if settings::cluster().as_bytes() != cluster {
        Error::OtherCluster.raise();
    }
    shared
}

fn own_database() -> CString {
    // SAFETY: the database that this session is connected to: its name is there, and copied.
    unsafe { CStr::from_ptr(pg_sys::get_database_name(pg_sys::MyDatabaseId)).to_owned() }
}

/// The worker's answer to a question, or why there is none.
fn ask(shared: &Shared, question: &str, host: &str) -> Result<String, Error> {
    // SAFETY: state of this session.
    let role = u32::from(unsafe { pg_sys::GetSessionUserId() });
    let (entry, asking) = shared.book.ask(role, question, host).ok_or(Error::BookTimeout)?;
    let guarded = Guarded::new(asking);
    let deadline = clock::boot() + PATIENCE * 3 / 2;
    while !guarded.asking.is_done() {
        if clock::boot() >= deadline {
            return Err(Error::BookTimeout);
        }
        shared.book.process.launch("idgen book", "idgen_book_main");
        shared.book.process.wake();
        latch::sleep(SECOND / 5, Wait::Answer);
    }
    book::read_outcome(&shared.book.answer(entry))
}
