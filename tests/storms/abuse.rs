//! What users do to a server, by mistake or not.

use crate::harness::checker::check;
use crate::harness::cluster::{Cluster, IDGEN, one, program};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::harness::wait_until;
use crate::{IDENTITY, NEXT};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use std::time::{Duration, Instant};

#[test]
fn cancel_and_terminate_a_hundred_times_a_second_leave_the_ids_in_order() {
    let cluster = Cluster::with_idgen("idgen.horizon_lead = '200ms'\nidgen.max_borrow = '20ms'");
    let history = History::new();
    let mut admin = cluster.connect("postgres");
    for _ in 0..3 {
        let mut load = Load::start(&cluster, &history, "a", 2, "SELECT idgen_next_many(100000)");
        load.add(&cluster, &history, "a", "postgres", 2, NEXT);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(1) {
            let how = if began.elapsed() > Duration::from_millis(900) { "terminate" } else { "cancel" };
            admin
                .batch_execute(&format!(
                    "SELECT pg_{how}_backend(pid) FROM pg_stat_activity
                     WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1"
                ))
                .unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
        load.finish();
    }
    let report = check(&history, &IDENTITY);
    report.assert_clean();
    assert!(report.failures.contains_key("57014"), "{report}");
}

#[test]
fn a_statement_timeout_of_1_ms_ends_calls_at_once_and_the_others_go_on() {
    let cluster = Cluster::with_idgen("idgen.max_borrow = '1ms'");
    let history = History::new();
    let mut hurried = cluster.connect("postgres");
    hurried.batch_execute("SET statement_timeout = '1ms'").unwrap();
    let load = Load::start(&cluster, &history, "a", 2, NEXT);
    for _ in 0..50 {
        let began = Instant::now();
        let code = hurried.query("SELECT count(*) FROM idgen_next_many(10000000)", &[]).unwrap_err().code().cloned();
        assert_eq!(code, Some(postgres::error::SqlState::QUERY_CANCELED));
        assert!(began.elapsed() < Duration::from_secs(1));
    }
    load.flow(100);
    load.finish();
    check(&history, &IDENTITY).assert_clean();
}

#[test]
fn drop_and_create_extension_and_reloads_under_load_leave_the_ids_in_order() {
    let cluster = Cluster::with_idgen("");
    let mut other = cluster.connect("template1");
    other.batch_execute("CREATE DATABASE other TEMPLATE postgres").unwrap();
    let history = History::new();
    let mut load = Load::start(&cluster, &history, "a", 2, NEXT);
    load.add(&cluster, &history, "a", "other", 2, NEXT);
    let mut client = cluster.connect("other");
    for round in 0..10 {
        client.batch_execute("DROP EXTENSION idgen; CREATE EXTENSION idgen").unwrap();
        cluster.reconfigure(&format!(
            "idgen.horizon_lead = {}\nidgen.max_borrow = {}\nidgen.max_clock_jump = {}\nidgen.wait_timeout = {}",
            100 + round * 300,
            round * 100,
            round - 1,
            1000 + round
        ));
    }
    load.flow(200);
    load.finish();
    check(&history, &IDENTITY).assert_clean();
}

#[test]
fn ids_are_had_everywhere_that_a_function_can_be_called() {
    let cluster = Cluster::with_idgen("wal_level = logical");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            "CREATE TABLE t (id bigint DEFAULT idgen_next() PRIMARY KEY, x int);
             CREATE INDEX ON t (idgen_timestamp(id));
             CREATE TABLE log (id bigint, x int);
             CREATE FUNCTION on_t() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN INSERT INTO log VALUES (idgen_next(), NEW.x); RETURN NEW; END $$;
             CREATE TRIGGER on_t AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION on_t();
             INSERT INTO t (x) SELECT generate_series(1, 1000);
             BEGIN READ ONLY; SELECT idgen_next(); COMMIT;
             PREPARE p AS INSERT INTO t (x) VALUES ($1);
             EXECUTE p (1001);
             SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
             CREATE TABLE parallel AS SELECT idgen_next() AS id FROM t;",
        )
        .unwrap();
    let distinct = "SELECT count(DISTINCT id) FROM (SELECT id FROM t UNION ALL SELECT id FROM log UNION ALL SELECT id FROM parallel) x";
    assert_eq!(one::<i64>(&mut client, distinct), 3003);
}

/// The subscriber's defaults and triggers take ids of its own; rows of the publisher keep theirs.
#[test]
fn a_logical_replication_subscriber_gives_ids_of_its_own() {
    let publisher = Cluster::with_idgen("wal_level = logical");
    let subscriber = Cluster::running(&format!("{IDGEN}idgen.machine_id = 2"));
    publisher
        .connect("postgres")
        .batch_execute(
            "CREATE TABLE t (id bigint DEFAULT idgen_next() PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t;
             INSERT INTO t SELECT FROM generate_series(1, 500)",
        )
        .unwrap();
    let mut client = subscriber.connect("postgres");
    client
        .batch_execute(
            "CREATE EXTENSION idgen;
             CREATE TABLE t (id bigint PRIMARY KEY, here bigint DEFAULT idgen_next())",
        )
        .unwrap();
    let socket = publisher.data().parent().unwrap().display().to_string();
    client
        .batch_execute(&format!(
            "CREATE SUBSCRIPTION s CONNECTION 'host={socket} user=postgres dbname=postgres' PUBLICATION p"
        ))
        .unwrap();
    publisher.connect("postgres").batch_execute("INSERT INTO t SELECT FROM generate_series(1, 500)").unwrap();
    wait_until("the rows have come", || one::<i64>(&mut client, "SELECT count(*) FROM t") == 1000);
    let right = "SELECT count(DISTINCT here) FROM t WHERE idgen_machine(id) = 1 AND idgen_machine(here) = 2";
    assert_eq!(one::<i64>(&mut client, right), 1000);
    client.batch_execute("DROP SUBSCRIPTION s").unwrap();
}

