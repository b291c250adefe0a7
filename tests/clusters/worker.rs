//! idgen's background worker: what callers see when it is gone or stopped, and what it costs while nobody calls.

use crate::harness::checker::{check, time_of};
use crate::harness::clock::{SECOND, monotonic};
use crate::harness::cluster::{Cluster, Mode, assert_refused, one, signal};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::harness::wait_until;
use crate::{IDENTITY, NEXT};
use postgres::error::SqlState;
use std::thread;
use std::time::Duration;

#[test]
fn a_worker_that_is_terminated_under_load_comes_back_before_anyone_has_to_wait() {
    let cluster = Cluster::with_idgen("");
    let history = History::new();
    let load = Load::start(&cluster, &history, "a", 3, NEXT);
    for _ in 0..2 {
        load.flow(300);
        let pid = cluster.signal_child("idgen horizon", libc::SIGTERM);
        wait_until("another worker runs", || cluster.child("idgen horizon").is_some_and(|other| other != pid));
        let moves: i64 = cluster.one("SELECT horizon_moves FROM idgen_status()");
        wait_until("it moves the horizon", || cluster.one::<i64>("SELECT horizon_moves FROM idgen_status()") > moves);
    }
    load.finish();
    let report = check(&history, &IDENTITY);
    report.assert_clean();
    assert!(report.failures.is_empty(), "{report}");
}

/// The server is idle when the worker is stopped: a process that is stopped with a lock of PostgreSQL would stop PostgreSQL.
#[test]
fn while_the_worker_stands_still_ids_end_at_the_horizon_with_an_error_and_go_on_afterwards() {
    let cluster = Cluster::with_idgen("idgen.horizon_lead = '500ms'\nidgen.wait_timeout = '300ms'");
    cluster.one::<i64>(NEXT);
    let worker = cluster.signal_child("idgen horizon", libc::SIGSTOP);
    let mut client = cluster.connect("postgres");
    let mut last = 0;
    wait_until("ids end", || match client.query_one(NEXT, &[]) {
        Ok(row) => {
            last = row.get(0);
            false
        }
        Err(_) => true,
    });
    let began = monotonic();
    assert_refused(&mut client, NEXT, SqlState::CANNOT_CONNECT_NOW, "Try again");
    let waited = monotonic() - began;
    assert!((SECOND * 3 / 10..2 * SECOND).contains(&waited), "the deadline of 0.3 s came after {waited} ns");
    let horizon: f64 = one(&mut client, "SELECT extract(epoch FROM horizon)::float8 * 1000 FROM idgen_status()");
    assert!(time_of(last) / 1_000_000 < horizon as i64, "an id beyond the horizon");
    signal(worker, libc::SIGCONT);
    wait_until("ids go on", || client.query_one(NEXT, &[]).is_ok());
}

#[test]
fn who_waits_for_the_horizon_is_woken_at_once_when_it_moves() {
    let cluster = Cluster::with_idgen("idgen.horizon_lead = '500ms'\nidgen.wait_timeout = '20s'");
    cluster.one::<i64>(NEXT);
    let worker = cluster.signal_child("idgen horizon", libc::SIGSTOP);
    let history = History::new();
    let load = Load::start(&cluster, &history, "a", 4, NEXT);
    let event = Cluster::wait_event("IdgenHorizon");
    let waiting = format!("SELECT count(*) = 4 FROM pg_stat_activity WHERE wait_event = '{event}'");
    wait_until("all sessions wait", || cluster.one(&waiting));
    signal(worker, libc::SIGCONT);
    let since = monotonic();
    load.flow(100);
    assert!(monotonic() - since < SECOND, "who waited was not woken");
    load.finish();
    check(&history, &IDENTITY).assert_clean();
}

#[test]
fn cancel_ends_a_call_that_waits_for_the_horizon_at_once() {
    let cluster = Cluster::with_idgen("idgen.horizon_lead = '500ms'\nidgen.wait_timeout = '20s'");
    cluster.one::<i64>(NEXT);
    let worker = cluster.signal_child("idgen horizon", libc::SIGSTOP);
    let mut client = cluster.connect("postgres");
    client.batch_execute("SET statement_timeout = '200ms'").unwrap();
    let mut began = monotonic();
    wait_until("a call waits and is ended", || {
        began = monotonic();
        client.query_one(NEXT, &[]).is_err_and(|error| error.code() == Some(&SqlState::QUERY_CANCELED))
    });
    assert!(monotonic() - began < SECOND, "the call ended late");
    signal(worker, libc::SIGCONT);
    wait_until("ids go on", || client.query_one(NEXT, &[]).is_ok());
}

#[test]
fn its_title_says_whether_ids_are_given_and_what_is_in_the_way() {
    let mut cluster = Cluster::with_idgen("");
    wait_until("it says so", || cluster.child("idgen horizon gives ids").is_some());
    cluster.configure("idgen.machine_id = -1");
    cluster.stop(Mode::Fast);
    cluster.start();
    wait_until("it says why not", || cluster.child("idgen horizon no ids: the machine id is not set").is_some());
}

#[test]
fn calls_that_come_now_and_then_find_the_horizon_ready_and_when_they_end_nothing_is_written() {
    let waits = |keep_ready: &str| {
        let cluster = Cluster::with_idgen(&format!(
            "idgen.horizon_lead = '200ms'\nidgen.keep_ready = '{keep_ready}'\nwal_level = minimal\nmax_wal_senders = 0"
        ));
        let mut client = cluster.connect("postgres");
        for _ in 0..6 {
            thread::sleep(Duration::from_millis(1500));
            client.batch_execute(NEXT).unwrap();
        }
        let waits: i64 = one(&mut client, "SELECT horizon_waits FROM idgen_status()");
        let mut moves = || one::<i64>(&mut client, "SELECT horizon_moves FROM idgen_status()");
        wait_until("it is at rest", || {
            let before = moves();
            thread::sleep(Duration::from_secs(1));
            moves() == before
        });
        waits
    };
    let [ready, not_ready] =
        ["1min", "0"].map(|keep_ready| thread::spawn(move || waits(keep_ready))).map(|server| server.join().unwrap());
    assert!(not_ready >= 5, "only {not_ready} of 6 calls had to wait: the pause is too short to tell");
    assert!(ready <= 2, "{ready} of 6 calls had to wait");
}

/// With wal_level minimal, PostgreSQL itself writes nothing either while it is idle.
#[test]
fn an_idle_server_writes_nothing() {
    let cluster = Cluster::with_idgen("idgen.horizon_lead = '200ms'\nwal_level = minimal\nmax_wal_senders = 0");
    let mut client = cluster.connect("postgres");
    client.batch_execute(NEXT).unwrap();
    let mut written = || one::<String>(&mut client, "SELECT pg_current_wal_insert_lsn()::text");
    thread::sleep(Duration::from_millis(500));
    let before = written();
    thread::sleep(Duration::from_secs(1));
    assert_eq!(written(), before);
}
