//! Every reason why there is no id, with its SQLSTATE and what to do about it.

use crate::NEXT;
use crate::harness::checker::machine_of;
use crate::harness::clock::{SECOND, YEAR};
use crate::harness::cluster::{Cluster, IDGEN, Mode, assert_refused, one, refusal};
use crate::harness::wait_until;
use postgres::error::SqlState;

#[test]
fn without_preload_no_id_is_given_and_ids_can_be_read() {
    let cluster = Cluster::running("idgen.machine_id = 1");
    let mut client = cluster.connect("postgres");
    client.batch_execute("CREATE EXTENSION idgen").unwrap();
    let line = "shared_preload_libraries = 'idgen'";
    for query in [NEXT, "SELECT idgen_next_many(3)", "SELECT * FROM idgen_status()", "SELECT idgen_accept_clock()"] {
        assert_refused(&mut client, query, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, line);
    }
    assert_eq!(one::<i32>(&mut client, "SELECT idgen_machine(idgen_max_id('2026-01-01'))"), 1023);
}

#[test]
fn a_session_that_loads_the_library_by_itself_lives_on() {
    let cluster = Cluster::running("idgen.machine_id = 1\nidgen.horizon_lead = '1s'");
    let mut client = cluster.connect("postgres");
    client.batch_execute("SET idgen.machine_id = 'a'; SET idgen.wait_timeout = '1s'; LOAD 'idgen'").unwrap();
    client.batch_execute("SET idgen.wait_timeout = '2s'; LOAD 'idgen'").unwrap();
    assert_eq!(one::<i32>(&mut client, "SELECT 1"), 1);
    let mut client = cluster.connect("postgres");
    client.batch_execute("SET session_preload_libraries = ''; CREATE EXTENSION idgen").unwrap();
    client.batch_execute("ALTER ROLE postgres SET session_preload_libraries = 'idgen'").unwrap();
    assert_eq!(cluster.one::<i32>("SELECT 1"), 1);
}

#[test]
fn without_a_machine_id_no_id_is_given() {
    let cluster = Cluster::with_idgen("idgen.machine_id = -1");
    let mut client = cluster.connect("postgres");
    let line = "idgen.machine_id = 1";
    assert_refused(&mut client, NEXT, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, line);
    assert_refused(&mut client, "SELECT idgen_next_many(3)", SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, line);
    client.batch_execute("SELECT * FROM idgen_status()").unwrap();
}

/// The runbook says that every copy of a server is to be started like this the first time.
#[test]
fn a_copy_that_is_started_without_a_number_gives_no_id_until_it_has_one_of_its_own() {
    let origin = Cluster::with_idgen("");
    assert_eq!(machine_of(origin.one(NEXT)), 1);
    let mut copy = origin.copy();
    copy.options = vec!["-c", "idgen.machine_id=-1"];
    copy.start();
    // Also if somebody makes it read its settings again.
    copy.reconfigure("idgen.machine_id = 1");
    let mut client = copy.connect("postgres");
    assert_refused(&mut client, NEXT, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "idgen.machine_id");
    copy.stop(Mode::Fast);
    copy.options.clear();
    copy.configure("idgen.machine_id = 2");
    copy.start();
    assert_eq!(machine_of(copy.one(NEXT)), 2);
}

#[test]
fn a_machine_id_that_does_not_fit_gives_no_id() {
    let cluster = Cluster::with_idgen("idgen.machine_id = 1024");
    let mut client = cluster.connect("postgres");
    assert_refused(&mut client, NEXT, SqlState::INVALID_PARAMETER_VALUE, "0 to 1023");
}

#[test]
fn the_machine_id_changes_at_a_restart_only() {
    let mut cluster = Cluster::with_idgen("");
    cluster.reconfigure("idgen.machine_id = 1023");
    wait_until("the server says so", || cluster.log().contains("cannot be changed without restarting the server"));
    assert_eq!(machine_of(cluster.one(NEXT)), 1);
    let mut client = cluster.connect("postgres");
    let error = client.batch_execute("SET idgen.machine_id = 5").unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::CANT_CHANGE_RUNTIME_PARAM));
    cluster.stop(Mode::Fast);
    cluster.start();
    assert_eq!(machine_of(cluster.one(NEXT)), 1023);
}

#[test]
fn a_layout_whose_time_has_run_out_gives_no_id() {
    let mut cluster = Cluster::prepared(IDGEN);
    cluster.clock.set(70 * YEAR);
    cluster.start();
    let mut client = cluster.connect("postgres");
    client.batch_execute("CREATE EXTENSION idgen").unwrap();
    assert_refused(&mut client, NEXT, SqlState::SEQUENCE_GENERATOR_LIMIT_EXCEEDED, "clock is right");
}

