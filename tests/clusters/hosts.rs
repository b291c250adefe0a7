//! The hosts of a connection string: each address is one attempt, and a name service may take as long as it likes.

use crate::NEXT;
use crate::grants::{authority, member_of};
use crate::harness::cluster::{Cluster, Mode};
use crate::harness::proxy::Proxy;
use crate::harness::wait_until;
use std::fs;
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

#[test]
fn the_second_address_of_a_name_is_tried_and_so_are_the_hosts_of_a_service() {
    let authority = authority("");
    let proxy = Proxy::to(&authority.socket());
    let port = proxy.conninfo().split("port=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let by_name = member(&format!("host=two.test port={port} user=postgres dbname=postgres"));
    has_ids_within(&by_name, 4);
    let mut by_service = Cluster::prepared(&format!(
        "shared_preload_libraries = 'idgen'\n{}",
        member_of(&authority).replace(&authority.conninfo(), "service=fleet dbname=postgres")
    ));
    let service = format!("[fleet]\nhost=/nowhere,hangs.test,two.test\nport={port}\nuser=postgres\n");
    fs::write(by_service.services(), service).unwrap();
    by_service.start();
    by_service.connect("postgres").batch_execute("CREATE EXTENSION idgen").unwrap();
    has_ids_within(&by_service, 8);
    by_service.reconfigure("idgen.authority = 'service=other'");
    wait_until("the service is said to be unknown", || {
        by_service.one("SELECT coalesce(error LIKE '%service%other%', false) FROM idgen_authority()")
    });
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
