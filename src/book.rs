//! What an authority does for the members: the book of grants, a table of the extension, in which every decision is one
//! of `protocol::book`; blocks; and strict ids. SQL functions that members call over their connection.
//!
//! The book is written by a worker of its own, for whoever asks, one batch of questions at a time: a member's session
//! never has a lock on it, nor sees more of it than its answer. The worker is launched by who asks, and goes after a
//! while.

use crate::{
    counter,
    errand::Errand,
    error::{Error, OrRaise, beginning},
    faults,
    generator::{self, check_not_in_recovery},
    lookup, machine_clock,
    mechanism::{Micros, SECOND},
    process::{Process, Waiter},
    protocol::{
        book::{Book, GRACE, Limits, Refusal, Row},
        grants::{Answer, Incarnation, Question},
    },
    register, settings,
    shmem::{self, Shared, Text},
    wait_event::Wait,
};
use pgrx::{
    PgTryBuilder,
    bgworkers::BackgroundWorker,
    datum::DatumWithOid,
    log, pg_sys,
    prelude::*,
    spi::{SpiClient, SpiError},
};
use std::{
    ffi::{CStr, CString},
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicI32, AtomicU32, Ordering::Relaxed},
};

/// The machine ids that can be granted: those of `idgen_next()`.
const MACHINES: std::ops::RangeInclusive<u64> = 0..=1023;

/// The most stamps that one request is given: the rest is asked for again.
const MAX_BATCH: u64 = 65_536;

/// How long a change waits for the synchronous standby. Shorter than a member's patience.
const PATIENCE: Micros = SECOND;

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
    let counter = lookup::named(schema, name, &beginning(definition)).or_raise();
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
    // Before the first move of the horizon the clock is not known, nor since when the members can show what they hold.
    if shared.started() == 0 {
        Error::BookTimeout.raise();
    }
    let question = beginning(question);
    question.parse::<Question>().map_err(Error::NotAMessage).or_raise();
    shared.book.ask(shared, &question, &beginning(host)).or_raise()
}

/// The shared words of a server that may allocate for members of `cluster`.
fn authority(cluster: &[u8]) -> &'static Shared {
    let shared = shmem::shared().or_raise();
    check_not_in_recovery().or_raise();
    // One book: two databases with one each would grant a machine id twice.
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

/// Returns when everything up to `record` is on disk and on the synchronous standbys.
pub fn wait_until_durable(shared: &Shared, record: pg_sys::XLogRecPtr) -> Result<(), Error> {
    register::flush(record);
    let deadline = machine_clock::boot() + PATIENCE;
    while shared.is_synchronous() && !register::is_on_standbys(record) {
        if machine_clock::boot() >= deadline {
            return Err(Error::HorizonTimeout);
        }
        generator::sleep(1_000, Wait::Durable);
    }
    Ok(())
}

/// How many questions can be open at once; more are asked again.
const ENTRIES: usize = 64;
/// How long the book's worker stays when there is nothing to do. DROP DATABASE waits longer than that for it.
const REST: Micros = 3 * SECOND;

/// What the sessions of members share with the worker that writes the book.
pub struct BookWords {
    pub process: Process,
    entries: [Entry; ENTRIES],
}

/// A question and its answer. The words are written by who has the errand, texts under the lock of the places.
#[derive(Default)]
struct Entry {
    errand: Errand,
    /// Who waits, among all processes, and as which role.
    asker: AtomicI32,
    role: AtomicU32,
    host: Text<64>,
    question: Text<400>,
    answer: Text<400>,
}

impl Default for BookWords {
    fn default() -> Self {
        BookWords { process: Process::default(), entries: std::array::from_fn(|_| Entry::default()) }
    }
}

impl BookWords {
    /// Has the worker answer a question. However the caller goes, nothing of the book is his to hold.
    fn ask(&self, shared: &Shared, question: &str, host: &str) -> Result<String, Error> {
        let mut entries = self.entries.iter().filter_map(|entry| Some((entry, entry.errand.claim()?)));
        let (entry, asking) = entries.next().ok_or(Error::BookTimeout)?;
        entry.asker.store(shmem::own_place(), Relaxed);
        // SAFETY: state of this session.
        entry.role.store(u32::from(unsafe { pg_sys::GetSessionUserId() }), Relaxed);
        shared.locked(pg_sys::LWLockMode::LW_EXCLUSIVE, || {
            entry.host.set(host);
            entry.question.set(question);
        });
        asking.ask();
        let deadline = machine_clock::boot() + PATIENCE * 3 / 2;
        while !asking.is_done() {
            if machine_clock::boot() >= deadline {
                return Err(Error::BookTimeout);
            }
            self.process.launch("idgen book", "idgen_book_main");
            self.process.wake();
            generator::sleep(SECOND / 5, Wait::Answer);
        }
        let answer = shared.locked(pg_sys::LWLockMode::LW_SHARED, || entry.answer.get());
        read_outcome(&answer.unwrap_or_default())
    }
}

