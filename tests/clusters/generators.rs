//! Generators: every preset keeps the promises, counters persist, sessions have their own streams, and no DBA's change of a
//! sequence does harm.

use crate::harness::checker::{Rules, check};
use crate::harness::clock::HOUR;
use crate::harness::cluster::{Cluster, IDGEN, Mode, assert_refused, one, program, refusal, run, signal};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::harness::wait_until;
use postgres::Client;
use postgres::error::SqlState;
use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

/// Ids of a generator are unique and in order; what else they say depends on its layout.
const PLAIN: Rules = Rules { machine: false, honest: None };

const SESSIONS: usize = 8;

fn create(client: &mut Client, name: &str, arguments: &str) {
    client.batch_execute(&format!("SELECT idgen_create_generator('{name}', {arguments})")).unwrap();
}

fn next(client: &mut Client, generator: &str) -> i64 {
    one(client, &format!("SELECT idgen_next('{generator}')"))
}

/// The next value of a counter.
fn value(client: &mut Client, counter: &str) -> i64 {
    one(client, &format!("SELECT idgen_sequence(idgen_next('{counter}'), '{counter}')"))
}

#[test]
fn every_preset_is_unique_and_ordered_at_its_own_rate_and_goes_on_above_after_a_kill_with_the_clock_an_hour_back() {
    const BATCH: f64 = 500.0;
    let mut cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    client.batch_execute("SELECT idgen_create_generator('g_' || preset, preset) FROM idgen_presets()").unwrap();
    let presets = client
        .query("SELECT generator::text, per_second, definition ~ 'backend' FROM idgen_generators() ORDER BY 1", &[])
        .unwrap();
    assert_eq!(presets.len(), 12);
    let mut reached = Vec::new();
    for row in &presets {
        let (preset, rate, own_streams): (String, Option<f64>, bool) = (row.get(0), row.get(1), row.get(2));
        let off: Option<bool> = one(
            &mut client,
            &format!(
                "SELECT at NOT BETWEEN before - tick - interval '5 ms' AND clock_timestamp() + interval '5 ms'
                 FROM idgen_generators(), clock_timestamp() AS before, idgen_decode(idgen_next('{preset}'), '{preset}')
                 WHERE generator = '{preset}'::regclass"
            ),
        );
        assert!(off.is_none_or(|off| !off), "an id of {preset} does not decode to the instant of its call");

        let history = History::new();
        let query = format!("SELECT idgen_next('{preset}') FROM generate_series(1, {BATCH})");
        let mut load = Load::start(&cluster, &history, "0", 1, &query);
        for session in 1..SESSIONS {
            // Between sessions with streams of their own no order is promised.
            let server = if own_streams { session.to_string() } else { "0".into() };
            load.add(&cluster, &history, &server, "postgres", 1, &query);
        }
        // 200,000 ids, or what two seconds allow.
        let calls = rate.map_or(400.0, |rate| (rate * 2.0 / BATCH).clamp(3.0, 400.0));
        load.flow(calls as u64);
        load.finish();
        let report = check(&history, &PLAIN);
        report.assert_clean();
        assert!(report.failures.is_empty(), "{preset}: {report}");
        reached.push((preset, report.highest));
    }
    drop(client);
    cluster.clock.set(-HOUR);
    cluster.kill();
    cluster.start();
    let mut client = cluster.connect("postgres");
    for (preset, highest) in reached {
        assert!(next(&mut client, &preset) > highest, "{preset} went back");
    }
}

