//! The harness itself: its clocks move, and it reports faults that idgen must not have.

use crate::harness::checker::{Promise, Rules, check};
use crate::harness::clock::{HOUR, SECOND, monotonic};
use crate::harness::cluster::{Cluster, one};
use crate::harness::history::History;

/// PostgreSQL gives the next values of a sequence to others before the record of the session that began them is on disk.
#[test]
fn nextval_is_reported_to_repeat_ids_after_a_kill() {
    let mut cluster = Cluster::running("");
    cluster.connect("postgres").batch_execute("CREATE SEQUENCE s").unwrap();
    let mut open = cluster.connect("postgres");
    open.batch_execute("BEGIN; SELECT nextval('s')").unwrap();
    let history = History::new();
    let take = |cluster: &Cluster| {
        let mut client = cluster.connect("postgres");
        let mut recorder = history.client("a", "postgres", 0);
        let query = client.prepare("SELECT nextval('s')").unwrap();
        (0..3).for_each(|_| _ = recorder.call(&mut client, &query).unwrap());
    };
    take(&cluster);
    cluster.kill();
    cluster.start();
    take(&cluster);
    let report = check(&history, &Rules::default());
    assert_eq!(report.violations.keys().collect::<Vec<_>>(), [&Promise::Unique, &Promise::Ordered], "{report}");
}

#[test]
fn the_wall_clock_of_a_running_server_is_set_and_its_boot_time_clock_is_not() {
    let cluster = Cluster::running("");
    let mut client = cluster.connect("postgres");
    let mut is_right = |what| {
        let before = cluster.clock.now();
        let shown: f64 = one(&mut client, "SELECT extract(epoch FROM clock_timestamp())::float8");
        let shown = (shown * 1e9) as i64;
        let within = before - SECOND / 100..=cluster.clock.now() + SECOND / 100;
        assert!(within.contains(&shown), "{what}: {shown} is not within {within:?}");
    };
    is_right("untouched");
    cluster.clock.set(-HOUR);
    is_right("an hour back");
    cluster.clock.drift(-1000);
    let frozen = cluster.clock.now();
    is_right("frozen");
    assert_eq!(cluster.clock.now(), frozen);
    cluster.clock.drift(2000);
    let since = monotonic();
    one::<bool>(&mut cluster.connect("postgres"), "SELECT pg_sleep(0.1) IS NULL");
    is_right("three times as fast");
    assert!(cluster.clock.now() - frozen >= 3 * (monotonic() - since) - SECOND / 100);
}
