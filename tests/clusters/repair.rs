//! The repairs of a superuser.

use crate::NEXT;
use crate::harness::checker::time_of;
use crate::harness::clock::{HOUR, SECOND, YEAR, machine_wall, monotonic};
use crate::harness::cluster::{Cluster, Mode};
use crate::harness::wait_until;

#[test]
fn an_accepted_clock_is_followed_however_far_it_leapt() {
    let mut cluster = Cluster::with_idgen("");
    cluster.one::<i64>(NEXT);
    cluster.clock.set(10 * YEAR);
    wait_until("the leap is held", || {
        cluster.one::<i64>(NEXT);
        cluster.one::<bool>("SELECT clock_held > '9 years' FROM idgen_status()")
    });
    cluster.connect("postgres").batch_execute("SELECT idgen_accept_clock()").unwrap();
    let first = cluster.one::<i64>(NEXT);
    assert!(time_of(first) > machine_wall(monotonic()) + 10 * YEAR - SECOND);
    cluster.kill();
    cluster.clock.set(0);
    cluster.start();
    assert!(cluster.one::<i64>(NEXT) > first);
}

#[test]
fn a_raised_horizon_lies_below_every_id_to_come_also_after_a_kill() {
    let mut cluster = Cluster::with_idgen("");
    cluster.one::<i64>(NEXT);
    cluster.connect("postgres").batch_execute("SELECT idgen_raise_horizon(now() + '1 hour')").unwrap();
    let raised = machine_wall(monotonic()) + HOUR - SECOND;
    let first = cluster.one::<i64>(NEXT);
    assert!(time_of(first) > raised);
    assert_eq!(cluster.one::<i64>("SELECT loan_sleeps FROM idgen_status()"), 0);
    cluster.kill();
    cluster.start();
    assert!(cluster.one::<i64>(NEXT) > first);
}

/// Nobody has asked for an id before: the raised horizon must be on disk by itself.
#[test]
fn a_raised_horizon_is_durable_when_the_call_returns() {
    let mut cluster = Cluster::with_idgen("");
    cluster.connect("postgres").batch_execute("SELECT idgen_raise_horizon(now() + '1 hour')").unwrap();
    let raised = machine_wall(monotonic()) + HOUR - SECOND;
    cluster.kill();
    cluster.start();
    assert!(time_of(cluster.one(NEXT)) > raised);
}

#[test]
fn what_the_runbook_says_of_removal_frees_the_origin_here_and_on_the_standby_and_ids_come_back_above() {
    let mut cluster = Cluster::with_idgen("");
    let mut standby = cluster.standby("s");
    standby.start();
    let last: i64 = cluster.one(NEXT);
    let places = "SELECT count(*) FROM pg_replication_origin_status";
    wait_until("the standby has the origin", || standby.one::<i64>(places) == 1);

    cluster.configure("shared_preload_libraries = ''");
    standby.configure("shared_preload_libraries = ''");
    cluster.stop(Mode::Fast);
    standby.stop(Mode::Fast);
    cluster.start();
    standby.start();
    let runbook = include_str!("../../docs/runbook.md");
    let removal = runbook.split("## Removal for good").nth(1).unwrap();
    let statements = removal.split("```sql").nth(1).unwrap().split("```").next().unwrap();
    let mut client = cluster.connect("postgres");
    statements.split_inclusive(';').for_each(|statement| client.batch_execute(statement).unwrap());
    assert_eq!(cluster.one::<i64>(places), 0);
    wait_until("it is gone on the standby", || standby.one::<i64>(places) == 0);

    cluster.configure("shared_preload_libraries = 'idgen'");
    cluster.stop(Mode::Fast);
    cluster.start();
    assert!(cluster.one::<i64>(NEXT) > last);
    assert_eq!(cluster.one::<i64>(places), 1);
}
