//! The way in and out for a table in use, and the findings of idgen_doctor() on servers.

use crate::NEXT;
use crate::harness::clock::{HOUR, YEAR};
use crate::harness::cluster::{Cluster, IDGEN, assert_refused, one};
use crate::harness::wait_until;
use postgres::Client;
use postgres::error::SqlState;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

const ROWS: i64 = 1_000_000;

/// A serial key, two foreign keys, a table that refers to it, and a trigger.
const TABLES: &str = "
    CREATE TABLE owner (id integer PRIMARY KEY);
    CREATE TABLE kind (id integer PRIMARY KEY);
    INSERT INTO owner SELECT generate_series(0, 99);
    INSERT INTO kind SELECT generate_series(0, 9);
    CREATE TABLE item (id serial PRIMARY KEY, owner integer NOT NULL, kind integer NOT NULL);
    CREATE TABLE part (item integer);
    CREATE TABLE log (item bigint);
    INSERT INTO item (owner, kind) SELECT i % 100, i % 10 FROM generate_series(1, 1000000) i;
    ALTER TABLE item ADD FOREIGN KEY (owner) REFERENCES owner, ADD FOREIGN KEY (kind) REFERENCES kind;
    ALTER TABLE part ADD FOREIGN KEY (item) REFERENCES item;
    CREATE FUNCTION log_item() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO log VALUES (new.id); RETURN NULL; END';
    CREATE TRIGGER log AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION log_item()";

/// The cast keeps the type while the column's changes: PostgreSQL refuses a prepared statement whose result type changes.
const INSERT: &str = "INSERT INTO item (owner, kind) VALUES ($1, $1 % 10) RETURNING id::bigint";

#[test]
fn a_table_is_adopted_and_abandoned_under_inserts_by_the_functions_as_by_their_statements() {
    let by_function = migrate(|client, call| client.batch_execute(&format!("SELECT {call})")));
    let by_hand = migrate(|client, call| {
        let rows = client.query(&format!("SELECT {call}, dry_run => true)"), &[])?;
        let statements: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
        client.batch_execute(&statements.join("\n")).inspect_err(|_| client.batch_execute("ROLLBACK").unwrap())
    });
    assert_eq!(by_function, by_hand);
    let [before, adopted, abandoned] = &by_function[..] else { panic!("{by_function:?}") };
    assert!(before.contains("item.id integer nextval") && before.contains("part.item integer"), "{before}");
    assert!(adopted.contains("item.id bigint idgen_next()") && adopted.contains("part.item bigint"), "{adopted}");
    assert!(abandoned.contains("item.id bigint nextval"), "{abandoned}");
}

/// Adopts and abandons while four sessions insert, and checks that every row is there, once. Returns the shape of the tables
/// before, between and after.
fn migrate(run: impl Fn(&mut Client, &str) -> Result<(), postgres::Error>) -> Vec<String> {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    client.batch_execute(TABLES).unwrap();
    let (stop, inserted) = (AtomicBool::new(false), AtomicU64::new(0));
    let more = || {
        let enough = inserted.load(Ordering::Relaxed) + 300;
        wait_until("rows are inserted", || inserted.load(Ordering::Relaxed) >= enough);
    };
    // A session that holds the table for longer than the lock timeout does not fail; this call does.
    let retried = |client: &mut Client, call: &str| {
        wait_until("the lock is had", || match run(client, call) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE), "{error:?}");
                false
            }
        })
    };
    let insert = |number: i32| {
        let mut client = cluster.connect("postgres");
        let insert = client.prepare(INSERT).unwrap();
        let mut ids = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let mut transaction = client.transaction().unwrap();
            for _ in 0..=number % 2 {
                ids.push(transaction.query_one(&insert, &[&number]).unwrap().get::<_, i64>(0));
            }
            transaction.commit().unwrap();
            inserted.fetch_add(1, Ordering::Relaxed);
        }
        ids
    };
    let mut shapes = vec![shape(&mut client)];
    let ids: Vec<i64> = thread::scope(|scope| {
        let sessions: Vec<_> = (0..4).map(|number| scope.spawn(move || insert(number))).collect();
        more();
        retried(&mut client, "idgen_adopt('item', 'id', rewrite => true");
        shapes.push(shape(&mut client));
        more();
        let fetched: Vec<i64> =
            client.query("SELECT idgen_next_many(1000)", &[]).unwrap().iter().map(|row| row.get(0)).collect();
        retried(&mut client, "idgen_abandon('item', 'id'");
        shapes.push(shape(&mut client));
        more();
        for id in &fetched {
            client.execute("INSERT INTO item VALUES ($1, 1, 1)", &[id]).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        sessions.into_iter().flat_map(|session| session.join().unwrap()).chain(fetched).collect()
    });
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM item"), ROWS + ids.len() as i64);
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM item JOIN log ON log.item = id"), ids.len() as i64);
    assert!(one::<bool>(&mut client, "SELECT nextval('item_id_seq') > max(id) FROM item"));
    shapes
}

