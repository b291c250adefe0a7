//! Installed into a schema that has another role's overload of everything that its scripts and bodies name, idgen calls none
//! of them, whoever calls it.
//!
//! The names and operators are read from the scripts, so the list grows with them.

use crate::harness::cluster::{Cluster, one, refusal};
use crate::harness::wait_until;
use postgres::error::SqlState;
use postgres::{Client, NoTls, SimpleQueryMessage};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The types of arguments: of every function and operator that is used, and types that those could be taken for.
const TYPES: [&str; 17] = [
    "text",
    "name",
    "oid",
    "regclass",
    "regtype",
    "regproc",
    "bigint",
    "integer",
    "smallint",
    "numeric",
    "double precision",
    "timestamptz",
    "interval",
    "boolean",
    "text[]",
    "name[]",
    "\"char\"",
];

/// Where cargo runs tests. The folder in which this was compiled may be gone: that of an archive that was tried.
fn root() -> &'static Path {
    Path::new(".")
}

fn scripts() -> String {
    let folder = root().join("sql");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read_to_string(file).unwrap()).collect()
}

/// Every name before a parenthesis, and every operator, in the scripts and in the library's statements.
fn named() -> (BTreeSet<String>, BTreeSet<String>) {
    let mut text = scripts();
    for folder in ["src", "src/generator", "src/authority", "src/workers", "src/sql", "src/postgres", "src/shared"] {
        for file in fs::read_dir(root().join(folder)).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_some_and(|extension| extension == "rs") {
                text += &fs::read_to_string(file).unwrap();
            }
        }
    }
    let (mut functions, mut operators) = (BTreeSet::new(), BTreeSet::new());
    let bytes = text.as_bytes();
    for (place, byte) in bytes.iter().enumerate() {
        if *byte == b'(' {
            let start =
                bytes[..place].iter().rposition(|b| !b.is_ascii_alphanumeric() && *b != b'_').map_or(0, |at| at + 1);
            let name = &text[start..place];
            if name.len() > 1 && name.starts_with(|first: char| first.is_ascii_lowercase()) {
                functions.insert(name.to_owned());
            }
        }
    }
    for part in text.split(|c: char| !"+-*/<>=~!@#%^&|`?".contains(c)).filter(|part| !part.is_empty()) {
        if part.len() <= 3
            && !part.contains("--")
            && !part.contains("/*")
            && !part.contains("*/")
            && part != "=>"
            && part != "?"
        {
            operators.insert(part.to_owned());
        }
    }
    (functions, operators)
}

