//! COPY FROM inserts rows with ids in batches, as it does with an identity column; and no default that is planned meanwhile
//! for another reason gets one id for all rows.

use crate::harness::cluster::{Cluster, one, refusal};
use postgres::error::SqlState;
use postgres::{Client, NoTls};
use std::io::Write;

/// Copies `rows` numbers into the column n of the table.
fn copy(client: &mut Client, into: &str, rows: usize) -> Result<u64, postgres::Error> {
    let mut writer = client.copy_in(&format!("COPY {into} FROM STDIN"))?;
    let lines: String = (0..rows).map(|n| format!("{n}\n")).collect();
    writer.write_all(lines.as_bytes()).unwrap();
    writer.finish()
}

/// The bytes of WAL that a COPY of many rows into this table writes.
fn wal(client: &mut Client, into: &str) -> i64 {
    let position = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn";
    let now = |client: &mut Client| one::<i64>(client, &format!("SELECT ({position})::bigint"));
    let before = now(client);
    assert_eq!(copy(client, into, 20_000).unwrap(), 20_000);
    now(client) - before
}

/// Whether the id differs from row to row of the table, and rises with the rows.
fn rises(client: &mut Client, table: &str) -> bool {
    let rises = format!(
        "SELECT bool_and(id > before) AND count(DISTINCT id) = count(*)
         FROM (SELECT id, lag(id) OVER (ORDER BY n) AS before FROM {table}) rows"
    );
    one(client, &rises)
}

/// A default that is volatile, and one that is not, write as much as ever.
#[test]
fn rows_with_ids_go_in_in_batches() {
    let cluster = Cluster::with_idgen("autovacuum = off\ncheckpoint_timeout = '1h'");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            "SELECT idgen_create_generator('g', 'snowflake'), idgen_create_generator('c', 'counter');
             CREATE FUNCTION one_by_one() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN idgen_next(); END';
             CREATE TABLE identities (n int, id bigint GENERATED ALWAYS AS IDENTITY);
             CREATE TABLE singles (n int, id bigint DEFAULT one_by_one());
             CREATE TABLE ids (n int, id bigint DEFAULT idgen_next());
             CREATE TABLE of_g (n int, id bigint DEFAULT idgen_next('g'));
             CREATE TABLE of_c (n int, id bigint DEFAULT idgen_next('c'));
             CREATE TABLE uuids (n int, id uuid DEFAULT idgen_next_uuid());
             CREATE TABLE texts (n int, id text COLLATE \"C\" DEFAULT 'order-' || idgen_to_text(idgen_next()));
             CREATE TABLE parted (n int, id bigint DEFAULT idgen_next()) PARTITION BY HASH (n);
             CREATE TABLE parted0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
             CREATE TABLE parted1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        )
        .unwrap();
    let (identity, single) = (wal(&mut client, "identities(n)"), wal(&mut client, "singles(n)"));
    assert!(single > 2 * identity, "{single} bytes one by one, {identity} in batches: this PostgreSQL has changed");
    for table in ["ids", "of_g", "of_c"] {
        let written = wal(&mut client, &format!("{table}(n)"));
        assert!(written < identity * 11 / 10, "{table}: {written} bytes, an identity column {identity}");
    }
    for table in ["uuids", "texts", "parted"] {
        let written = wal(&mut client, &format!("{table}(n)"));
        assert!(written < single * 7 / 10, "{table}: {written} bytes, one by one {single}");
    }
    for table in ["ids", "of_g", "of_c", "uuids", "texts", "parted"] {
        assert!(rises(&mut client, table), "{table}");
    }
}

