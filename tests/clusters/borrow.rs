//! Bursts beyond 4096 ids a millisecond: correct, bounded, and a call that waits can be ended.

use crate::harness::checker::{Rules, check};
use crate::harness::clock::{SECOND, machine_wall, monotonic};
use crate::harness::cluster::{Cluster, one, refusal};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::harness::wait_until;
use crate::{IDENTITY, NEXT};
use postgres::error::SqlState;
use std::thread;

/// A call that takes all that may be borrowed, and uses the first id.
const BURST: &str = "SELECT idgen_next_many(2000000000) LIMIT 1";

#[test]
fn a_burst_runs_ahead_of_the_clock_by_no_more_than_max_borrow() {
    let cluster = Cluster::with_idgen("idgen.max_borrow = '20ms'");
    let history = History::new();
    let mut load = Load::start(&cluster, &history, "a", 3, BURST);
    load.add(&cluster, &history, "a", "postgres", 1, NEXT);
    load.flow(10_000);
    load.finish();
    let millisecond = SECOND / 1000;
    let honest = |_: &_, call: &crate::Call| {
        machine_wall(call.begin) - 2 * millisecond..=machine_wall(call.end) + 22 * millisecond
    };
    let report = check(&history, &Rules { machine: true, honest: Some(&honest) });
    report.assert_clean();
    assert!(report.failures.is_empty(), "{report}");
    assert!(cluster.one::<i64>("SELECT loan_sleeps FROM idgen_status()") > 0, "nobody had to wait: no burst");
}

/// A server in debt: a burst has borrowed as much as `max_borrow` permitted, and then loans are forbidden.
fn indebted(settings: &str) -> Cluster {
    let cluster = Cluster::with_idgen(settings);
    cluster.connect("postgres").batch_execute(BURST).unwrap();
    cluster.reconfigure("idgen.max_borrow = 0");
    let mut client = cluster.connect("postgres");
    client.batch_execute("SET statement_timeout = '20ms'").unwrap();
    wait_until("calls have to wait", || client.query_one(NEXT, &[]).is_err());
    cluster
}

/// Begins a call that waits, ends it by `end`, and returns the call's error; the call must end at once.
fn ended_by(cluster: &Cluster, end: &str) -> Option<SqlState> {
    let mut client = cluster.connect("postgres");
    client.batch_execute("SET idgen.wait_timeout = '10min'").unwrap();
    let pid: i32 = one(&mut client, "SELECT pg_backend_pid()");
    let waiting = thread::spawn(move || client.query(NEXT, &[]).err());
    let event = Cluster::wait_event("IdgenLoan");
    let activity = format!("SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = {pid} AND wait_event = '{event}'");
    wait_until("the call waits", || cluster.one(&activity));
    assert!(cluster.one::<bool>(&format!("SELECT {end}({pid})")));
    let since = monotonic();
    let error = waiting.join().unwrap();
    assert!(monotonic() - since < SECOND, "the call ended late");
    error.expect("the call ended without an id").code().cloned()
}

#[test]
fn cancel_terminate_and_statement_timeout_end_a_call_that_waits_for_a_loan_at_once() {
    let cluster = indebted("idgen.horizon_lead = '1h'\nidgen.max_borrow = '1min'");
    assert_eq!(ended_by(&cluster, "pg_cancel_backend"), Some(SqlState::QUERY_CANCELED));
    // The client may see the connection end before it reads the reason.
    assert!([None, Some(SqlState::ADMIN_SHUTDOWN)].contains(&ended_by(&cluster, "pg_terminate_backend")));
    let mut client = cluster.connect("postgres");
    client.batch_execute("SET statement_timeout = '200ms'; SET idgen.wait_timeout = '10min'").unwrap();
    let since = monotonic();
    let error = refusal(&mut client, NEXT);
    assert_eq!(*error.code(), SqlState::QUERY_CANCELED);
    assert!(monotonic() - since < SECOND, "the call ended late");
}

#[test]
fn a_loan_is_waited_for_as_long_as_wait_timeout_and_no_longer() {
    let cluster = indebted("idgen.max_borrow = '2s'\nidgen.wait_timeout = '3s'");
    let since = monotonic();
    cluster.one::<i64>(NEXT);
    assert!(monotonic() - since > SECOND / 2, "there was no loan to wait for");
    let cluster = indebted("idgen.max_borrow = '3s'");
    let mut client = cluster.connect("postgres");
    client.batch_execute("SET idgen.wait_timeout = '100ms'").unwrap();
    let since = monotonic();
    assert_eq!(*refusal(&mut client, NEXT).code(), SqlState::CANNOT_CONNECT_NOW);
    assert!(monotonic() - since < SECOND / 2, "it was not told at once");
}

#[test]
fn who_is_cancelled_while_waiting_leaves_the_others_going_on() {
    let cluster = Cluster::with_idgen("idgen.max_borrow = '20ms'");
    let history = History::new();
    let load = Load::start(&cluster, &history, "a", 4, BURST);
    let mut client = cluster.connect("postgres");
    for _ in 0..50 {
        client
            .batch_execute(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Extension' LIMIT 1",
            )
            .unwrap();
        load.flow(10);
    }
    load.finish();
    let report = check(&history, &IDENTITY);
    report.assert_clean();
    assert_eq!(report.failures.keys().collect::<Vec<_>>(), ["57014"], "{report}");
}
