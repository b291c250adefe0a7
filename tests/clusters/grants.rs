//! Machine ids that an authority grants.

use crate::harness::checker::check;
use crate::harness::cluster::{Cluster, Mode, assert_refused, one, refusal, signal};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::harness::wait_until;
use crate::{IDENTITY, NEXT};
use postgres::Client;
use postgres::error::SqlState;

/// An authority whose own machine id is 0.
pub fn authority(settings: &str) -> Cluster {
    Cluster::with_idgen(&format!("idgen.machine_id = 0\nidgen.authority_database = postgres\n{settings}"))
}

/// The settings that make a server a member.
pub fn member_of(authority: &Cluster) -> String {
    format!("idgen.machine_id = -1\nidgen.authority = '{}'\n", authority.conninfo())
}

pub fn member(authority: &Cluster, settings: &str) -> Cluster {
    Cluster::with_idgen(&format!("{}{settings}", member_of(authority)))
}

fn machine(server: &Cluster) -> i32 {
    server.one("SELECT idgen_machine(idgen_next())")
}

fn id(client: &mut Client) -> i64 {
    one(client, NEXT)
}

#[test]
fn servers_that_set_no_machine_id_get_different_ones_from_the_authority() {
    let authority = authority("");
    let members = [member(&authority, ""), member(&authority, "")];
    let mut machines: Vec<i32> = members.iter().map(machine).collect();
    machines.push(machine(&authority));
    machines.sort();
    assert_eq!(machines, [0, 1, 2]);
    let held =
        authority.one::<i64>("SELECT count(*) FROM idgen_authority.grants() WHERE held AND ends > now() + '9 minutes'");
    assert_eq!(held, 2);
    assert!(members[0].one::<bool>("SELECT connected AND error IS NULL AND machine_id = 1 FROM idgen_authority()"));
}

#[test]
fn a_grant_is_kept_over_a_restart_and_a_crash_without_the_authority() {
    let mut authority = authority("");
    let mut member = member(&authority, "");
    let before: i64 = member.one(NEXT);
    let machine_before = machine(&member);
    authority.stop(Mode::Fast);
    member.stop(Mode::Fast);
    member.start();
    assert_eq!(machine(&member), machine_before);
    member.kill();
    member.start();
    assert_eq!(machine(&member), machine_before);
    assert!(member.one::<i64>(NEXT) > before);
}

#[test]
fn when_the_machine_was_started_anew_a_member_takes_another_number() {
    let authority = authority("");
    let mut member = member(&authority, "");
    assert_eq!(machine(&member), 1);
    member.stop(Mode::Fast);
    member.reboot_machine();
    member.start();
    assert_eq!(machine(&member), 2);
}

#[test]
fn a_number_of_the_setting_is_claimed_since_the_first_time_also_when_the_machine_was_started_anew() {
    let mut server = Cluster::with_idgen("");
    let file = server.data().join("idgen_claim");
    server.reconfigure("idgen.peers = 'host=/nowhere dbname=postgres'");
    wait_until("the claim is kept", || file.exists());
    let claim = std::fs::read_to_string(&file).unwrap();
    server.stop(Mode::Fast);
    server.reboot_machine();
    server.start();
    // The server claims the number before it gives its first id.
    server.one::<i64>(NEXT);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), claim);
}

#[test]
fn ids_stop_at_the_end_of_the_grant_with_the_reason_and_go_on_within_a_second_of_the_authoritys_return() {
    let mut authority = authority("idgen.grant_length = 3s");
    let member = member(&authority, "");
    let history = History::new();
    let load = Load::start(&member, &history, "a", 2, "SELECT idgen_next()");
    load.flow(100);
    let renewed = "SELECT ends FROM idgen_authority()";
    let first: std::time::SystemTime = member.one(renewed);
    wait_until("the grant was renewed", || member.one::<std::time::SystemTime>(renewed) > first);
    authority.stop(Mode::Immediate);
    let mut client = member.connect("postgres");
    client.batch_execute("SET idgen.wait_timeout = '100ms'").unwrap();
    wait_until("the grant has ended", || client.query(NEXT, &[]).is_err());
    assert_refused(&mut client, NEXT, SqlState::CANNOT_CONNECT_NOW, "idgen_authority");
    let told: i64 = one(
        &mut client,
        "SELECT count(*) FROM idgen_doctor() WHERE (severity, finding) = ('error', 'authority not heard')",
    );
    assert_eq!(told, 1);
    assert!(member.one::<bool>("SELECT idgen_timestamp(last_id) < ends FROM idgen_status(), idgen_authority()"));
    authority.start();
    let back = std::time::Instant::now();
    wait_until("ids are given again", || client.query(NEXT, &[]).is_ok());
    println!("ids again {} ms after the authority accepts connections", back.elapsed().as_millis());
    load.flow(100);
    load.finish();
    check(&history, &crate::harness::checker::Rules { machine: false, ..IDENTITY }).assert_clean();
}

