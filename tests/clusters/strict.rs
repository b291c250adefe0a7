//! Ids in one order over all servers, allocated by the authority.

use crate::harness::checker::{Rules, check};
use crate::harness::cluster::{Cluster, assert_refused};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::harness::wait_until;
use crate::{IDENTITY, NEXT, grants};
use postgres::error::SqlState;

const MAKE: &str = "SELECT idgen_create_generator('s', 'snowflake', ordering => 'strict')";
const ONE_ORDER: Rules = Rules { machine: false, ..IDENTITY };

#[test]
fn the_servers_of_one_authority_are_as_one_in_the_order_of_strict_ids() {
    let authority = grants::authority("idgen.ordering = strict");
    let members = [0, 1].map(|_| grants::member(&authority, "idgen.ordering = strict"));
    let servers = [&authority, &members[0], &members[1]];
    for server in servers {
        server.connect("postgres").batch_execute(MAKE).unwrap();
    }
    for query in [NEXT, "SELECT idgen_next('s')", "SELECT idgen_next_many('s', 100)"] {
        let history = History::new();
        let mut load = Load::start(&authority, &history, "all", 2, query);
        for member in &members {
            load.add(member, &history, "all", "postgres", 4, query);
        }
        load.flow(2000);
        load.finish();
        check(&history, &ONE_ORDER).assert_clean();
    }
    // Strict ids carry the machine id of the authority, which allocated them.
    assert_eq!(members[0].one::<i32>("SELECT idgen_machine(idgen_next())"), 0);
    assert_eq!(members[0].one::<i32>("SELECT idgen_machine(idgen_next('s'), 's')"), 0);
}

#[test]
fn strict_ids_are_refused_with_the_reason_where_they_cannot_be_had() {
    let authority = grants::authority("");
    let member = grants::member(&authority, "");
    let mut client = member.connect("postgres");
    client.batch_execute(MAKE).unwrap();
    // The authority does not know the generator, or knows another one.
    let refused = |client: &mut postgres::Client, detail: &str| {
        let error = crate::harness::cluster::refusal(client, "SELECT idgen_next('s')");
        assert_eq!(error.code(), &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "{error:?}");
        assert!(error.detail().is_some_and(|said| said.contains(detail)), "{error:?}");
    };
    refused(&mut client, "not a generator");
    let mut other = authority.connect("postgres");
    other.batch_execute("SELECT idgen_create_generator('s', 'twitter', ordering => 'strict')").unwrap();
    refused(&mut client, "another definition");
    other.batch_execute(&format!("DROP SEQUENCE s; {MAKE}")).unwrap();
    client.batch_execute("SELECT idgen_next('s')").unwrap();

    let alone = Cluster::with_idgen("idgen.ordering = strict");
    let mut client = alone.connect("postgres");
    client.batch_execute(MAKE).unwrap();
    assert_refused(
        &mut client,
        "SELECT idgen_next('s')",
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        "idgen.authority",
    );
    let state = "SELECT concat(obstacle, '; ', last_id) FROM idgen_status()";
    assert_eq!(alone.one::<String>(state), "there is no authority for these ids; ");
}

#[test]
fn a_long_wait_that_the_authority_is_set_to_piles_up_no_sessions_there() {
    let authority = grants::authority("idgen.wait_timeout = '10min'");
    let member = grants::member(&authority, "idgen.wait_timeout = '1s'");
    for server in [&authority, &member] {
        server.connect("postgres").batch_execute(MAKE).unwrap();
    }
    let mut client = member.connect("postgres");
    let next = "SELECT idgen_next('s')";
    wait_until("ids are given", || client.batch_execute(next).is_ok());
    authority.reconfigure("synchronous_standby_names = away");
    for _ in 0..15 {
        _ = client.batch_execute(next);
    }
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'idgen'";
    assert!(authority.one::<i64>(sessions) <= 2);
    authority.reconfigure("synchronous_standby_names = ''");
    wait_until("ids go on", || client.batch_execute(next).is_ok());
}

#[test]
fn a_caller_waits_for_the_authority_until_his_deadline_and_is_cancelled_at_once() {
    let mut authority = grants::authority("");
    let member = grants::member(&authority, "");
    for server in [&authority, &member] {
        server.connect("postgres").batch_execute(MAKE).unwrap();
    }
    let mut client = member.connect("postgres");
    let next = "SELECT idgen_next('s')";
    let before: i64 = crate::harness::cluster::one(&mut client, next);
    authority.stop(crate::harness::cluster::Mode::Immediate);
    client.batch_execute("SET idgen.wait_timeout = '300ms'").unwrap();
    assert_refused(&mut client, next, SqlState::CANNOT_CONNECT_NOW, "idgen_authority");
    client.batch_execute("RESET idgen.wait_timeout; SET statement_timeout = '100ms'").unwrap();
    let error = crate::harness::cluster::refusal(&mut client, next);
    assert_eq!(error.code(), &SqlState::QUERY_CANCELED);
    client.batch_execute("SET statement_timeout = 0; SET idgen.wait_timeout = '20s'").unwrap();
    authority.start();
    let after: i64 = crate::harness::cluster::one(&mut client, next);
    assert!(after > before);
}
