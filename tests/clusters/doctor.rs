//! When ids stop, everything says so: the doctor names the cause and the remedy, `idgen_status()` says why and since when,
//! and the log says when ids stop and go on.

use crate::harness::clock::{SECOND, monotonic};
use crate::harness::cluster::{Cluster, Mode, one, refusal, signal};
use crate::harness::wait_until;
use crate::{NEXT, grants};
use postgres::NoTls;
use std::io::Read;
use std::net::TcpListener;

/// The lines of idgen_doctor(): severity, finding, object, and then the remedy.
fn findings(cluster: &Cluster) -> Vec<String> {
    let rows = cluster
        .connect("postgres")
        .query("SELECT severity || ': ' || finding || ': ' || object || ': ' || remedy FROM idgen_doctor()", &[]);
    rows.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Waits until the doctor has a line that begins with `start` and contains `remedy`.
fn finds(cluster: &Cluster, start: &str, remedy: &str) {
    let mut all = vec![];
    wait_until(&format!("the doctor finds {start} {remedy}"), || {
        all = findings(cluster);
        all.iter().any(|line| line.starts_with(start) && line.contains(remedy))
    });
}

fn obstacle(cluster: &Cluster) -> Option<String> {
    cluster.one("SELECT obstacle FROM idgen_status()")
}

#[test]
fn a_healthy_server_gets_no_line_also_for_who_only_watches() {
    let cluster = Cluster::with_idgen("idgen.max_generators = 20");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            "SELECT idgen_next(idgen_create_generator('g', 'snowflake'));
             SELECT idgen_next(idgen_create_generator('c', 'counter'));
             CREATE TABLE t (id bigint PRIMARY KEY DEFAULT idgen_next(), other bigserial);
             ALTER TABLE t ALTER other DROP DEFAULT;
             INSERT INTO t (other) VALUES (1);
             CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher",
        )
        .unwrap();
    assert_eq!(findings(&cluster), [""; 0]);
    assert_eq!(obstacle(&cluster), None);
    let mut watcher = cluster.connection("postgres").user("watcher").connect(NoTls).unwrap();
    assert_eq!(watcher.query("SELECT * FROM idgen_doctor()", &[]).unwrap().len(), 0);
    assert_eq!(one::<i64>(&mut watcher, "SELECT count(used) FROM idgen_generators()"), 2);
    assert!(cluster.log().contains("ids begin: machine id 1, horizon 20"), "{}", cluster.log());
}

#[test]
fn a_synchronous_standby_that_is_away_is_named_while_ids_wait_for_it() {
    let cluster = Cluster::with_idgen("idgen.horizon_lead = '1s'\nidgen.wait_timeout = '300ms'");
    let mut standby = cluster.standby("s");
    standby.start();
    cluster.reconfigure("synchronous_standby_names = 'FIRST 1 (s)'");
    wait_until("ids are given", || cluster.connect("postgres").query_one(NEXT, &[]).is_ok());
    wait_until("nothing is found", || findings(&cluster).iter().all(|line| line.starts_with("notice: not looked at")));
    standby.stop(Mode::Fast);
    finds(&cluster, "error: no synchronous standby: synchronous_standby_names", "Bring a standby of these names back");
    let mut client = cluster.connect("postgres");
    wait_until("ids end", || client.query_one(NEXT, &[]).is_err());
    finds(&cluster, "error: no ids: idgen_next()", "the synchronous standby has not acknowledged the horizon");
    assert!(cluster.one::<bool>(
        "SELECT stopped_since BETWEEN now() - interval '1 min' AND now() AND refusals > 0 AND last_refusal = '57P03'
             AND last_refused > now() - interval '1 min' FROM idgen_status()"
    ));
    standby.start();
    wait_until("ids go on", || client.query_one(NEXT, &[]).is_ok());
    wait_until("nothing is in the way", || obstacle(&cluster).is_none());
    let log = cluster.log();
    assert!(
        log.contains("no ids: the synchronous standby has not acknowledged") && log.contains("ids go on after"),
        "{log}"
    );
}

