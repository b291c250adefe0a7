//! What a superuser can put right.

use crate::NEXT;
use crate::harness::checker::time_of;
use crate::harness::clock::{HOUR, SECOND, YEAR, machine_wall, monotonic};
use crate::harness::cluster::Cluster;
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

/// Nothing has asked for an id before: what is raised must be on disk by itself.
#[test]
fn a_raised_horizon_is_durable_when_the_call_returns() {
    let mut cluster = Cluster::with_idgen("");
    cluster.connect("postgres").batch_execute("SELECT idgen_raise_horizon(now() + '1 hour')").unwrap();
    let raised = machine_wall(monotonic()) + HOUR - SECOND;
    cluster.kill();
    cluster.start();
    assert!(time_of(cluster.one(NEXT)) > raised);
}