#[test]
fn a_counter_flushes_once_for_each_block_and_a_kill_loses_two_blocks_at_most() {
    let mut cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    create(&mut client, "c", "'counter', flush_every => 50");
    client.batch_execute("CHECKPOINT; BEGIN READ ONLY").unwrap();
    let (start, records): (String, _) = (one(&mut client, "SELECT pg_current_wal_insert_lsn()::text"), 1017 / 50 + 2);
    let flushes: i64 = one(
        &mut client,
        "SELECT count(DISTINCT flushed) FROM (SELECT idgen_next('c'), pg_current_wal_flush_lsn() AS flushed
         FROM generate_series(1, 1016)) AS calls",
    );
    let last = value(&mut client, "c");
    assert_eq!(last, 1017);
    assert!(flushes <= records + 1, "{flushes} flushes for {last} values");
    client.batch_execute("COMMIT; SELECT pg_switch_wal()").unwrap();
    let mut dump = program("pg_waldump");
    let dump = dump.args(["--rmgr", "Sequence", "--start", &start, "--path"]).arg(cluster.data().join("pg_wal"));
    let dump = String::from_utf8(dump.output().unwrap().stdout).unwrap();
    let logged = dump.lines().filter(|line| line.contains("rmgr: Sequence")).count() as i64;
    assert!((20..=records).contains(&logged), "{logged} records for {last} values:\n{dump}");
    drop(client);

    cluster.kill();
    cluster.start();
    let mut client = cluster.connect("postgres");
    let after = value(&mut client, "c");
    assert!(after > last && after - last - 1 < 100, "{after} after {last}");
}

/// The worker opens a kept block at the moment when a session takes the next one: neither block is skipped.
#[test]
fn a_counter_that_nobody_restarts_or_kills_has_no_gap() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    create(&mut client, "c", "'counter', flush_every => 3");
    let load = thread::scope(|scope| {
        let counts: Vec<_> = (0..3)
            .map(|_| {
                let cluster = &cluster;
                scope.spawn(move || {
                    let mut client = cluster.connect("postgres");
                    one::<i64>(&mut client, "SELECT count(idgen_next('c')) FROM generate_series(1, 4000)")
                        + one::<i64>(&mut client, "SELECT count(*) FROM idgen_next_many('c', 2000)")
                })
            })
            .collect();
        counts.into_iter().map(|count| count.join().unwrap()).sum::<i64>()
    });
    assert_eq!(load, 18_000);
    let last = value(&mut client, "c");
    // Of the values that a set-returning call took, those left of its last run are never used.
    assert!((18_001..18_010).contains(&last), "{last}");
}

/// With the worker stopped, every session flushes by itself.
#[test]
fn a_counter_that_is_used_faster_than_the_disk_waits_once_for_two_blocks_and_has_no_more_in_flight() {
    let cluster = Cluster::with_idgen("wal_writer_delay = '10s'");
    let mut client = cluster.connect("postgres");
    create(&mut client, "c", "'counter', flush_every => 50");
    assert_eq!(value(&mut client, "c"), 1);
    let worker = cluster.signal_child("idgen horizon", libc::SIGSTOP);
    let flushes: i64 = one(
        &mut client,
        "SELECT count(DISTINCT flushed) FROM (SELECT idgen_next('c'), pg_current_wal_flush_lsn() AS flushed
         FROM generate_series(1, 1000)) AS calls",
    );
    assert!((10..=15).contains(&flushes), "{flushes} flushes for 1000 values");
    client
        .batch_execute(
            "DO $$ DECLARE value bigint; BEGIN
                 FOR i IN 1..1000 LOOP
                     value := idgen_sequence(idgen_next('c'), 'c');
                     ASSERT (SELECT last_value - value < 100 FROM c), value;
                 END LOOP;
             END $$",
        )
        .unwrap();
    signal(worker, libc::SIGCONT);
}

#[test]
fn a_counter_skips_nothing_when_calls_fail_because_the_standby_is_away() {
    let cluster = Cluster::with_idgen("idgen.wait_timeout = '100ms'");
    let mut client = cluster.connect("postgres");
    create(&mut client, "c", "'counter', flush_every => 10");
    cluster.reconfigure("synchronous_standby_names = 'FIRST 1 (nobody)'");
    const VALUE: &str = "SELECT idgen_sequence(idgen_next('c'), 'c')";
    let mut last = 0;
    let mut refused = 0;
    while refused < 6 {
        match client.query_one(VALUE, &[]) {
            Ok(row) => last = row.get(0),
            Err(error) => {
                let timeout = *error.code().unwrap() == SqlState::QUERY_CANCELED;
                assert!(timeout || *error.code().unwrap() == SqlState::CANNOT_CONNECT_NOW, "{error:?}");
                refused += 1;
                // Half of them wait for the deadline, the others are cancelled.
                client.batch_execute("SET statement_timeout = '30ms'").unwrap();
                if refused < 4 {
                    client.batch_execute("RESET statement_timeout").unwrap();
                }
            }
        }
    }
    client.batch_execute("RESET statement_timeout").unwrap();
    cluster.reconfigure("synchronous_standby_names = ''");
    wait_until("the standby is not waited for", || {
        client.query_one(VALUE, &[]).is_ok_and(|row| row.get::<_, i64>(0) > last)
    });
    // The reload took the rest of the block that was in use.
    let first = (last as u64).div_ceil(10) as i64 * 10 + 1;
    assert_eq!(value(&mut client, "c"), first + 1);
}