#[test]
fn a_setting_that_makes_a_failover_unsafe_is_named() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    for (names, is_safe) in [
        ("FIRST 1 (a)", true),
        ("a", true),
        ("ANY 2 (a, b)", true),
        ("FIRST 2 (a, b)", true),
        ("FIRST 1 (a, b)", false),
        ("a, b", false),
        ("ANY 1 (a, b)", false),
        ("*", false),
    ] {
        cluster.reconfigure(&format!("synchronous_standby_names = '{names}'\nsynchronous_commit = local"));
        wait_until("the setting is there", || one::<String>(&mut client, "SHOW synchronous_standby_names") == names);
        let told = findings(&cluster).iter().any(|line| line.starts_with("notice: failover needs fencing"));
        assert_eq!(told, !is_safe, "{names}");
    }
}

#[test]
fn a_worker_that_stands_still_or_is_not_there_is_named() {
    let cluster = Cluster::with_idgen("");
    cluster.one::<i64>(NEXT);
    let worker = cluster.signal_child("idgen horizon", libc::SIGSTOP);
    finds(&cluster, "error: no ids: idgen_next()", "the background worker has stood still");
    signal(worker, libc::SIGCONT);
    wait_until("nothing is found", || findings(&cluster).is_empty());
    let cluster = Cluster::with_idgen("max_worker_processes = 0");
    finds(&cluster, "error: no ids: idgen_next()", "worker");
}

#[test]
fn a_machine_id_that_does_not_fit_is_named_with_what_it_does_not_fit() {
    let cluster = Cluster::with_idgen("idgen.machine_id = 40");
    cluster.connect("postgres").batch_execute("SELECT idgen_create_generator('js', 'instagram')").unwrap();
    assert_eq!(findings(&cluster), [""; 0]);
    let mut cluster = cluster;
    cluster.stop(Mode::Fast);
    cluster.configure("idgen.machine_id = 20000");
    cluster.start();
    finds(&cluster, "error: no ids: idgen_next()", "machine id 20000 does not fit the layout");
    finds(&cluster, "error: machine id too large: public.js", "0 to 8191");
    assert!(cluster.log().contains("no ids: machine id 20000 does not fit"), "{}", cluster.log());
}

#[test]
fn generators_that_give_none_are_named() {
    let cluster = Cluster::with_idgen("idgen.max_generators = 2");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            "SELECT idgen_create_generator('altered', 'counter'), idgen_create_generator('ended', 'counter');
             ALTER SEQUENCE altered INCREMENT 2; ALTER SEQUENCE ended MAXVALUE 10;
             SELECT count(idgen_next('ended')) FROM generate_series(1, 10);
             SELECT idgen_create_generator('s', 'snowflake', ordering => 'strict');
             CREATE SEQUENCE lost MINVALUE -2 MAXVALUE -1;
             CREATE TABLE t (id bigint DEFAULT idgen_next('lost'))",
        )
        .unwrap();
    finds(
        &cluster,
        "error: not a counter any more: public.altered",
        "ALTER SEQUENCE public.altered INCREMENT 1 NO CYCLE",
    );
    finds(&cluster, "error: counter at its end: public.ended", "MAXVALUE");
    finds(&cluster, "error: no authority: public.s", "idgen.authority");
    finds(&cluster, "error: label lost: public.lost", "SECURITY LABEL FOR idgen ON SEQUENCE public.lost");
    client.batch_execute("SELECT idgen_next(idgen_create_generator('one_more', 'js_safe'))").unwrap();
    finds(&cluster, "warning: no free place for a generator: idgen.max_generators", "Raise it");
}

#[test]
fn strict_ids_without_an_authority_are_named() {
    let cluster = Cluster::with_idgen("idgen.ordering = strict");
    finds(&cluster, "error: no authority: idgen.ordering", "idgen.authority");
}

#[test]
fn ids_far_ahead_are_named_as_what_was_raised_is_in_the_status() {
    let cluster = Cluster::with_idgen("");
    cluster.connect("postgres").batch_execute("SELECT idgen_raise_horizon(now() + '3 days')").unwrap();
    cluster.one::<i64>(NEXT);
    assert!(cluster.one::<bool>("SELECT clock_ahead > '2 days' AND clock_ahead_seconds > 172800 FROM idgen_status()"));
    finds(&cluster, "warning: clock not synchronised: wall clock", "Ids are ");
}

