//! Asynchronous standbys whose clocks are wrong, promoted when the primary dies in full flow.

use crate::harness::checker::check;
use crate::harness::clock::HOUR;
use crate::harness::cluster::{Cluster, Mode, assert_refused};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::harness::wait_until;
use crate::{IDENTITY, IDENTITY_AND_TIME, NEXT};
use postgres::error::SqlState;

#[test]
fn ids_go_on_above_all_that_were_seen_when_a_standby_with_its_clock_an_hour_behind_is_promoted() {
    let mut primary = Cluster::with_idgen("");
    let history = History::new();
    let standby = primary.standby_an_hour_behind("s");
    let mut client = standby.connect("postgres");
    assert_refused(&mut client, NEXT, SqlState::READ_ONLY_SQL_TRANSACTION, "promote");
    for query in ["SELECT idgen_next_many(10)", "SELECT idgen_accept_clock()", "SELECT idgen_raise_horizon(now())"] {
        assert_refused(&mut client, query, SqlState::READ_ONLY_SQL_TRANSACTION, "promote");
    }
    client.batch_execute("SELECT * FROM idgen_status()").unwrap();

    let load = Load::start(&primary, &history, "a", 3, NEXT);
    load.flow(1000);
    assert_refused(&mut client, NEXT, SqlState::READ_ONLY_SQL_TRANSACTION, "promote");
    // What promise 4 covers under load: a lag below half a lead less what is borrowed.
    wait_until("the standby has replayed a horizon half a lead ahead", || {
        standby.one("SELECT horizon > clock_timestamp() + '1 hour 2 seconds' FROM idgen_status()")
    });
    primary.kill();
    load.finish();
    standby.promote();

    let load = Load::start(&standby, &history, "a", 3, NEXT);
    load.flow(1000);
    load.finish();
    check(&history, &IDENTITY_AND_TIME).assert_clean();
    // A session that was refused while the server was a standby goes on now that it is a primary.
    client.batch_execute(NEXT).unwrap();
}

#[test]
fn ids_go_on_above_all_that_were_seen_when_a_standby_with_the_right_time_is_promoted_that_had_lost_the_primary() {
    let mut primary = Cluster::with_idgen("");
    let mut standby = primary.standby("s");
    standby.start();
    primary.wait_for_replay(&standby);
    standby.stop(Mode::Fast);
    let history = History::new();
    let load = Load::start(&primary, &history, "a", 2, NEXT);
    primary.wait_for_moves(2);
    primary.kill();
    load.finish();
    standby.start();
    standby.promote();
    let load = Load::start(&standby, &history, "a", 2, NEXT);
    load.flow(300);
    load.finish();
    check(&history, &IDENTITY_AND_TIME).assert_clean();
}

#[test]
fn a_standby_without_the_library_carries_the_horizon_too() {
    let mut primary = Cluster::with_idgen("");
    let mut standby = primary.standby("s");
    standby.clock.set(-HOUR);
    standby.configure("shared_preload_libraries = ''");
    standby.start();
    let history = History::new();
    Load::run(&primary, &history, "a", 2, NEXT, 300);
    primary.wait_for_replay(&standby);
    primary.kill();
    standby.promote();
    standby.stop(Mode::Fast);
    standby.configure("shared_preload_libraries = 'idgen'");
    standby.start();
    Load::run(&standby, &history, "a", 2, NEXT, 300);
    check(&history, &IDENTITY).assert_clean();
}
