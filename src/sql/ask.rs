//! Asks another server once, from a session, for the doctor: who it is and how it is configured. The session waits with its
//! latch, so a server that never answers delays it by seconds, and it can be cancelled meanwhile.

use crate::{
    mechanism::{Micros, SECOND},
    postgres::{
        clock,
        hosts::Hosts,
        libpq::{Answer, Progress},
        process::Waiter,
        wait_event::Wait,
    },
};
use pgrx::prelude::*;
use std::ffi::{CStr, CString};

/// How long one host may take to connect and to answer.
const PATIENCE: Micros = 3 * SECOND;

/// All names are found in pg_catalog, whatever schemas there are. `bare`: sequences that a default hands to idgen_next(), and
/// that are no generators.
const QUESTION: &CStr = c"WITH bare AS MATERIALIZED (SELECT DISTINCT s.oid
        FROM pg_catalog.pg_proc p, pg_catalog.pg_depend f, pg_catalog.pg_depend d, pg_catalog.pg_class s
        WHERE p.proname OPERATOR(pg_catalog.=) 'idgen_next' AND f.refobjid OPERATOR(pg_catalog.=) p.oid
            AND f.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
            AND f.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass
            AND d.classid OPERATOR(pg_catalog.=) f.classid AND d.objid OPERATOR(pg_catalog.=) f.objid
            AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
            AND s.oid OPERATOR(pg_catalog.=) d.refobjid AND s.relkind OPERATOR(pg_catalog.=) 'S'
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_seclabel l WHERE l.provider OPERATOR(pg_catalog.=) 'idgen'
                AND l.objoid OPERATOR(pg_catalog.=) s.oid AND l.classoid OPERATOR(pg_catalog.=) d.refclassid))
    SELECT (SELECT pg_catalog.jsonb_object_agg(name, setting) FROM pg_catalog.pg_settings
        WHERE name OPERATOR(pg_catalog.=) ANY ('{idgen.machine_id, idgen.max_generators, max_worker_processes,
            max_replication_slots, max_active_replication_origins}'::pg_catalog.text[])),
    pg_catalog.pg_is_in_recovery(), pg_catalog.to_json(pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.#>>) '{}',
    pg_catalog.concat((SELECT system_identifier FROM pg_catalog.pg_control_system()), ' ', pg_catalog.pg_postmaster_start_time()),
    (SELECT pg_catalog.string_agg(pg_catalog.text(b.oid::pg_catalog.regclass), ', ') FROM bare b),
    (SELECT pg_catalog.string_agg(g.key, ', ' ORDER BY g.key) FROM pg_catalog.jsonb_each_text($1::pg_catalog.jsonb) g
        WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_seclabel l WHERE l.provider OPERATOR(pg_catalog.=) 'idgen'
                AND l.classoid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
                AND l.objoid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(g.key)::pg_catalog.oid
                AND l.label OPERATOR(pg_catalog.=) g.value)
            AND NOT EXISTS (SELECT FROM bare b WHERE b.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(g.key)::pg_catalog.oid))";

/// What the server at `connection` says: one row; if there is none, `error` says why. `missing`: those of `generators`, an
/// object of names and definitions, that are not there as they should be.
#[pg_extern]
#[allow(clippy::type_complexity)]
fn idgen_ask_server(
    connection: &[u8],
    generators: &[u8],
) -> TableIterator<
    'static,
    (
        name!(settings, Option<String>),
        name!(in_recovery, Option<String>),
        name!(at, Option<String>),
        name!(server, Option<String>),
        name!(unlabelled, Option<String>),
        name!(missing, Option<String>),
        name!(error, Option<String>),
    ),
> {
    let [text, generators] = [connection, generators].map(|text| CString::new(text).unwrap_or_default());
    TableIterator::once(match ask(&text, &[generators]) {
        Ok(row) => {
            let mut values = row.into_iter();
            let mut next = || values.next().flatten();
            (next(), next(), next(), next(), next(), next(), None)
        }
        Err(why) => (None, None, None, None, None, None, Some(why)),
    })
}

fn ask(text: &CStr, parameters: &[CString]) -> Result<Vec<Option<String>>, String> {
    let mut hosts = Hosts::parse(text)?;
    loop {
        let name = hosts.name();
        let last = ask_host(&mut hosts, parameters).map_err(|why| format!("{name}: {why}"));
        hosts.next();
        if last.is_ok() || hosts.is_first() {
            return last;
        }
    }
}

fn ask_host(hosts: &mut Hosts, parameters: &[CString]) -> Result<Vec<Option<String>>, String> {
    let deadline = clock::boot() + PATIENCE;
    let (mut progress, mut waiter) = (Progress::Writing, Waiter::new(Wait::Answer));
    let mut connection = loop {
        match hosts.connect(clock::boot())? {
            Some(connection) => break connection,
            None => waiter.wait_for(None, SECOND / 50),
        }
    };
    loop {
        let left = deadline - clock::boot();
        if left <= 0 {
            return Err("no answer within 3 seconds".into());
        }
        waiter.wait_for(Some((&connection, progress)), left);
        if !connection.is_established() {
            progress = connection.establish()?;
            if progress != Progress::Established {
                continue;
            }
            connection.ask(QUESTION, parameters)?;
        } else if waiter.readable {
            connection.consume()?;
            match connection.answer()? {
                Some(Answer::Row(Some(row))) => return Ok(row),
                Some(Answer::Row(None)) => return Err("an empty answer".into()),
                Some(Answer::Refused { message, .. }) => return Err(message),
                None => {}
            }
        }
        progress = if connection.flush()? { Progress::Writing } else { Progress::Established };
    }
}
