//! Places of generators in shared memory: none is lost, none is a generator's while it is still another's, and privileges are
//! those of nextval() at each moment.

use crate::harness::cluster::{Cluster, assert_refused, one, refusal};
use crate::harness::wait_until;
use crate::{NEXT, grants};
use postgres::error::SqlState;
use postgres::{Client, NoTls};
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::thread;

/// A server with few places, one of them taken by a generator that is used all the while.
fn crowded(settings: &str) -> Cluster {
    let cluster = Cluster::with_idgen(&format!("idgen.max_generators = 3\nmax_prepared_transactions = 10\n{settings}"));
    cluster
        .connect("postgres")
        .batch_execute("SELECT idgen_create_generator('kept', 'js_safe'); SELECT idgen_next('kept')")
        .unwrap();
    cluster
}

/// Makes and uses a generator, and drops it.
const ROUND: &str = "SELECT idgen_create_generator('x', 'js_safe'); SELECT idgen_next('x'); DROP SEQUENCE x";

#[test]
fn places_of_generators_that_prepared_transactions_dropped_or_made_come_back() {
    let cluster = crowded("");
    let mut client = cluster.connect("postgres");
    let mut run = |statement: &str| client.batch_execute(statement).unwrap();
    for end in ["COMMIT", "ROLLBACK"] {
        for _ in 0..6 {
            run("SELECT idgen_create_generator('x', 'js_safe'); SELECT idgen_next('x')");
            run("BEGIN; DROP SEQUENCE x; PREPARE TRANSACTION 'drop'");
            run(&format!("{end} PREPARED 'drop'"));
            if end == "ROLLBACK" {
                run("SELECT idgen_next('x'); DROP SEQUENCE x");
            }
            run(
                "BEGIN; SELECT idgen_create_generator('y', 'js_safe'); SELECT idgen_next('y'); PREPARE TRANSACTION 'make'",
            );
            run(&format!("{end} PREPARED 'make'"));
            if end == "COMMIT" {
                run("SELECT idgen_next('y'); DROP SEQUENCE y");
            }
        }
    }
    client.batch_execute(ROUND).unwrap();
    one::<i64>(&mut client, "SELECT idgen_next('kept')");
}

#[test]
fn a_prepared_transaction_keeps_the_place_of_what_it_drops_until_it_ends() {
    let cluster = crowded("");
    let mut client = cluster.connect("postgres");
    client.batch_execute("SELECT idgen_create_generator('x', 'js_safe')").unwrap();
    let before: i64 = one(&mut client, "SELECT idgen_next('x')");
    client.batch_execute("BEGIN; DROP SEQUENCE x; PREPARE TRANSACTION 'drop'").unwrap();
    client
        .batch_execute("SELECT idgen_create_generator('y', 'js_safe'); SELECT idgen_next('y'); DROP SEQUENCE y")
        .unwrap();
    client.batch_execute("ROLLBACK PREPARED 'drop'").unwrap();
    assert!(one::<i64>(&mut client, "SELECT idgen_next('x')") > before);
}

#[test]
fn who_makes_generators_uses_them_in_parallel_workers_and_rolls_back_takes_no_place_from_others() {
    let cluster = crowded("");
    cluster
        .connect("postgres")
        .batch_execute("CREATE ROLE mallory LOGIN; CREATE SCHEMA m AUTHORIZATION mallory; CREATE TABLE m.t AS SELECT 1 AS a FROM generate_series(1, 100000); GRANT ALL ON m.t TO mallory")
        .unwrap();
    let mut mallory = cluster.connection("postgres").user("mallory").connect(NoTls).unwrap();
    // Whatever label the function has: it is one in PL/pgSQL that says that it is parallel safe.
    mallory
        .batch_execute(
            "SET search_path = m, public;
             CREATE FUNCTION m.next(regclass) RETURNS bigint LANGUAGE plpgsql PARALLEL SAFE AS $$ BEGIN RETURN idgen_next($1); END $$;
             SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
             SET parallel_leader_participation = off",
        )
        .unwrap();
    for _ in 0..10 {
        _ = mallory.batch_execute(
            "BEGIN; SELECT idgen_create_generator('u', 'snowflake'); SELECT count(m.next('m.u')) FROM m.t",
        );
        mallory.batch_execute("ROLLBACK").unwrap();
    }
    let mut client = cluster.connect("postgres");
    client.batch_execute("SELECT idgen_create_generator('x', 'js_safe'); SELECT idgen_next('x')").unwrap();
    client.batch_execute("SELECT idgen_create_generator('y', 'js_safe'); SELECT idgen_next('y')").unwrap();
    assert_refused(
        &mut client,
        "SELECT idgen_next(idgen_create_generator('z', 'js_safe'))",
        SqlState::CONFIGURATION_LIMIT_EXCEEDED,
        "max_generators",
    );
}

