//! With a synchronous standby, no id is seen that the standby could give again.

use crate::harness::checker::check;
use crate::harness::clock::{SECOND, monotonic};
use crate::harness::cluster::{Cluster, Mode, assert_refused};
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