/// Each of these adds a column to `other`, while rows are copied into `t`.
#[test]
fn a_column_that_is_added_while_rows_are_copied_has_an_id_of_its_own_in_each_row() {
    const ADD: &str = "ALTER TABLE other ADD COLUMN id bigint NOT NULL DEFAULT idgen_next()";
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(&format!(
            "CREATE FUNCTION add_once() RETURNS void LANGUAGE plpgsql AS $$
                BEGIN IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'other'::regclass AND attname = 'id') THEN {ADD}; END IF; END $$;
             CREATE FUNCTION in_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM add_once(); RETURN NEW; END $$;
             CREATE FUNCTION in_default() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM add_once(); RETURN 1; END $$;
             CREATE FUNCTION in_check(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM add_once(); RETURN true; END $$;
             CREATE FUNCTION after_an_error() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    BEGIN COPY failing (n) FROM PROGRAM 'echo x'; EXCEPTION WHEN OTHERS THEN NULL; END;
                    PERFORM add_once(); RETURN NEW;
                END $$;
             CREATE FUNCTION after_another() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN COPY inner_t (n) FROM PROGRAM 'echo 1'; PERFORM add_once(); RETURN NEW; END $$;
             CREATE FUNCTION in_event_trigger() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM add_once(); END $$;
             CREATE FUNCTION that_makes_a_table() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN CREATE TABLE IF NOT EXISTS made (); RETURN NEW; END $$;
             CREATE DOMAIN checked AS int CHECK (in_check(VALUE));
             CREATE TABLE failing (n int, id bigint DEFAULT idgen_next()); CREATE TABLE inner_t (LIKE failing INCLUDING ALL)"
        ))
        .unwrap();
    for what in [
        "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION in_trigger()",
        "CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION in_trigger()",
        "CREATE TRIGGER x BEFORE INSERT ON t EXECUTE FUNCTION in_trigger()",
        "CREATE TRIGGER x AFTER INSERT ON t EXECUTE FUNCTION in_trigger()",
        "CREATE TRIGGER x BEFORE INSERT ON t EXECUTE FUNCTION after_an_error()",
        "CREATE TRIGGER x BEFORE INSERT ON t EXECUTE FUNCTION after_another()",
        "ALTER TABLE t ADD COLUMN x int DEFAULT in_default()",
        "ALTER TABLE t ADD COLUMN x checked DEFAULT 1",
        "ALTER TABLE t ADD CHECK (in_check(n))",
        "CREATE EVENT TRIGGER x ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION in_event_trigger();
         CREATE TRIGGER x BEFORE INSERT ON t EXECUTE FUNCTION that_makes_a_table()",
    ] {
        client
            .batch_execute(&format!(
                "DROP EVENT TRIGGER IF EXISTS x; DROP TABLE IF EXISTS t, other;
                 CREATE TABLE t (n int, id bigint DEFAULT idgen_next());
                 CREATE TABLE other AS SELECT n FROM generate_series(1, 50) n; {what};
                 ALTER TABLE other DROP COLUMN IF EXISTS id"
            ))
            .unwrap();
        copy(&mut client, "t(n)", 100).unwrap();
        assert_eq!(one::<i64>(&mut client, "SELECT count(DISTINCT id) FROM other"), 50, "{what}");
        assert!(rises(&mut client, "t"), "{what}");
    }
    // After an error of a COPY, also within the transaction, and at top level.
    for (begin, end) in [("", ""), ("BEGIN; SAVEPOINT s", "ROLLBACK TO s")] {
        client.batch_execute("ALTER TABLE other DROP COLUMN IF EXISTS id").unwrap();
        client.batch_execute(begin).unwrap();
        assert!(client.batch_execute("COPY t (n) FROM PROGRAM 'echo x'").is_err());
        client.batch_execute(end).unwrap();
        client.batch_execute(ADD).unwrap();
        assert_eq!(one::<i64>(&mut client, "SELECT count(DISTINCT id) FROM other"), 50);
        client.batch_execute("COMMIT").unwrap();
    }
}

#[test]
fn what_is_planned_in_a_copy_asks_for_an_id_each_time() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            "CREATE TABLE t (n int, id bigint DEFAULT idgen_next()); CREATE TABLE log (n serial, id bigint PRIMARY KEY, plan text);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
                DECLARE line text; shown text := '';
                BEGIN
                    INSERT INTO log (id) SELECT idgen_next() FROM generate_series(1, 3);
                    FOR line IN EXPLAIN (COSTS off) SELECT * FROM log WHERE id = idgen_next() LOOP shown := shown || line; END LOOP;
                    UPDATE log SET plan = shown WHERE id = (SELECT max(id) FROM log);
                    IF NEW.n = 0 THEN PREPARE p AS SELECT idgen_next() FROM generate_series(1, 2); END IF;
                    RETURN NEW;
                END $$;
             CREATE TRIGGER note AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note()",
        )
        .unwrap();
    copy(&mut client, "t(n)", 50).unwrap();
    assert_eq!(one::<i64>(&mut client, "SELECT count(DISTINCT id) FROM log"), 150);
    assert!(rises(&mut client, "log"));
    // A volatile function cannot be an index condition.
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM log WHERE plan ~ 'Filter' AND plan !~ 'Index Cond'"), 50);
    let ids = client.query("EXECUTE p", &[]).unwrap();
    assert_ne!(ids[0].get::<_, i64>(0), ids[1].get::<_, i64>(0));
}

