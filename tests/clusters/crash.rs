//! Ids stay unique and in order whatever dies, while the wall clock is set back.

use crate::harness::checker::{Report, check, time_of};
use crate::harness::clock::HOUR;
use crate::harness::cluster::{Cluster, Mode};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::{IDENTITY_AND_TIME, NEXT};

/// Ends the server, or one of its processes, in full flow, this many times; each time its clock goes back one more hour. The
/// timestamps follow the clock that ran before the first end.
fn ids_go_on_above_all_that_were_seen(times: i64, end: impl Fn(&mut Cluster)) {
    let mut cluster = Cluster::with_idgen("");
    let history = History::new();
    for time in 1..=times {
        let load = Load::start(&cluster, &history, "a", 3, NEXT);
        load.flow(300);
        cluster.clock.set(-time * HOUR);
        end(&mut cluster);
        load.finish();
    }
    let load = Load::start(&cluster, &history, "a", 3, NEXT);
    load.flow(300);
    load.finish();
    check_goes_on(&history).assert_clean();
}

fn check_goes_on(history: &History) -> Report {
    check(history, &IDENTITY_AND_TIME)
}

#[test]
fn ids_stay_unique_and_ordered_across_20_kills_of_the_postmaster_and_all_its_children() {
    ids_go_on_above_all_that_were_seen(20, |cluster| {
        cluster.kill();
        cluster.start();
    });
}

#[test]
fn ids_stay_unique_and_ordered_across_immediate_stops() {
    ids_go_on_above_all_that_were_seen(3, |cluster| {
        cluster.stop(Mode::Immediate);
        cluster.start();
    });
}

#[test]
fn ids_stay_unique_and_ordered_across_restarts() {
    ids_go_on_above_all_that_were_seen(3, |cluster| {
        cluster.stop(Mode::Fast);
        cluster.start();
    });
}

/// After this PostgreSQL wipes the shared memory and starts again by itself.
#[test]
fn ids_stay_unique_and_ordered_across_kills_of_one_backend() {
    ids_go_on_above_all_that_were_seen(3, |cluster| kill_child(cluster, "[local]"));
}

#[test]
fn ids_stay_unique_and_ordered_across_kills_of_idgens_worker() {
    ids_go_on_above_all_that_were_seen(3, |cluster| kill_child(cluster, "idgen horizon"));
}

#[test]
fn ids_stay_unique_and_ordered_across_kills_of_each_auxiliary_process() {
    ids_go_on_above_all_that_were_seen(1, |cluster| kill_child(cluster, "checkpointer"));
    ids_go_on_above_all_that_were_seen(1, |cluster| kill_child(cluster, "background writer"));
    ids_go_on_above_all_that_were_seen(1, |cluster| kill_child(cluster, "walwriter"));
}

fn kill_child(cluster: &Cluster, title: &str) {
    let killed = cluster.signal_child(title, libc::SIGKILL);
    cluster.wait_for_crash_restart(killed);
}

/// The register is read without idgen, so nothing has moved it since the kill.
#[test]
fn no_id_was_visible_beyond_the_horizon_that_a_restart_finds() {
    let mut cluster = Cluster::with_idgen("idgen.horizon_lead = '100ms'\nidgen.max_borrow = '50ms'");
    let history = History::new();
    for _ in 0..5 {
        let load = Load::start(&cluster, &history, "a", 2, "SELECT idgen_next_many(1000)");
        load.flow(200);
        cluster.kill();
        load.finish();
        cluster.configure("shared_preload_libraries = ''");
        cluster.start();
        let horizon: i64 =
            cluster.one("SELECT (remote_lsn - '0/0')::bigint FROM pg_replication_origin_status WHERE local_id = 65530");
        let report = check_goes_on(&history);
        report.assert_clean();
        let end = time_of(report.highest) / 1000 + 1000;
        assert!(end <= horizon, "an id's millisecond ends at {end}, the horizon is {horizon}");
        cluster.stop(Mode::Fast);
        cluster.configure("shared_preload_libraries = 'idgen'");
        cluster.start();
    }
}
