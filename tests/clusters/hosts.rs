//! The hosts of a connection string: each address is one attempt, and a name service may take as long as it likes.

use crate::NEXT;
use crate::grants::{authority, member_of};
use crate::harness::cluster::{Cluster, Mode};
use crate::harness::proxy::Proxy;
use crate::harness::{wait_at_most, wait_until};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// A member with this in idgen.authority.
fn member(connection: &str) -> Cluster {
    Cluster::with_idgen(&format!("idgen.machine_id = -1\nidgen.authority = '{connection}'"))
}

fn has_ids_within(server: &Cluster, seconds: u64) {
    let began = Instant::now();
    let mut client = server.connect("postgres");
    client.batch_execute("SET idgen.wait_timeout = '200ms'").unwrap();
    wait_until("there are ids", || client.query_one(NEXT, &[]).is_ok());
    assert!(began.elapsed() < Duration::from_secs(seconds), "{:?}", began.elapsed());
}

#[test]
fn a_host_whose_name_is_not_resolved_in_time_delays_the_next_by_two_seconds_and_no_stop() {
    let authority = authority("");
    let directory = authority.socket().parent().unwrap().display().to_string();
    let mut server = member(&format!("host=hangs.test,{directory} user=postgres dbname=postgres"));
    has_ids_within(&server, 6);
    server.reconfigure("idgen.authority = 'host=hangs.test dbname=postgres'");
    wait_until("the name is said to be unknown", || {
        let error = "SELECT coalesce(error LIKE '%hangs.test is not found in time', false) FROM idgen_authority()";
        server.one(error)
    });
    let began = Instant::now();
    server.stop(Mode::Fast);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

/// A port at which requests for a connection are not answered at all, while what is returned lives.
fn silent() -> (u16, TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // SAFETY: a socket that listens; its queue is made as short as can be.
    unsafe { libc::listen(listener.as_raw_fd(), 0) };
    let address = listener.local_addr().unwrap();
    let queue = std::iter::from_fn(|| TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok()).collect();
    (address.port(), listener, queue)
}

#[test]
fn a_host_that_drops_requests_for_a_connection_delays_the_next_by_two_seconds_and_neither_a_stop_nor_a_cancel() {
    let authority = authority("");
    let (port, ..) = &silent();
    let directory = authority.socket().parent().unwrap().display().to_string();
    let mut server = member(&format!("host=127.0.0.1,{directory} port={port},5432 user=postgres dbname=postgres"));
    has_ids_within(&server, 6);
    // In a session too, whatever wakes it meanwhile.
    let mut doctor = server.connect("postgres");
    let asked = std::thread::spawn({
        let question = format!("SELECT error FROM idgen_ask_server('host=127.0.0.1 port={port}', '{{}}')");
        let began = Instant::now();
        move || (doctor.query_one(&question, &[]).unwrap().get::<_, String>(0), began.elapsed())
    });
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(300));
        server.connect("postgres").batch_execute("SELECT pg_reload_conf()").unwrap();
    }
    let (error, took) = asked.join().unwrap();
    assert!(error.contains("no answer within 3 seconds") && took < Duration::from_secs(5), "{error} {took:?}");

    let silent = format!("host=127.0.0.1 port={port} dbname=postgres");
    server.reconfigure(&format!("idgen.authority = '{silent}'\nidgen.peers = '{silent}'"));
    for told in ["authority", "peers"] {
        let error = format!("SELECT coalesce(bool_or(error LIKE '%does not answer%'), false) FROM idgen_{told}()");
        wait_until(told, || server.one(&error));
    }
    let began = Instant::now();
    server.stop(Mode::Fast);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[test]
fn the_second_address_of_a_name_is_tried_and_so_are_the_hosts_of_a_service_also_of_one_that_is_written_later() {
    let authority = authority("");
    let proxy = Proxy::to(&authority.socket());
    let port = proxy.conninfo().split("port=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let by_name = member(&format!("host=two.test port={port} user=postgres dbname=postgres"));
    has_ids_within(&by_name, 4);
    let mut by_service = Cluster::prepared(&format!(
        "shared_preload_libraries = 'idgen'\n{}",
        member_of(&authority).replace(&authority.conninfo(), "service=fleet dbname=postgres")
    ));
    let service = format!("[fleet]\nhost=/nowhere,hangs.test,two.test\nport={port}\nuser=postgres\ndbname=postgres\n");
    fs::write(by_service.services(), &service).unwrap();
    by_service.start();
    by_service.connect("postgres").batch_execute("CREATE EXTENSION idgen").unwrap();
    has_ids_within(&by_service, 8);
    // While a thread resolves a name, the environment of its process may not be changed.
    by_service.reconfigure("idgen.authority = 'service=other'");
    let told = |server: &Cluster, error: &str| {
        let question = format!("SELECT coalesce(error LIKE '{error}', false) FROM idgen_authority()");
        wait_at_most(Duration::from_secs(8), error, || server.one(&question));
    };
    told(&by_service, "%once no name is being resolved");
    let late = member("service=other");
    told(&late, "%service%not found");
    fs::write(late.services(), service.replace("fleet", "other")).unwrap();
    wait_at_most(Duration::from_secs(8), "it connects", || late.one("SELECT connected FROM idgen_authority()"));
}

#[test]
fn a_peer_whose_name_is_not_resolved_delays_no_other() {
    let mut servers = [1, 2].map(|machine| {
        Cluster::prepared(&format!(
            "shared_preload_libraries = 'idgen'\nidgen.machine_id = {machine}\nidgen.gossip_interval = 50ms"
        ))
    });
    let list = servers.each_ref().map(Cluster::conninfo).join("; ");
    for server in &mut servers {
        server.configure(&format!("idgen.peers = 'host=hangs.test dbname=postgres; {list}'"));
        server.start();
        server.connect("postgres").batch_execute("CREATE EXTENSION idgen").unwrap();
    }
    let [one, two] = &servers;
    for (server, other) in [(one, 2), (two, 1)] {
        let heard = format!("SELECT count(*) = 1 FROM idgen_peers() WHERE machine_id = {other} AND last_heard < '1 s'");
        wait_until("the other is heard", || server.one(&heard));
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(100));
            assert!(server.one::<bool>(&heard));
        }
        let error = "SELECT count(*) = 1 FROM idgen_peers() WHERE error LIKE '%hangs.test%not found in time%'";
        wait_until("the one that hangs is shown", || server.one(error));
    }
}

#[test]
fn a_host_without_idgen_is_asked_ever_less_often_and_used_within_two_seconds_once_it_has_it() {
    let authority = Cluster::running(
        "shared_preload_libraries = 'idgen'\nidgen.machine_id = 0\nidgen.authority_database = postgres",
    );
    let member = member(&authority.conninfo());
    let refusals = || authority.log().matches("\"idgen_authority\" does not exist").count();
    wait_until("it is asked", || refusals() > 0);
    std::thread::sleep(Duration::from_secs(8));
    let before = refusals();
    std::thread::sleep(Duration::from_secs(4));
    let then = refusals() - before;
    assert!((4..=14).contains(&then), "{then} times in four seconds");
    authority.create_extensions();
    has_ids_within(&member, 4);
}
