//! With a synchronous standby, no id is seen that the standby could give again.

use crate::harness::checker::check;
use crate::harness::clock::{SECOND, monotonic};
use crate::harness::cluster::{Cluster, Mode, assert_refused, signal};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::harness::wait_until;
use crate::{IDENTITY, NEXT};
use postgres::error::SqlState;

/// A primary that waits for its standby, and the standby with its clock an hour behind.
fn pair() -> (Cluster, Cluster) {
    let primary =
        Cluster::with_idgen("idgen.horizon_lead = '1s'\nidgen.max_borrow = '100ms'\nidgen.wait_timeout = '500ms'");
    let standby = primary.standby_an_hour_behind("s");
    primary.reconfigure("synchronous_standby_names = 'FIRST 1 (s)'");
    wait_until("the standby is synchronous", || {
        primary.one("SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
    });
    (primary, standby)
}

/// Makes sessions, one of them with synchronous_commit off, take ids until no more are given.
fn take_until_refused(primary: &Cluster, history: &History) {
    let mut careless = primary.connect("postgres");
    careless.batch_execute("SET synchronous_commit = off").unwrap();
    let careless_query = careless.prepare(NEXT).unwrap();
    let mut recorder = history.client("a", "postgres", 1);
    let load = Load::start(primary, history, "a", 2, NEXT);
    wait_until("ids end", || recorder.call(&mut careless, &careless_query).is_err());
    let began = monotonic();
    assert_refused(&mut careless, NEXT, SqlState::CANNOT_CONNECT_NOW, "standby");
    let waited = monotonic() - began;
    assert!((SECOND / 2..2 * SECOND).contains(&waited), "the deadline of 0.5 s came after {waited} ns");
    load.finish();
}

#[test]
fn ids_end_at_the_horizon_with_an_error_while_the_standby_is_away_and_go_on_when_it_is_back() {
    let (primary, mut standby) = pair();
    let history = History::new();
    let load = Load::start(&primary, &history, "a", 2, NEXT);
    load.flow(1000);
    load.finish();
    standby.stop(Mode::Fast);
    take_until_refused(&primary, &history);
    standby.start();
    wait_until("ids go on", || primary.connect("postgres").query_one(NEXT, &[]).is_ok());
    Load::run(&primary, &history, "a", 2, NEXT, 1000);
    let report = check(&history, &IDENTITY);
    report.assert_clean();
    assert_eq!(report.failures.keys().collect::<Vec<_>>(), ["57P03"], "{report}");
}

#[test]
fn a_promoted_standby_gives_ids_above_all_that_the_old_primary_gives_cut_off_but_alive() {
    let (primary, standby) = pair();
    let history = History::new();
    let load = Load::start(&primary, &history, "a", 2, NEXT);
    load.flow(1000);
    standby.promote();
    let promoted = History::new();
    let new = Load::start(&standby, &promoted, "a", 2, NEXT);
    new.flow(1000);
    take_until_refused(&primary, &history);
    load.finish();
    new.finish();
    let (old, new) = (check(&history, &IDENTITY), check(&promoted, &IDENTITY));
    old.assert_clean();
    new.assert_clean();
    assert!(old.highest < new.lowest, "the old primary gave {}, the promoted standby {}", old.highest, new.lowest);
}

/// A primary with two standbys, `b` and `c`, and their WAL receivers.
fn trio(settings: &str) -> (Cluster, [Cluster; 2], [u32; 2]) {
    let primary = Cluster::with_idgen(&format!("idgen.wait_timeout = '500ms'\n{settings}"));
    let mut standbys = ["b", "c"].map(|name| primary.standby(name));
    standbys.iter_mut().for_each(Cluster::start);
    wait_until("both stream", || primary.one("SELECT count(*) = 2 FROM pg_stat_replication WHERE state = 'streaming'"));
    let receivers = standbys.each_ref().map(|standby| standby.child("walreceiver").unwrap());
    (primary, standbys, receivers)
}

#[test]
fn what_other_standbys_acknowledged_before_does_not_permit_a_counter_to_give_its_block() {
    let (mut primary, [b, _c], [for_b, for_c]) = trio("");
    let mut client = primary.connect("postgres");
    client.batch_execute("SELECT idgen_create_generator('n', 'counter', flush_every => 10)").unwrap();
    primary.reconfigure("synchronous_standby_names = c");
    let next = "SELECT idgen_next('n')";
    wait_until("c acknowledges", || client.query_one(next, &[]).is_ok());
    client.batch_execute("ALTER SEQUENCE n RESTART WITH 101").unwrap();
    signal(for_b, libc::SIGSTOP);
    signal(for_c, libc::SIGSTOP);
    // Its block is left for the next caller, and then c has it, and b not.
    assert_refused(&mut client, next, SqlState::CANNOT_CONNECT_NOW, "standby");
    signal(for_c, libc::SIGCONT);
    wait_until("c has it", || {
        primary.one("SELECT flush_lsn = pg_current_wal_lsn() FROM pg_stat_replication WHERE application_name = 'c'")
    });
    primary.reconfigure("synchronous_standby_names = b");
    wait_until("b is the one to wait for", || {
        primary.one("SELECT sync_state = 'sync' FROM pg_stat_replication WHERE application_name = 'b'")
    });
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_refused(&mut client, next, SqlState::CANNOT_CONNECT_NOW, "standby");
    signal(for_b, libc::SIGCONT);
    let mut given = 0;
    wait_until("ids go on", || client.query_one(next, &[]).map(|row| given = row.get::<_, i64>(0)).is_ok());
    drop(client);
    primary.stop(Mode::Immediate);
    b.promote();
    assert!(b.one::<i64>(next) > given);
}

#[test]
fn what_other_standbys_acknowledge_just_after_a_reload_permits_nothing() {
    let (primary, _standbys, [for_b, for_c]) = trio("idgen.horizon_lead = '20s'");
    let mut client = primary.connect("postgres");
    for attempt in 0..5 {
        signal(for_b, libc::SIGCONT);
        primary.reconfigure("synchronous_standby_names = c");
        wait_until("ids are given", || client.query_one(NEXT, &[]).is_ok());
        signal(for_b, libc::SIGSTOP);
        signal(for_c, libc::SIGSTOP);
        // The worker waits for c.
        assert!(client.batch_execute("SELECT idgen_raise_horizon(now() + '30 s'::interval)").is_err());
        primary.configure("synchronous_standby_names = b");
        signal(for_c, libc::SIGCONT);
        std::thread::sleep(std::time::Duration::from_millis(attempt));
        signal(primary.pid(), libc::SIGHUP);
        wait_until("b is the one to wait for", || {
            primary.one("SELECT coalesce(bool_or(sync_state = 'sync'), false) FROM pg_stat_replication WHERE application_name = 'b'")
        });
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_refused(&mut client, NEXT, SqlState::CANNOT_CONNECT_NOW, "standby");
    }
    signal(for_b, libc::SIGCONT);
    wait_until("ids go on", || client.query_one(NEXT, &[]).is_ok());
}

/// The setting in `postgresql.conf` that says whether commits wait for standbys at all counts here too.
#[test]
fn a_server_whose_configuration_says_not_to_wait_for_standbys_does_not() {
    let (primary, mut standby) = pair();
    primary.reconfigure("synchronous_commit = local");
    standby.stop(Mode::Fast);
    let history = History::new();
    let load = Load::start(&primary, &history, "a", 2, NEXT);
    std::thread::sleep(std::time::Duration::from_secs(3));
    load.finish();
    let report = check(&history, &IDENTITY);
    report.assert_clean();
    assert!(report.failures.is_empty(), "{report}");
}