#[test]
fn sessions_that_race_for_blocks_with_nextval_and_setval_beside_them_never_share_a_value() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    // Without machine bits an id is the plain count.
    client.batch_execute("CREATE SEQUENCE c; SECURITY LABEL FOR idgen ON SEQUENCE c IS 'counter:62 flush:5'").unwrap();
    let history = History::new();
    let mut load = Load::start(&cluster, &history, "ids", SESSIONS, "SELECT idgen_next('c')");
    load.add(&cluster, &history, "ids", "postgres", 1, "SELECT idgen_next_many('c', 37)");
    // The values of nextval() lie above the block in use.
    load.add(&cluster, &history, "nextval", "postgres", 2, "SELECT nextval('c')");
    for step in 1..=5 {
        load.flow(500);
        client.batch_execute(&format!("SELECT setval('c', 1000000 * {step})")).unwrap();
    }
    load.flow(500);
    load.finish();
    let report = check(&history, &PLAIN);
    report.assert_clean();
    assert!(report.failures.is_empty() && report.highest > 5_000_000, "{report}");
}

/// Another session changes the sequence under a cached block.
#[test]
fn what_the_owner_does_to_a_counter_holds_for_sessions_that_have_used_it() {
    let cluster = Cluster::with_idgen("");
    let (mut owner, mut user) = (cluster.connect("postgres"), cluster.connect("postgres"));
    create(&mut owner, "c", "'counter', flush_every => 10");
    assert_eq!(value(&mut user, "c"), 1);
    owner.batch_execute("ALTER SEQUENCE c RESTART 500").unwrap();
    assert_eq!(value(&mut user, "c"), 500);

    // A RESTART that is not committed yet makes others wait; one that was rolled back never happened.
    let mut transaction = owner.transaction().unwrap();
    transaction.batch_execute("ALTER SEQUENCE c RESTART").unwrap();
    user.batch_execute("SET lock_timeout = '100ms'").unwrap();
    assert_refused(&mut user, "SELECT idgen_next('c')", SqlState::LOCK_NOT_AVAILABLE, "");
    let given: i64 = transaction.query_one("SELECT idgen_sequence(idgen_next('c'), 'c')", &[]).unwrap().get(0);
    assert_eq!(given, 1);
    transaction.rollback().unwrap();
    let before = value(&mut user, "c");
    assert!(before > 500);
    owner.batch_execute("SELECT setval('c', 2000)").unwrap();
    let values: Vec<i64> = (0..25).map(|_| value(&mut user, "c")).collect();
    assert!(values.is_sorted_by(|a, b| a < b) && values[0] > before && values[24] > 2000, "{values:?}");

    for change in ["INCREMENT 2", "INCREMENT -1", "INCREMENT 1 CYCLE", "NO CYCLE SET UNLOGGED"] {
        // SET UNLOGGED must be a statement of its own.
        for part in change.split_inclusive("CYCLE ") {
            owner.batch_execute(&format!("ALTER SEQUENCE c {part}")).unwrap();
        }
        assert_refused(
            &mut user,
            "SELECT idgen_next('c')",
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            "ALTER SEQUENCE",
        );
    }
    owner.batch_execute("ALTER SEQUENCE c SET LOGGED; ALTER SEQUENCE c MAXVALUE 5000 CACHE 7").unwrap();
    assert!(value(&mut user, "c") > values[24]);
    owner.batch_execute("CREATE ROLE someone; ALTER SEQUENCE c OWNER TO someone").unwrap();
    assert!(value(&mut user, "c") > values[24] + 1);
    owner.batch_execute("SELECT setval('c', 4990)").unwrap();
    let error = (0..100).find_map(|_| user.query("SELECT idgen_next('c')", &[]).err()).unwrap();
    assert_eq!(error.code(), Some(&SqlState::SEQUENCE_GENERATOR_LIMIT_EXCEEDED));

    create(&mut owner, "rows", "'counter', flush_every => 10");
    owner
        .batch_execute(
            "CREATE TABLE t (id bigint DEFAULT idgen_next('rows'), n serial); ALTER SEQUENCE rows OWNED BY t.id",
        )
        .unwrap();
    let insert = "INSERT INTO t DEFAULT VALUES RETURNING idgen_sequence(id, 'rows')";
    assert_eq!((one::<i64>(&mut user, insert), one::<i64>(&mut user, insert)), (1, 2));
    owner.batch_execute("BEGIN; TRUNCATE t RESTART IDENTITY; ROLLBACK").unwrap();
    assert!(one::<i64>(&mut user, insert) > 2);
    owner.batch_execute("TRUNCATE t RESTART IDENTITY").unwrap();
    assert_eq!(one::<i64>(&mut user, insert), 1);
}

