//! At up to nine tenths of its layout's rate nobody sleeps for an id, whatever a start, a repair or a clock left behind; a
//! caller that would have to sleep too long is told so at once.

use crate::harness::checker::check;
use crate::harness::clock::{HOUR, SECOND, monotonic};
use crate::harness::cluster::{Cluster, assert_refused, one, signal};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::harness::wait_until;
use crate::{IDENTITY, NEXT};
use postgres::error::SqlState;
use std::thread;
use std::time::Duration;

/// One id a millisecond.
const NARROW: &str = "SELECT idgen_create_generator('g', 'timestamp_machine')";

/// Takes ids of `g` at nine tenths of its rate for this many seconds; returns the longest call, in nanoseconds.
fn take_evenly(cluster: &Cluster, seconds: i64) -> i64 {
    let mut client = cluster.connect("postgres");
    let query = client.prepare("SELECT idgen_next('g')").unwrap();
    let sleeps = "SELECT loan_sleeps FROM idgen_status()";
    let (mut longest, began, before) = (0, monotonic(), one::<i64>(&mut client, sleeps));
    for call in 0..900 * seconds {
        let due = began + call * SECOND / 900;
        let left = due - monotonic();
        if left > 0 {
            thread::sleep(Duration::from_nanos(left as u64));
        }
        let since = monotonic();
        client.query_one(&query, &[]).unwrap();
        longest = longest.max(monotonic() - since);
    }
    assert_eq!(one::<i64>(&mut client, sleeps), before, "somebody slept");
    println!("longest call: {} us", longest / 1000);
    longest
}

/// No call slept, and none waited for more than the horizon's flushes.
fn assert_nobody_waits(cluster: &Cluster) {
    let longest = take_evenly(cluster, 3);
    assert!(longest < SECOND / 2, "a call took {longest} ns");
}

#[test]
fn after_a_kill_nobody_sleeps_with_any_lead() {
    thread::scope(|scope| {
        for lead in ["1s", "60s", "600s"] {
            scope.spawn(move || {
                let mut cluster = Cluster::with_idgen(&format!("idgen.horizon_lead = '{lead}'"));
                cluster.connect("postgres").batch_execute(NARROW).unwrap();
                take_evenly(&cluster, 2);
                cluster.kill();
                cluster.start();
                assert_nobody_waits(&cluster);
                // A lead that was lowered leaves a horizon that is further ahead than the lead.
                cluster.reconfigure("idgen.horizon_lead = '1s'");
                cluster.kill();
                cluster.start();
                assert_nobody_waits(&cluster);
                let ahead: f64 = cluster
                    .one("SELECT extract(epoch FROM effective_clock - clock_timestamp())::float8 FROM idgen_status()");
                assert!(ahead < 1.0, "the clock is {ahead} s ahead");
            });
        }
    });
}

#[test]
fn after_a_failover_a_raised_horizon_and_a_clock_set_back_nobody_sleeps() {
    let primary = Cluster::with_idgen("idgen.horizon_lead = '20s'");
    primary.connect("postgres").batch_execute(NARROW).unwrap();
    let mut standby = primary.standby("s");
    standby.start();
    take_evenly(&primary, 2);
    primary.wait_for_replay(&standby);
    standby.promote();
    assert_nobody_waits(&standby);
    standby.connect("postgres").batch_execute("SELECT idgen_raise_horizon(now() + '3 hours')").unwrap();
    assert_nobody_waits(&standby);
    standby.clock.set(-HOUR);
    assert_nobody_waits(&standby);
}

#[test]
fn a_burst_after_a_raised_horizon_is_told_when_its_next_id_is_due() {
    let cluster = Cluster::with_idgen("idgen.max_borrow = '10s'");
    let mut client = cluster.connect("postgres");
    client.batch_execute(NARROW).unwrap();
    client.batch_execute("SELECT count(*) FROM idgen_next_many('g', 9000)").unwrap();
    cluster.reconfigure("idgen.max_borrow = 0");
    let (mut since, mut error) = (0, None);
    wait_until("the setting is in force", || {
        since = monotonic();
        error = client.query("SELECT idgen_next('g')", &[]).err();
        error.is_some()
    });
    assert!(monotonic() - since < SECOND, "it was not told at once");
    let error = error.as_ref().and_then(postgres::Error::as_db_error).unwrap();
    assert_eq!(error.code(), &SqlState::CANNOT_CONNECT_NOW);
    let detail = error.detail().unwrap_or_default();
    assert!(detail.contains("due at 20") && detail.contains("UTC"), "{detail}");
    client.batch_execute("SET idgen.wait_timeout = '20s'").unwrap();
    one::<i64>(&mut client, "SELECT idgen_next('g')");
}

#[test]
fn an_idle_server_follows_its_clock_and_writes_nothing() {
    let cluster = Cluster::with_idgen("");
    cluster.one::<i64>(NEXT);
    cluster.clock.set(60 * SECOND);
    let ahead = |cluster: &Cluster| -> f64 {
        cluster.one("SELECT extract(epoch FROM effective_clock - clock_timestamp())::float8 FROM idgen_status()")
    };
    wait_until("the step is followed", || ahead(&cluster).abs() < 0.1);
    cluster.clock.set(0);
    wait_until("the step back is seen", || ahead(&cluster) > 59.0);
    let (before, since) = (ahead(&cluster), monotonic());
    let moves = "SELECT horizon_moves FROM idgen_status()";
    let moved: i64 = cluster.one(moves);
    thread::sleep(Duration::from_secs(10));
    let (healed, passed) = (before - ahead(&cluster), (monotonic() - since) as f64 / SECOND as f64);
    assert!((passed - 3.0) / 10.0 <= healed && healed <= (passed + 3.0) / 10.0, "{healed} s healed in {passed} s");
    assert_eq!(cluster.one::<i64>(moves), moved);
}