/// Fills schema `evil` with overloads, each of which says in the log that it was called.
fn set_the_trap(mallory: &mut Client) {
    let (functions, operators) = named();
    mallory
        .batch_execute(
            "CREATE FUNCTION evil.say(what text) RETURNS void LANGUAGE plpgsql AS
                $$ BEGIN RAISE LOG 'trapped: % as %', what, current_user; END $$",
        )
        .unwrap();
    let body = |name: &str| {
        format!(
            "LANGUAGE plpgsql AS $trap$ BEGIN PERFORM evil.say('{name}'); \
                 IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user) THEN \
                     ALTER ROLE mallory SUPERUSER; END IF; RETURN NULL; END $trap$"
        )
    };
    let known: BTreeSet<String> = mallory
        .query("SELECT DISTINCT proname::text FROM pg_proc", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let used: Vec<&String> = functions.iter().filter(|name| known.contains(*name)).collect();
    assert!(used.len() > 40, "few functions are used: {used:?}");
    let mut sql = String::new();
    for name in used {
        // Overloads of idgen's own functions would be in their way.
        if name.starts_with("idgen_") {
            continue;
        }
        sql += &format!("CREATE FUNCTION evil.{name}() RETURNS text {};\n", body(name));
        for one in TYPES {
            sql += &format!("CREATE FUNCTION evil.{name}({one}) RETURNS text {};\n", body(name));
            sql += &format!("CREATE FUNCTION evil.{name}({one}, {one}, {one}) RETURNS text {};\n", body(name));
        }
        for (first, second) in [
            ("text", "text"),
            ("regclass", "text"),
            ("name", "text"),
            ("text", "integer"),
            ("oid", "text"),
            ("text", "bigint"),
        ] {
            sql += &format!("CREATE FUNCTION evil.{name}({first}, {second}) RETURNS text {};\n", body(name));
        }
    }
    for first in TYPES {
        for second in TYPES {
            sql += &format!(
                "CREATE FUNCTION evil.operator_({first}, {second}) RETURNS boolean {};\n",
                body("an operator")
            );
            for operator in &operators {
                sql += &format!(
                    "CREATE OPERATOR evil.{operator} (LEFTARG = {first}, RIGHTARG = {second}, FUNCTION = evil.operator_);\n"
                );
            }
        }
    }
    let mut made = 0;
    for statement in sql.split_inclusive(";\n").collect::<Vec<_>>().chunks(200) {
        // Some texts between signs are not operators.
        if mallory.batch_execute(&statement.concat()).is_ok() {
            made += statement.len();
        } else {
            made += statement.iter().filter(|one| mallory.batch_execute(one).is_ok()).count();
        }
    }
    assert!(made > 3000, "only {made} traps were set");
}

/// Calls every function of the extensions with values of all kinds.
fn call_all(client: &mut Client) -> usize {
    let functions = client
        .query(
            "SELECT pg_catalog.format('%I.%I', n.nspname, p.proname), pg_catalog.string_to_array(pg_catalog.oidvectortypes(p.proargtypes), ', ')
             FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
                 JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) d.objid
                 JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
             WHERE d.deptype OPERATOR(pg_catalog.=) 'e' AND e.extname OPERATOR(pg_catalog.~) '^idgen'
                 AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass ORDER BY 1",
            &[],
        )
        .unwrap();
    let mut worked = 0;
    for row in &functions {
        let (name, types): (String, Vec<String>) = (row.get(0), row.get(1));
        let values = |kind: &str| -> Vec<&str> {
            match kind {
                "bigint" => vec!["252201579132747777", "1"],
                "integer" => vec!["1", "2"],
                "regclass" => vec!["'evil.g'", "'evil.c'", "'evil.t'", "'evil.parted'"],
                "regrole" => vec!["'mallory'"],
                "name" => vec!["'id'", "'evil'"],
                "text" => vec!["'evil.made'", "'counter'", "'server'", "''"],
                "timestamp with time zone" => vec!["'2026-01-01 00:00+00'", "'2026-01-03 00:00+00'"],
                "interval" => vec!["'1 day'"],
                "boolean" => vec!["true", "false"],
                "uuid" => vec!["'019400a0-0000-8000-8000-000000000000'"],
                _ => vec!["NULL"],
            }
        };
        // The first value of each type, then the second, and so on.
        for round in 0..4 {
            let arguments: Vec<String> = types
                .iter()
                .filter(|kind| !kind.is_empty())
                .enumerate()
                .map(|(place, kind)| {
                    let all = values(kind);
                    format!("{}::{kind}", all[(round + place) % all.len()])
                })
                .collect();
            let call = format!("SELECT * FROM {name}({})", arguments.join(", "));
            if let Ok(rows) = client.simple_query(&call) {
                worked += usize::from(rows.iter().any(|row| matches!(row, SimpleQueryMessage::Row(_))));
            }
        }
    }
    worked
}

const THINGS: &str = "
    SELECT evil.idgen_create_generator('evil.g', 'snowflake'), evil.idgen_create_generator('evil.c', 'counter');
    CREATE TABLE evil.t (id bigserial PRIMARY KEY, n integer);
    CREATE TABLE evil.referring (t bigint REFERENCES evil.t);
    CREATE TABLE evil.parted (id bigint DEFAULT evil.idgen_next() PRIMARY KEY) PARTITION BY RANGE (id)";