/// The columns with types and defaults, and the constraints.
fn shape(client: &mut Client) -> String {
    one(
        client,
        "SELECT string_agg(line, E'\n' ORDER BY line) FROM (
            SELECT format('%s.%s %s %s%s', attrelid::regclass, attname, atttypid::regtype,
                pg_get_expr(adbin, adrelid), attidentity) AS line
            FROM pg_attribute LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)
            WHERE attrelid IN ('item'::regclass, 'part'::regclass) AND attnum > 0
            UNION ALL
            SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
            WHERE conrelid IN ('item'::regclass, 'part'::regclass)) lines",
    )
}

#[test]
fn a_table_that_is_in_use_is_not_waited_for_longer_than_said() {
    let cluster = Cluster::with_idgen("");
    let (mut client, mut other) = (cluster.connect("postgres"), cluster.connect("postgres"));
    client.batch_execute("CREATE TABLE item (id bigserial)").unwrap();
    other.batch_execute("BEGIN; INSERT INTO item DEFAULT VALUES").unwrap();
    client.batch_execute("SET statement_timeout = '10s'").unwrap();
    let error = client.batch_execute("SELECT idgen_adopt('item', 'id', lock_timeout => '10 ms')").unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE));
    other.batch_execute("COMMIT").unwrap();
    client.batch_execute("SELECT idgen_adopt('item', 'id', lock_timeout => '10 ms')").unwrap();
}