/// Tools that load fixtures do this: after a few times the counter would be used up.
#[test]
fn a_counter_that_is_set_to_the_highest_key_does_not_take_it_for_a_count() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    create(&mut client, "c", "'counter', flush_every => 10");
    client
        .batch_execute(
            "CREATE TABLE t (id bigint DEFAULT idgen_next('c')); INSERT INTO t SELECT FROM generate_series(1, 95)",
        )
        .unwrap();
    for reset in ["setval('c', max(id))", "setval('c', max(id) + 1, false)"] {
        client.batch_execute(&format!("SELECT {reset} FROM t")).unwrap();
        let id: i64 = one(&mut client, "SELECT max(id) FROM t");
        let (error, given) = (0..)
            .find_map(|given| client.query_one("SELECT idgen_next('c')", &[]).err().map(|error| (error, given)))
            .unwrap();
        assert!(given <= 20, "{given} values of blocks that were taken before");
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code(), &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
        assert!(
            error.detail().unwrap().contains(&format!("It stands at {id}, which is the id of the count {}", id >> 10))
        );

        // As the hint says, and an owner may mean it.
        client.batch_execute(&format!("SELECT setval('c', {})", id + 1)).unwrap();
        assert_eq!(value(&mut client, "c"), id + 2);
        client.batch_execute("ALTER SEQUENCE c RESTART 200; INSERT INTO t SELECT FROM generate_series(1, 25)").unwrap();
    }
}

#[test]
fn a_drop_takes_a_generator_away_for_good_only_when_it_is_committed() {
    let cluster = Cluster::with_idgen("");
    let (mut owner, mut user) = (cluster.connect("postgres"), cluster.connect("postgres"));
    user.batch_execute("SET statement_timeout = '2s'").unwrap();
    let presets = ["snowflake", "sonyflake", "timestamp_machine_backend", "counter"];
    for preset in presets {
        create(&mut owner, preset, &format!("'{preset}'"));
        let mut last = next(&mut user, preset);

        // A transaction that used it holds it until its end, as with nextval().
        let mut transaction = user.transaction().unwrap();
        transaction.batch_execute("SAVEPOINT s").unwrap();
        last =
            transaction.query_one(&format!("SELECT idgen_next('{preset}')"), &[]).unwrap().get::<_, i64>(0).max(last);
        transaction.batch_execute("ROLLBACK TO s").unwrap();
        owner.batch_execute("SET lock_timeout = '100ms'").unwrap();
        assert_refused(&mut owner, &format!("DROP SEQUENCE {preset}"), SqlState::LOCK_NOT_AVAILABLE, "");
        transaction.commit().unwrap();

        for end in ["ROLLBACK", "ROLLBACK TO s; COMMIT"] {
            owner.batch_execute(&format!("BEGIN; SAVEPOINT s; DROP SEQUENCE {preset}")).unwrap();
            owner.batch_execute(end).unwrap();
            // Other generators come in between, if a place is free.
            create(&mut owner, "other", "'js_safe'");
            next(&mut owner, "other");
            let went_on = next(&mut user, preset);
            assert!(went_on > last, "{preset} went back from {last} to {went_on} after {end}");
            last = went_on;
            assert_ne!(next(&mut owner, preset), last);
            owner.batch_execute("DROP SEQUENCE other").unwrap();
        }
        owner.batch_execute(&format!("DROP SEQUENCE {preset}")).unwrap();
        let error = refusal(&mut user, &format!("SELECT idgen_next('{preset}')"));
        assert_eq!(*error.code(), SqlState::UNDEFINED_TABLE);
    }
}