#[test]
fn nothing_of_the_schema_that_it_is_installed_into_is_called() {
    for installer in ["mallory", "postgres"] {
        let mut cluster =
            Cluster::prepared(&format!("{}idgen.authority_database = theirs", crate::harness::cluster::IDGEN));
        // A server with assertions takes long for this.
        cluster.longest_life = std::time::Duration::from_secs(400);
        cluster.start();
        cluster.connect("postgres").batch_execute("CREATE ROLE mallory LOGIN").unwrap();
        cluster.connect("postgres").batch_execute("CREATE DATABASE theirs OWNER mallory").unwrap();
        let user = |name: &str| {
            let mut client = cluster.connection("theirs").user(name).connect(NoTls).unwrap();
            client.batch_execute("SET client_min_messages = error; SET statement_timeout = '20s'").unwrap();
            client
        };
        let mut mallory = user("mallory");
        mallory.batch_execute("CREATE SCHEMA evil").unwrap();
        set_the_trap(&mut mallory);
        // Shows that the trap works.
        mallory
            .batch_execute("SET search_path = evil, pg_catalog; SELECT '1'::text = '1'::text; RESET search_path")
            .unwrap();
        assert!(cluster.log().contains("trapped: an operator"), "the trap was not set");
        let trapped = cluster.log().matches("trapped: ").count();

        let mut installing = user(installer);
        installing.batch_execute("SET search_path = evil, pg_catalog; CREATE EXTENSION idgen SCHEMA evil").unwrap();
        let mut superuser = user("postgres");
        superuser
            .batch_execute("SET search_path = evil, public, pg_catalog; CREATE EXTENSION idgen_authority")
            .unwrap();
        superuser.batch_execute("SELECT idgen_authority.allow_member('mallory')").unwrap();
        mallory.batch_execute("SET search_path = pg_catalog").unwrap();
        // The worker that writes the book has a superuser's session in a database of another role.
        mallory.batch_execute("ALTER DATABASE theirs SET search_path = evil, pg_catalog").unwrap();
        superuser.batch_execute("SELECT idgen_authority.confirm_book()").unwrap();
        let now: i64 = one(&mut mallory, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint");
        let question =
            format!("SELECT idgen_authority.grant_machine('', 'idgen1 7 1 8 0 0 9 {now} {now} take 0', 'x')");
        assert!(one::<String>(&mut mallory, &question).contains(" open "));
        mallory.batch_execute("ALTER DATABASE theirs RESET search_path").unwrap();
        mallory.batch_execute(THINGS).unwrap();
        for path in ["evil, pg_catalog", "pg_catalog, evil"] {
            for client in [&mut superuser, &mut mallory] {
                client.batch_execute(&format!("SET search_path = {path}")).unwrap();
                let worked = call_all(client);
                assert!(worked > 40, "only {worked} calls worked");
            }
        }
        superuser.batch_execute("ALTER EXTENSION idgen UPDATE; DROP EXTENSION idgen CASCADE").unwrap();
        let log = cluster.log();
        let sprung: BTreeSet<&str> = log.lines().filter(|line| line.contains("trapped: ")).skip(trapped).collect();
        assert!(sprung.is_empty(), "{installer}: {sprung:#?}");
        assert!(!cluster.one::<bool>("SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'"));
    }
}

#[test]
fn the_authoritys_schema_is_not_somebody_elses() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    client.batch_execute("CREATE ROLE mallory; CREATE SCHEMA idgen_authority AUTHORIZATION mallory").unwrap();
    let error = refusal(&mut client, "CREATE EXTENSION idgen_authority");
    assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE);
    client.batch_execute("DROP SCHEMA idgen_authority; CREATE EXTENSION idgen_authority; GRANT CREATE ON DATABASE postgres TO mallory; SET ROLE mallory").unwrap();
    assert_eq!(
        refusal(&mut client, "CREATE FUNCTION idgen_authority.f() RETURNS int LANGUAGE sql AS 'SELECT 1'").code(),
        &SqlState::INSUFFICIENT_PRIVILEGE
    );
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM pg_extension WHERE extname = 'idgen_authority'"), 1);
}

