//! What an authority does for the members: the book of grants, a table of the extension, in which every decision is one
//! of `protocol::grants`; blocks; and strict ids. SQL functions that members call over their connection.

use crate::{
    counter,
    error::{Error, OrRaise, beginning},
    faults,
    generator::{self, check_not_in_recovery},
    lookup, machine_clock,
    mechanism::{Micros, SECOND},
    protocol::grants::{self, Incarnation, Limits, Refusal, Row},
    register, settings,
    shmem::{self, Shared},
    wait_event::Wait,
};
use pgrx::{
    datum::DatumWithOid,
    pg_sys,
    prelude::*,
    spi::{SpiClient, SpiError},
};
use std::ffi::{CStr, CString};

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

/// A machine id for a holder that has none, as the row of the book; see [`grants::take`].
#[pg_extern]
fn idgen_take_grant(
    cluster: &[u8],
    system: i64,
    timeline: i32,
    nonce: i64,
    clock: i64,
    request: i64,
    host: &[u8],
) -> String {
    let shared = authority(cluster);
    let holder = incarnation(system, timeline, nonce);
    let own = shared.now();
    change(|client| {
        let mut rows = rows(client)?;
        // The authority's own number is in use for all time, and so is what a later setting takes from a member.
        let taken = u64::try_from(settings::MACHINE_ID.get()).ok();
        if let Some(machine) = taken {
            rows.retain(|row| row.machine != machine);
            rows.push(Row {
                machine,
                holder: Incarnation::default(),
                epoch: 0,
                from: 0,
                until: Micros::MAX,
                open: false,
                request: 0,
                seen: 0,
            });
        }
        let row = grants::take(&rows, holder, request as u64, clock, own, &limits())
            .map_err(|why| refusal(why, own))
            .or_raise();
        write(client, &row, Some(&beginning(host)))?;
        Ok(Some(row))
    })
    .or_else(|| Error::NotAnAuthority.raise())
    .unwrap_or_default()
}

/// A later end for a grant; null: it is not held.
#[pg_extern]
fn idgen_renew_grant(
    cluster: &[u8],
    system: i64,
    timeline: i32,
    nonce: i64,
    clock: i64,
    machine: i64,
    epoch: i64,
) -> Option<String> {
    let shared = authority(cluster);
    let holder = incarnation(system, timeline, nonce);
    let own = shared.now();
    change_row(machine, own, |row| grants::renew(row, holder, epoch as u64, clock, own, &limits()))
}

/// The end of a grant, where its holder stood; null: it is not held.
#[pg_extern]
#[allow(clippy::too_many_arguments)]
fn idgen_end_grant(
    cluster: &[u8],
    system: i64,
    timeline: i32,
    nonce: i64,
    _clock: i64,
    machine: i64,
    epoch: i64,
    reached: i64,
) -> Option<String> {
    let shared = authority(cluster);
    let holder = incarnation(system, timeline, nonce);
    let own = shared.now();
    change_row(machine, own, |row| grants::release(row, holder, epoch as u64, reached, own))
}

