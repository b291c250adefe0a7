//! Many sessions at once, and every way in which a statement takes ids.

use crate::harness::checker::check;
use crate::harness::cluster::{Cluster, one};
use crate::harness::history::{COPIED, History};
use crate::harness::load::{Load, Way};
use crate::{IDENTITY_AND_TIME, NEXT};
use std::thread;
use std::time::Duration;

#[test]
fn two_databases_of_one_server_never_share_an_id() {
    let cluster = Cluster::with_idgen("");
    cluster.connect("postgres").batch_execute("CREATE DATABASE other").unwrap();
    cluster.connect("other").batch_execute("CREATE EXTENSION idgen").unwrap();
    let history = History::new();
    thread::scope(|scope| {
        for database in ["postgres", "other"] {
            let mut client = cluster.connect(database);
            let mut recorder = history.client("a", database, 1);
            scope.spawn(move || {
                let query = client.prepare("SELECT idgen_next() FROM generate_series(1, 1000)").unwrap();
                (0..200).for_each(|_| _ = recorder.call(&mut client, &query).unwrap());
            });
        }
    });
    let report = check(&history, &IDENTITY_AND_TIME);
    report.assert_clean();
    assert_eq!(report.ids, 400_000);
}

#[test]
fn eight_sessions_for_ten_seconds_see_no_duplicate_and_no_id_out_of_order() {
    let cluster = Cluster::with_idgen("");
    cluster.connect("postgres").batch_execute(COPIED).unwrap();
    let history = History::new();
    let mut load = Load::start(&cluster, &history, "a", 4, NEXT);
    load.add(&cluster, &history, "a", "postgres", 1, Way::Pipeline(NEXT, 50));
    load.add(&cluster, &history, "a", "postgres", 1, Way::Copy(1000));
    load.add(&cluster, &history, "a", "postgres", 1, "SELECT idgen_next() FROM generate_series(1, 100)");
    load.add(&cluster, &history, "a", "postgres", 1, "SELECT * FROM idgen_next_many(1000)");
    thread::sleep(Duration::from_secs(10));
    load.finish();
    let report = check(&history, &IDENTITY_AND_TIME);
    report.assert_clean();
    assert!(report.failures.is_empty(), "{report}");
}

#[test]
fn a_batch_of_a_million_ids_is_increasing() {
    let cluster = Cluster::with_idgen("");
    let increasing = "SELECT count(*) FROM (SELECT id, lag(id, 1, 0::bigint) OVER () AS before
                      FROM idgen_next_many(1000000) AS id) AS ids WHERE id > before";
    assert_eq!(cluster.one::<i64>(increasing), 1_000_000);
}

/// A batch taken as a whole would ask for two thousand million ids.
#[test]
fn a_batch_is_taken_as_it_is_used() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    client.batch_execute("SET statement_timeout = '5s'").unwrap();
    assert_eq!(client.query("SELECT idgen_next_many(2000000000) LIMIT 10", &[]).unwrap().len(), 10);
    let empty: i64 = one(&mut client, "SELECT count(*) FROM idgen_next_many(0)");
    assert_eq!(empty, 0);
}

#[test]
fn read_only_transactions_and_parallel_workers_are_given_ids() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            "CREATE FUNCTION safely(regclass) RETURNS bigint LANGUAGE plpgsql PARALLEL SAFE AS $$ BEGIN RETURN CASE WHEN $1 IS NULL THEN idgen_next() ELSE idgen_next($1) END; END $$;
             CREATE TABLE big AS SELECT FROM generate_series(1, 200000);
             SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
             BEGIN READ ONLY",
        )
        .unwrap();
    let plan: Vec<String> = client
        .query("EXPLAIN (ANALYZE, COSTS off, TIMING off) SELECT count(safely(NULL)) FROM big", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(plan.iter().any(|line| line.contains("Workers Launched: 2")), "{plan:#?}");
    let distinct: i64 = one(&mut client, "SELECT count(DISTINCT id) FROM (SELECT safely(NULL) AS id FROM big) AS ids");
    assert_eq!(distinct, 200_000);
}

/// Ids that parallel workers took below a Gather were not in the order of its rows.
#[test]
fn in_a_parallel_plan_ids_are_in_the_order_of_the_rows() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            "CREATE TABLE source AS SELECT n, (n::bigint * 7919) % 500000 AS created FROM generate_series(1, 500000) n; ANALYZE source;
             SELECT idgen_create_generator('g', 'counter');
             SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0",
        )
        .unwrap();
    for next in ["idgen_next()", "idgen_next('g')", "idgen_next_uuid()"] {
        let query = format!("SELECT {next} AS id, created FROM source ORDER BY created");
        let plan: Vec<String> =
            client.query(&format!("EXPLAIN (COSTS off) {query}"), &[]).unwrap().iter().map(|row| row.get(0)).collect();
        assert!(plan.iter().any(|line| line.contains("Gather Merge")), "{plan:#?}");
        let wrong: i64 = one(
            &mut client,
            &format!(
                "SELECT count(*) FROM (SELECT id < lag(id) OVER (ORDER BY created, id) AS wrong FROM ({query}) q) r WHERE wrong"
            ),
        );
        assert_eq!(wrong, 0, "{next}");
    }
}

#[test]
fn the_default_of_a_column_gives_distinct_ids_to_insert_and_copy() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    client.batch_execute("CREATE TABLE t (id bigint DEFAULT idgen_next() PRIMARY KEY, n int)").unwrap();
    let first: i64 = one(&mut client, "INSERT INTO t (n) VALUES (1) RETURNING id");
    let mut copy = client.copy_in("COPY t (n) FROM STDIN").unwrap();
    std::io::Write::write_all(&mut copy, "2\n".repeat(1000).as_bytes()).unwrap();
    copy.finish().unwrap();
    client.batch_execute("DO $$ BEGIN FOR i IN 1..1000 LOOP INSERT INTO t (n) VALUES (3); END LOOP; END $$").unwrap();
    let in_order: bool = one(
        &mut client,
        "SELECT bool_and(low > before) FROM (SELECT min(id) AS low, lag(max(id), 1, 0::bigint) OVER (ORDER BY n) AS before
         FROM t GROUP BY n) AS steps",
    );
    assert!(in_order && one::<i64>(&mut client, "SELECT min(id) FROM t") == first);
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM t"), 2001);
}
