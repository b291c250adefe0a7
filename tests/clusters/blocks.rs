//! Counters without machine ids, whose values the authority leases in blocks.

use crate::IDENTITY;
use crate::grants;
use crate::harness::checker::{Rules, check};
use crate::harness::clock::{SECOND, monotonic};
use crate::harness::cluster::{Cluster, Mode, assert_refused, one};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::harness::wait_until;
use postgres::error::SqlState;

const MAKE: &str = "SELECT idgen_create_generator('b', 'counter', ordering => 'block')";
const NEXT: &str = "SELECT idgen_next('b')";
const UNIQUE: Rules = Rules { machine: false, ..IDENTITY };

fn make(servers: &[&Cluster]) {
    servers.iter().for_each(|server| server.connect("postgres").batch_execute(MAKE).unwrap());
}

/// An authority and a member of it with the block generator `b` and the strict one `s`, which is served.
fn with_strict_beside(settings: &str) -> (Cluster, Cluster) {
    let authority = grants::authority("");
    let member = grants::member(&authority, settings);
    make(&[&authority, &member]);
    for server in [&authority, &member] {
        let strict = "SELECT idgen_create_generator('s', 'snowflake', ordering => 'strict')";
        server.connect("postgres").batch_execute(strict).unwrap();
    }
    let mut client = member.connect("postgres");
    wait_until("strict ids are served", || client.query("SELECT idgen_next('s')", &[]).is_ok());
    (authority, member)
}

#[test]
fn values_are_unique_over_all_servers_and_increase_on_each_and_few_are_skipped() {
    let authority = grants::authority("");
    let members = [0, 1].map(|_| grants::member(&authority, "idgen.machine_id = -1"));
    make(&[&authority, &members[0], &members[1]]);
    let history = History::new();
    let mut load = Load::start(&authority, &history, "a", 2, NEXT);
    load.add(&members[0], &history, "b", "postgres", 3, NEXT);
    load.add(&members[1], &history, "c", "postgres", 3, NEXT);
    load.flow(20_000);
    load.finish();
    let report = check(&history, &UNIQUE);
    report.assert_clean();
    let highest: i64 = authority.one("SELECT last_value FROM b");
    println!("{highest} values leased");
    assert!(members[0].one::<i64>(NEXT) <= highest + 1_000_000);
    // Their own sequences say nothing of leased values.
    for server in [&authority, &members[0], &members[1]] {
        assert_eq!(server.one::<Option<i64>>("SELECT idgen_repeats_until('b')"), None);
    }
}

#[test]
fn a_server_goes_on_with_what_it_holds_while_the_authority_is_away_and_skips_that_after_a_crash() {
    let mut authority = grants::authority("");
    let mut member = grants::member(&authority, "idgen.min_block_size = 1000");
    make(&[&authority, &member]);
    let mut client = member.connect("postgres");
    let first: i64 = one(&mut client, NEXT);
    wait_until("two blocks are leased", || authority.one("SELECT last_value >= 2000 FROM b"));
    std::thread::sleep(std::time::Duration::from_millis(300));
    authority.stop(Mode::Immediate);
    let last: i64 = one(&mut client, "SELECT max(idgen_next('b')) FROM generate_series(1, 1500)");
    assert_eq!(last, first + 1500);
    client.batch_execute("SET idgen.wait_timeout = '200ms'").unwrap();
    assert_refused(
        &mut client,
        "SELECT count(idgen_next('b')) FROM generate_series(1, 2000)",
        SqlState::CANNOT_CONNECT_NOW,
        "idgen_authority",
    );
    authority.start();
    member.kill();
    member.start();
    assert!(member.one::<i64>(NEXT) > 2000);
}