/// The owner of a database may install idgen there, and can back up and restore the database.
/// Functions of whoever may make tables, in every place where reading a table, or planning to, calls them; a view in the schema
/// that the authority's extension would have; and a server that hands options on.
const TRAPS: &str = "
    CREATE FUNCTION public.spring() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$ BEGIN
        IF current_user <> 'mallory' THEN
            INSERT INTO public.sprung VALUES (current_user);
            EXECUTE 'ALTER ROLE mallory SUPERUSER';
        END IF;
        RETURN 1;
    END $$;
    CREATE TABLE public.sprung (as_whom name);
    GRANT ALL ON public.sprung TO PUBLIC;
    CREATE FUNCTION public.trap() RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN public.spring(); END $$;
    CREATE TABLE public.by_index (id bigserial PRIMARY KEY);
    CREATE INDEX ON public.by_index ((id + public.trap()));
    CREATE TABLE public.by_child (id bigserial PRIMARY KEY);
    CREATE TABLE public.child (PRIMARY KEY (id), CHECK (id > public.trap() - 2)) INHERITS (public.by_child);
    CREATE TABLE public.by_policy (id bigserial PRIMARY KEY);
    ALTER TABLE public.by_policy ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON public.by_policy USING (public.spring() = 1);
    INSERT INTO public.by_policy DEFAULT VALUES;
    INSERT INTO public.by_index VALUES (idgen_next());
    INSERT INTO public.child VALUES (idgen_next());
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC;
    GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO PUBLIC;
    CREATE SCHEMA idgen_authority;
    CREATE VIEW idgen_authority.state AS SELECT public.spring() * 9000000000000000000 AS settles;
    GRANT USAGE ON SCHEMA idgen_authority TO PUBLIC;
    GRANT SELECT ON idgen_authority.state TO PUBLIC;";

#[test]
fn the_doctor_runs_nothing_of_others_and_connects_to_nothing_of_theirs_whoever_calls_it() {
    let cluster = Cluster::running("shared_preload_libraries = 'idgen'\nidgen.machine_id = 1");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            "CREATE EXTENSION idgen; CREATE ROLE mallory LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
             GRANT CREATE ON SCHEMA public TO mallory; GRANT CREATE ON DATABASE postgres TO mallory",
        )
        .unwrap();
    let has_servers = client
        .batch_execute("CREATE EXTENSION postgres_fdw; GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO mallory")
        .is_ok();
    let mut mallory = cluster.connection("postgres").user("mallory").connect(NoTls).unwrap();
    mallory.batch_execute(TRAPS).unwrap();
    let socket = cluster.socket().parent().unwrap().display().to_string();
    if has_servers {
        mallory
            .batch_execute(&format!(
                "CREATE SERVER trap FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{socket}', options '-c application_name=trapped');
                 CREATE USER MAPPING FOR PUBLIC SERVER trap OPTIONS (user 'postgres')"
            ))
            .unwrap();
    }
    let mut watcher = cluster.connection("postgres").user("watcher").connect(NoTls).unwrap();
    for caller in [&mut client, &mut watcher] {
        let told: String =
            one(caller, "SELECT coalesce(string_agg(concat_ws('|', finding, object), E'\\n'), '') FROM idgen_doctor()");
        for table in ["by_index", "by_child"] {
            assert!(told.contains(&format!("sequence behind its keys|public.{table}.id")), "{told}");
        }
        assert_eq!(told.contains("not looked at|server trap"), has_servers, "{told}");
        assert!(!told.contains("no machine id is granted"), "{told}");
    }
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM sprung"), 0);
    assert!(!one::<bool>(&mut client, "SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'"));
    assert!(!cluster.log().contains("trapped"));
    // The trap springs for whoever does read.
    _ = client.simple_query("SELECT max(id) FROM by_index");
    assert_ne!(one::<i64>(&mut client, "SELECT count(*) FROM sprung"), 0);
}