/// The row of a machine id, once it is on disk and on the synchronous standbys. A statement of its own: the reply to a
/// commit says neither for sure.
#[pg_extern]
fn idgen_look_up_grant(machine: i64) -> Option<String> {
    let shared = shmem::shared().or_raise();
    check_not_in_recovery().or_raise();
    let (row, record) = Spi::connect_mut(|client| {
        let row = row(client, machine)?;
        // A record of its own comes after that of whoever wrote the row.
        let sql = "SELECT (pg_logical_emit_message(false, 'idgen', '') - '0/0'::pg_lsn)::bigint";
        let record: Option<i64> = client.update(sql, None, &[])?.first().get(1)?;
        Ok::<_, SpiError>((row, record))
    })
    .unwrap_or_else(|error| raise(&error));
    faults::point("grant:logged");
    wait_until_durable(shared, record.unwrap_or(0) as pg_sys::XLogRecPtr).or_raise();
    faults::point("grant:durable");
    row.map(|row| line(&row))
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

fn limits() -> Limits {
    Limits { machines: MACHINES, length: settings::grant_length(), max_clock_offset: settings::max_clock_offset() }
}

fn incarnation(system: i64, timeline: i32, nonce: i64) -> Incarnation {
    Incarnation { system: system as u64, timeline: timeline as u32, nonce: nonce as u64 }
}

fn refusal(refusal: Refusal, own: Micros) -> Error {
    match refusal {
        Refusal::Clock { ahead } => Error::MemberClock { ahead },
        Refusal::NoneFree { earliest } => {
            Error::NoMachineFree { after: (earliest != Micros::MAX).then_some(earliest - own) }
        }
        Refusal::NotHeld => Error::NotAnAuthority,
    }
}

/// Decides with the whole book locked; the result is the row that was written.
fn change(decide: impl FnOnce(&mut SpiClient) -> Result<Option<Row>, SpiError>) -> Option<String> {
    let row = Spi::connect_mut(|client| {
        client.update("LOCK TABLE idgen_authority.book IN EXCLUSIVE MODE", None, &[])?;
        decide(client)
    })
    .unwrap_or_else(|error| raise(&error));
    row.map(|row| line(&row))
}

fn change_row(machine: i64, own: Micros, decide: impl FnOnce(&Row) -> Result<Row, Refusal>) -> Option<String> {
    change(|client| {
        let Some(row) = row(client, machine)? else { return Ok(None) };
        let row = match decide(&row) {
            Err(Refusal::NotHeld) => return Ok(None),
            decided => decided.map_err(|why| refusal(why, own)).or_raise(),
        };
        write(client, &row, None)?;
        Ok(Some(row))
    })
}

const COLUMNS: &str = "machine, system, timeline, nonce, epoch, starts, ends, open, request, seen";

fn rows(client: &SpiClient) -> Result<Vec<Row>, SpiError> {
    let sql = format!("SELECT {COLUMNS} FROM idgen_authority.book");
    client.select(&sql, None, &[])?.map(|row| read(&row)).collect()
}

fn row(client: &SpiClient, machine: i64) -> Result<Option<Row>, SpiError> {
    let sql = format!("SELECT {COLUMNS} FROM idgen_authority.book WHERE machine = $1");
    client.select(&sql, Some(1), &[machine.into()])?.map(|row| read(&row)).next().transpose()
}

fn read(row: &pgrx::spi::SpiHeapTupleData) -> Result<Row, SpiError> {
    let number = |column: usize| row.get::<i64>(column).map(Option::unwrap_or_default);
    Ok(Row {
        machine: number(1)? as u64,
        holder: Incarnation { system: number(2)? as u64, timeline: number(3)? as u32, nonce: number(4)? as u64 },
        epoch: number(5)? as u64,
        from: number(6)?,
        until: number(7)?,
        open: row.get::<bool>(8)?.unwrap_or_default(),
        request: number(9)? as u64,
        seen: number(10)?,
    })
}

fn write(client: &mut SpiClient, row: &Row, host: Option<&str>) -> Result<(), SpiError> {
    let sql = format!(
        "INSERT INTO idgen_authority.book ({COLUMNS}, host) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (machine) DO UPDATE SET system = $2, timeline = $3, nonce = $4, epoch = $5, starts = $6, ends = $7,
             open = $8, request = $9, seen = $10, host = coalesce($11, idgen_authority.book.host)"
    );
    let Incarnation { system, timeline, nonce } = row.holder;
    let parameters: [DatumWithOid; 11] = [
        (row.machine as i64).into(),
        (system as i64).into(),
        i64::from(timeline).into(),
        (nonce as i64).into(),
        (row.epoch as i64).into(),
        row.from.into(),
        row.until.into(),
        row.open.into(),
        (row.request as i64).into(),
        row.seen.into(),
        host.map(str::to_owned).into(),
    ];
    client.update(&sql, None, &parameters)?;
    faults::point("grant:written");
    Ok(())
}

/// A row as members read it.
fn line(row: &Row) -> String {
    let Incarnation { system, timeline, nonce } = row.holder;
    let Row { machine, epoch, from, until, open, request, .. } = row;
    format!(
        "{machine} {} {timeline} {} {epoch} {from} {until} {} {}",
        system as i64,
        nonce as i64,
        i32::from(*open),
        *request as i64
    )
}

fn raise(error: &SpiError) -> ! {
    Error::Book(error.to_string()).raise()
}