#[test]
fn ids_end_with_the_last_millisecond_of_the_layout() {
    let end = 1_735_689_600 * SECOND + (1 << 41) * (SECOND / 1000);
    let mut cluster = Cluster::prepared(IDGEN);
    cluster.clock.set(end - 3 * SECOND - cluster.clock.now());
    cluster.start();
    let mut client = cluster.connect("postgres");
    client.batch_execute("CREATE EXTENSION idgen").unwrap();
    one::<i64>(&mut client, NEXT);
    let mut last = 0;
    wait_until("ids end", || match client.query_one(NEXT, &[]) {
        Ok(row) => {
            assert!(row.get::<_, i64>(0) > last);
            last = row.get(0);
            false
        }
        Err(_) => true,
    });
    assert_refused(&mut client, NEXT, SqlState::SEQUENCE_GENERATOR_LIMIT_EXCEEDED, "clock is right");
}

#[test]
fn a_clock_before_the_epoch_gives_no_id_until_it_is_right() {
    let mut cluster = Cluster::prepared(IDGEN);
    cluster.clock.set(1_700_000_000 * SECOND - cluster.clock.now());
    cluster.start();
    let mut client = cluster.connect("postgres");
    client.batch_execute("CREATE EXTENSION idgen; SET statement_timeout = '20s'").unwrap();
    assert_refused(&mut client, NEXT, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "clock");
    // Long enough for the worker to look at the clock again and again.
    std::thread::sleep(std::time::Duration::from_secs(3));
    cluster.clock.set(0);
    let right = std::time::Instant::now();
    wait_until("there are ids", || client.batch_execute(NEXT).is_ok());
    assert!(right.elapsed() < std::time::Duration::from_millis(1300), "{:?}", right.elapsed());
}

#[test]
fn without_a_place_for_the_horizon_no_id_is_given() {
    let places = if Cluster::version() >= 18 { "max_active_replication_origins" } else { "max_replication_slots" };
    let cluster = Cluster::with_idgen(&format!("{places} = 0\nidgen.wait_timeout = '2s'"));
    let mut client = cluster.connect("postgres");
    wait_until("the reason is known", || {
        client.query_one(NEXT, &[]).is_err_and(|error| error.code() == Some(&SqlState::CONFIGURATION_LIMIT_EXCEEDED))
    });
    assert_refused(&mut client, NEXT, SqlState::CONFIGURATION_LIMIT_EXCEEDED, places);
    // Also between two lives of the worker.
    for _ in 0..15 {
        let obstacle: String = cluster.one("SELECT obstacle FROM idgen_status()");
        assert!(obstacle.contains("no place for the durable horizon"), "{obstacle}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn without_a_worker_no_id_is_given() {
    let cluster = Cluster::with_idgen("max_worker_processes = 0\nidgen.wait_timeout = '200ms'");
    let mut client = cluster.connect("postgres");
    client.batch_execute("SELECT idgen_create_generator('c', 'counter')").unwrap();
    for call in [NEXT, "SELECT idgen_next('c')"] {
        assert_refused(&mut client, call, SqlState::CONFIGURATION_LIMIT_EXCEEDED, "max_worker_processes");
    }
}

#[test]
fn an_error_that_names_what_is_not_ascii_can_be_read_in_every_encoding() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    for (encoding, shown) in [("UTF8", "\"\u{e4}\u{65e5}\""), ("EUC_JP", "???"), ("SQL_ASCII", "??")] {
        let name = encoding.to_lowercase();
        let made = format!("CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0");
        client.batch_execute(&made).unwrap();
        let mut other = cluster.connect(&name);
        other.batch_execute("CREATE EXTENSION idgen; CREATE SEQUENCE \"\u{e4}\u{65e5}\"").unwrap();
        let error = refusal(&mut other, "SELECT idgen_next('\"\u{e4}\u{65e5}\"')");
        assert!(error.message().contains(shown), "{encoding}: {error}");
        for call in ["idgen_describe", "idgen_from_text"] {
            let error = refusal(&mut other, &format!("SELECT {call}('\u{65e5}\u{e4}')"));
            assert_ne!(error.code(), &SqlState::CHARACTER_NOT_IN_REPERTOIRE, "{encoding}: {error}");
        }
    }
}

#[test]
fn bad_arguments_are_refused_with_what_is_allowed() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    for function in ["timestamp", "machine", "sequence", "decode"] {
        let query = format!("SELECT idgen_{function}(-1)");
        assert_refused(&mut client, &query, SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "idgen gave out");
    }
    assert_refused(&mut client, "SELECT idgen_next_many(-1)", SqlState::INVALID_PARAMETER_VALUE, "0 or more");
    assert_refused(
        &mut client,
        "SELECT idgen_raise_horizon('2095-01-01')",
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        "dates",
    );
}

/// An ordinary session can change how long it waits, and nothing else.
#[test]
fn no_session_can_change_what_uniqueness_and_order_rest_on() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    for setting in ["machine_id", "horizon_lead", "max_borrow", "max_clock_jump"] {
        let error = client.batch_execute(&format!("SET idgen.{setting} = 1000")).unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::CANT_CHANGE_RUNTIME_PARAM), "{setting}");
    }
    let error = client.batch_execute("SET idgen.mistyped = 1").unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INVALID_NAME));
}