#[test]
fn a_released_number_is_given_again_and_no_id_of_its_new_holder_is_below_the_old_end() {
    let authority = authority("");
    let first = member(&authority, "");
    let mut client = first.connect("postgres");
    let last = id(&mut client);
    client.batch_execute("SELECT idgen_release_machine()").unwrap();
    client.batch_execute("SET idgen.wait_timeout = '100ms'").unwrap();
    assert_refused(&mut client, NEXT, SqlState::CANNOT_CONNECT_NOW, "idgen_authority");
    assert_eq!(authority.one::<i64>("SELECT count(*) FROM idgen_authority.grants() WHERE held"), 0);
    // The end is where the horizon stood, a lead ahead of the clock.
    wait_until("the number is free", || authority.one("SELECT bool_and(ends < now()) FROM idgen_authority.grants()"));
    let second = member(&authority, "");
    let next: i64 = second.one(NEXT);
    assert_eq!(machine(&second), 1);
    assert!(next > last);
    assert!(
        authority
            .one::<bool>(&format!("SELECT bool_and(starts <= idgen_timestamp({next})) FROM idgen_authority.grants()"))
    );
    client.batch_execute("RESET idgen.wait_timeout; SELECT idgen_take_machine()").unwrap();
    assert!(id(&mut client) > last);
    assert_eq!(machine(&first), 2);
}

/// The postmaster has not read what the worker has kept since: it hands its own old values on to the next worker.
#[test]
fn a_worker_that_comes_back_does_not_go_on_with_a_grant_that_was_given_back() {
    let authority = authority("");
    let mut first = member(&authority, "");
    assert_eq!(machine(&first), 1);
    first.stop(Mode::Fast);
    first.start();
    first.connect("postgres").batch_execute("SELECT idgen_release_machine()").unwrap();
    wait_until("the number is free", || authority.one("SELECT bool_and(ends < now()) FROM idgen_authority.grants()"));
    let second = member(&authority, "");
    assert_eq!(machine(&second), 1);
    first.connect("postgres").batch_execute("SELECT idgen_take_machine()").unwrap();
    assert_eq!(machine(&first), 2);
    authority.pause();
    let pid: i32 = first.one("SELECT worker_pid FROM idgen_authority()");
    signal(pid as u32, libc::SIGTERM);
    wait_until("another worker is there", || {
        first.one::<Option<i32>>("SELECT worker_pid FROM idgen_authority()").is_some_and(|other| other != pid)
    });
    for _ in 0..20 {
        assert_eq!(machine(&first), 2);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    authority.resume();
}

#[test]
fn a_member_that_meets_an_authority_with_another_book_takes_a_number_of_that_at_once() {
    let [old, new] = [authority(""), authority("")];
    new.connect("postgres").batch_execute("SELECT idgen_authority.reserve_machine(1)").unwrap();
    let member = member(&old, "");
    assert_eq!(machine(&member), 1);
    member.reconfigure(&format!("idgen.authority = '{}'", new.conninfo()));
    wait_until("it has a number of the new one", || {
        member.one("SELECT machine_id IS NOT DISTINCT FROM 2 FROM idgen_authority()")
    });
    assert_eq!(machine(&member), 2);
}

#[test]
fn a_promoted_standby_takes_a_number_of_its_own_and_so_does_a_clone_beside_its_origin() {
    let authority = authority("");
    let origin = member(&authority, "");
    let before: i64 = origin.one(NEXT);
    let mut copy = origin.copy();
    copy.start();
    let mut standby = origin.standby("s");
    standby.start();
    origin.wait_for_replay(&standby);
    standby.promote();
    let mut machines = [machine(&origin), machine(&copy), machine(&standby)];
    machines.sort();
    assert_eq!(machines, [1, 2, 3]);
    assert!(standby.one::<i64>(NEXT) > before);
}

#[test]
fn when_all_numbers_are_in_use_a_server_says_so() {
    let authority = authority("");
    authority
        .connect("postgres")
        .batch_execute("SELECT idgen_authority.reserve_machine(n) FROM generate_series(1, 1023) n")
        .unwrap();
    let member = member(&authority, "");
    let mut client = member.connect("postgres");
    client.batch_execute("SET idgen.wait_timeout = '500ms'").unwrap();
    assert_refused(&mut client, NEXT, SqlState::CANNOT_CONNECT_NOW, "idgen_authority");
    wait_until("the reason is shown", || {
        member
            .one::<Option<String>>("SELECT error FROM idgen_authority()")
            .is_some_and(|why| why.contains("all machine ids"))
    });
    authority.connect("postgres").batch_execute("SELECT idgen_authority.unreserve_machine(77, now())").unwrap();
    wait_until("the free number is granted", || client.query(NEXT, &[]).is_ok());
    assert_eq!(machine(&member), 77);
}

#[test]
fn a_member_role_can_do_what_members_do_and_nothing_else() {
    let authority = authority("");
    authority
        .connect("postgres")
        .batch_execute("CREATE ROLE shard LOGIN; SELECT idgen_authority.allow_member('shard')")
        .unwrap();
    let member = Cluster::with_idgen(&format!(
        "idgen.machine_id = -1\nidgen.authority = '{}'",
        authority.conninfo().replace("user=postgres", "user=shard")
    ));
    assert_eq!(machine(&member), 1);
    let mut shard = authority.connection("postgres").user("shard").connect(postgres::NoTls).unwrap();
    for query in [
        "SELECT * FROM idgen_authority.book",
        "UPDATE idgen_authority.book SET ends = 0",
        "SELECT * FROM idgen_authority.state",
        "SELECT idgen_authority.confirm_book()",
        "SELECT idgen_authority.unreserve_machine(5)",
        "SELECT idgen_authority.forbid_member('shard')",
        "SELECT * FROM idgen_authority.grants()",
        "SELECT idgen_authority.reserve_machine(5)",
        "SELECT idgen_accept_clock()",
        "SELECT idgen_authority.allow_member('shard')",
    ] {
        let error = refusal(&mut shard, query);
        assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE, "{query}");
    }
    // A role that is not allowed to is refused, and the member says so.
    let stranger = Cluster::with_idgen(&format!(
        "idgen.machine_id = -1\nidgen.authority = '{}'",
        authority.conninfo().replace("user=postgres", "user=pg_monitor")
    ));
    wait_until("the refusal is shown", || stranger.one("SELECT error IS NOT NULL FROM idgen_authority()"));
}