#[test]
fn a_database_that_cannot_be_dropped_keeps_its_generators() {
    let cluster = Cluster::with_idgen("idgen.max_generators = 2");
    let mut owner = cluster.connect("postgres");
    owner.batch_execute("CREATE DATABASE used").unwrap();
    let mut user = cluster.connect("used");
    user.batch_execute("CREATE EXTENSION idgen; SET statement_timeout = '2s'").unwrap();
    create(&mut user, "g", "'snowflake'");
    let mut last = next(&mut user, "g");
    assert_refused(&mut owner, "DROP DATABASE used", SqlState::OBJECT_IN_USE, "");
    // These take the free places.
    create(&mut owner, "g", "'timestamp'");
    next(&mut owner, "g");
    for _ in 0..3 {
        let went_on = next(&mut user, "g");
        assert!(went_on > last);
        last = went_on;
    }
    owner.batch_execute("DROP DATABASE used WITH (FORCE)").unwrap();
    create(&mut owner, "h", "'discord'");
    next(&mut owner, "h");
}

#[test]
fn places_for_generators_are_used_again_and_their_end_is_an_error_that_says_what_to_do() {
    let cluster = Cluster::with_idgen("idgen.max_generators = 2");
    let (mut client, mut other) = (cluster.connect("postgres"), cluster.connect("postgres"));
    let full = |client: &mut Client, generator: &str| {
        let query = format!("SELECT idgen_next('{generator}')");
        assert_refused(client, &query, SqlState::CONFIGURATION_LIMIT_EXCEEDED, "idgen.max_generators");
    };
    for name in ["a", "b", "c"] {
        create(&mut client, name, "'snowflake'");
    }
    let (a, _) = (next(&mut client, "a"), next(&mut other, "b"));
    full(&mut client, "c");
    full(&mut other, "c");
    other.batch_execute("DROP SEQUENCE b").unwrap();
    let before = Instant::now();
    next(&mut client, "c");
    assert!(before.elapsed() < Duration::from_millis(900), "a new generator waits after a DROP");
    assert!(next(&mut other, "a") > a);
    other.batch_execute("DROP SEQUENCE c").unwrap();
    for end in ["ROLLBACK", "ROLLBACK TO s; COMMIT"].repeat(3) {
        client.batch_execute("BEGIN; SAVEPOINT s; SAVEPOINT t").unwrap();
        create(&mut client, "passing", "'counter'");
        client.batch_execute("RELEASE t").unwrap();
        next(&mut client, "passing");
        client.batch_execute(end).unwrap();
    }
    create(&mut client, "d", "'counter'");
    assert_eq!(value(&mut client, "d"), 1);
    create(&mut client, "e", "'snowflake'");
    full(&mut other, "e");
}