/// The lines of idgen_doctor(): severity, finding, object, and then the remedy.
#[test]
fn names_that_are_no_words_or_one_letter_mislead_nobody_and_one_that_is_too_long_for_partitions_is_refused() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            r#"CREATE TABLE odd ("id(" bigserial PRIMARY KEY);
            CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
            CREATE TRIGGER t BEFORE INSERT ON odd FOR EACH ROW EXECUTE FUNCTION f();
            SELECT idgen_adopt('odd', 'id(');
            CREATE TABLE s (k int, u bigint DEFAULT idgen_next());
            CREATE TABLE other (id serial PRIMARY KEY)"#,
        )
        .unwrap();
    assert!(one::<i64>(&mut client, r#"INSERT INTO odd DEFAULT VALUES RETURNING "id(""#) > 1_000_000);
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM idgen_suspects('s')"), 0);
    let long = "p".repeat(60);
    client
        .batch_execute(&format!(
            "CREATE TABLE {long} (id bigint DEFAULT idgen_next() PRIMARY KEY) PARTITION BY RANGE (id)"
        ))
        .unwrap();
    let create = format!("SELECT idgen_create_partitions('{long}', now(), now() + '2 days', '1 day')");
    assert_refused(&mut client, &create, SqlState::NAME_TOO_LONG, "shorter name");
}

fn findings(cluster: &Cluster) -> Vec<String> {
    let rows = cluster
        .connect("postgres")
        .query("SELECT severity || ': ' || finding || ': ' || object || ': ' || remedy FROM idgen_doctor()", &[]);
    rows.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Fails unless exactly one line of the doctor begins like this, and contains this.
#[track_caller]
fn assert_found(cluster: &Cluster, start: &str, remedy: &str) {
    let all = findings(cluster);
    let found = all.iter().filter(|line| line.starts_with(start)).collect::<Vec<_>>();
    assert!(matches!(found[..], [line] if line.contains(remedy)), "{start}: {all:#?}");
}

/// How a server is reached by libpq.
fn connection_string(cluster: &Cluster) -> String {
    format!("host={} user=postgres dbname=postgres", cluster.data().parent().unwrap().display())
}

/// A subscription to the server, disabled; it can be made where dblink is missing too.
fn subscribe(cluster: &Cluster, to: &Cluster) {
    let create = format!(
        "CREATE SUBSCRIPTION feed CONNECTION '{}' PUBLICATION feed WITH (connect = false)",
        connection_string(to)
    );
    cluster.connect("postgres").batch_execute(&create).unwrap();
}

fn places() -> &'static str {
    if Cluster::version() >= 18 { "max_active_replication_origins" } else { "max_replication_slots" }
}

#[test]
fn the_doctor_finds_nothing_on_a_healthy_server() {
    let cluster = Cluster::with_idgen("");
    cluster.one::<i64>(NEXT);
    assert_eq!(findings(&cluster), [""; 0]);
}

#[test]
fn the_doctor_finds_what_is_missing_in_the_configuration() {
    let cluster = Cluster::running("idgen.machine_id = 1");
    cluster.connect("postgres").batch_execute("CREATE EXTENSION idgen; SET idgen.machine_id = 1").unwrap();
    assert_found(&cluster, "error: not preloaded: shared_preload_libraries", "restart");
    let cluster = Cluster::with_idgen("idgen.machine_id = -1");
    assert_found(&cluster, "error: machine id unset: idgen.machine_id", "restart");
}

#[test]
fn the_doctor_finds_other_servers_with_the_same_machine_id_or_another_time() {
    let (mut other, cluster) = (Cluster::with_idgen(""), Cluster::with_idgen(""));
    subscribe(&cluster, &other);
    // Not every PostgreSQL has postgres_fdw.
    let has_links = cluster.connect("postgres").batch_execute("CREATE EXTENSION postgres_fdw").is_ok();
    if !has_links {
        assert_found(&cluster, "error: machine id of another server: subscription feed", "Both have 1");
        return;
    }
    let mut client = cluster.connect("postgres");
    for (name, server) in [("twin", &other), ("itself", &cluster)] {
        let host = server.data().parent().unwrap().display().to_string();
        let create = format!(
            "CREATE SERVER {name} FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{host}', dbname 'postgres');
             CREATE USER MAPPING FOR postgres SERVER {name} OPTIONS (user 'postgres')"
        );
        client.batch_execute(&create).unwrap();
    }
    let same = "error: machine id of another server: ";
    assert_found(&cluster, &format!("{same}subscription feed"), "Both have 1");
    assert_found(&cluster, &format!("{same}server twin"), "Both have 1");
    assert_eq!(findings(&cluster).len(), 2);

    other.stop(crate::harness::cluster::Mode::Fast);
    assert_found(&cluster, "notice: not looked at: server twin", "no answer");
    other.configure("idgen.machine_id = 2");
    other.start();
    assert_eq!(findings(&cluster), [""; 0]);
    other.clock.set(HOUR);
    assert_found(&cluster, "warning: clock not synchronised: server twin", "chrony");
}

#[test]
fn the_doctor_finds_a_clock_that_is_not_kept_right() {
    let cluster = Cluster::with_idgen("");
    let found = |start: &str| {
        wait_until(start, || {
            cluster.one::<i64>(NEXT);
            findings(&cluster).iter().any(|line| line.starts_with(start))
        });
    };
    cluster.one::<i64>(NEXT);
    cluster.clock.set(-HOUR);
    found("warning: clock not synchronised: wall clock: Ids are ");
    found("warning: clock not synchronised: wall clock: It was stepped, 1 times");
    cluster.clock.set(10 * YEAR);
    found("error: clock not synchronised: wall clock: It leapt ");
}

#[test]
fn the_doctor_finds_places_and_limits_that_are_short_here_and_on_a_standby() {
    let places = places();
    let short = |severity: &str| format!("{severity}: no free place for a replication origin: {places}");
    let cluster = Cluster::with_idgen(&format!("{places} = 0"));
    assert_found(&cluster, &short("error"), "Raise it");

    let cluster = Cluster::with_idgen(&format!("{places} = 1"));
    cluster.one::<i64>(NEXT);
    assert_found(&cluster, &short("warning"), "Raise it");
    drop(cluster);

    let cluster = Cluster::with_idgen(&format!("{places} = 3\nidgen.max_generators = 20"));
    cluster.one::<i64>(NEXT);
    let mut standby = cluster.standby("second");
    standby.configure(&format!("{places} = 1\nidgen.max_generators = 10"));
    standby.start();
    cluster.wait_for_replay(&standby);
    assert_found(&cluster, "notice: not looked at: standby second", "Call this on the standby");
    assert_found(&standby, &short("warning"), "on standbys first");
    let lower = "error: lower limit than the primary: ";
    assert_found(&standby, &format!("{lower}{places}"), "1 here and 3 there");
    assert_found(&standby, &format!("{lower}idgen.max_generators"), "10 here and 20 there");
}

#[test]
fn the_doctor_finds_a_library_that_is_missing_on_a_standby() {
    let cluster = Cluster::with_idgen("");
    let mut standby = cluster.standby("second");
    standby.configure(&IDGEN.replace("'idgen'", "''"));
    standby.start();
    assert_found(&standby, "error: not preloaded: shared_preload_libraries", "restart");
}

#[test]
fn an_abandoned_column_goes_on_above_every_key_also_of_a_session_that_ran_ahead() {
    let cluster = Cluster::with_idgen("idgen.max_borrow = '10s'");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            "SELECT idgen_create_generator('g', 'timestamp_machine_backend');
             CREATE TABLE t (id bigint DEFAULT idgen_next('g') PRIMARY KEY);
             INSERT INTO t SELECT idgen_next('g') FROM generate_series(1, 300000)",
        )
        .unwrap();
    cluster.connect("postgres").batch_execute("SELECT idgen_abandon('t', 'id')").unwrap();
    assert!(cluster.one::<bool>(
        "SELECT m.max < n.next FROM (SELECT max(id) FROM t) m, (SELECT nextval(pg_get_serial_sequence('t', 'id')) AS next) n"
    ));
}