/// What became of a question, as one line.
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

fn read_outcome(text: &str) -> Result<String, Error> {
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
    if let (Ok(shared), Some(database)) = (shmem::shared(), settings::authority_database()) {
        shared.book.process.live(database.to_str().ok(), || run(shared));
    }
}

/// Works until there was nothing to do for a while, with 0, or the process is told to end, with 1.
fn run(shared: &'static Shared) -> i32 {
    for (name, value) in [
        // The owner of the database has a say in what it begins with.
        (c"search_path", c"pg_catalog, pg_temp"),
        (c"default_transaction_read_only", c"off"),
        (c"lock_timeout", c"1s"),
        // It waits for the standby itself, and no longer than its callers do.
        (c"synchronous_commit", c"local"),
    ] {
        // SAFETY: two texts, and settings that any session may change.
        unsafe {
            let (session, suset) = (pg_sys::GucSource::PGC_S_SESSION, pg_sys::GucContext::PGC_SUSET);
            pg_sys::SetConfigOption(name.as_ptr(), value.as_ptr(), suset, session);
        }
    }
    shared.book.entries.iter().for_each(|entry| entry.errand.put_back());
    let mut waiter = Waiter::new(Wait::Work);
    let mut busy = machine_clock::boot();
    loop {
        if work(shared) {
            busy = machine_clock::boot();
        } else if machine_clock::boot() - busy > REST {
            return 0;
        }
        if !waiter.wait(None, SECOND) {
            return 1;
        }
    }
}

/// A question as the worker takes it.
struct Asked {
    question: Question,
    role: u32,
    host: String,
}

impl Entry {
    /// Worker only, under the lock of the places: the question, which its asker has read as well.
    fn read(&self) -> Option<Asked> {
        let question = self.question.get()?.parse().ok()?;
        Some(Asked { question, role: self.role.load(Relaxed), host: self.host.get().unwrap_or_default() })
    }
}

/// Answers all that was asked, in one transaction; whether there was something.
fn work(shared: &Shared) -> bool {
    let taken = shared.book.entries.iter().filter(|entry| entry.errand.take());
    let (entries, asked): (Vec<&Entry>, Vec<Asked>) =
        shared.locked(pg_sys::LWLockMode::LW_SHARED, || taken.filter_map(|entry| Some((entry, entry.read()?))).unzip());
    if entries.is_empty() {
        return false;
    }
    let outcomes = decide(shared, &asked).and_then(|(outcomes, record)| {
        faults::point("grant:logged");
        wait_until_durable(shared, record).map_err(|_| "late".to_string())?;
        faults::point("grant:durable");
        Ok(outcomes)
    });
    shared.locked(pg_sys::LWLockMode::LW_EXCLUSIVE, || {
        for (number, entry) in entries.iter().enumerate() {
            entry.answer.set(outcomes.as_ref().map_or_else(String::as_str, |texts| &texts[number]));
        }
    });
    for entry in entries {
        entry.errand.done();
        shmem::wake(entry.asker.load(Relaxed));
    }
    true
}

