//! Too little of something: an error says of what, and gives no id; the server goes on.

use crate::harness::checker::check;
use crate::harness::cluster::{Cluster, IDGEN, Mode, assert_refused, one};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::harness::wait_until;
use crate::{IDENTITY, NEXT};
use postgres::error::SqlState;

/// The setting that has the places for replication origins.
fn places() -> &'static str {
    if Cluster::version() >= 18 { "max_active_replication_origins" } else { "max_replication_slots" }
}

#[test]
fn without_a_place_for_the_horizon_there_is_an_error_that_names_the_setting_and_no_id() {
    let mut cluster = Cluster::running(&format!("{IDGEN}{} = 0", places()));
    let mut client = cluster.connect("postgres");
    client.batch_execute("CREATE EXTENSION idgen").unwrap();
    wait_until("the worker has tried", || {
        client.query_one(NEXT, &[]).is_err_and(|error| error.code() == Some(&SqlState::CONFIGURATION_LIMIT_EXCEEDED))
    });
    assert_refused(&mut client, NEXT, SqlState::CONFIGURATION_LIMIT_EXCEEDED, places());
    drop(client);
    cluster.stop(Mode::Fast);
    cluster.configure(&format!("{} = 1", places()));
    cluster.start();
    wait_until("ids are given", || cluster.connect("postgres").query_one(NEXT, &[]).is_ok());
}

#[test]
fn a_place_that_others_took_first_is_missed_and_had_when_it_is_free() {
    let mut cluster = Cluster::running(&format!("{} = 1", places()));
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            "SELECT pg_replication_origin_create('other'); SELECT pg_replication_origin_advance('other', '0/1')",
        )
        .unwrap();
    drop(client);
    cluster.stop(Mode::Fast);
    cluster.configure(IDGEN);
    cluster.start();
    let mut client = cluster.connect("postgres");
    client.batch_execute("CREATE EXTENSION idgen").unwrap();
    wait_until("the worker has tried", || {
        client.query_one(NEXT, &[]).is_err_and(|error| error.code() == Some(&SqlState::CONFIGURATION_LIMIT_EXCEEDED))
    });
    client.batch_execute("SELECT pg_replication_origin_drop('other')").unwrap();
    wait_until("ids are given", || client.query_one(NEXT, &[]).is_ok());
}

/// A rule of PostgreSQL, which idgen makes cost one place more: documented, and a finding of idgen_doctor().
#[test]
fn a_standby_without_a_place_stops_replaying_and_goes_on_when_it_has_one() {
    let primary = Cluster::with_idgen("");
    let mut standby = primary.standby("s");
    standby.configure(&format!("{} = 0", places()));
    // The standby may stop before it has started: the backup's own WAL can hold a move.
    if standby.try_start().is_ok() {
        let mut client = primary.connect("postgres");
        client.batch_execute("SELECT idgen_raise_horizon(clock_timestamp() + interval '10 s')").unwrap();
        wait_until("the standby has stopped", || {
            standby.log().contains("terminating any other active server processes")
                || standby.log().contains("shutting down due to startup process failure")
        });
        standby.kill();
    }
    assert!(standby.log().contains("could not find free replication state"), "{}", standby.log());
    standby.configure(&format!("{} = 1", places()));
    standby.start();
    primary.wait_for_replay(&standby);
}

#[test]
fn five_hundred_sessions_on_few_cores_get_their_ids() {
    let cluster = Cluster::with_idgen("max_connections = 520");
    let history = History::new();
    let sessions: Vec<_> = (0..500).map(|_| cluster.connect("postgres")).collect();
    let threads: Vec<_> = sessions
        .into_iter()
        .map(|mut client| {
            let mut recorder = history.client("a", "postgres", 1);
            std::thread::spawn(move || {
                let query = client.prepare("SELECT idgen_next_many(20)").unwrap();
                (0..10).for_each(|_| _ = recorder.call(&mut client, &query));
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let report = check(&history, &IDENTITY);
    report.assert_clean();
    assert_eq!((report.ids, report.failures.len()), (500 * 10 * 20, 0), "{report}");
}

#[test]
fn a_session_out_of_memory_takes_nobody_with_it() {
    let cluster = Cluster::with_idgen("");
    let history = History::new();
    let load = Load::start(&cluster, &history, "a", 2, NEXT);
    let mut greedy = cluster.connect("postgres");
    for _ in 0..5 {
        let query = "SELECT string_agg(repeat('x', 1000000) || idgen_next(), '') FROM generate_series(1, 2000)";
        let error = greedy.query(query, &[]).unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::PROGRAM_LIMIT_EXCEEDED), "{error:?}");
        assert!(one::<i64>(&mut greedy, NEXT) > 0);
    }
    load.flow(100);
    load.finish();
    check(&history, &IDENTITY).assert_clean();
}
