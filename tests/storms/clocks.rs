//! Wall clocks that are wrong in every way, while the server runs and over restarts.

use crate::harness::checker::check;
use crate::harness::clock::{HOUR, SECOND, YEAR, machine_wall, monotonic};
use crate::harness::cluster::{Cluster, Mode, assert_refused, one};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::{IDENTITY, NEXT};
use postgres::error::SqlState;
use std::time::Duration;

const QUICK: &str = "idgen.horizon_lead = '200ms'\nidgen.max_borrow = '100ms'";

/// Makes sessions take ids while `weather` changes the clock; no call may fail, or take as long as a step of the clock.
fn ids_flow_while(weather: impl Fn(&mut Cluster)) {
    let mut cluster = Cluster::with_idgen(QUICK);
    let history = History::new();
    let load = Load::start(&cluster, &history, "a", 2, NEXT);
    load.flow(100);
    weather(&mut cluster);
    load.flow(100);
    load.finish();
    let report = check(&history, &IDENTITY);
    report.assert_clean();
    assert!(report.failures.is_empty() && report.longest < 5 * SECOND, "{report}");
}

#[test]
fn no_call_waits_while_the_clock_jumps_every_100_ms() {
    ids_flow_while(|cluster| {
        for jump in 0..20 {
            cluster.clock.set((jump % 7 - 3) * HOUR / 2);
            std::thread::sleep(Duration::from_millis(100));
        }
    });
}

#[test]
fn no_call_waits_while_the_clock_runs_a_tenth_fast_or_slow_or_stands() {
    ids_flow_while(|cluster| {
        for drift in [100, -100, -1000] {
            cluster.clock.drift(drift);
            std::thread::sleep(Duration::from_millis(700));
        }
    });
}

#[test]
fn a_leap_of_years_is_contained_while_running_and_at_a_start() {
    let mut cluster = Cluster::with_idgen(QUICK);
    let history = History::new();
    let load = Load::start(&cluster, &history, "a", 2, NEXT);
    load.flow(100);
    for years in [70, 300, 10] {
        cluster.clock.set(years * YEAR);
        load.flow(200);
        std::thread::sleep(Duration::from_millis(300));
    }
    load.finish();
    cluster.kill();
    cluster.start();
    let load = Load::start(&cluster, &history, "a", 2, NEXT);
    load.flow(100);
    load.finish();
    let near = |_: &_, call: &crate::harness::history::Call| {
        machine_wall(call.begin) - 60 * SECOND..=machine_wall(call.end) + 5 * SECOND
    };
    check(&history, &crate::harness::checker::Rules { machine: true, honest: Some(&near) }).assert_clean();
    assert!(cluster.one::<bool>("SELECT clock_held > interval '9 years' FROM idgen_status()"));
}

#[test]
fn before_the_epoch_there_is_an_error_and_after_the_end_of_the_layout_too() {
    for (years, code) in
        [(-56, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE), (70, SqlState::SEQUENCE_GENERATOR_LIMIT_EXCEEDED)]
    {
        let mut cluster = Cluster::prepared(crate::harness::cluster::IDGEN);
        cluster.clock.set(years * YEAR);
        cluster.start();
        let mut client = cluster.connect("postgres");
        client.batch_execute("CREATE EXTENSION idgen").unwrap();
        let began = monotonic();
        assert_refused(&mut client, NEXT, code.clone(), "clock");
        assert_refused(&mut client, "SELECT idgen_next_many(5)", code, "clock");
        assert!(monotonic() - began < SECOND);
        assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM idgen_status()"), 1);
        cluster.stop(Mode::Fast);
    }
}

#[test]
fn a_first_start_before_the_epoch_is_mended_by_the_clock_and_its_acceptance() {
    let mut cluster = Cluster::prepared(crate::harness::cluster::IDGEN);
    cluster.clock.set(-50 * YEAR);
    cluster.start();
    let mut client = cluster.connect("postgres");
    client.batch_execute("CREATE EXTENSION idgen").unwrap();
    assert_refused(&mut client, NEXT, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "clock");
    cluster.clock.set(0);
    client.batch_execute("SELECT idgen_accept_clock()").unwrap();
    assert!(one::<bool>(
        &mut client,
        "SELECT idgen_timestamp(idgen_next()) BETWEEN now() - interval '5 s' AND now() + interval '5 s'"
    ));
}