#[test]
fn an_adoption_that_a_tool_undid_and_partitions_that_end_are_named() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            "CREATE TABLE undone (id bigserial PRIMARY KEY); INSERT INTO undone SELECT idgen_next() FROM generate_series(1, 3);
             CREATE TABLE parted (id bigint DEFAULT idgen_next() PRIMARY KEY) PARTITION BY RANGE (id);
             SELECT idgen_create_partitions('parted', now(), now() + '12 hours', '6 hours')",
        )
        .unwrap();
    finds(&cluster, "error: sequence behind its keys: public.undone.id", "idgen_adopt('public.undone', 'id')");
    finds(&cluster, "warning: partitions end: public.parted", "idgen_create_partitions('public.parted'");
}

#[test]
fn partitions_to_the_end_of_a_layout_or_of_all_numbers_and_keys_of_other_types_are_no_finding_and_no_error() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            "SELECT idgen_create_generator('pages_id', 'js_safe');
             CREATE TABLE pages (id bigint DEFAULT idgen_next('pages_id')) PARTITION BY RANGE (id);
             SELECT idgen_create_partitions('pages', '2094-01-01'::timestamptz, '2095-01-01', '1 year');
             CREATE TABLE open_ (id bigint DEFAULT idgen_next()) PARTITION BY RANGE (id);
             CREATE TABLE open_1 PARTITION OF open_ FOR VALUES FROM (1) TO (2);
             CREATE TABLE open_2 PARTITION OF open_ FOR VALUES FROM (2) TO (MAXVALUE);
             CREATE TABLE all_ (id bigint DEFAULT idgen_next()) PARTITION BY RANGE (id);
             CREATE TABLE all_1 PARTITION OF all_ FOR VALUES FROM (1) TO (9223372036854775807);
             CREATE TABLE wide (id numeric DEFAULT idgen_next()) PARTITION BY RANGE (id);
             CREATE TABLE wide_1 PARTITION OF wide FOR VALUES FROM (1) TO (99999999999999999999);
             CREATE TABLE keyed (id bigserial PRIMARY KEY, n bigint); CREATE INDEX ON keyed ((n + 1));
             INSERT INTO keyed (n) VALUES (1)",
        )
        .unwrap();
    assert_eq!(findings(&cluster), [""; 0]);
    // A column that is gone.
    assert!(
        cluster.one::<bool>("SELECT idgen_key_beyond('keyed'::regclass, 'gone', 'keyed_id_seq'::regclass) IS NULL")
    );
}

#[test]
fn grants_that_are_too_short_for_the_clocks_are_named() {
    let cluster = crate::grants::authority("idgen.grant_length = 40s");
    finds(&cluster, "warning: grants too short: idgen.grant_length", "four times idgen.max_clock_offset");
    cluster.reconfigure("idgen.max_clock_offset = 9s");
    assert!(!findings(&cluster).iter().any(|line| line.contains("grants too short")));
}

#[test]
fn temporary_tables_of_other_sessions_are_not_read() {
    let cluster = Cluster::with_idgen("");
    let mut other = cluster.connect("postgres");
    other.batch_execute("CREATE TEMPORARY TABLE t (id bigserial PRIMARY KEY); INSERT INTO t DEFAULT VALUES").unwrap();
    assert_eq!(findings(&cluster), [""; 0]);
}

#[test]
fn a_step_of_the_clock_is_named_for_a_day() {
    let cluster = Cluster::with_idgen("");
    cluster.one::<i64>(NEXT);
    cluster.clock.set(5 * SECOND);
    finds(&cluster, "warning: clock not synchronised: wall clock", "stepped");
    assert!(cluster.one::<bool>("SELECT last_clock_step > now() - interval '1 min' FROM idgen_status()"));
}

