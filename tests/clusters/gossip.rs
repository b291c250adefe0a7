//! Servers that hear each other.

use crate::NEXT;
use crate::harness::clock::{HOUR, SECOND};
use crate::harness::cluster::{Cluster, assert_refused, one};
use crate::harness::wait_until;
use postgres::error::SqlState;
use std::time::{Duration, Instant};

/// Servers with these machine ids, each of them a peer of all others.
fn peers(machines: &[i32], settings: &str) -> Vec<Cluster> {
    let mut servers: Vec<Cluster> = machines
        .iter()
        .map(|machine| {
            Cluster::prepared(&format!("shared_preload_libraries = 'idgen'\nidgen.machine_id = {machine}\n{settings}"))
        })
        .collect();
    for number in 0..servers.len() {
        let others = |(other, server): (usize, &Cluster)| (other != number).then(|| server.conninfo());
        let peers: Vec<String> = servers.iter().enumerate().filter_map(others).collect();
        servers[number].configure(&format!("idgen.peers = '{}'", peers.join(";")));
    }
    for server in &mut servers {
        server.start();
        server.connect("postgres").batch_execute("CREATE EXTENSION idgen").unwrap();
    }
    servers
}

fn hears(server: &Cluster, others: i64) -> bool {
    server.one::<i64>("SELECT count(*) FROM idgen_peers() WHERE order_bound < '2 s'") == others
}

#[test]
fn the_ids_of_connected_peers_from_before_the_order_bound_are_below() {
    let servers = peers(&[1, 2, 3], "idgen.ordering = gossip\nidgen.gossip_interval = 50ms");
    for server in &servers {
        wait_until("all hear each other", || hears(server, 2));
    }
    // A server that has run ahead by five seconds takes the others with it.
    let ahead = "SELECT idgen_observe(idgen_min_id(clock_timestamp() + '5 s'))";
    servers[0].connect("postgres").batch_execute(ahead).unwrap();
    let id: i64 = servers[0].one(NEXT);
    let given = Instant::now();
    for server in &servers[1..] {
        let bound = "SELECT extract(epoch FROM max(order_bound))::float8 FROM idgen_peers() WHERE machine_id = 1";
        wait_until("the bound is younger than the id", || {
            server.one::<Option<f64>>(bound).is_some_and(|bound| Duration::from_secs_f64(bound) < given.elapsed())
        });
        assert!(server.one::<i64>(NEXT) > id);
    }
}

/// How many findings of this kind the doctor has on `server`.
fn found(server: &Cluster, severity: &str, finding: &str) -> i64 {
    server.one(&format!("SELECT count(*) FROM idgen_doctor() WHERE (severity, finding) = ('{severity}', '{finding}')"))
}

#[test]
fn the_doctor_tells_of_a_peer_that_is_not_heard_any_more() {
    let mut servers = peers(&[1, 2], "");
    wait_until("they hear each other", || hears(&servers[0], 1));
    assert_eq!(found(&servers[0], "warning", "peer not heard"), 0);
    servers.pop().unwrap().kill();
    wait_until("it is told", || found(&servers[0], "warning", "peer not heard") == 1);
}

#[test]
fn a_server_an_hour_ahead_is_reported_and_moves_nobody() {
    let mut servers = peers(&[1, 2, 3, 4, 5], "idgen.ordering = gossip\nidgen.max_clock_jump = -1");
    for server in &servers {
        wait_until("all hear each other", || hears(server, 4));
    }
    let wrong = servers.pop().unwrap();
    wrong.clock.set(HOUR);
    wait_until("its ids are an hour ahead", || {
        wrong.one("SELECT idgen_timestamp(idgen_next()) > clock_timestamp() - interval '1 min'")
    });
    for server in &servers {
        wait_until("it is reported", || {
            server.one("SELECT state = 'outlier' AND order_bound IS NULL FROM idgen_peers() WHERE machine_id = 5")
        });
        wait_until("the others go on with each other", || hears(server, 3));
        assert_eq!(found(server, "warning", "clock not synchronised"), 1);
        let ahead: f64 =
            server.one("SELECT extract(epoch FROM idgen_timestamp(idgen_next()) - clock_timestamp())::float8");
        assert!(ahead < 5.0, "{ahead} s ahead");
    }
}