#[test]
fn synchronous_replication_switched_on_by_a_reload_covers_every_id_from_then_on() {
    let primary = Cluster::with_idgen("idgen.horizon_lead = '60s'");
    let mut client = primary.connect("postgres");
    client.batch_execute("SELECT idgen_create_generator('c', 'counter', flush_every => 100000)").unwrap();
    let standby = primary.standby_an_hour_behind("s");
    primary.wait_for_replay(&standby);
    // From here on the standby falls behind: it stands still while the primary moves on.
    let receiver = standby.signal_child("walreceiver", libc::SIGSTOP);
    for query in [NEXT, "SELECT idgen_next('c')"] {
        one::<i64>(&mut client, query);
    }
    thread::sleep(Duration::from_secs(1));
    primary.reconfigure("synchronous_standby_names = 'FIRST 1 (s)'");
    client.batch_execute("SET idgen.wait_timeout = '500ms'").unwrap();
    wait_until("ids wait for the standby", || client.query_one(NEXT, &[]).is_err());
    assert!(client.query_one("SELECT idgen_next('c')", &[]).is_err(), "a block that the standby does not have");
    signal(receiver, libc::SIGCONT);
    let ids = |client: &mut postgres::Client| {
        [NEXT, "SELECT idgen_next('c')"].map(|query| client.query_one(query, &[]).map(|row| row.get::<_, i64>(0)))
    };
    let mut seen = [0, 0];
    wait_until("ids go on", || match ids(&mut client) {
        [Ok(next), Ok(count)] => {
            seen = [next, count];
            true
        }
        _ => false,
    });
    drop(client);
    standby.promote();
    let mut promoted = standby.connect("postgres");
    let [Ok(next), Ok(count)] = ids(&mut promoted) else { panic!("the promoted standby gives none") };
    assert!(next > seen[0] && count > seen[1], "{next} {count} after {seen:?}");
}

#[test]
fn a_repair_that_timed_out_is_withdrawn() {
    let cluster = Cluster::with_idgen("");
    let history = History::new();
    Load::run(&cluster, &history, "a", 1, NEXT, 10);
    let mut client = cluster.connect("postgres");
    client.batch_execute("SET idgen.wait_timeout = '300ms'").unwrap();
    let worker = cluster.signal_child("idgen horizon", libc::SIGSTOP);
    for repair in ["SELECT idgen_raise_horizon(now() + '1 hour')", "SELECT idgen_accept_clock()"] {
        assert_refused(&mut client, repair, SqlState::CANNOT_CONNECT_NOW, "standby");
    }
    signal(worker, libc::SIGCONT);
    client.batch_execute("RESET idgen.wait_timeout").unwrap();
    one::<i64>(&mut client, NEXT);
    let ahead: f64 =
        one(&mut client, "SELECT extract(epoch FROM idgen_timestamp(idgen_next()) - clock_timestamp())::float8");
    assert!(ahead < 60.0, "ids are {ahead} s ahead");
    check(&history, &IDENTITY).assert_clean();
    client.batch_execute("SELECT idgen_raise_horizon(now() + '1 hour')").unwrap();
    assert!(one::<bool>(&mut client, "SELECT idgen_timestamp(idgen_next()) > now() + '59 min'"));
}

#[test]
fn a_repair_whose_session_is_terminated_or_whose_worker_ends_keeps_no_later_one_from_being_done() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    one::<i64>(&mut client, NEXT);
    cluster.reconfigure("synchronous_standby_names = away");
    let repair = "SELECT idgen_raise_horizon(now() + '1 min')";
    let mut other = cluster.connect("postgres");
    let waiting = thread::spawn(move || other.batch_execute(&format!("SET idgen.wait_timeout = '1min'; {repair}")));
    let terminate = "SELECT coalesce(bool_or(pg_terminate_backend(pid)), false) FROM pg_stat_activity
        WHERE query LIKE 'SET%raise_horizon%' AND wait_event_type = 'Extension'";
    wait_until("it waits, and is terminated", || one(&mut client, terminate));
    assert!(waiting.join().unwrap().is_err());
    // The worker has begun the next one, and ends.
    client.batch_execute("SET idgen.wait_timeout = '500ms'").unwrap();
    assert!(client.batch_execute(repair).is_err());
    let before = cluster.signal_child("idgen horizon", libc::SIGTERM);
    wait_until("another worker runs", || cluster.child("idgen horizon").is_some_and(|pid| pid != before));
    cluster.reconfigure("synchronous_standby_names = ''");
    client.batch_execute("SET idgen.wait_timeout = '10s'").unwrap();
    for repair in [repair, "SELECT idgen_accept_clock()", repair] {
        client.batch_execute(repair).unwrap();
    }
}

#[test]
fn who_slept_for_a_loan_is_woken_by_the_next_move_all_the_same() {
    // Ticks so long and narrow, and a lead so short, that calls wait for the horizon and sleep for a loan by turns.
    let cluster =
        Cluster::with_idgen("idgen.horizon_lead = '100ms'\nidgen.max_borrow = '100ms'\nidgen.wait_timeout = '60s'");
    let create = "SELECT idgen_create_generator('g', timestamp_bits => 31, sequence_bits => 1, tick => '50 ms')";
    cluster.connect("postgres").batch_execute(create).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = cluster.connect("postgres");
                let began = monotonic();
                while monotonic() - began < 5 * SECOND {
                    let since = monotonic();
                    client.query_one("SELECT idgen_next('g')", &[]).unwrap();
                    let took = monotonic() - since;
                    assert!(took < 3 * SECOND, "a call took {} ms", took / 1_000_000);
                }
            });
        }
    });
}