#[test]
fn two_other_servers_with_one_machine_id_are_named() {
    let (first, second) = (Cluster::with_idgen("idgen.machine_id = 7"), Cluster::with_idgen("idgen.machine_id = 7"));
    let watching = Cluster::with_idgen(&format!("idgen.peers = '{}; {}'", first.conninfo(), second.conninfo()));
    first.reconfigure(&format!("idgen.peers = '{}'", watching.conninfo()));
    second.reconfigure(&format!("idgen.peers = '{}'", watching.conninfo()));
    finds(&watching, "error: one machine id of two other servers", "They have 7");
}

#[test]
fn a_server_that_accepts_and_never_answers_delays_the_doctor_by_seconds_and_it_can_be_cancelled() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut kept = vec![];
        for connection in silent.incoming() {
            let mut connection = connection.unwrap();
            _ = connection.read(&mut [0; 8]);
            kept.push(connection);
        }
    });
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    if client.batch_execute("CREATE EXTENSION postgres_fdw").is_err() {
        return;
    }
    client
        .batch_execute(&format!(
            "CREATE SERVER silent FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{port}', dbname 'x');
             CREATE USER MAPPING FOR postgres SERVER silent OPTIONS (user 'postgres', password 'a''b\\')"
        ))
        .unwrap();
    let since = monotonic();
    finds(&cluster, "notice: not looked at: server silent", "no answer");
    assert!(monotonic() - since < 10 * SECOND);
    // A server that answers first, and then stands still.
    let other = Cluster::with_idgen("idgen.machine_id = 2");
    let host = other.data().parent().unwrap().display().to_string();
    client
        .batch_execute(&format!(
            "DROP SERVER silent CASCADE;
             CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{host}', dbname 'postgres');
             CREATE USER MAPPING FOR postgres SERVER other OPTIONS (user 'postgres')"
        ))
        .unwrap();
    assert_eq!(findings(&cluster), [""; 0]);
    let mut blocker = other.connect("postgres");
    let mut transaction = blocker.transaction().unwrap();
    transaction.batch_execute("LOCK TABLE pg_extension IN ACCESS EXCLUSIVE MODE").unwrap();
    finds(&cluster, "notice: not looked at: server other", "no answer");
    client.batch_execute("SET statement_timeout = '1s'").unwrap();
    let since = monotonic();
    let error = refusal(&mut client, "SELECT * FROM idgen_doctor()");
    assert_eq!(error.code().code(), "57014");
    assert!(monotonic() - since < 3 * SECOND, "it was not cancelled at once");
    transaction.rollback().unwrap();
}

#[test]
fn a_member_and_its_authority_say_what_is_in_the_way() {
    let mut authority = grants::authority("");
    let member = grants::member(&authority, "idgen.wait_timeout = '300ms'");
    wait_until("ids are given", || member.connect("postgres").query_one(NEXT, &[]).is_ok());
    assert_eq!(findings(&member), [""; 0]);
    authority.stop(Mode::Fast);
    finds(&member, "warning: authority not heard", "ids go on until");
    assert!(!findings(&member).iter().any(|line| line.contains("until )")));
}