#[test]
fn a_dump_goes_on_above_on_a_server_with_another_machine_id() {
    let (from, to) = (Cluster::with_idgen(""), Cluster::running(&format!("{IDGEN}idgen.machine_id = 7")));
    let mut client = from.connect("postgres");
    client.batch_execute("CREATE ROLE someone; CREATE SCHEMA s").unwrap();
    to.connect("postgres").batch_execute("CREATE ROLE someone").unwrap();
    create(&mut client, "s.clock", "'js_safe'");
    create(&mut client, "s.counter", "'counter', flush_every => 50");
    client
        .batch_execute(
            "CREATE TABLE s.t (id bigint DEFAULT idgen_next('s.clock') PRIMARY KEY, n bigint DEFAULT idgen_next('s.counter'));
             GRANT USAGE ON SCHEMA s TO someone; GRANT USAGE ON SEQUENCE s.clock TO someone;
             INSERT INTO s.t SELECT FROM generate_series(1, 1017)",
        )
        .unwrap();
    let file = from.data().join("dump.sql");
    let socket = |cluster: &Cluster| cluster.data().parent().unwrap().to_path_buf();
    run(program("pg_dump").arg("-h").arg(socket(&from)).args(["-U", "postgres", "-f"]).arg(&file).arg("postgres"));
    let mut psql = program("psql");
    run(psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"]).arg(socket(&to)).arg("-f").arg(&file));

    let mut restored = to.connect("postgres");
    let (id, n): (i64, i64) = {
        let row = restored.query_one("INSERT INTO s.t DEFAULT VALUES RETURNING id, n", &[]).unwrap();
        (row.get(0), row.get(1))
    };
    let highest = restored.query_one("SELECT max(id), max(n) FROM s.t WHERE id <> $1", &[&id]).unwrap();
    assert!(id > highest.get(0) && n > highest.get(1));
    for (generator, id) in [("s.clock", id), ("s.counter", n)] {
        assert_eq!(one::<i32>(&mut restored, &format!("SELECT idgen_machine({id}, '{generator}')")), 7);
    }
    let definitions =
        "SELECT string_agg(generator || ' ' || definition, ', ' ORDER BY definition) FROM idgen_generators()";
    assert_eq!(one::<String>(&mut restored, definitions), one::<String>(&mut client, definitions));
    restored.batch_execute("SET ROLE someone").unwrap();
    next(&mut restored, "s.clock");
    let error = refusal(&mut restored, "SELECT idgen_next('s.counter')");
    assert_eq!(*error.code(), SqlState::INSUFFICIENT_PRIVILEGE);
}

#[test]
fn a_database_made_from_a_template_has_generators_of_its_own() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    client.batch_execute("CREATE DATABASE original").unwrap();
    let mut original = cluster.connect("original");
    original.batch_execute("CREATE EXTENSION idgen").unwrap();
    create(&mut original, "g", "'snowflake'");
    create(&mut original, "c", "'counter', flush_every => 50");
    let (id, n) = (next(&mut original, "g"), (0..30).map(|_| value(&mut original, "c")).last().unwrap());
    drop(original);
    wait_until("nobody is in the template", || client.batch_execute("CREATE DATABASE copy TEMPLATE original").is_ok());
    for database in ["copy", "original"] {
        let mut session = cluster.connect(database);
        assert!(next(&mut session, "g") > id && value(&mut session, "c") > n, "{database}");
    }
    // What happens in one database means nothing to the other.
    let (mut copy, mut original) = (cluster.connect("copy"), cluster.connect("original"));
    let before = value(&mut original, "c");
    copy.batch_execute("SELECT setval('c', 100000); DROP SEQUENCE g; SELECT idgen_next_many('c', 200)").unwrap();
    assert_eq!(value(&mut original, "c"), before + 1);
    next(&mut original, "g");
}

/// Sessions one after the other on a few numbers: a session goes on above the earlier ones with its number.
fn short_sessions(cluster: &Cluster, history: &History, queries: &[&str], rounds: usize) {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || {
                for round in 0..rounds {
                    let mut client = cluster.connect("postgres");
                    // Order is promised within a session only: to the checker each session is a server of its own.
                    let mut recorder = history.client(&format!("{:?} {round}", thread::current().id()), "postgres", 1);
                    for query in queries {
                        let query = client.prepare(query).unwrap();
                        (0..3).for_each(|_| _ = recorder.call(&mut client, &query).unwrap());
                    }
                }
            });
        }
    });
}

#[test]
fn streams_of_sessions_stay_unique_when_numbers_are_used_again_after_exits_and_kills() {
    let mut cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    create(&mut client, "g", "'timestamp_machine_backend'");
    // Ticks so long that a number is used again within one; the next session with it begins in the next tick.
    create(&mut client, "slow", "timestamp_bits => 31, backend_bits => 10, sequence_bits => 20, tick => '200 ms'");
    drop(client);
    for generator in ["g", "slow"] {
        let history = History::new();
        let single = format!("SELECT idgen_next('{generator}')");
        let batch = format!("SELECT idgen_next_many('{generator}', 20)");
        short_sessions(&cluster, &history, &[&single, &batch], 10);
        let _idle = cluster.connect("postgres");
        let killed = cluster.signal_child("[local]", libc::SIGKILL);
        cluster.wait_for_crash_restart(killed);
        short_sessions(&cluster, &history, &[&single, &batch], 5);
        cluster.clock.set(-HOUR);
        cluster.kill();
        cluster.start();
        short_sessions(&cluster, &history, &[&single, &batch], 5);
        cluster.clock.set(0);
        check(&history, &PLAIN).assert_clean();
    }
}