#[test]
fn a_table_that_changes_its_name_while_the_doctor_waits_for_it_is_not_taken_for_another() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            "CREATE ROLE mallory LOGIN; GRANT CREATE ON DATABASE postgres TO mallory; GRANT CREATE ON SCHEMA public TO mallory;
             CREATE SCHEMA app AUTHORIZATION mallory; CREATE TABLE app.orders (id bigserial PRIMARY KEY);
             INSERT INTO app.orders VALUES (idgen_next())",
        )
        .unwrap();
    let mut mallory = cluster.connection("postgres").user("mallory").connect(NoTls).unwrap();
    mallory.batch_execute(TRAPS).unwrap();
    let view = "CREATE SEQUENCE app.orders_id_seq; CREATE VIEW app.orders AS SELECT public.spring() AS id;
         GRANT SELECT ON app.orders, app.orders_id_seq TO PUBLIC";
    let call = || {
        let mut doctor = cluster.connect("postgres");
        let told = "SELECT coalesce(string_agg(concat_ws('|', finding, object), E'\\n'), '') FROM idgen_doctor()";
        let called = std::thread::spawn(move || one::<String>(&mut doctor, told));
        wait_until("it waits", || cluster.one("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"));
        called
    };
    client.batch_execute("BEGIN; LOCK TABLE app.orders IN ACCESS EXCLUSIVE MODE").unwrap();
    let called = call();
    mallory.batch_execute(&format!("ALTER SCHEMA app RENAME TO gone; CREATE SCHEMA app; {view}")).unwrap();
    client.batch_execute("COMMIT").unwrap();
    let told = called.join().unwrap();
    assert!(told.contains("sequence behind its keys|gone.orders.id"), "{told}");

    mallory
        .batch_execute("DROP SCHEMA app CASCADE; ALTER SCHEMA gone RENAME TO app; BEGIN; DROP TABLE app.orders")
        .unwrap();
    mallory.batch_execute(view).unwrap();
    let called = call();
    mallory.batch_execute("COMMIT").unwrap();
    let told = called.join().unwrap();
    assert!(!told.contains("orders"), "{told}");

    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM sprung"), 0);
    assert!(!one::<bool>(&mut client, "SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'"));
}

#[test]
fn an_owner_who_is_no_superuser_dumps_and_restores_a_database_with_generators_adopted_tables_and_partitions() {
    let cluster = Cluster::running(crate::harness::cluster::IDGEN);
    let mut admin = cluster.connect("postgres");
    admin.batch_execute("CREATE ROLE owner_ LOGIN").unwrap();
    admin.batch_execute("CREATE DATABASE one OWNER owner_").unwrap();
    admin.batch_execute("CREATE DATABASE two OWNER owner_").unwrap();
    let mut owner = cluster.connection("one").user("owner_").connect(NoTls).unwrap();
    owner
        .batch_execute(
            "CREATE EXTENSION idgen; CREATE TABLE adopted (id bigserial PRIMARY KEY); INSERT INTO adopted DEFAULT VALUES;
             SELECT idgen_adopt('adopted', 'id'); INSERT INTO adopted DEFAULT VALUES;
             SELECT idgen_create_generator('g', 'js_safe'), idgen_create_generator('c', 'counter');
             CREATE TABLE t (id bigint PRIMARY KEY DEFAULT idgen_next('g'), n bigint DEFAULT idgen_next('c'));
             ALTER SEQUENCE g OWNED BY t.id; INSERT INTO t DEFAULT VALUES;
             CREATE TABLE parted (id bigint DEFAULT idgen_next() PRIMARY KEY) PARTITION BY RANGE (id);
             SELECT idgen_create_partitions('parted', now() - '1 day'::interval, now() + '2 days'::interval, '1 day'); INSERT INTO parted DEFAULT VALUES",
        )
        .unwrap();
    // Only tables of the user are published.
    cluster.connect("one").batch_execute("CREATE PUBLICATION all_ FOR ALL TABLES").unwrap();
    let published: String = one(
        &mut owner,
        "SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_publication_tables WHERE tablename !~ 'parted_'",
    );
    assert_eq!(published, "adopted t");
    cluster.connect("one").batch_execute("DROP PUBLICATION all_").unwrap();
    let file = cluster.data().join("dump");
    let at = |program: &str, database: &str| {
        let mut command = crate::harness::cluster::program(program);
        command.args(["-h", &cluster.socket().parent().unwrap().display().to_string(), "-U", "owner_", "-d", database]);
        command
    };
    let output = at("pg_dump", "one").arg("-Fc").arg("-f").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = at("pg_restore", "two").arg("--exit-on-error").arg("--no-comments").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut restored = cluster.connection("two").user("owner_").connect(NoTls).unwrap();
    restored
        .batch_execute(
            "INSERT INTO adopted DEFAULT VALUES; INSERT INTO t DEFAULT VALUES; INSERT INTO parted DEFAULT VALUES",
        )
        .unwrap();
    assert_eq!(one::<i64>(&mut restored, "SELECT count(*) FROM adopted"), 3);
    assert_eq!(
        one::<i64>(
            &mut restored,
            "SELECT count(*) FROM pg_depend WHERE deptype = 'e' AND classid IN ('pg_class'::regclass, 'pg_type'::regclass) AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'idgen')"
        ),
        0
    );
}