/// Citus keeps its nodes in a table of pg_catalog.
#[test]
fn nodes_of_citus_with_one_machine_id_or_without_a_label_are_named() {
    let [a, b] = [2, 2].map(|machine| Cluster::with_idgen(&format!("idgen.machine_id = {machine}")));
    let cluster = Cluster::with_idgen("allow_system_table_mods = on");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            "CREATE TABLE pg_catalog.pg_dist_node (nodename text, nodeport integer, isactive boolean, noderole text)",
        )
        .unwrap();
    for node in [&cluster, &a, &b] {
        let (host, port): (String, String) = {
            let row = node.connect("postgres").query_one("SHOW unix_socket_directories", &[]).unwrap();
            (row.get(0), node.one("SHOW port"))
        };
        client
            .batch_execute(&format!("INSERT INTO pg_catalog.pg_dist_node VALUES ('{host}', {port}, true, 'primary')"))
            .unwrap();
    }
    finds(&cluster, "error: one machine id of two other servers: Citus node ", "have 2. Give one of them another");
    assert_eq!(findings(&cluster).len(), 1, "{:#?}", findings(&cluster));
    a.connect("postgres")
        .batch_execute(
            "SELECT idgen_create_generator('g', 'snowflake'); CREATE TABLE t (id bigint DEFAULT idgen_next('g'))",
        )
        .unwrap();
    assert_eq!(findings(&cluster).len(), 1);
    a.connect("postgres").batch_execute("SET allow_system_table_mods = on; DELETE FROM pg_seclabel").unwrap();
    finds(&cluster, "error: label lost: Citus node ", "these are no generators there: g.");

    // Those that no default there names: as they are here, absent, without their label, with another one.
    client
        .batch_execute(
            "SELECT idgen_create_generator(name, preset) FROM
                 (VALUES ('g', 'snowflake'), ('same', 'js_safe'), ('absent', 'js_safe'), ('bare', 'js_safe'), ('other', 'js_safe')) AS g(name, preset)",
        )
        .unwrap();
    for node in [&a, &b] {
        node.connect("postgres")
            .batch_execute(
                "SELECT idgen_create_generator('same', 'js_safe'), idgen_create_generator('other', 'twitter');
                 CREATE SEQUENCE bare",
            )
            .unwrap();
    }
    b.connect("postgres").batch_execute("SELECT idgen_create_generator('g', 'snowflake')").unwrap();
    let missing = |cluster| {
        let lines = findings(cluster)
            .into_iter()
            .filter(|line| line.starts_with("warning: generator not on a node: Citus node "));
        lines.collect::<Vec<_>>()
    };
    let lines = missing(&cluster);
    assert_eq!(lines.len(), 2, "{:#?}", findings(&cluster));
    assert!(
        lines.iter().all(|line| line.contains(": public.absent, public.bare, public.other. docs/engines.md")),
        "{lines:#?}"
    );
    client.batch_execute("DROP SEQUENCE absent, bare, other").unwrap();
    assert_eq!(missing(&cluster), [""; 0]);
}

#[test]
fn a_counter_that_was_set_back_is_named_until_it_is_past_what_it_gave() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            "SELECT idgen_create_generator('c', 'counter', flush_every => 10), idgen_create_generator('untouched', 'counter');
             SELECT setval('untouched', 7);
             SELECT count(idgen_next('c')) FROM generate_series(1, 995);
             SELECT setval('c', 2000)",
        )
        .unwrap();
    assert_eq!(findings(&cluster), [""; 0]);
    let start = "warning: counter set back: public.c";
    // Before it repeats a value, and while it does.
    client.batch_execute("SELECT setval('c', 5)").unwrap();
    finds(
        &cluster,
        start,
        "up to 995, which this server gave before. If any of their rows are left: ALTER SEQUENCE public.c RESTART WITH 996.",
    );
    client.batch_execute("SELECT count(idgen_next('c')) FROM generate_series(1, 50)").unwrap();
    assert!(one::<i64>(&mut client, "SELECT idgen_sequence(idgen_next('c'), 'c')") < 100);
    // The block in use was used up first, and perhaps the one after it.
    let last: i64 = one(&mut client, "SELECT idgen_repeats_until('c')");
    assert!(last == 1000 || last == 1010, "{last}");
    finds(&cluster, start, &format!("RESTART WITH {}.", last + 1));
    client.batch_execute(&format!("ALTER SEQUENCE c RESTART WITH {}", last + 1)).unwrap();
    assert_eq!(findings(&cluster), [""; 0]);
    assert_eq!(one::<i64>(&mut client, "SELECT idgen_sequence(idgen_next('c'), 'c')"), last + 1);
    client.batch_execute("BEGIN; ALTER SEQUENCE c RESTART; SELECT idgen_next('c'); ROLLBACK").unwrap();
    assert_eq!(findings(&cluster), [""; 0]);
    client.batch_execute("ALTER SEQUENCE c RESTART; SELECT idgen_next('c')").unwrap();
    finds(&cluster, start, &format!("up to {}", last + 1));
    client.batch_execute("SELECT count(idgen_next('c')) FROM generate_series(1, 1100)").unwrap();
    assert_eq!(findings(&cluster), [""; 0]);
    // One that is made anew under the same name has given nothing.
    client
        .batch_execute("DROP SEQUENCE c; SELECT idgen_create_generator('c', 'counter'); SELECT idgen_next('c')")
        .unwrap();
    assert_eq!(findings(&cluster), [""; 0]);
}

