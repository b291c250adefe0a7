//! The book's worker: the only process that writes the book, one batch of questions at a time. So a member's session never
//! holds a lock on the book, and sees no more of it than its own answer. The decisions are in `protocol::book`. A session
//! that asks launches the worker; it ends when it has had nothing to do for a while.

use super::table;
use crate::{
    error::Error,
    mechanism::{Micros, SECOND},
    postgres::{clock, faults, process::Waiter, random, settings, wait_event::Wait},
    protocol::{
        book::{GRACE, Limits, Refusal},
        grants::{Answer, Question},
    },
    shared::{self, Shared, book::Asked, waiting},
};
use pgrx::{
    PgTryBuilder,
    bgworkers::BackgroundWorker,
    log, pg_sys,
    prelude::*,
    spi::{SpiClient, SpiError},
};
use std::panic::AssertUnwindSafe;

/// The machine ids that can be granted: all that the layout of `idgen_next()` has room for.
const MACHINES: std::ops::RangeInclusive<u64> = 0..=1023;

/// How long the worker stays when it has nothing to do: less than DROP DATABASE waits for it.
const REST: Micros = 3 * SECOND;

/// The outcome of a question, as one line of text.
fn outcome(outcome: Result<Answer, Refusal>) -> String {
    match outcome {
        Ok(answer) => format!("answer {answer}"),
        Err(Refusal::Clock { ahead }) => format!("clock {ahead}"),
        Err(Refusal::Ids { ahead }) => format!("ids {ahead}"),
        Err(Refusal::NoneFree { earliest: Micros::MAX }) => "full -1".into(),
        Err(Refusal::NoneFree { earliest }) => format!("full {earliest}"),
        Err(Refusal::Unsettled { left }) => format!("unsettled {left}"),
    }
}

pub fn read_outcome(text: &str) -> Result<String, Error> {
    let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
    let number = || rest.parse::<Micros>().unwrap_or(0);
    Err(match kind {
        "answer" => return Ok(rest.into()),
        "clock" => Error::MemberClock { ahead: number() },
        "ids" => Error::MemberIds { ahead: number() },
        "full" => Error::NoMachineFree { after: Some(number()).filter(|after| *after >= 0) },
        "unsettled" => Error::BookUnsettled { left: number() },
        "late" => Error::BookTimeout,
        _ => Error::Book(rest.into()),
    })
}

/// Where the process of the book's worker begins: the one session that writes the book for members.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn idgen_book_main(_arg: pg_sys::Datum) {
    if let (Ok(shared), Some(database)) = (shared::shared(), settings::authority_database()) {
        shared.book.process.live(database.to_str().ok(), || run(shared));
    }
}

/// Works until there has been nothing to do for a while (0), or until the process is told to end (1).
fn run(shared: &'static Shared) -> i32 {
    for (name, value) in [
        // Set here, because what the database's owner has set by ALTER DATABASE applies to this session too.
        (c"search_path", c"pg_catalog, pg_temp"),
        (c"default_transaction_read_only", c"off"),
        (c"lock_timeout", c"1s"),
        // The worker waits for the standby itself, and no longer than its callers do.
        (c"synchronous_commit", c"local"),
    ] {
        // SAFETY: two texts, and settings that any session may change.
        unsafe {
            let (session, suset) = (pg_sys::GucSource::PGC_S_SESSION, pg_sys::GucContext::PGC_SUSET);
            pg_sys::SetConfigOption(name.as_ptr(), value.as_ptr(), suset, session);
        }
    }
    // As is a role.
    // SAFETY: state of this process, outside any transaction.
    unsafe { pg_sys::SetUserIdAndSecContext(pg_sys::BOOTSTRAP_SUPERUSERID.into(), 0) };
    shared.book.put_back();
    let mut waiter = Waiter::new(Wait::Work);
    let mut busy = clock::boot();
    loop {
        if work(shared) {
            busy = clock::boot();
        } else if clock::boot() - busy > REST {
            return 0;
        }
        if !waiter.wait(None, SECOND) {
            return 1;
        }
    }
}