#[test]
fn two_live_sessions_never_have_the_same_number_and_those_without_one_are_told() {
    let cluster = Cluster::with_idgen("max_connections = 24");
    let mut client = cluster.connect("postgres");
    create(&mut client, "few", "timestamp_bits => 41, backend_bits => 4, sequence_bits => 6");
    drop(client);
    let mut sessions: Vec<Client> = (0..20).map(|_| cluster.connect("postgres")).collect();
    let (mut numbers, mut ids, mut without) = (HashSet::new(), HashSet::new(), 0);
    for client in &mut sessions {
        match client.query("SELECT idgen_next_many('few', 100)", &[]) {
            Ok(rows) => {
                let taken: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
                let number = one::<i32>(client, &format!("SELECT idgen_backend({}, 'few')", taken[0]));
                assert!(numbers.insert(number), "two sessions are number {number}");
                assert!(taken.iter().all(|id| ids.insert(*id)));
            }
            Err(_) => {
                let code = SqlState::CONFIGURATION_LIMIT_EXCEEDED;
                assert_refused(client, "SELECT idgen_next('few')", code, "more backend bits");
                without += 1;
            }
        }
    }
    assert!(without > 0 && numbers.len() >= 4, "{without} without a number, {} with one", numbers.len());
}

#[test]
fn counters_and_streams_serve_read_only_transactions_and_parallel_workers() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    create(&mut client, "counter", "'counter', flush_every => 7");
    create(&mut client, "streams", "timestamp_bits => 41, backend_bits => 8, sequence_bits => 14");
    client
        .batch_execute(
            "CREATE FUNCTION safely(regclass) RETURNS bigint LANGUAGE plpgsql PARALLEL SAFE AS $$ BEGIN RETURN CASE WHEN $1 IS NULL THEN idgen_next() ELSE idgen_next($1) END; END $$;
             CREATE TABLE big AS SELECT FROM generate_series(1, 20000);
             SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
             BEGIN READ ONLY",
        )
        .unwrap();
    for generator in ["counter", "streams"] {
        let plan = format!("EXPLAIN (ANALYZE, COSTS off, TIMING off) SELECT count(safely('{generator}')) FROM big");
        let plan: Vec<String> = client.query(&plan, &[]).unwrap().iter().map(|row| row.get(0)).collect();
        assert!(plan.iter().any(|line| line.contains("Workers Launched: 2")), "{plan:#?}");
        let distinct = format!("SELECT count(DISTINCT id) FROM (SELECT safely('{generator}') AS id FROM big) AS ids");
        assert_eq!(one::<i64>(&mut client, &distinct), 20_000, "{generator}");
    }
}

#[test]
fn generators_go_on_above_when_a_standby_with_its_clock_an_hour_behind_is_promoted() {
    let mut primary = Cluster::with_idgen("idgen.wait_timeout = '500ms'");
    let mut client = primary.connect("postgres");
    let generators = ["snowflake", "sonyflake", "timestamp_machine_backend", "counter"];
    for generator in generators {
        create(&mut client, generator, &format!("'{generator}'"));
    }
    create(&mut client, "waits", "'counter', flush_every => 1");
    let standby = primary.standby_an_hour_behind("s");
    let mut last: Vec<i64> = Vec::new();
    for _ in 0..2000 {
        last = generators.map(|generator| next(&mut client, generator)).to_vec();
    }
    primary.wait_for_replay(&standby);
    let mut on_standby = standby.connect("postgres");
    for generator in generators {
        let query = format!("SELECT idgen_next('{generator}')");
        assert_refused(&mut on_standby, &query, SqlState::READ_ONLY_SQL_TRANSACTION, "promote");
    }
    // A block is not given out before a synchronous standby has it.
    primary.reconfigure("synchronous_standby_names = 'nobody'");
    wait_until("a block waits for the standby", || {
        client
            .query("SELECT idgen_next('waits')", &[])
            .is_err_and(|error| error.code() == Some(&SqlState::CANNOT_CONNECT_NOW))
    });
    primary.kill();
    standby.promote();
    for (generator, last) in generators.iter().zip(last) {
        wait_until("the promoted server gives ids", || {
            on_standby.query(&format!("SELECT idgen_next('{generator}')"), &[]).is_ok()
        });
        assert!(next(&mut on_standby, generator) > last, "{generator} went back");
    }
}