/// Decides with the whole book locked. What comes back is one line for each question, and a record after all that was
/// written; or what went wrong.
fn decide(shared: &Shared, asked: &[Asked]) -> Result<(Vec<String>, pg_sys::XLogRecPtr), String> {
    let failed = |why: String| Err(format!("failed {why}"));
    // What is shared is atomic, and what is half done is rolled back.
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
    let own = shared.now();
    let (mut book, confirmed) = load(client, own)?;
    let limits = Limits {
        machines: MACHINES,
        own: u64::try_from(settings::MACHINE_ID.get()).ok(),
        length: settings::grant_length(),
        grace: if confirmed >= started(shared) { 0 } else { shared.started() + GRACE - machine_clock::boot() },
        wall: machine_clock::both().wall,
        max_clock_offset: settings::max_clock_offset(),
    };
    let before = (book.settles, book.epoch);
    let mut outcomes = Vec::with_capacity(asked.len());
    for Asked { question, role, host } in asked {
        let answered = book.answer(question, *role, own, random(), &limits);
        for machine in std::mem::take(&mut book.changed) {
            if let Some(row) = book.rows.iter().find(|row| row.machine == machine) {
                write(client, row, host)?;
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
    let reading = machine_clock::both();
    reading.wall - (reading.boot - shared.started())
}

/// The book, and when a superuser last said that it is whole. One that is new, or was restored from a dump, waits.
fn load(client: &mut SpiClient, own: Micros) -> Result<(Book, Micros), SpiError> {
    // SAFETY: state of this server.
    let system = unsafe { pg_sys::GetSystemIdentifier() } as i64;
    let settles = own + settings::grant_length() + settings::max_clock_offset();
    client.update(
        "INSERT INTO idgen_authority.state (id, system, relation, settles)
         VALUES ($1, $2, 'idgen_authority.book'::regclass, $3)
         ON CONFLICT (one) DO UPDATE SET system = $2, relation = excluded.relation, settles = $3
         WHERE (state.system, state.relation) <> ($2, excluded.relation)",
        None,
        &[(random() as i64).into(), system.into(), settles.into()],
    )?;
    let state = client.select("SELECT id, settles, confirmed, epoch FROM idgen_authority.state", Some(1), &[])?.first();
    let (id, settles, confirmed) = state.get_three::<i64, i64, i64>()?;
    let epoch = state.get::<i64>(4)?.unwrap_or(0) as u64;
    let sql =
        "SELECT machine, system, timeline, nonce, (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = b.role)::bigint,
            epoch, starts, ends, open, taken, seen, token, shown, attempt
        FROM idgen_authority.book AS b";
    let rows = client.select(sql, None, &[])?.map(|row| read(&row)).collect::<Result<_, _>>()?;
    let book =
        Book { id: id.unwrap_or(0) as u64, rows, settles: settles.unwrap_or(Micros::MAX), epoch, changed: vec![] };
    Ok((book, confirmed.unwrap_or(0)))
}

fn read(row: &pgrx::spi::SpiHeapTupleData) -> Result<Row, SpiError> {
    let number = |column: usize| row.get::<i64>(column).map(Option::unwrap_or_default);
    Ok(Row {
        machine: number(1)? as u64,
        holder: Incarnation { system: number(2)? as u64, timeline: number(3)? as u32, nonce: number(4)? as u64 },
        role: number(5)? as u32,
        epoch: number(6)? as u64,
        from: number(7)?,
        until: number(8)?,
        open: row.get::<bool>(9)?.unwrap_or_default(),
        taken: number(10)?,
        seen: number(11)?,
        token: number(12)? as u64,
        shown: number(13)? as u64,
        attempt: number(14)? as u64,
    })
}

fn write(client: &mut SpiClient, row: &Row, host: &str) -> Result<(), SpiError> {
    let sql = "INSERT INTO idgen_authority.book (machine, system, timeline, nonce, role, epoch, starts, ends, open, taken, seen,
            token, shown, attempt, host)
        VALUES ($1, $2, $3, $4, (SELECT rolname FROM pg_roles WHERE oid = $5::oid), $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
        ON CONFLICT (machine) DO UPDATE SET (system, timeline, nonce, role, epoch, starts, ends, open, taken, seen,
            token, shown, attempt, host) = ROW (excluded.system, excluded.timeline, excluded.nonce, excluded.role,
            excluded.epoch, excluded.starts, excluded.ends, excluded.open, excluded.taken, excluded.seen, excluded.token,
            excluded.shown, excluded.attempt, excluded.host)";
    let Incarnation { system, timeline, nonce } = row.holder;
    let parameters: [DatumWithOid; 15] = [
        (row.machine as i64).into(),
        (system as i64).into(),
        i64::from(timeline).into(),
        (nonce as i64).into(),
        i64::from(row.role).into(),
        (row.epoch as i64).into(),
        row.from.into(),
        row.until.into(),
        row.open.into(),
        row.taken.into(),
        row.seen.into(),
        (row.token as i64).into(),
        (row.shown as i64).into(),
        (row.attempt as i64).into(),
        host.to_owned().into(),
    ];
    client.update(sql, None, &parameters)?;
    faults::point("grant:written");
    Ok(())
}

/// A number that nobody can guess, not 0.
pub fn random() -> u64 {
    let mut number = 0u64;
    // SAFETY: as many bytes as said.
    if !unsafe { pg_sys::pg_strong_random((&raw mut number).cast(), size_of_val(&number)) } {
        Error::NoRandomNumber.raise();
    }
    number.max(1)
}