#[test]
fn who_keeps_the_book_needs_no_superuser_but_the_grant_of_its_functions() {
    let authority = authority("");
    for statement in [
        "CREATE ROLE keeper LOGIN",
        "CREATE ROLE shard LOGIN",
        "GRANT USAGE ON SCHEMA idgen_authority TO keeper",
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA idgen_authority TO keeper",
    ] {
        authority.connect("postgres").batch_execute(statement).unwrap();
    }
    let mut keeper = authority.connection("postgres").user("keeper").connect(postgres::NoTls).unwrap();
    for statement in [
        "SELECT idgen_authority.confirm_book()",
        "SELECT idgen_authority.reserve_machine(7, 'a laptop')",
        "SELECT idgen_authority.reserve_machine(8, 'another')",
        "SELECT idgen_authority.unreserve_machine(7)",
        "SELECT idgen_authority.allow_member('shard')",
        "SELECT idgen_authority.allow_member('keeper')",
        "SELECT idgen_authority.forbid_member('keeper')",
    ] {
        keeper.batch_execute(statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
    assert!(authority.one::<bool>(
        "SELECT array_agg(machine_id ORDER BY machine_id) FILTER (WHERE ends = 'infinity') = '{8}'
            AND has_function_privilege('shard', 'idgen_authority.allocate(text, text, text, text, bigint)', 'EXECUTE')
            AND NOT has_schema_privilege('keeper', 'idgen_authority', 'USAGE')
        FROM idgen_authority.grants()"
    ));
    let table = keeper.batch_execute("UPDATE idgen_authority.book SET machine = 8");
    assert_eq!(table.unwrap_err().code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
}

#[test]
fn sessions_of_a_member_do_not_pile_up_while_the_book_is_locked() {
    let authority = authority("");
    let mut client = authority.connect("postgres");
    let mut transaction = client.transaction().unwrap();
    transaction.batch_execute("LOCK TABLE idgen_authority.book").unwrap();
    let member = member(&authority, "");
    wait_until("the reason is shown", || {
        member
            .one::<Option<String>>("SELECT error FROM idgen_authority()")
            .is_some_and(|why| why.contains("book of grants cannot be used"))
    });
    std::thread::sleep(std::time::Duration::from_secs(5));
    let waiting: i64 = authority.one(
        "SELECT count(*) FROM pg_stat_activity
         WHERE state = 'active' AND query LIKE 'SELECT idgen_authority.grant_machine%'",
    );
    assert!(waiting <= 1, "{waiting} sessions wait");
    transaction.commit().unwrap();
    assert_eq!(machine(&member), 1);
}

#[test]
fn a_release_that_cannot_be_told_to_the_authority_is_called_off_and_the_number_kept() {
    let mut authority = authority("");
    let member = member(&authority, "");
    assert_eq!(machine(&member), 1);
    authority.stop(Mode::Fast);
    wait_until("the authority is missed", || !member.one::<bool>("SELECT connected FROM idgen_authority()"));
    let mut client = member.connect("postgres");
    client.batch_execute("SET idgen.wait_timeout = '500ms'").unwrap();
    assert_refused(&mut client, "SELECT idgen_release_machine()", SqlState::CANNOT_CONNECT_NOW, "idgen_authority");
    wait_until("ids go on", || client.query_one(NEXT, &[]).is_ok());
    assert_eq!(machine(&member), 1);
}

#[test]
fn a_database_that_lets_nobody_in_gathers_no_workers_while_members_ask() {
    let authority = authority("");
    let member = member(&authority, "");
    assert_eq!(machine(&member), 1);
    authority.connect("postgres").batch_execute("CREATE DATABASE other").unwrap();
    wait_until("the book's worker has gone", || authority.child("idgen book").is_none());
    authority.connect("other").batch_execute("ALTER DATABASE postgres ALLOW_CONNECTIONS false").unwrap();
    member.reconfigure("idgen.wait_timeout = 500ms");
    let mut client = member.connect("postgres");
    for _ in 0..3 {
        _ = client.simple_query("SELECT idgen_release_machine()");
        _ = client.simple_query("SELECT idgen_take_machine()");
    }
    let fatal = || authority.log().matches("idgen book FATAL").count();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let before = fatal();
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(before > 0 && fatal() <= before + 4, "{before} {}", fatal());
    authority.connect("other").batch_execute("ALTER DATABASE postgres ALLOW_CONNECTIONS true").unwrap();
    wait_until("the member has a number again", || client.query_one(NEXT, &[]).is_ok());
}

#[test]
fn a_role_that_the_owner_of_the_database_sets_for_all_its_sessions_is_not_that_of_the_book() {
    let authority = authority("");
    let mut client = authority.connect("postgres");
    client.batch_execute("CREATE ROLE owner_ LOGIN; CREATE ROLE shard LOGIN").unwrap();
    client.batch_execute("SELECT idgen_authority.allow_member('shard')").unwrap();
    let now: i64 = one(&mut client, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint");
    for (number, setting) in ["role", "session_authorization"].into_iter().enumerate() {
        client.batch_execute(&format!("ALTER DATABASE postgres SET {setting} = 'owner_'")).unwrap();
        wait_until("the book's worker has gone", || authority.child("idgen book").is_none());
        // Those of a member cannot take the role, and go on as they are.
        let mut shard = authority.connection("postgres").user("shard").connect(postgres::NoTls).unwrap();
        let question = format!("idgen1 {number} 1 1 0 0 9 {now} {now} take 0");
        let asked = format!("SELECT idgen_authority.grant_machine('', '{question}', '')");
        assert!(one::<String>(&mut shard, &asked).contains(" open "));
        client.batch_execute(&format!("ALTER DATABASE postgres RESET {setting}")).unwrap();
    }
}

#[test]
fn terminated_sessions_leave_no_question_in_the_book_and_no_release() {
    let mut authority = authority("max_connections = 100");
    let first = member(&authority, "");
    assert_eq!(machine(&first), 1);
    authority.reconfigure("synchronous_standby_names = away");
    let now: i64 = authority.one("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint");
    let sessions: Vec<_> = (0..66)
        .map(|number| {
            let mut client = authority.connect("postgres");
            let question = format!("idgen1 {} 1 1 0 0 9 {now} {now} take 0", 100 + number);
            let asked = format!("SELECT idgen_authority.grant_machine('', '{question}', '')");
            std::thread::spawn(move || client.batch_execute(&asked))
        })
        .collect();
    let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE query LIKE '%grant_machine(%' AND pid <> pg_backend_pid() AND application_name <> 'idgen'";
    let mut terminated = 0;
    wait_until("most are terminated while they wait", || {
        terminated += authority.one::<i64>(terminate);
        terminated >= 60
    });
    sessions.into_iter().for_each(|session| _ = session.join().unwrap());
    authority.reconfigure("synchronous_standby_names = ''");
    let second = member(&authority, "");
    wait_until("another is granted", || second.connect("postgres").query_one(NEXT, &[]).is_ok());

    authority.stop(Mode::Immediate);
    let mut client = first.connect("postgres");
    let release = std::thread::spawn(move || {
        client.batch_execute("SET idgen.wait_timeout = '1min'; SELECT idgen_release_machine()")
    });
    let mut other = first.connect("postgres");
    let terminate = "SELECT coalesce(bool_or(pg_terminate_backend(pid)), false) FROM pg_stat_activity
        WHERE query LIKE 'SET%release_machine%' AND wait_event_type = 'Extension'";
    wait_until("it waits, and is terminated", || one(&mut other, terminate));
    assert!(release.join().unwrap().is_err());
    wait_until("ids go on", || other.query_one(NEXT, &[]).is_ok());
}

#[test]
fn a_copy_of_the_authoritys_database_that_takes_its_place_grants_nothing_that_may_be_held() {
    let authority =
        Cluster::running("shared_preload_libraries = 'idgen'\nidgen.machine_id = 0\nidgen.authority_database = auth");
    let mut client = authority.connect("postgres");
    client.batch_execute("CREATE DATABASE auth").unwrap();
    wait_until("the horizon begins", || authority.one("SELECT count(*) > 0 FROM pg_replication_origin_status"));
    authority
        .connect("auth")
        .batch_execute("CREATE EXTENSION idgen_authority CASCADE; SELECT idgen_authority.confirm_book()")
        .unwrap();
    client.batch_execute("CREATE DATABASE copy TEMPLATE auth").unwrap();
    let connection = authority.conninfo().replace("dbname=postgres", "dbname=auth");
    let new = || Cluster::with_idgen(&format!("idgen.machine_id = -1\nidgen.authority = '{connection}'"));
    let mut first = new();
    assert_eq!(machine(&first), 1);
    first.stop(Mode::Fast);
    client.batch_execute("DROP DATABASE auth WITH (FORCE); ").unwrap();
    client.batch_execute("ALTER DATABASE copy RENAME TO auth").unwrap();
    let second = new();
    let error = "SELECT coalesce(error LIKE '%grants no machine id yet%', false) FROM idgen_authority()";
    wait_until("it is told to wait", || second.one(error));
    first.start();
    wait_until("the first has shown what it holds", || first.connect("postgres").query_one(NEXT, &[]).is_ok());
    assert!(second.connect("postgres").query_one(NEXT, &[]).is_err());
}

#[test]
fn a_refusal_that_lasts_and_hosts_that_fail_in_turns_fill_no_log() {
    let authority = authority("");
    authority
        .connect("postgres")
        .batch_execute("SELECT count(idgen_authority.reserve_machine(i)) FROM generate_series(1, 1023) i")
        .unwrap();
    let refused = member(&authority, "");
    let lost = Cluster::with_idgen(
        "idgen.machine_id = -1\nidgen.authority = 'host=/nowhere,127.0.0.1 port=1 dbname=postgres user=postgres'",
    );
    let lines = || {
        [
            authority.log().matches("ERROR:  all machine ids").count(),
            lost.log().matches("idgen: authority: ").count(),
            refused.log().matches("idgen: authority: ").count(),
        ]
    };
    wait_until("all say so", || lines().iter().all(|count| *count > 0));
    std::thread::sleep(std::time::Duration::from_secs(12));
    let before = lines();
    std::thread::sleep(std::time::Duration::from_secs(5));
    let after = lines();
    assert!(after[0] <= before[0] + 5, "the authority logs {before:?} {after:?}");
    assert_eq!(after[1..], [2, 1]);
}

#[test]
fn what_no_member_can_hold_is_refused_for_itself_and_spoils_nothing_for_others() {
    let authority = authority("");
    let first = member(&authority, "");
    assert_eq!(machine(&first), 1);
    let book: i64 = authority.one("SELECT id FROM idgen_authority.state");
    let now = authority.one::<i64>("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint");
    let mut liar = authority.connect("postgres");
    let question = |ask: &str| {
        let book = book as u64;
        format!("SELECT idgen_authority.grant_machine('', 'idgen1 7 1 1 {book} 7 3 {now} {now} {ask}', 'liar')")
    };
    // An epoch that is none, the end before the beginning, and times that no timestamp can be.
    let answer: String = one(&mut liar, &question(&format!("renew 500 {} 0 {}", u64::MAX, now + 1_000_000)));
    assert_eq!(answer, format!("{} 3 none", book as u64));
    for times in [format!("{now} {}", now - 1), format!("{} {now}", i64::MIN)] {
        let ask = question(&format!("renew 500 7 {times}"));
        assert_refused(&mut liar, &ask, SqlState::INVALID_PARAMETER_VALUE, "workers of other servers");
    }
    // As long as a question can be.
    let most = u64::MAX;
    let longest =
        format!("idgen1 {most} {} {most} {most} {most} {most} {now} {now} renew 1023 {most} {now} {now}", u32::MAX);
    assert!(
        one::<String>(&mut liar, &format!("SELECT idgen_authority.grant_machine('', '{longest}', '')"))
            .ends_with("none")
    );
    assert_refused(
        &mut liar,
        &question(&format!("take {}", "1".repeat(400))),
        SqlState::INVALID_PARAMETER_VALUE,
        "workers of other servers",
    );
    let epochs = "SELECT count(*) FROM idgen_authority.grants() WHERE epoch NOT BETWEEN 1 AND 10000000000";
    assert_eq!(authority.one::<i64>(epochs), 0);
    authority.connect("postgres").batch_execute("SELECT idgen_authority.confirm_book()").unwrap();
    assert_eq!(machine(&member(&authority, "")), 2);
}

#[test]
fn functions_that_others_make_under_the_same_names_are_not_called() {
    let authority = authority("");
    authority
        .connect("postgres")
        .batch_execute(
            "CREATE ROLE shard LOGIN; CREATE SCHEMA shard; SELECT idgen_authority.allow_member('shard');
             CREATE ROLE mallory LOGIN; GRANT ALL ON SCHEMA public, shard TO mallory",
        )
        .unwrap();
    let mut mallory = authority.connection("postgres").user("mallory").connect(postgres::NoTls).unwrap();
    for (name, arguments) in [("shard.grant_machine", "text, text, text"), ("public.grant_machine", "text, text, text")]
    {
        mallory
            .batch_execute(&format!(
                "CREATE FUNCTION {name}({arguments}) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'mallory'; END $$"
            ))
            .unwrap();
    }
    authority.connect("postgres").batch_execute("GRANT USAGE ON SCHEMA shard TO shard").unwrap();
    let member = Cluster::with_idgen(&format!(
        "idgen.machine_id = -1\nidgen.authority = '{}'",
        authority.conninfo().replace("user=postgres", "user=shard")
    ));
    assert_eq!(machine(&member), 1);
}

#[test]
fn a_server_of_another_cluster_or_with_a_clock_far_away_is_refused() {
    let authority = authority("idgen.cluster = 'blue'");
    let other = member(&authority, "idgen.cluster = 'green'");
    let mut late = Cluster::prepared(&format!(
        "shared_preload_libraries = 'idgen'\nidgen.cluster = 'blue'\n{}",
        member_of(&authority)
    ));
    late.clock.set(-crate::harness::clock::HOUR);
    late.start();
    late.connect("postgres").batch_execute("CREATE EXTENSION idgen").unwrap();
    for (server, why) in [(&other, "another cluster"), (&late, "seconds behind that of the authority")] {
        wait_until("the refusal is shown", || {
            server.one::<Option<String>>("SELECT error FROM idgen_authority()").is_some_and(|error| error.contains(why))
        });
        let mut client = server.connect("postgres");
        client.batch_execute("SET idgen.wait_timeout = '100ms'").unwrap();
        assert_refused(&mut client, NEXT, SqlState::CANNOT_CONNECT_NOW, "idgen_authority");
    }
    assert_eq!(authority.one::<i64>("SELECT count(*) FROM idgen_authority.grants()"), 0);
}

#[test]
fn a_member_whose_clock_was_ahead_has_ids_again_within_a_second_of_its_being_right() {
    use crate::harness::clock::HOUR;
    let mut authority = authority("idgen.max_clock_jump = 2d");
    let mut member = member(&authority, "");
    let mut client = member.connect("postgres");
    client.batch_execute("SET idgen.wait_timeout = '200ms'").unwrap();
    assert_eq!(machine(&member), 1);
    let back = |client: &mut Client| {
        let right = std::time::Instant::now();
        wait_until("there are ids again", || client.query_one(NEXT, &[]).is_ok());
        assert!(right.elapsed() < std::time::Duration::from_millis(1300), "{:?}", right.elapsed());
    };
    // Ids go on until the grant of ten minutes ends, and no further.
    member.clock.set(20 * HOUR);
    wait_until("the grant has ended", || client.query_one(NEXT, &[]).is_err());
    let why =
        |server: &Cluster| server.one::<Option<String>>("SELECT error FROM idgen_authority()").unwrap_or_default();
    wait_until("it is told why", || why(&member).contains("ahead of that of the authority"));
    member.clock.set(0);
    back(&mut client);
    // The member's clock behind, as before the time is known; the authority's clock far ahead; both at once.
    member.stop(Mode::Fast);
    member.clock.set(-50 * HOUR);
    member.start();
    let mut client = member.connect("postgres");
    client.batch_execute("SET idgen.wait_timeout = '200ms'").unwrap();
    wait_until("it is told why", || why(&member).contains("behind that of the authority"));
    member.clock.set(0);
    back(&mut client);
    authority.clock.set(20 * HOUR);
    std::thread::sleep(std::time::Duration::from_secs(2));
    authority.clock.set(0);
    let third = Cluster::with_idgen(&member_of(&authority));
    assert_eq!(machine(&third), 2);
    authority.stop(Mode::Fast);
    authority.clock.set(-50 * HOUR);
    authority.start();
    std::thread::sleep(std::time::Duration::from_secs(1));
    authority.clock.set(0);
    back(&mut client);
    assert_eq!(machine(&member), 1);
}

#[test]
fn a_server_whose_ids_are_further_ahead_than_a_grant_is_long_is_told_so_and_has_ids_once_grants_are_longer() {
    let authority = authority("idgen.grant_length = 60");
    let mut member = Cluster::with_idgen("idgen.machine_id = 5\nidgen.max_clock_jump = 3h");
    member.clock.set(2 * crate::harness::clock::HOUR);
    let follows = "SELECT idgen_timestamp(idgen_next()) > now() - interval '1 minute'";
    wait_until("the clock is followed", || member.one(follows));
    let before: i64 = member.one(NEXT);
    member.clock.set(0);
    member.stop(Mode::Fast);
    member.configure(&member_of(&authority));
    member.start();
    wait_until("it is told why", || error_of(&member).contains("seconds ahead of the authority's clock"));
    let mut client = member.connect("postgres");
    client.batch_execute("SET idgen.wait_timeout = '200ms'").unwrap();
    assert_refused(&mut client, NEXT, SqlState::CANNOT_CONNECT_NOW, "idgen_authority");
    authority.reconfigure("idgen.grant_length = 3h");
    wait_until("there are ids", || client.query_one(NEXT, &[]).is_ok());
    assert!(id(&mut client) > before && error_of(&member).is_empty());
}

#[test]
fn a_counter_with_machine_bits_wants_a_number_of_the_setting_and_is_told_of_blocks() {
    let authority = authority("");
    let member = member(&authority, "");
    let mut client = member.connect("postgres");
    client.batch_execute("SELECT idgen_create_generator('c', 'counter')").unwrap();
    assert_refused(
        &mut client,
        "SELECT idgen_next('c')",
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        "ordering => 'block'",
    );
}

#[test]
fn the_member_worker_that_is_terminated_comes_back_and_goes_when_there_is_no_authority() {
    let authority = authority("");
    let member = member(&authority, "");
    machine(&member);
    let pid: i32 = member.one("SELECT worker_pid FROM idgen_authority()");
    signal(pid as u32, libc::SIGTERM);
    wait_until("another worker is there", || {
        member.one::<Option<i32>>("SELECT worker_pid FROM idgen_authority()").is_some_and(|other| other != pid)
    });
    machine(&member);
    member.reconfigure("idgen.authority = ''");
    wait_until("the worker has gone", || member.one("SELECT worker_pid IS NULL FROM idgen_authority()"));
    let mut client = member.connect("postgres");
    assert_refused(&mut client, NEXT, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "idgen.machine_id");
    member.reconfigure(&format!("idgen.authority = '{}'", authority.conninfo()));
    assert_eq!(machine(&member), 1);
}

/// One place for background workers is left, and another worker leaves it only when the member worker is to be launched.
#[test]
fn a_member_worker_that_found_no_place_is_launched_when_there_is_one() {
    let authority = authority("");
    let peer = format!("idgen.peers = '{}'", authority.conninfo());
    let member = Cluster::with_idgen(&format!("max_worker_processes = 3\nidgen.machine_id = -1\n{peer}"));
    wait_until("the gossip worker has the last place", || member.child("idgen gossip").is_some());
    let gossip = member.signal_child("idgen gossip", libc::SIGSTOP);
    member.reconfigure(&format!("idgen.peers = ''\nidgen.authority = '{}'", authority.conninfo()));
    wait_until("it finds no place", || member.log().contains("could not be started"));
    signal(gossip, libc::SIGCONT);
    assert_eq!(machine(&member), 1);
    assert_eq!(member.log().matches("could not be started").count(), 1);
}

#[test]
fn while_a_grant_cannot_be_kept_the_doctor_says_so_and_it_is_kept_once_it_can_be() {
    let mut authority = authority("");
    let mut member = member(&authority, "idgen.authority = ''");
    // The worker writes this file before it renames it.
    let in_the_way = member.data().join("idgen_grant.tmp");
    std::fs::create_dir(&in_the_way).unwrap();
    member.reconfigure(&format!("idgen.authority = '{}'", authority.conninfo()));
    assert_eq!(machine(&member), 1);
    let told = "SELECT count(*) FROM idgen_doctor() WHERE finding = 'not kept over a restart'";
    assert_eq!(member.one::<i64>(told), 1);
    std::fs::remove_dir(&in_the_way).unwrap();
    wait_until("it is kept", || member.one::<i64>(told) == 0);
    assert_eq!(member.log().matches("could not be written").count(), 1);
    member.kill();
    authority.stop(Mode::Fast);
    member.start();
    assert_eq!(machine(&member), 1);
    // The worker's title says what is in the way, and then that nothing is.
    wait_until("it misses the authority", || member.child("idgen member connected to ").is_none());
    authority.start();
    wait_until("it is connected", || member.child("idgen member connected to ").is_some());
}

/// Another worker, that of gossip, keeps the claim, in the same way.
#[test]
fn while_a_claim_cannot_be_kept_the_doctor_says_so_and_it_is_kept_once_it_can_be() {
    let server = Cluster::with_idgen("");
    let in_the_way = server.data().join("idgen_claim.tmp");
    std::fs::create_dir(&in_the_way).unwrap();
    server.reconfigure("idgen.peers = 'host=/nowhere dbname=postgres'");
    let told = "SELECT count(*) FROM idgen_doctor() WHERE finding = 'not kept over a restart'";
    wait_until("it is not kept", || server.one::<i64>(told) == 1);
    std::fs::remove_dir(&in_the_way).unwrap();
    wait_until("it is kept", || server.one::<i64>(told) == 0);
    assert!(server.data().join("idgen_claim").exists());
}

#[test]
fn while_what_is_released_cannot_be_kept_nothing_is_released() {
    let authority = authority("");
    let member = member(&authority, "");
    assert_eq!(machine(&member), 1);
    let in_the_way = member.data().join("idgen_grant.tmp");
    std::fs::create_dir(&in_the_way).unwrap();
    // A restart could find the grant that was given back in the file.
    let mut client = member.connect("postgres");
    client.batch_execute("SET idgen.wait_timeout = '500ms'").unwrap();
    assert_refused(&mut client, "SELECT idgen_release_machine()", SqlState::CANNOT_CONNECT_NOW, "idgen_authority");
    assert!(member.one::<bool>("SELECT error LIKE '%idgen_grant%' FROM idgen_authority()"));
    assert_eq!(authority.one::<i64>("SELECT count(*) FROM idgen_authority.grants() WHERE held"), 1);
    client.batch_execute("SELECT idgen_take_machine()").unwrap();
    assert_eq!(machine(&member), 1);
}

pub fn error_of(member: &Cluster) -> String {
    member.one::<Option<String>>("SELECT error FROM idgen_authority()").unwrap_or_default()
}

#[test]
fn a_new_book_grants_nothing_until_a_superuser_says_that_the_fleet_is_new() {
    let authority = authority("");
    authority
        .connect("postgres")
        .batch_execute("DROP EXTENSION idgen_authority; CREATE EXTENSION idgen_authority")
        .unwrap();
    let member = member(&authority, "");
    wait_until("the member says so", || error_of(&member).contains("may not know of all"));
    let told = "SELECT count(*) FROM idgen_doctor() WHERE finding = 'no machine id is granted'";
    assert_eq!(authority.one::<i64>(told), 1);
    authority.connect("postgres").batch_execute("SELECT idgen_authority.confirm_book()").unwrap();
    assert_eq!(machine(&member), 1);
    wait_until("nothing is wrong any more", || error_of(&member).is_empty());
    assert_eq!(authority.one::<i64>(told), 0);
}

/// In the hour that was lost the second member took its grant.
#[test]
fn an_authority_that_was_set_back_learns_from_its_members_what_they_hold_and_gives_it_to_nobody_else() {
    let mut authority = authority("");
    let first = member(&authority, "");
    assert_eq!(machine(&first), 1);
    let mut backup = authority.copy();
    let second = member(&authority, "");
    assert_eq!(machine(&second), 2);
    authority.stop(Mode::Immediate);
    backup.start();
    for member in [&first, &second] {
        member.reconfigure(&format!("idgen.authority = '{}'", backup.conninfo()));
        wait_until("it is known", || member.one("SELECT connected AND error IS NULL FROM idgen_authority()"));
    }
    assert_eq!((machine(&first), machine(&second)), (1, 2));
    wait_until("both are in the book", || {
        backup.one::<i64>("SELECT count(*) FROM idgen_authority.grants() WHERE held") == 2
    });
    let third = member(&backup, "");
    wait_until("the third is told", || error_of(&third).contains("may not know of all"));
    assert!(backup.log().contains("was it restored?"));
    backup.connect("postgres").batch_execute("SELECT idgen_authority.confirm_book()").unwrap();
    assert_eq!(machine(&third), 3);
}

#[test]
fn an_authority_that_was_restarted_waits_for_its_members_before_it_grants_and_renews_meanwhile() {
    let mut authority = authority("idgen.grant_length = 3s\nidgen.max_clock_offset = 300ms");
    let first = member(&authority, "");
    assert_eq!(machine(&first), 1);
    authority.stop(Mode::Fast);
    authority.start();
    let second = member(&authority, "");
    let began = std::time::Instant::now();
    wait_until("the second is told to wait", || error_of(&second).contains("may not know of all"));
    wait_until("it has a number", || second.connect("postgres").query_one(NEXT, &[]).is_ok());
    println!("granted {} ms later", began.elapsed().as_millis());
    assert_eq!((machine(&first), machine(&second)), (1, 2));
}

/// As after a tool for files that knows an older one, or a copy of the disk in the same boot.
#[test]
fn a_grant_that_was_renewed_elsewhere_since_is_dropped_at_the_first_contact() {
    let authority = authority("");
    let mut member = member(&authority, "");
    assert_eq!(machine(&member), 1);
    let file = member.data().join("idgen_grant");
    let old = std::fs::read(&file).unwrap();
    member.stop(Mode::Fast);
    member.start();
    wait_until("it was renewed", || std::fs::read(&file).unwrap() != old);
    assert_eq!(machine(&member), 1);
    member.stop(Mode::Fast);
    std::fs::write(&file, &old).unwrap();
    member.start();
    wait_until("it has another number", || {
        member.one("SELECT machine_id IS NOT DISTINCT FROM 2 FROM idgen_authority()")
    });
    assert_eq!(machine(&member), 2);
}

#[test]
fn whatever_a_member_does_after_its_question_it_holds_nothing_that_others_need() {
    let authority = authority("");
    authority
        .connect("postgres")
        .batch_execute("CREATE ROLE shard LOGIN; SELECT idgen_authority.allow_member('shard')")
        .unwrap();
    let mut shard = authority.connection("postgres").user("shard").connect(postgres::NoTls).unwrap();
    let now: i64 = authority.one("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint");
    let question = format!("SELECT idgen_authority.grant_machine('', 'idgen1 7 1 8 0 0 9 {now} {now} take 0', 'x')");
    let mut open = shard.transaction().unwrap();
    let answer: String = open.query_one(&question, &[]).unwrap().get(0);
    assert!(answer.contains("open 1 "), "{answer}");
    let member = member(&authority, "");
    assert_eq!(machine(&member), 2);
    open.rollback().unwrap();
    assert_eq!(authority.one::<i64>("SELECT count(*) FROM idgen_authority.grants() WHERE held"), 2);
    // It cannot see or touch another's either, even if it knows all that the book shows.
    let held: String = authority.one(
        "SELECT format('%s %s %s %s 0 77 %s', system, timeline, nonce::numeric + CASE WHEN nonce < 0 THEN 18446744073709551616 ELSE 0 END,
             (SELECT id::numeric + CASE WHEN id < 0 THEN 18446744073709551616 ELSE 0 END FROM idgen_authority.state), epoch)
         FROM idgen_authority.book WHERE machine = 2",
    );
    let (who, epoch) = held.rsplit_once(' ').unwrap();
    for ask in [
        format!("renew 2 {epoch} 0 {now}"),
        format!("release 2 {epoch} {now}"),
        format!("renew 2 {epoch} 0 {}", i64::MAX),
    ] {
        let query = format!("SELECT idgen_authority.grant_machine('', 'idgen1 {who} {now} {now} {ask}', 'x')");
        let answer: String = shard.query_one(&query, &[]).unwrap().get(0);
        assert!(answer.ends_with(" none"), "{ask}: {answer}");
    }
    assert_eq!(authority.one::<i64>("SELECT count(*) FROM idgen_authority.grants() WHERE held"), 2);
    for nonsense in ["", "idgen1", "idgen1 1 2 3 4 5 6 7 8 steal 1", "idgen1 7 1 8 0 0 9 0 0 take 0"] {
        let query = format!("SELECT idgen_authority.grant_machine('', '{nonsense}', repeat('x', 100000))");
        let error = refusal(&mut shard, &query);
        assert_eq!(error.code(), &SqlState::INVALID_PARAMETER_VALUE, "{nonsense}: {error:?}");
    }
}

#[test]
fn a_machine_id_is_reserved_whatever_its_past_and_not_while_it_is_granted() {
    let authority = authority("");
    let member = member(&authority, "");
    assert_eq!(machine(&member), 1);
    let mut client = authority.connect("postgres");
    assert_refused(
        &mut client,
        "SELECT idgen_authority.reserve_machine(1)",
        SqlState::OBJECT_IN_USE,
        "idgen_release_machine",
    );
    assert_refused(
        &mut client,
        "SELECT idgen_authority.reserve_machine(1024)",
        SqlState::INVALID_PARAMETER_VALUE,
        "0 to 1023",
    );
    for call in ["reserve_machine(NULL)", "unreserve_machine(NULL)"] {
        let error = refusal(&mut client, &format!("SELECT idgen_authority.{call}"));
        assert!(*error.code() == SqlState::INVALID_PARAMETER_VALUE && error.message().contains("NULL"), "{error}");
    }
    member.connect("postgres").batch_execute("SELECT idgen_release_machine()").unwrap();
    client
        .batch_execute(
            "SELECT idgen_authority.reserve_machine(1, 'router'); SELECT idgen_authority.reserve_machine(1, 'router');
             SELECT idgen_authority.unreserve_machine(1, now()); SELECT idgen_authority.reserve_machine(1)",
        )
        .unwrap();
    member.connect("postgres").batch_execute("SELECT idgen_take_machine()").unwrap();
    assert_eq!(machine(&member), 2);
}

#[test]
fn a_server_that_has_an_authority_itself_grants_nothing() {
    let top = authority("");
    let middle = Cluster::with_idgen(&format!("{}idgen.authority_database = postgres", member_of(&top)));
    assert_eq!(machine(&middle), 1);
    let bottom = member(&middle, "");
    wait_until("it is told", || error_of(&bottom).contains("has an authority"));
}