#[test]
fn calls_on_a_standby_take_no_place_there() {
    let primary = crowded("");
    let mut standby = primary.standby("s");
    standby.start();
    let mut client = primary.connect("postgres");
    for round in 0..4 {
        client.batch_execute(&format!("SELECT idgen_create_generator('x{round}', 'js_safe')")).unwrap();
        primary.wait_for_replay(&standby);
        let mut there = standby.connect("postgres");
        let call = format!("SELECT idgen_next('x{round}')");
        assert_eq!(refusal(&mut there, &call).code(), &SqlState::READ_ONLY_SQL_TRANSACTION);
        client.batch_execute(&format!("DROP SEQUENCE x{round}")).unwrap();
    }
    primary.wait_for_replay(&standby);
    standby.promote();
    let mut promoted = standby.connect("postgres");
    promoted
        .batch_execute("SELECT idgen_next('kept'), idgen_next(idgen_create_generator('a', 'js_safe')), idgen_next(idgen_create_generator('b', 'js_safe'))")
        .unwrap();
}

/// A label was set, used and rolled back, and then another one with the same layout was set.
#[test]
fn a_place_is_one_generators_only_with_the_whole_definition() {
    let authority = grants::authority("");
    let member = grants::member(&authority, "");
    for server in [&authority, &member] {
        server
            .connect("postgres")
            .batch_execute("CREATE SEQUENCE n NO CYCLE; CREATE SEQUENCE s MINVALUE -2 MAXVALUE -1")
            .unwrap();
    }
    let label = |client: &mut Client, sequence: &str, definition: &str| {
        client.batch_execute(&format!("SECURITY LABEL FOR idgen ON SEQUENCE {sequence} IS '{definition}'")).unwrap();
    };
    const BLOCK: &str = "counter:63 flush:1000 order:block";
    const CLOCK: &str = "timestamp:41 machine:10 sequence:12 epoch:1735689600000000 tick:1000";
    let mut there = authority.connect("postgres");
    label(&mut there, "n", BLOCK);
    let given: Vec<i64> = (0..3).map(|_| one(&mut there, "SELECT idgen_next('n')")).collect();
    assert_eq!(given, [1, 2, 3]);
    let mut here = member.connect("postgres");
    here.batch_execute("BEGIN").unwrap();
    label(&mut here, "n", "counter:63 flush:1000");
    assert_eq!(one::<i64>(&mut here, "SELECT idgen_next('n')"), 1);
    here.batch_execute("ROLLBACK").unwrap();
    label(&mut here, "n", BLOCK);
    assert!(one::<i64>(&mut here, "SELECT idgen_next('n')") > 3, "a value of the authority again");

    here.batch_execute("BEGIN").unwrap();
    label(&mut here, "s", CLOCK);
    let before: i64 = one(&mut here, "SELECT max(id) FROM idgen_next_many('s', 10000) id");
    here.batch_execute("ROLLBACK").unwrap();
    label(&mut here, "s", &format!("{CLOCK} order:gossip"));
    assert!(one::<i64>(&mut here, "SELECT idgen_next('s')") > before, "an id again");
}

#[test]
fn a_role_with_usage_alone_takes_of_a_counter_what_it_uses_and_no_more_than_a_block() {
    let cluster = Cluster::with_idgen("");
    cluster
        .connect("postgres")
        .batch_execute(
            "SELECT idgen_create_generator('c', 'counter'); ALTER SEQUENCE c MAXVALUE 2147483647;
             CREATE ROLE user_ LOGIN; GRANT USAGE ON SEQUENCE c TO user_",
        )
        .unwrap();
    let mut user = cluster.connection("postgres").user("user_").connect(NoTls).unwrap();
    for _ in 0..10 {
        user.batch_execute("SELECT idgen_next_many('c', 2147483647) LIMIT 1").unwrap();
    }
    let taken: i64 = one(&mut user, "SELECT idgen_count('c')");
    assert!(taken <= 3 * 1000, "{taken} values are gone");
}