/// Answers all open questions in one transaction. False: there were none.
fn work(shared: &Shared) -> bool {
    let (entries, asked): (Vec<_>, Vec<_>) = shared.book.take().into_iter().unzip();
    if entries.is_empty() {
        return false;
    }
    let outcomes = decide(shared, &asked).and_then(|(outcomes, record)| {
        faults::point("grant:logged");
        waiting::wait_until_durable(shared, record).map_err(|_| "late".to_string())?;
        faults::point("grant:durable");
        Ok(outcomes)
    });
    let outcome = |number: usize| outcomes.as_ref().map_or_else(String::as_str, |texts| &texts[number]);
    let done: Vec<_> = entries.into_iter().enumerate().map(|(number, entry)| (entry, outcome(number))).collect();
    shared.book.done(&done);
    true
}

/// Decides all questions with the whole book locked. Returns one line for each question and a record written after all
/// changes; or what went wrong.
fn decide(shared: &Shared, asked: &[Asked]) -> Result<(Vec<String>, pg_sys::XLogRecPtr), String> {
    let failed = |why: String| Err(format!("failed {why}"));
    // Unwind safe: shared words are atomic, and the transaction is rolled back.
    PgTryBuilder::new(AssertUnwindSafe(|| {
        let outcomes = BackgroundWorker::transaction(AssertUnwindSafe(|| {
            Spi::connect_mut(|client| answer(client, shared, asked))
        }));
        let record = BackgroundWorker::transaction(|| Spi::connect_mut(last_record));
        match (outcomes, record) {
            (Ok(outcomes), Ok(record)) => Ok((outcomes, record)),
            (Err(error), _) | (_, Err(error)) => failed(error.to_string()),
        }
    }))
    .catch_others(|caught| {
        // SAFETY: ends the transaction that failed.
        unsafe { pg_sys::AbortCurrentTransaction() };
        use pg_sys::panic::CaughtError::*;
        match caught {
            PostgresError(report) | ErrorReport(report) | RustPanic { ereport: report, .. } => {
                failed(report.message().to_owned())
            }
        }
    })
    .execute()
}

fn last_record(client: &mut SpiClient) -> Result<pg_sys::XLogRecPtr, SpiError> {
    let sql = "SELECT (pg_logical_emit_message(false, 'idgen', '') - '0/0'::pg_lsn)::bigint";
    let record: Option<i64> = client.update(sql, None, &[])?.first().get(1)?;
    Ok(record.unwrap_or(0) as pg_sys::XLogRecPtr)
}

fn answer(client: &mut SpiClient, shared: &Shared, asked: &[Asked]) -> Result<Vec<String>, SpiError> {
    client.update("LOCK TABLE idgen_authority.book, idgen_authority.state IN EXCLUSIVE MODE", None, &[])?;
    let own = shared.horizon.now();
    let (mut book, confirmed) = table::load(client, own)?;
    let limits = Limits {
        machines: MACHINES,
        own: u64::try_from(settings::MACHINE_ID.get()).ok(),
        length: settings::grant_length(),
        grace: if confirmed >= started(shared) { 0 } else { shared.horizon.started() + GRACE - clock::boot() },
        wall: clock::both().wall,
        max_clock_offset: settings::max_clock_offset(),
    };
    let before = (book.settles, book.epoch);
    let mut outcomes = Vec::with_capacity(asked.len());
    for Asked { question, role, host } in asked {
        // The session that asked has parsed it as well.
        let Ok(question) = question.parse::<Question>() else {
            outcomes.push("failed the question cannot be read".into());
            continue;
        };
        let answered = book.answer(&question, *role, own, random::number(), &limits);
        for machine in std::mem::take(&mut book.changed) {
            if let Some(row) = book.rows.iter().find(|row| row.machine == machine) {
                table::write(client, row, host)?;
            }
        }
        outcomes.push(outcome(answered));
    }
    if (book.settles, book.epoch) != before {
        let state = [book.settles.into(), (book.epoch as i64).into()];
        client.update("UPDATE idgen_authority.state SET settles = $1, epoch = $2", None, &state)?;
        log!(
            "idgen: members hold machine ids that the book does not know of: was it restored? It knows what they have shown, and grants no other until they may all have ended"
        );
    }
    Ok(outcomes)
}

/// When this life of the server began, by the wall clock.
fn started(shared: &Shared) -> Micros {
    let reading = clock::both();
    reading.wall - (reading.boot - shared.horizon.started())
}