#[test]
fn of_two_servers_with_one_machine_id_the_later_refuses_until_it_takes_over() {
    let servers = peers(&[7, 7, 3], "");
    let mut clients: Vec<_> = servers.iter().map(|server| server.connect("postgres")).collect();
    wait_until("the later refuses", || clients[1].query(NEXT, &[]).is_err());
    assert_refused(&mut clients[1], NEXT, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "idgen_take_over");
    clients[0].batch_execute(NEXT).unwrap();
    assert_eq!(found(&servers[1], "error", "machine id of another server"), 1);
    wait_until("both say why", || {
        servers[1].log().contains("gives no ids") && servers[0].log().contains("it should give no ids")
    });
    clients[1].batch_execute("SELECT idgen_take_over()").unwrap();
    wait_until("the other goes on", || clients[1].query(NEXT, &[]).is_ok());
    wait_until("the first refuses", || clients[0].query(NEXT, &[]).is_err());
    // A worker that was restarted knows the claim, though the postmaster has never read it.
    servers[1].signal_child("idgen gossip", libc::SIGTERM);
    for _ in 0..30 {
        clients[1].batch_execute(NEXT).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    clients[2].batch_execute(NEXT).unwrap();
}

/// All servers have one list of peers, with themselves in it: so the clone asks its origin.
#[test]
fn a_clone_with_the_machine_id_of_its_origin_is_found_within_five_intervals() {
    let interval = 200;
    let third = Cluster::with_idgen("idgen.machine_id = 9");
    let mut origin = Cluster::prepared("shared_preload_libraries = 'idgen'\nidgen.machine_id = 1");
    let all = format!("{};{}", third.conninfo(), origin.conninfo());
    let settings = format!("idgen.gossip_interval = {interval}ms\nidgen.peers = '{all}'");
    origin.configure(&settings);
    origin.start();
    origin.connect("postgres").batch_execute("CREATE EXTENSION idgen").unwrap();
    third.reconfigure(&settings);
    let heard = "SELECT count(*) FROM idgen_peers() WHERE order_bound IS NOT NULL";
    wait_until("they hear each other", || origin.one::<i64>(heard) == 1 && third.one::<i64>(heard) == 1);
    let mut clone = origin.copy();
    clone.start();
    let started = Instant::now();
    let mut client = clone.connect("postgres");
    wait_until("the clone refuses", || client.query(NEXT, &[]).is_err());
    let intervals = started.elapsed().as_millis() / interval;
    println!("found after {intervals} intervals");
    assert_refused(&mut client, NEXT, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "idgen.machine_id");
    origin.connect("postgres").batch_execute(NEXT).unwrap();
    // A clone that does not ask its origin hears of it from others, which stops nobody: the doctor says so.
    clone.reconfigure(&format!("idgen.peers = '{}'", third.conninfo()));
    wait_until("the doctor tells", || found(&clone, "error", "machine id of another server") == 1);
}

#[test]
fn what_a_role_that_may_gossip_invents_stops_nobody_and_moves_no_clock() {
    let servers = peers(&[1, 2], "idgen.ordering = gossip");
    for server in &servers {
        wait_until("they hear each other", || hears(server, 1));
    }
    servers[0].connect("postgres").batch_execute("CREATE ROLE liar LOGIN; SELECT idgen_allow_peer('liar')").unwrap();
    let mut liar = servers[0].connection("postgres").user("liar").connect(postgres::NoTls).unwrap();
    let mut client = servers[0].connect("postgres");
    let far = i64::MAX / 4;
    for nonce in 1..200 {
        let claim = format!("1 {nonce:x} 1 {nonce:x} 0 {far} 0");
        let message = format!("idgen1 {claim} {far} {far};1 9 9 {nonce:x} 0 {far} 0 0 0");
        liar.batch_execute(&format!("SELECT idgen_gossip('', '{message}')")).unwrap();
        client.batch_execute(NEXT).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    for server in &servers {
        server.connect("postgres").batch_execute(NEXT).unwrap();
        let ahead = "SELECT idgen_timestamp(idgen_next()) < clock_timestamp() + '11 s'";
        assert!(server.one::<bool>(ahead));
        assert!(hears(server, 1), "the one that is there is heard");
    }
    let logged = servers[0].log().matches("of this server too").count();
    assert!((1..=16).contains(&logged), "{logged} lines of log");
}

/// Its standby has its machine id, and the others still tell of the old primary.
#[test]
fn a_promoted_standby_of_a_peer_gives_ids_at_once() {
    let mut servers = peers(&[1, 2, 3], "");
    for server in &servers {
        wait_until("all hear each other", || hears(server, 2));
    }
    let primary = servers.pop().unwrap();
    let mut standby = primary.standby("s");
    standby.start();
    primary.wait_for_replay(&standby);
    let mut primary = primary;
    primary.kill();
    std::thread::sleep(Duration::from_secs(2));
    standby.promote();
    let mut client = standby.connect("postgres");
    let promoted = Instant::now();
    wait_until("it gives ids", || client.query(NEXT, &[]).is_ok());
    assert!(promoted.elapsed() < Duration::from_secs(2), "{:?}", promoted.elapsed());
    for _ in 0..50 {
        client.batch_execute(NEXT).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_id_from_elsewhere_is_followed_also_if_the_server_crashes_before_the_next_one() {
    let mut server = Cluster::with_idgen("idgen.horizon_lead = '1s'");
    let outside: i64 = server.one("SELECT idgen_max_id(clock_timestamp() + '9 s')");
    server.connect("postgres").batch_execute(&format!("SELECT idgen_observe({outside})")).unwrap();
    server.kill();
    server.start();
    assert!(server.one::<i64>(NEXT) > outside);
}

#[test]
fn an_id_from_elsewhere_is_followed_within_bounds_only() {
    let server = Cluster::with_idgen("");
    let mut client = server.connect("postgres");
    let outside: i64 = one(&mut client, "SELECT idgen_max_id(clock_timestamp() + '9 s')");
    client.batch_execute(&format!("SELECT idgen_observe({outside})")).unwrap();
    assert!(one::<i64>(&mut client, NEXT) > outside);
    let far = "SELECT idgen_observe(idgen_min_id(clock_timestamp() + '1 min'))";
    assert_refused(&mut client, far, SqlState::INVALID_PARAMETER_VALUE, "idgen.max_clock_offset");
    assert!(one::<i64>(&mut client, NEXT) < outside + 10 * SECOND);
    client.batch_execute("CREATE ROLE nobody; SET ROLE nobody").unwrap();
    for query in [format!("SELECT idgen_observe({outside})").as_str(), "SELECT idgen_take_over()"] {
        let error = crate::harness::cluster::refusal(&mut client, query);
        assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE, "{query}");
    }
}

#[test]
fn a_message_that_is_none_is_refused() {
    let server = Cluster::with_idgen("");
    let mut client = server.connect("postgres");
    for message in
        ["", "idgen1", "idgen1 1 2 3 4 5 6 7 8", "idgen1 99999999999999999999 a 1 a 0 0 0 0 0", &"x".repeat(99_999)]
    {
        let query = format!("SELECT idgen_gossip('', '{message}')");
        assert_refused(&mut client, &query, SqlState::INVALID_PARAMETER_VALUE, "workers of other servers");
    }
    assert_refused(&mut client, "SELECT idgen_gossip('x', '')", SqlState::INVALID_PARAMETER_VALUE, "idgen.cluster");
}
