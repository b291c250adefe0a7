//! The worker killed, stopped or failing at each of its steps. Needs the feature `faults`.

use crate::harness::checker::check;
use crate::harness::clock::{HOUR, SECOND, monotonic};
use crate::harness::cluster::{Cluster, Mode, one, signal};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::harness::wait_until;
use crate::{IDENTITY, NEXT};
use std::fs;

const START: [&str; 2] = ["start:read", "start:raised"];
const MOVE: [&str; 6] =
    ["move:decided", "move:logged", "move:flushed", "move:acknowledged", "move:published", "move:opened"];

fn cluster() -> Cluster {
    Cluster::with_idgen("idgen.horizon_lead = '200ms'\nidgen.max_borrow = '50ms'\nidgen.wait_timeout = '500ms'")
}

/// Makes the worker act at a point; the function returned says whether it has come there.
fn arm(cluster: &Cluster, point: &str, action: &str) -> impl Fn() -> bool + use<> {
    let file = cluster.data().join("idgen_fault");
    fs::write(&file, format!("{point} {action}")).unwrap();
    move || !file.exists()
}

#[test]
#[ignore = "needs the feature faults"]
fn ids_stay_unique_and_ordered_when_the_worker_is_killed_at_any_step() {
    let mut cluster = cluster();
    let history = History::new();
    for (i, point) in START.iter().chain(&MOVE).cycle().take(16).enumerate() {
        let load = Load::start(&cluster, &history, "a", 2, NEXT);
        load.flow(50);
        cluster.clock.set(-HOUR * (i as i64 % 3));
        let came = arm(&cluster, point, "kill");
        if point.starts_with("start") {
            cluster.kill();
            load.finish();
            cluster.start();
        }
        wait_until("the worker comes to the point", &came);
        wait_until("ids flow again", || {
            cluster.try_connect("postgres").is_ok_and(|mut client| client.query_one(NEXT, &[]).is_ok())
        });
    }
    check(&history, &IDENTITY).assert_clean();
}

#[test]
#[ignore = "needs the feature faults"]
fn callers_fail_within_their_deadline_or_go_on_when_the_worker_is_stopped_at_any_step() {
    let cluster = cluster();
    let history = History::new();
    for point in MOVE {
        let came = arm(&cluster, point, "stop");
        let load = Load::start(&cluster, &history, "a", 3, NEXT);
        wait_until("the worker comes to the point", &came);
        let worker = cluster.child("idgen horizon").unwrap();
        let mut client = cluster.connect("postgres");
        let began = monotonic();
        wait_until("ids end", || client.query_one(NEXT, &[]).is_err());
        assert!(monotonic() - began < 3 * SECOND, "at {point}");
        signal(worker, libc::SIGCONT);
        wait_until("ids go on", || client.query_one(NEXT, &[]).is_ok());
        load.finish();
    }
    let report = check(&history, &IDENTITY);
    report.assert_clean();
    assert!(report.longest < 3 * SECOND, "a call took {} ns", report.longest);
    assert!(report.failures.keys().all(|code| code == "57P03"), "{report}");
}

#[test]
#[ignore = "needs the feature faults"]
fn ids_go_on_when_a_step_of_the_worker_fails() {
    let cluster = cluster();
    let history = History::new();
    let load = Load::start(&cluster, &history, "a", 3, NEXT);
    for point in MOVE {
        let came = arm(&cluster, point, "error");
        wait_until("the worker comes to the point", came);
        wait_until("ids go on", || cluster.connect("postgres").query_one(NEXT, &[]).is_ok());
    }
    load.finish();
    check(&history, &IDENTITY).assert_clean();
}

/// No id beyond the register's value may have been given: that value may not have been on disk.
#[test]
#[ignore = "needs the feature faults"]
fn no_id_was_visible_beyond_the_horizon_in_50_kills_at_random_moments() {
    let mut cluster = Cluster::with_idgen("idgen.horizon_lead = '100ms'\nidgen.max_borrow = '50ms'");
    let history = History::new();
    let kills = std::env::var("STORM_KILLS").map_or(50, |kills| kills.parse().unwrap());
    for kill in 0..kills {
        let load = Load::start(&cluster, &history, "a", 2, "SELECT idgen_next_many(500)");
        load.flow(3 + kill % 17);
        if kill % 5 == 0 {
            let came = arm(&cluster, MOVE[kill as usize / 5 % MOVE.len()], "stop");
            wait_until("the worker comes to the point", came);
        }
        cluster.clock.set(-HOUR * (1 + kill as i64 % 3));
        cluster.kill();
        load.finish();
        cluster.start();
    }
    cluster.stop(Mode::Fast);
    check(&history, &IDENTITY).assert_clean();
}

/// A session's stream has no word that the worker could raise: the session must find out by itself.
#[test]
#[ignore = "needs the feature faults"]
fn a_session_whose_first_call_waits_for_a_start_goes_on_above_the_horizon_in_its_own_stream() {
    let mut cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            "SELECT idgen_create_generator('g', 'timestamp_machine_backend');
             SELECT idgen_raise_horizon(clock_timestamp() + interval '1 hour')",
        )
        .unwrap();
    const TIME: &str = "SELECT extract(epoch FROM idgen_timestamp(idgen_next('g'), 'g'))::float8";
    let before: f64 = cluster.one(TIME);
    let before = before.max(one(&mut client, TIME));
    drop(client);
    let came = arm(&cluster, "start:read", "stop");
    cluster.kill();
    cluster.start();
    wait_until("the worker comes to the point", came);
    let mut client = cluster.connect("postgres");
    let waiting = std::thread::spawn(move || one::<f64>(&mut client, TIME));
    wait_until("the call waits", || {
        cluster.one("SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%idgen_next(''g'')%' AND wait_event_type = 'Extension'")
    });
    signal(cluster.child("idgen horizon").unwrap(), libc::SIGCONT);
    let after = waiting.join().unwrap();
    assert!(after >= before, "{after} after {before}");
}