#[test]
fn each_kind_of_copy_gives_each_row_its_own_id() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            "CREATE TABLE plain (n int, id bigint DEFAULT idgen_next());
             CREATE TABLE keyed (n int, id bigint PRIMARY KEY DEFAULT idgen_next());
             CREATE TABLE parted (LIKE keyed INCLUDING ALL) PARTITION BY RANGE (id);
             CREATE TABLE parted_all PARTITION OF parted DEFAULT;
             CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.n := NEW.n + 1000; RETURN NEW; END $$;
             CREATE TABLE changed (LIKE keyed INCLUDING ALL);
             CREATE TRIGGER change BEFORE INSERT ON changed FOR EACH ROW EXECUTE FUNCTION change();
             CREATE FUNCTION nested() RETURNS void LANGUAGE plpgsql AS $$ BEGIN COPY plain (n) FROM PROGRAM 'seq 2000 2999'; END $$",
        )
        .unwrap();
    for table in ["plain", "keyed", "parted", "changed"] {
        assert_eq!(copy(&mut client, &format!("{table}(n)"), 2000).unwrap(), 2000);
        assert!(rises(&mut client, table), "{table}");
    }
    client
        .batch_execute(
            "SELECT nested();
             COPY plain (n) FROM PROGRAM 'seq 3000 3999' WHERE idgen_next() > 0 AND n % 2 = 0;
             BEGIN; TRUNCATE keyed; COPY keyed (n) FROM PROGRAM 'seq 100' WITH (FREEZE); COMMIT",
        )
        .unwrap();
    assert!(rises(&mut client, "plain") && rises(&mut client, "keyed"));
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM plain"), 3500);
    if Cluster::version() >= 17 {
        client
            .batch_execute("COPY plain (n) FROM PROGRAM 'seq 4000 4100; echo x; seq 4101 4200' WITH (ON_ERROR ignore)")
            .unwrap();
        assert!(rises(&mut client, "plain"));
    }
    if client.batch_execute("CREATE EXTENSION postgres_fdw").is_ok() {
        let socket = cluster.data().parent().unwrap().display().to_string();
        client
            .batch_execute(&format!(
                "CREATE TABLE far (n int, id bigint);
                 CREATE SERVER itself FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{socket}', dbname 'postgres');
                 CREATE USER MAPPING FOR postgres SERVER itself OPTIONS (user 'postgres');
                 CREATE FOREIGN TABLE here (n int, id bigint DEFAULT idgen_next()) SERVER itself OPTIONS (table_name 'far', batch_size '100')"
            ))
            .unwrap();
        copy(&mut client, "here(n)", 1000).unwrap();
        assert!(rises(&mut client, "far"));
    }
}

#[test]
fn errors_and_privileges_are_those_of_a_copy_without_idgen() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            "CREATE TABLE t (n int CONSTRAINT small CHECK (n < 10), id bigint DEFAULT idgen_next());
             CREATE ROLE someone LOGIN; GRANT ALL ON t TO someone; REVOKE EXECUTE ON FUNCTION idgen_next() FROM PUBLIC",
        )
        .unwrap();
    let error = copy(&mut client, "t(n)", 20).unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!((error.constraint(), error.table()), (Some("small"), Some("t")));
    assert!(error.where_().unwrap().contains("line 11"), "{:?}", error.where_());
    let mut someone = cluster.connection("postgres").user("someone").connect(NoTls).unwrap();
    let error = copy(&mut someone, "t(n)", 5).unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    // Nobody may call the twins.
    for call in [
        "idgen_next_in_copy(NULL)",
        "idgen_next_in_copy(1)",
        "idgen_next_in_copy('t', '1')",
        "idgen_next_uuid_in_copy('1')",
    ] {
        let error = refusal(&mut client, &format!("SELECT {call}"));
        // Minor versions differ.
        let codes = [SqlState::UNDEFINED_FUNCTION, SqlState::FEATURE_NOT_SUPPORTED];
        assert!(codes.contains(error.code()), "{call}: {error}");
    }
}

#[test]
fn other_libraries_with_hooks_may_come_before_or_after() {
    for libraries in ["pg_stat_statements, auto_explain, idgen", "idgen, auto_explain, pg_stat_statements"] {
        let mut cluster = Cluster::prepared(&format!(
            "shared_preload_libraries = '{libraries}'\nidgen.machine_id = 1\nauto_explain.log_min_duration = 0\nauto_explain.log_nested_statements = on"
        ));
        let folder = std::process::Command::new(crate::harness::cluster::program("pg_config").get_program())
            .arg("--pkglibdir")
            .output()
            .unwrap();
        let folder = String::from_utf8(folder.stdout).unwrap();
        if !std::path::Path::new(folder.trim()).join("pg_stat_statements.so").exists() {
            return;
        }
        cluster.start();
        let mut client = cluster.connect("postgres");
        client
            .batch_execute(
                "CREATE EXTENSION idgen; CREATE EXTENSION pg_stat_statements;
                 CREATE TABLE t (n int, id bigint DEFAULT idgen_next()); CREATE TABLE identities (n int, id bigint GENERATED ALWAYS AS IDENTITY)",
            )
            .unwrap();
        let (identity, ids) = (wal(&mut client, "identities(n)"), wal(&mut client, "t(n)"));
        assert!(ids < identity * 11 / 10, "{libraries}: {ids} bytes, an identity column {identity}");
        assert_eq!(
            one::<i64>(&mut client, "SELECT sum(rows)::bigint FROM pg_stat_statements WHERE query LIKE 'COPY%'"),
            40_000
        );
    }
}