#[test]
fn a_generator_that_was_set_back_at_the_authority_stays_named_while_others_are_served_and_until_it_is_mended() {
    let (authority, member) = with_strict_beside("idgen.min_block_size = 1000");
    let mut client = member.connect("postgres");
    client.batch_execute("SET idgen.wait_timeout = '200ms'").unwrap();
    let given: i64 = one(&mut client, NEXT);
    authority.connect("postgres").batch_execute("SELECT setval('b', 1)").unwrap();
    let all = "SELECT count(idgen_next('b')) FROM generate_series(1, 5000)";
    wait_until("what was leased is used up", || client.query(all, &[]).is_err());
    let is_named = || grants::error_of(&member).contains("\"b\" was set back at the authority");
    wait_until("it is named", is_named);
    for _ in 0..20 {
        client.query_one("SELECT idgen_next('s')", &[]).unwrap();
        assert!(is_named(), "{}", grants::error_of(&member));
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    authority.connect("postgres").batch_execute("SELECT setval('b', 1000000)").unwrap();
    wait_until("there are values again", || client.query_one(NEXT, &[]).is_ok_and(|row| row.get::<_, i64>(0) > given));
    wait_until("nothing is wrong any more", || grants::error_of(&member).is_empty());
}

#[test]
fn locks_on_many_generators_at_the_authority_delay_others_by_a_fraction_of_a_second_and_no_session_piles_up() {
    let (authority, member) = with_strict_beside("");
    let mut client = member.connect("postgres");
    let mut owner = authority.connect("postgres");
    let all = |what: &str| (1..=12).map(|number| what.replace('#', &number.to_string())).collect::<String>();
    for server in [&mut owner, &mut client] {
        server.batch_execute(&all("SELECT idgen_create_generator('b#', 'counter', ordering => 'block');")).unwrap();
    }
    owner.batch_execute(&format!("BEGIN; {}", all("ALTER SEQUENCE b# MAXVALUE 1000000;"))).unwrap();
    owner.batch_execute("ALTER SEQUENCE b MAXVALUE 1000000").unwrap();
    client.batch_execute("SET idgen.wait_timeout = '200ms'").unwrap();
    for number in 1..=12 {
        assert!(client.query_one(&format!("SELECT idgen_next('b{number}')"), &[]).is_err());
    }
    wait_until("what was leased is used up", || {
        client.query("SELECT count(idgen_next('b')) FROM generate_series(1, 5000)", &[]).is_err()
    });
    client.batch_execute("SET idgen.wait_timeout = '1s'").unwrap();
    // One that is not locked has its turn, too.
    authority
        .connect("postgres")
        .batch_execute("SELECT idgen_create_generator('free', 'counter', ordering => 'block')")
        .unwrap();
    client.batch_execute("SELECT idgen_create_generator('free', 'counter', ordering => 'block')").unwrap();
    let free = "SELECT idgen_next('free')";
    wait_until("the free one is served", || client.query_one(free, &[]).is_ok());
    let began = std::time::Instant::now();
    while began.elapsed() < std::time::Duration::from_secs(6) {
        client.query_one("SELECT idgen_next('s')", &[]).unwrap();
    }
    assert_eq!(one::<i64>(&mut owner, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'idgen'"), 1);
    owner.batch_execute("ROLLBACK").unwrap();
    wait_until("there are values again", || client.query_one(NEXT, &[]).is_ok());
}

#[test]
fn a_block_that_the_authority_refuses_is_refused_here_at_once_with_the_reason() {
    let authority = grants::authority("");
    let member = grants::member(&authority, "idgen.min_block_size = 5\nidgen.wait_timeout = '10s'");
    make(&[&authority, &member]);
    authority.connect("postgres").batch_execute("ALTER SEQUENCE b MAXVALUE 10").unwrap();
    let mut client = member.connect("postgres");
    client.batch_execute("SELECT idgen_create_generator('missing', 'counter', ordering => 'block')").unwrap();
    assert_eq!(one::<i64>(&mut client, "SELECT max(idgen_next('b')) FROM generate_series(1, 10)"), 10);
    let since = monotonic();
    assert_refused(&mut client, NEXT, SqlState::SEQUENCE_GENERATOR_LIMIT_EXCEEDED, "MAXVALUE");
    let missing = "SELECT idgen_next('missing')";
    assert_refused(
        &mut client,
        missing,
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        "Make the generator on the authority",
    );
    assert!(monotonic() - since < 5 * SECOND);
    authority
        .connect("postgres")
        .batch_execute("SELECT idgen_create_generator('missing', 'counter', ordering => 'block')")
        .unwrap();
    wait_until("it is served", || client.query_one(missing, &[]).is_ok());
    assert_refused(&mut client, NEXT, SqlState::SEQUENCE_GENERATOR_LIMIT_EXCEEDED, "MAXVALUE");
}

#[test]
fn a_server_that_neither_has_nor_is_an_authority_gives_none() {
    let alone = Cluster::with_idgen("");
    make(&[&alone]);
    assert_refused(
        &mut alone.connect("postgres"),
        NEXT,
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        "authority_database",
    );
}

#[test]
fn only_superusers_make_generators_that_the_authority_serves_and_an_owner_may_set_the_label_that_stands() {
    let server = Cluster::with_idgen("");
    let mut admin = server.connect("postgres");
    admin
        .batch_execute(
            "CREATE ROLE maker LOGIN; CREATE SCHEMA of_maker AUTHORIZATION maker; SET search_path = of_maker, public;
             SELECT idgen_create_generator('served', 'counter', ordering => 'block'); ALTER SEQUENCE served OWNER TO maker",
        )
        .unwrap();
    let label: String = one(&mut admin, "SELECT label FROM pg_seclabels WHERE provider = 'idgen'");
    let mut maker = server.connection("postgres").user("maker").connect(postgres::NoTls).unwrap();
    let again = format!("SECURITY LABEL FOR idgen ON SEQUENCE of_maker.served IS '{label}'");
    maker.batch_execute(&again).unwrap();
    maker.batch_execute("CREATE SEQUENCE of_maker.another").unwrap();
    let another = again.replace("served", "another");
    assert_refused(&mut maker, &another, SqlState::INSUFFICIENT_PRIVILEGE, "superuser");
}