#[test]
fn an_upgrade_from_any_version_keeps_data_and_gives_ids_all_the_while() {
    let mut cluster = Cluster::running(IDGEN);
    let versions: Vec<String> = cluster
        .connect("postgres")
        .query("SELECT version FROM pg_available_extension_versions WHERE name = 'idgen'", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    for version in versions {
        let mut client = cluster.connect("postgres");
        client
            .batch_execute(&format!(
                "CREATE EXTENSION idgen VERSION '{version}';
                 CREATE TABLE t (id bigint DEFAULT idgen_next() PRIMARY KEY, at timestamptz DEFAULT clock_timestamp());
                 CREATE INDEX by_time ON t (idgen_timestamp(id));
                 CREATE VIEW recent AS SELECT * FROM t WHERE id >= idgen_min_id(now() - interval '1 hour');
                 INSERT INTO t SELECT FROM generate_series(1, 1000)"
            ))
            .unwrap();
        let history = History::new();
        let load = Load::start(&cluster, &history, "a", 3, "INSERT INTO t DEFAULT VALUES RETURNING id");
        load.flow(200);
        client.batch_execute("ALTER EXTENSION idgen UPDATE").unwrap();
        load.flow(200);
        load.finish();
        let report = check(&history, &crate::IDENTITY_AND_TIME);
        report.assert_clean();
        assert!(report.failures.is_empty(), "{report}");
        create(&mut client, "g", "'counter'");
        assert_eq!(value(&mut client, "g"), 1);
        assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM recent"), 1000 + report.ids as i64);
        drop(client);
        cluster.kill();
        cluster.start();
        assert!(cluster.one::<bool>("SELECT idgen_next() > max(id) FROM t"));
        assert!(cluster.one::<i64>("SELECT idgen_sequence(idgen_next('g'), 'g')") > 1);
        cluster
            .connect("postgres")
            .batch_execute("DROP TABLE t CASCADE; DROP SEQUENCE g; DROP EXTENSION idgen")
            .unwrap();
    }
}

#[test]
fn a_generator_whose_epoch_is_in_the_future_delays_no_other() {
    let mut cluster = Cluster::with_idgen("");
    cluster
        .connect("postgres")
        .batch_execute(
            "SELECT idgen_create_generator('far', timestamp_bits => 30, machine_bits => 10, backend_bits => 10, sequence_bits => 10,
                epoch => '9999-01-01');
             SELECT idgen_create_generator('shared', timestamp_bits => 41, machine_bits => 10, sequence_bits => 10, epoch => '9999-01-01');
             SELECT idgen_create_generator('near', timestamp_bits => 49, machine_bits => 4, backend_bits => 10, epoch => '1970-01-01');
             SELECT idgen_create_generator('other', timestamp_bits => 48, machine_bits => 4, backend_bits => 10, epoch => '1970-01-01')",
        )
        .unwrap();
    let use_all = |cluster: &Cluster| {
        let mut client = cluster.connect("postgres");
        for far in ["far", "shared"] {
            let error = refusal(&mut client, &format!("SELECT idgen_next('{far}')"));
            assert!(error.message().contains("epoch"), "{error}");
        }
        // What this backend knew is forgotten, and published for the next one that has its number.
        client.batch_execute("ALTER SEQUENCE far RENAME TO far_").unwrap();
        for near in ["near", "other"] {
            one::<i64>(&mut client, &format!("SELECT idgen_next('{near}')"));
        }
        client.batch_execute("ALTER SEQUENCE far_ RENAME TO far").unwrap();
    };
    for _ in 0..2 {
        use_all(&cluster);
        use_all(&cluster);
        assert!(cluster.one::<bool>("SELECT horizon < now() + '1 min' FROM idgen_status()"));
        cluster.stop(Mode::Fast);
        cluster.start();
    }
    assert!(cluster.one::<bool>("SELECT idgen_timestamp(idgen_next()) < now() + '1 min'"));
}