/// The tables of pglogical 2.4 that matter, in an extension of its name.
#[test]
fn counters_that_pglogical_replicates_are_named() {
    let cluster = Cluster::with_idgen("allow_system_table_mods = on");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            "SELECT idgen_create_generator('page_id', 'js_safe');
             CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher; CREATE ROLE owner LOGIN;
             CREATE SCHEMA pglogical;
             CREATE TABLE pglogical.replication_set (set_id oid PRIMARY KEY, set_nodeid oid NOT NULL, set_name name NOT NULL);
             CREATE TABLE pglogical.replication_set_seq (set_id oid, set_seqoid regclass, PRIMARY KEY (set_id, set_seqoid));
             CREATE TABLE pglogical.local_node (node_id oid PRIMARY KEY, node_local_interface oid NOT NULL);
             CREATE TABLE pglogical.subscription (sub_id oid PRIMARY KEY, sub_name name NOT NULL, sub_target oid NOT NULL);
             CREATE TABLE pglogical.queue (queued_at timestamptz NOT NULL, role name NOT NULL, replication_sets text[],
                 message_type \"char\" NOT NULL, message json NOT NULL);
             INSERT INTO pglogical.replication_set VALUES (1, 7, 'default');
             INSERT INTO pglogical.replication_set_seq VALUES (1, 'page_id');
             INSERT INTO pglogical.local_node VALUES (7, 1)",
        )
        .unwrap();
    // Who has but tables of these names.
    client
        .batch_execute("SELECT idgen_create_generator('c', 'counter'), idgen_create_generator('d', 'counter')")
        .unwrap();
    client.batch_execute("INSERT INTO pglogical.replication_set_seq VALUES (1, 'c')").unwrap();
    assert_eq!(findings(&cluster), [""; 0]);
    client
        .batch_execute(
            "INSERT INTO pg_extension VALUES (99999, 'pglogical', 10, 'pglogical'::regnamespace, false, '2.4.2');
             INSERT INTO pg_depend SELECT 'pg_class'::regclass, oid, 0, 'pg_extension'::regclass, 99999, 0, 'e'
             FROM pg_class WHERE relnamespace = 'pglogical'::regnamespace AND relkind = 'r'",
        )
        .unwrap();
    finds(
        &cluster,
        "warning: counter in a replication set: public.c",
        "SELECT pglogical.replication_set_remove_sequence('default', 'public.c').",
    );
    assert_eq!(findings(&cluster).len(), 1);
    let mut watcher = cluster.connection("postgres").user("watcher").connect(NoTls).unwrap();
    let finding = "SELECT string_agg(finding || ': ' || object, ', ') FROM idgen_doctor()";
    assert_eq!(one::<String>(&mut watcher, finding), "not looked at: replication sets of pglogical");

    // What a subscription set: of today, of a sequence, and not what this server has sent itself.
    client
        .batch_execute(
            r#"DELETE FROM pglogical.replication_set_seq;
               INSERT INTO pglogical.queue SELECT now() - age, 'postgres', '{default}', type, message::json FROM (VALUES
                   (interval '1 hour', 'S', '{"schema_name": "public", "sequence_name": "c", "last_value": "1001"}'),
                   (interval '2 hours', 'S', '{"schema_name": "public", "sequence_name": "c", "last_value": "5"}'),
                   (interval '2 days', 'S', '{"schema_name": "public", "sequence_name": "d", "last_value": "5"}'),
                   (interval '1 hour', 'T', '{"schema_name": "public", "sequence_name": "d"}'),
                   (interval '1 hour', 'Q', '"DROP TABLE t"'),
                   (interval '1 hour', 'S', '{"schema_name": "public", "sequence_name": "page_id", "last_value": "999"}')) AS q(age, type, message)"#,
        )
        .unwrap();
    assert_eq!(findings(&cluster), [""; 0]);
    client.batch_execute("INSERT INTO pglogical.subscription VALUES (1, 's', 7)").unwrap();
    finds(&cluster, "warning: counter set by pglogical: public.c", "2 times in a day");
    assert_eq!(findings(&cluster).len(), 1, "{:#?}", findings(&cluster));

    // A table that somebody else owns may run his code when it is read.
    client.batch_execute("ALTER TABLE pglogical.queue OWNER TO owner").unwrap();
    assert_eq!(findings(&cluster), [""; 0]);
}

