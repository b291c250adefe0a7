//! Steps of the wall clock: ids go on, no call waits for a clock, unbelievable leaps are not followed, followed ones heal.

use crate::harness::checker::{Rules, check, time_of};
use crate::harness::clock::{HOUR, SECOND, YEAR, machine_wall, monotonic};
use crate::harness::cluster::{Cluster, Mode};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::harness::wait_until;
use crate::{IDENTITY, IDENTITY_AND_TIME, NEXT};
use std::thread;
use std::time::Duration;

fn next(cluster: &Cluster) -> i64 {
    time_of(cluster.one(NEXT))
}

/// An interval of `idgen_status()`, in seconds.
fn status(cluster: &Cluster, interval: &str) -> f64 {
    cluster.one(&format!("SELECT extract(epoch FROM {interval})::float8 FROM idgen_status()"))
}

/// No duplicate, no id out of order, no call that took a second, and no error except of a server that was stopped.
fn assert_nobody_waited(cluster: &Cluster, history: &History, rules: &Rules) {
    let report = check(history, rules);
    report.assert_clean();
    assert!(report.longest < SECOND, "a call took {} ns", report.longest);
    assert!(report.failures.keys().all(|code| ["", "57P01"].contains(&code.as_str())), "{report}");
    assert_eq!(cluster.one::<i64>("SELECT loan_sleeps FROM idgen_status()"), 0);
}

#[test]
fn an_hour_forward_is_followed_and_back_again_nobody_waits_and_it_heals() {
    let mut cluster = Cluster::with_idgen("");
    let history = History::new();
    let load = Load::start(&cluster, &history, "a", 3, NEXT);
    load.flow(300);
    cluster.clock.set(HOUR);
    wait_until("the hour is followed", || next(&cluster) > machine_wall(monotonic()) + HOUR - SECOND);
    cluster.clock.set(0);
    wait_until("the step back is seen", || status(&cluster, "clock_ahead") > 3500.0);

    let (before, since) = (status(&cluster, "clock_ahead"), monotonic());
    thread::sleep(Duration::from_secs(5));
    let healed = before - status(&cluster, "clock_ahead");
    // The worker follows at each move of the horizon, every half a lead.
    let passed = (monotonic() - since) as f64 / SECOND as f64;
    assert!((passed - 3.0) / 10.0 <= healed && healed <= (passed + 3.0) / 10.0, "{healed} s healed in {passed} s");
    assert_nobody_waited(&cluster, &history, &IDENTITY);

    cluster.kill();
    load.finish();
    cluster.start();
    let load = Load::start(&cluster, &history, "a", 3, NEXT);
    load.flow(300);
    load.finish();
    assert_nobody_waited(&cluster, &history, &IDENTITY);
    assert!(status(&cluster, "clock_ahead") > 3500.0, "a restart does not set the clock back");
}

#[test]
fn ten_years_forward_and_back_are_not_followed_while_running_nor_over_a_restart() {
    let mut cluster = Cluster::with_idgen("");
    let history = History::new();
    let load = Load::start(&cluster, &history, "a", 3, NEXT);
    load.flow(300);
    cluster.clock.set(10 * YEAR);
    let ten_years = (10 * YEAR / SECOND) as f64;
    wait_until("the leap is held", || status(&cluster, "clock_held") > ten_years - 60.0);
    assert!(cluster.log().contains("is not followed"));
    load.flow(300);

    cluster.stop(Mode::Fast);
    load.finish();
    cluster.start();
    let load = Load::start(&cluster, &history, "a", 3, NEXT);
    load.flow(300);
    assert!(status(&cluster, "clock_held") > ten_years - 60.0);

    cluster.clock.set(0);
    wait_until("the step back is seen", || status(&cluster, "clock_held") == 0.0);
    load.flow(300);
    load.finish();
    assert_nobody_waited(&cluster, &history, &IDENTITY_AND_TIME);
}

#[test]
fn an_hour_back_over_a_restart_goes_on_where_it_stood() {
    let mut cluster = Cluster::with_idgen("");
    let history = History::new();
    for offset in [-HOUR, 0, -2 * HOUR] {
        let load = Load::start(&cluster, &history, "a", 3, NEXT);
        load.flow(300);
        cluster.stop(Mode::Fast);
        load.finish();
        cluster.clock.set(offset);
        cluster.start();
        cluster.one::<i64>(NEXT);
        assert_eq!(cluster.one::<i64>("SELECT loan_sleeps FROM idgen_status()"), 0);
    }
    assert_nobody_waited(&cluster, &history, &IDENTITY_AND_TIME);
}

#[test]
fn a_clock_that_stands_still_stops_nobody() {
    let cluster = Cluster::with_idgen("");
    let history = History::new();
    let load = Load::start(&cluster, &history, "a", 3, NEXT);
    cluster.clock.drift(-1000);
    let before = next(&cluster);
    thread::sleep(Duration::from_secs(3));
    load.finish();
    assert!(next(&cluster) - before >= 27 * SECOND / 10 - SECOND / 100);
    assert_nobody_waited(&cluster, &history, &IDENTITY);
}
