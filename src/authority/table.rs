//! The book as tables of the extension `idgen_authority`.

use crate::{
    mechanism::Micros,
    postgres::{faults, random, settings},
    protocol::{
        book::{Book, Row},
        grants::Incarnation,
    },
};
use pgrx::{
    datum::DatumWithOid,
    pg_sys,
    spi::{SpiClient, SpiError},
};

/// The book, and when a superuser last confirmed that it is whole. A new or restored book grants nothing before `settles`.
pub fn load(client: &mut SpiClient, own: Micros) -> Result<(Book, Micros), SpiError> {
    // SAFETY: state of this server and this process.
    let (system, database) = unsafe { (pg_sys::GetSystemIdentifier() as i64, pg_sys::MyDatabaseId) };
    let settles = own + settings::grant_length() + settings::max_clock_offset();
    client.update(
        "INSERT INTO idgen_authority.state (id, system, database, relation, settles)
         VALUES ($1, $2, $4, 'idgen_authority.book'::regclass, $3)
         ON CONFLICT (one) DO UPDATE SET system = $2, database = $4, relation = excluded.relation, settles = $3
         WHERE (state.system, state.database, state.relation) <> ($2, $4, excluded.relation)",
        None,
        &[(random::number() as i64).into(), system.into(), settles.into(), database.into()],
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

pub fn write(client: &mut SpiClient, row: &Row, host: &str) -> Result<(), SpiError> {
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