/// From PostgreSQL 19 on.
#[test]
fn counters_that_logical_replication_has_are_named() {
    let cluster = Cluster::with_idgen("wal_level = logical");
    let mut client = cluster.connect("postgres");
    let create = "SELECT idgen_create_generator('c', 'counter'), idgen_create_generator('page_id', 'js_safe')";
    client.batch_execute(create).unwrap();
    if one::<i32>(&mut client, "SELECT current_setting('server_version_num')::int") < 190_000 {
        return;
    }
    let subscriber = Cluster::with_idgen("idgen.machine_id = 2");
    let mut other = subscriber.connect("postgres");
    other.batch_execute(create).unwrap();
    other
        .batch_execute("SELECT count(idgen_next('c')) FROM generate_series(1, 5000); SELECT idgen_next('page_id')")
        .unwrap();
    client
        .batch_execute("CREATE PUBLICATION numbers FOR ALL SEQUENCES; SELECT idgen_next('c'), idgen_next('page_id')")
        .unwrap();
    finds(&cluster, "notice: counter in a publication: public.c", "A subscriber of numbers");
    assert_eq!(findings(&cluster).len(), 1);
    other
        .batch_execute(&format!("CREATE SUBSCRIPTION s CONNECTION '{}' PUBLICATION numbers", cluster.conninfo()))
        .unwrap();
    finds(&subscriber, "notice: counter in a subscription: public.c", "ALTER SUBSCRIPTION s REFRESH SEQUENCES");
    finds(&subscriber, "warning: counter set back: public.c", "up to 5000");
    assert_eq!(findings(&subscriber).len(), 2);
    let last = one::<i64>(&mut other, "SELECT idgen_next('page_id')");
    other.batch_execute("ALTER SUBSCRIPTION s REFRESH SEQUENCES").unwrap();
    assert!(one::<i64>(&mut other, "SELECT idgen_next('page_id')") > last);
}

#[test]
fn what_is_locked_does_not_keep_it_waiting_and_takes_nothing_else_away() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute(
            "CREATE TABLE keyed (id bigserial PRIMARY KEY); INSERT INTO keyed DEFAULT VALUES;
             SELECT idgen_create_generator('c', 'counter'), idgen_create_generator('bad', 'counter');
             ALTER SEQUENCE bad INCREMENT 2;
             CREATE TABLE named (id bigint PRIMARY KEY DEFAULT idgen_next());
             CREATE FUNCTION names_it(n int) RETURNS SETOF bigint LANGUAGE sql BEGIN ATOMIC SELECT id FROM named WHERE id > n; END;
             CREATE TABLE parted (id bigint DEFAULT idgen_next()) PARTITION BY RANGE (id);
             SELECT idgen_create_partitions('parted', now() - '1 day'::interval, now() + '9 days'::interval, '10 days')",
        )
        .unwrap();
    assert_eq!(findings(&cluster).len(), 2, "{:#?}", findings(&cluster));
    for lock in ["keyed", "named", "parted", "c"] {
        let statement = if lock == "c" {
            "BEGIN; DROP SEQUENCE c".into()
        } else {
            format!("BEGIN; LOCK TABLE {lock} IN ACCESS EXCLUSIVE MODE")
        };
        client.batch_execute(&statement).unwrap();
        let since = monotonic();
        finds(&cluster, "error: not a counter any more: public.bad", "INCREMENT 1");
        assert!(monotonic() - since < 5 * SECOND, "{lock}");
        client.batch_execute("ROLLBACK").unwrap();
    }
    client.batch_execute("BEGIN; LOCK TABLE keyed IN ACCESS EXCLUSIVE MODE").unwrap();
    finds(&cluster, "notice: not looked at: public.keyed", "It is locked");
    client.batch_execute("COMMIT; BEGIN; LOCK TABLE named IN ACCESS EXCLUSIVE MODE").unwrap();
    finds(&cluster, "notice: not looked at: references", "locked");
}