#[test]
fn a_privilege_through_the_ownership_of_the_database_goes_with_it() {
    let cluster = Cluster::with_idgen("");
    cluster.connect("postgres").batch_execute("CREATE ROLE one LOGIN; CREATE ROLE other").unwrap();
    cluster.connect("postgres").batch_execute("CREATE DATABASE theirs OWNER one").unwrap();
    let mut admin = cluster.connect("theirs");
    admin
        .batch_execute("CREATE EXTENSION idgen; SELECT idgen_create_generator('g', 'js_safe'); GRANT USAGE ON SEQUENCE g TO pg_database_owner")
        .unwrap();
    let mut owner = cluster.connection("theirs").user("one").connect(NoTls).unwrap();
    one::<i64>(&mut owner, "SELECT idgen_next('g')");
    admin.batch_execute("ALTER DATABASE theirs OWNER TO other").unwrap();
    assert_eq!(refusal(&mut owner, "SELECT idgen_next('g')").code(), &SqlState::INSUFFICIENT_PRIVILEGE);
}

#[test]
fn lists_of_generators_do_not_fail_while_some_are_dropped() {
    let cluster = Cluster::with_idgen("");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for kind in ["js_safe", "counter"] {
            let (cluster, done) = (&cluster, &done);
            scope.spawn(move || {
                let mut client = cluster.connect("postgres");
                while !done.load(Relaxed) {
                    client
                        .batch_execute(&format!(
                            "SELECT idgen_create_generator('of_{kind}', '{kind}'); DROP SEQUENCE of_{kind}"
                        ))
                        .unwrap();
                }
            });
        }
        let mut client = cluster.connect("postgres");
        for _ in 0..2000 {
            client.query("SELECT * FROM idgen_generators()", &[]).unwrap();
        }
        for _ in 0..100 {
            client.query("SELECT * FROM idgen_doctor()", &[]).unwrap();
        }
        done.store(true, Relaxed);
    });
}

/// The same as for idgen_next().
#[test]
fn a_counter_with_machine_bits_stops_where_another_server_has_the_machine_id() {
    let first = Cluster::with_idgen("idgen.machine_id = 5");
    let second = Cluster::with_idgen(&format!("idgen.machine_id = 5\nidgen.peers = '{}'", first.conninfo()));
    first.reconfigure(&format!("idgen.peers = '{}'", second.conninfo()));
    for server in [&first, &second] {
        let mut client = server.connect("postgres");
        client.batch_execute("SELECT idgen_create_generator('c', 'counter', flush_every => 100000)").unwrap();
        _ = client.batch_execute("SELECT idgen_next('c')");
    }
    let refuses = |server: &Cluster, query: &str| server.connect("postgres").query_one(query, &[]).is_err();
    wait_until("one of them refuses", || refuses(&first, NEXT) || refuses(&second, NEXT));
    for server in [&first, &second] {
        wait_until("both kinds of ids are the same server's", || {
            refuses(server, NEXT) == refuses(server, "SELECT idgen_next('c')")
        });
    }
    assert!(!refuses(&first, NEXT) || !refuses(&second, NEXT), "both refuse");
    let refusing = if refuses(&first, NEXT) { &first } else { &second };
    let error = refusal(&mut refusing.connect("postgres"), "SELECT idgen_next('c')");
    assert!(error.message().contains("another server has the machine id"), "{}", error.message());
}

#[test]
fn a_restart_that_was_rolled_back_is_no_warning() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    client
        .batch_execute("SELECT idgen_create_generator('c', 'counter', flush_every => 5); SELECT idgen_next('c')")
        .unwrap();
    client.batch_execute("BEGIN; ALTER SEQUENCE c RESTART WITH 1000000; SELECT idgen_next('c'); ROLLBACK").unwrap();
    client.batch_execute("SELECT count(idgen_next('c')) FROM generate_series(1, 100)").unwrap();
    assert!(!cluster.log().contains("was set back"), "{}", cluster.log());
    client.batch_execute("ALTER SEQUENCE c RESTART; SELECT idgen_next('c')").unwrap();
    assert!(cluster.log().contains("was set back"));
}