#[test]
fn a_single_user_backend_is_told_and_gets_no_id() {
    let cluster = Cluster::with_idgen("idgen.wait_timeout = '300ms'");
    let mut copy = cluster.copy();
    // A base backup must once be started as a server.
    copy.start();
    copy.stop(crate::harness::cluster::Mode::Fast);
    let mut single = program("postgres");
    single.args(["--single", "-D"]).arg(copy.data()).arg("postgres").stdin(std::process::Stdio::piped());
    let mut process = single.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(process.stdin.as_mut().unwrap(), b"SELECT idgen_next()\nSELECT idgen_timestamp(5)\n")
        .unwrap();
    let output = process.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("idgen's background worker has not started"), "{said}");
}

/// Every function of the extension, with every extreme argument, called by a user with no other rights.
#[test]
fn an_unprivileged_user_meets_only_errors_of_the_table_whatever_the_arguments() {
    let cluster = Cluster::with_idgen("idgen.wait_timeout = '200ms'");
    let mut admin = cluster.connect("postgres");
    admin
        .batch_execute(
            "SELECT idgen_create_generator('clock', 'snowflake'), idgen_create_generator('count', 'counter');
             GRANT USAGE ON SEQUENCE clock, count TO PUBLIC;
             CREATE ROLE nobody LOGIN; CREATE SCHEMA nobody AUTHORIZATION nobody",
        )
        .unwrap();
    let functions = admin
        .query(
            "SELECT p.proname::text, array(SELECT format_type(t, NULL)::text FROM unnest(p.proargtypes) t)
             FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
             JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'idgen'",
            &[],
        )
        .unwrap();
    assert!(functions.len() > 20);
    let mut client = cluster.connection("postgres").user("nobody").connect(postgres::NoTls).unwrap();
    client.batch_execute("SET search_path = nobody, public; SET statement_timeout = '300ms'").unwrap();
    let mut random = StdRng::seed_from_u64(1);
    let mut tried = 0;
    for round in 0..40 {
        for function in &functions {
            let (name, types): (String, Vec<String>) = (function.get(0), function.get(1));
            let arguments: Vec<String> =
                types.iter().map(|t| format!("{}::{t}", literal(t, round, &mut random))).collect();
            let query = format!("SELECT count(*) FROM (SELECT {name}({})) x", arguments.join(", "));
            tried += 1;
            if let Err(error) = client.batch_execute(&query) {
                let code = error.code().unwrap_or_else(|| panic!("{query}: {error:?}")).code().to_string();
                assert!(!code.starts_with("XX") && !code.starts_with("57P"), "{query}: {code} {error:?}");
            }
        }
    }
    println!("{tried} calls");
    for forbidden in ["idgen_accept_clock()", "idgen_raise_horizon(now())", "idgen_status()"] {
        let error = client.batch_execute(&format!("SELECT {forbidden}")).unwrap_err();
        assert_eq!(error.code(), Some(&postgres::error::SqlState::INSUFFICIENT_PRIVILEGE), "{forbidden}: {error:?}");
    }
    assert!(!cluster.log().contains("terminated by signal"), "a process died");
}

fn literal(r#type: &str, round: u32, random: &mut StdRng) -> String {
    let any = |values: &[&str], random: &mut StdRng| values.choose(random).unwrap().to_string();
    if round % 10 == 9 {
        return "NULL".into();
    }
    match r#type {
        "bigint" if random.random_bool(0.5) => format!("'{}'", random.random::<i64>()),
        "bigint" => any(&["0", "1", "'-1'", "9223372036854775807", "'-9223372036854775808'"], random),
        "integer" => any(&["0", "1", "'-1'", "1000", "2147483647", "'-2147483648'", "63", "64"], random),
        "timestamp with time zone" => any(
            &[
                "'infinity'",
                "'-infinity'",
                "'2025-01-01+00'",
                "'1970-01-01+00'",
                "'4713-01-01 BC'",
                "'294276-01-01'",
                "now()",
            ],
            random,
        ),
        "interval" => any(&["'0'", "'1 ms'", "'-1 s'", "'1 day'", "'178000000 years'", "'1 microsecond'"], random),
        "regclass" => any(&["'clock'", "'count'", "'pg_class'", "0", "4294967295", "'pg_toast.pg_toast_1255'"], random),
        "boolean" => any(&["true", "false"], random),
        "uuid" => any(
            &["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'", "gen_random_uuid()"],
            random,
        ),
        "name" => any(&["''", "'public'", "'nobody'", "'x; DROP TABLE y'"], random),
        _ => any(
            &["''", "'a'", "'0000000000000'", "'ZZZZZZZZZZZZZ'", "'clock'", "'\"'", "'a.b.c.d'", "repeat('x', 100000)"],
            random,
        ),
    }
}
