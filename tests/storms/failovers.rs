//! Promotions: back and forth, in cascades, with the old primary still alive.

use crate::harness::checker::{Promise, check};
use crate::harness::clock::HOUR;
use crate::harness::cluster::{Cluster, Mode, program, run, signal};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::harness::wait_until;
use crate::{IDENTITY, NEXT};

const QUICK: &str = "idgen.horizon_lead = '500ms'\nidgen.max_borrow = '100ms'\nidgen.wait_timeout = '500ms'";

fn synchronous(primary: &Cluster) {
    primary.reconfigure("synchronous_standby_names = 'FIRST 1 (s)'");
    wait_until("the standby is synchronous", || {
        primary.one("SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
    });
}

fn asynchronous(standby: &Cluster) {
    standby.configure("synchronous_standby_names = ''");
    signal(standby.pid(), libc::SIGHUP);
}

/// Clocks an hour apart; the old primary, cut off, goes on giving ids while the new one does.
#[test]
fn no_id_is_given_twice_in_10_failovers_while_each_old_primary_lives_on_cut_off() {
    let mut primary = Cluster::with_idgen(QUICK);
    let history = History::new();
    let mut standby = primary.standby("s");
    standby.start();
    synchronous(&primary);
    for failover in 0..10 {
        standby.clock.set(if failover % 2 == 0 { -HOUR } else { HOUR });
        let old = Load::start(&primary, &history, &format!("primary {failover}"), 2, NEXT);
        old.flow(100);
        asynchronous(&standby);
        // Promoted while the primary runs: its connection ends, and nobody acknowledges its horizon any more.
        standby.promote();
        let new = Load::start(&standby, &history, &format!("primary {}", failover + 1), 2, NEXT);
        new.flow(100);
        let mut cut_off = primary.connect("postgres");
        wait_until("the cut off primary's ids end", || cut_off.query_one(NEXT, &[]).is_err());
        new.finish();
        old.finish();
        primary.kill();
        let mut next = standby.standby("s");
        next.start();
        primary = std::mem::replace(&mut standby, next);
        synchronous(&primary);
    }
    // Each timeline has its own name: across the cut only uniqueness is promised, and order on each side of it.
    check(&history, &IDENTITY).assert_clean();
}

#[test]
fn ids_go_on_above_all_that_were_seen_when_a_standby_of_a_standby_is_promoted() {
    let mut primary = Cluster::with_idgen(QUICK);
    let history = History::new();
    let mut standby = primary.standby("s");
    standby.start();
    primary.wait_for_replay(&standby);
    let second = standby.standby_an_hour_behind("t");
    Load::run(&primary, &history, "a", 2, NEXT, 200);
    primary.wait_for_replay(&second);
    primary.kill();
    standby.stop(Mode::Immediate);
    second.promote();
    Load::run(&second, &history, "a", 2, NEXT, 200);
    check(&history, &IDENTITY).assert_clean();
}

#[test]
fn an_old_primary_that_is_rewound_follows_the_new_one_and_is_promoted_again() {
    let mut primary = Cluster::with_idgen(&format!("{QUICK}\nwal_log_hints = on\nwal_keep_size = '256MB'"));
    let history = History::new();
    let mut standby = primary.standby_an_hour_behind("s");
    synchronous(&primary);
    let load = Load::start(&primary, &history, "a", 2, NEXT);
    load.flow(200);
    asynchronous(&standby);
    primary.stop(Mode::Fast);
    load.finish();
    standby.promote();
    let load = Load::start(&standby, &history, "a", 2, NEXT);
    load.flow(200);
    load.finish();
    standby.connect("postgres").batch_execute("CHECKPOINT").unwrap();
    let socket = standby.data().parent().unwrap().display().to_string();
    let mut rewind = program("pg_rewind");
    rewind
        .arg("-D")
        .arg(primary.data())
        .arg("--source-server")
        .arg(format!("host={socket} user=postgres dbname=postgres"));
    run(rewind.arg("--write-recovery-conf"));
    primary.configure("synchronous_standby_names = ''");
    primary.clock.set(-2 * HOUR);
    primary.start();
    standby.wait_for_replay(&primary);
    standby.kill();
    primary.promote();
    Load::run(&primary, &history, "a", 2, NEXT, 200);
    check(&history, &IDENTITY).assert_clean();
}

/// The standby has all the WAL and has replayed almost none of it: it recovers from its own crash, and then it is promoted.
#[test]
fn ids_go_on_above_all_that_were_seen_when_a_standby_is_promoted_in_the_middle_of_its_crash_recovery() {
    let mut primary = Cluster::with_idgen(QUICK);
    primary.connect("postgres").batch_execute("CREATE TABLE t (id bigint DEFAULT idgen_next())").unwrap();
    let history = History::new();
    let mut standby = primary.standby("s");
    standby.clock.set(-HOUR);
    // Until it is promoted, the standby stops before each commit.
    standby.configure("recovery_min_apply_delay = '3h'");
    standby.start();
    synchronous(&primary);
    let mut load = Load::start(&primary, &history, "a", 2, "INSERT INTO t DEFAULT VALUES RETURNING id");
    load.add(&primary, &history, "a", "postgres", 1, "SELECT idgen_next_many(1000)");
    load.flow(200);
    primary.wait_for_moves(3);
    asynchronous(&standby);
    primary.kill();
    load.finish();
    standby.kill();
    standby.start();
    let replayed = standby.one::<i64>("SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint");
    standby.promote();
    assert!(standby.one::<i64>("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint") > replayed + 10_000);
    Load::run(&standby, &history, "a", 2, NEXT, 200);
    check(&history, &IDENTITY).assert_clean();
}

/// The limit of what is promised without a synchronous standby, and that the checker sees it.
#[test]
fn a_standby_that_lost_the_primary_long_before_and_is_promoted_an_hour_behind_is_reported_to_go_back() {
    let mut primary = Cluster::with_idgen(QUICK);
    let mut standby = primary.standby_an_hour_behind("s");
    primary.wait_for_replay(&standby);
    standby.stop(Mode::Fast);
    let history = History::new();
    let load = Load::start(&primary, &history, "a", 2, NEXT);
    primary.wait_for_moves(6);
    primary.kill();
    load.finish();
    standby.start();
    standby.promote();
    let load = Load::start(&standby, &history, "a", 2, NEXT);
    load.flow(100);
    load.finish();
    let report = check(&history, &IDENTITY);
    assert!(report.violations.contains_key(&Promise::Ordered), "{report}");
}
