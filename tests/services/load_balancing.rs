//! Three servers that give ids, with all that may stand before them: `examples/id_service/`.

use crate::IDENTITY;
use crate::client::{Clients, Session, psql, psql_with_random_hosts};
use crate::daemon::{Daemon, Network, all_here, directory, write};
use crate::harness::checker::check;
use crate::harness::cluster::{Cluster, Mode, program, run, signal};
use crate::harness::history::History;
use crate::harness::wait_until;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const CLIENTS: usize = 6;

struct Service {
    network: Network,
    dir: PathBuf,
    services: PathBuf,
    servers: Vec<Cluster>,
    history: Arc<History>,
}

impl Service {
    fn start() -> Service {
        let network = Network::new();
        let dir = directory();
        let services = dir.join("pg_service.conf");
        write(&services, &network.adapt("id_service/pg_service.conf", &[]));
        let servers = (1..=3).map(|machine| Service::server(&network, &dir, machine)).collect();
        Service { network, dir, services, servers, history: Arc::new(History::new()) }
    }

    fn server(network: &Network, dir: &Path, machine: i64) -> Cluster {
        let own = [("10.0.0.1", &*format!("10.0.0.{machine}")), ("machine_id = 1", &format!("machine_id = {machine}"))];
        let mut server = Cluster::prepared(&network.adapt("id_service/server.conf", &own));
        let access = network.adapt("id_service/pg_hba.conf", &[]);
        write(&server.data().join("pg_hba.conf"), &format!("local all postgres trust\n{access}"));
        server.start();
        let sql = dir.join("server.sql");
        write(&sql, &network.adapt("id_service/server.sql", &[]));
        let mut psql = program("psql");
        psql.args(["-Xq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres", "-h"]);
        run(psql.arg(server.data().parent().unwrap()).arg("-f").arg(sql));
        server
    }

    fn haproxy(&self) -> Daemon {
        let file = self.dir.join("haproxy.cfg");
        write(&file, &self.network.adapt("id_service/haproxy.cfg", &[]));
        Daemon::start("haproxy", &self.dir, &["-db", "-f", file.to_str().unwrap()], &[])
    }

    fn pgbouncer(&self) -> Daemon {
        let file = self.dir.join("pgbouncer.ini");
        let dir = self.dir.to_str().unwrap();
        write(&file, &self.network.adapt("id_service/pgbouncer.ini", &[("/etc/pgbouncer", dir)]));
        write(&self.dir.join("userlist.txt"), &self.network.adapt("id_service/userlist.txt", &[]));
        Daemon::start("pgbouncer", &self.dir, &[file.to_str().unwrap()], &[])
    }

    fn clients(&self, service: &str) -> Clients {
        Clients::start(&self.history, &self.services, service, CLIENTS)
    }

    /// The first server dies under load, and comes back.
    fn lose_one(&mut self, clients: &Clients) {
        clients.flow(500);
        self.servers[0].kill();
        clients.flow(500);
        self.servers[0].start();
    }

    /// Another one dies under load, in another way, so that clients need the one that is back.
    fn lose_another(&mut self, clients: Clients) {
        clients.flow(500);
        self.servers[1].stop(Mode::Immediate);
        clients.flow_from(1);
        self.servers[1].start();
        clients.flow(500);
        clients.finish();
        check(&self.history, &IDENTITY).assert_clean();
        let machines = self.history.callers().into_iter().map(|caller| caller.machine);
        assert!(machines.collect::<BTreeSet<i64>>().is_subset(&BTreeSet::from([-1, 1, 2, 3])));
    }
}

#[test]
fn clients_of_haproxy_go_on_when_a_server_dies_and_no_id_comes_twice() {
    if !all_here("load_balancing, HAProxy", &[("haproxy", "-v")]) {
        return;
    }
    let mut service = Service::start();
    let _haproxy = service.haproxy();
    let clients = service.clients("ids_haproxy");
    (1..=3).for_each(|machine| clients.flow_from(machine));
    service.lose_one(&clients);
    wait_until("new sessions are with the server that is back", || clients.session().server() == Some(1));
    service.lose_another(clients);
}

/// Accepting connections is not enough: the check asks for an id.
#[test]
fn haproxy_sends_no_client_to_a_server_that_runs_but_gives_no_ids_until_it_does() {
    if !all_here("load_balancing, HAProxy's check", &[("haproxy", "-v")]) {
        return;
    }
    let mut service = Service::start();
    service.servers[2].stop(Mode::Fast);
    service.servers[2].configure("idgen.machine_id = -1");
    service.servers[2].start();
    let _haproxy = service.haproxy();
    let servers = || -> BTreeSet<Option<i64>> {
        let open = |_| Session::open(&psql(), &service.services, "ids_haproxy");
        let sessions: Vec<Session> = (0..6).map(open).collect();
        sessions.into_iter().map(|mut session| session.server()).collect()
    };
    let healthy = BTreeSet::from([Some(1), Some(2)]);
    wait_until("the check has failed", || servers() == healthy);
    assert_eq!(servers(), healthy);
    service.servers[2].stop(Mode::Fast);
    service.servers[2].configure("idgen.machine_id = 3");
    service.servers[2].start();
    wait_until("new sessions get ids of the third, too", || servers() == BTreeSet::from([Some(1), Some(2), Some(3)]));
}

#[test]
fn haproxy_ends_a_session_with_a_server_that_takes_no_new_ones_any_more() {
    if !all_here("load_balancing, HAProxy and a server that hangs", &[("haproxy", "-v")]) {
        return;
    }
    let service = Service::start();
    let _haproxy = service.haproxy();
    // Until the check has found it, it gets none.
    let mut found = None;
    wait_until("a session is with the third", || {
        let mut session = Session::open(&psql(), &service.services, "ids_haproxy");
        found = (session.server() == Some(3)).then_some(session);
        found.is_some()
    });
    let mut session = found.unwrap();
    let hanging = service.servers[2].pid();
    signal(hanging, libc::SIGSTOP);
    let deadline = Instant::now() + Duration::from_secs(30);
    while session.server() == Some(3) && Instant::now() < deadline {}
    signal(hanging, libc::SIGCONT);
    assert_eq!(session.server(), None, "the session goes on");
}

#[test]
fn clients_of_pgbouncer_share_sessions_by_transaction_go_on_when_a_server_dies_and_no_id_comes_twice() {
    if !all_here("load_balancing, pgbouncer", &[("pgbouncer", "-V")]) {
        return;
    }
    let mut service = Service::start();
    let _pgbouncer = service.pgbouncer();
    let clients = service.clients("ids_pgbouncer");
    (1..=3).for_each(|machine| clients.flow_from(machine));
    service.lose_one(&clients);
    service.lose_another(clients);
}

#[test]
fn clients_with_a_list_of_hosts_go_on_when_a_server_dies_and_no_id_comes_twice() {
    let mut service = Service::start();
    let clients = service.clients("ids_in_order");
    service.lose_one(&clients);
    wait_until("new sessions are with the server that is back", || clients.session().server() == Some(1));
    service.lose_another(clients);
}

#[test]
fn clients_with_a_list_of_hosts_at_random_use_all_servers_and_go_on_when_one_dies() {
    let Some(psql) = psql_with_random_hosts() else {
        eprintln!("SKIPPED: load_balancing, hosts at random: no psql of PostgreSQL 16 or newer beside PG_BINDIR");
        return;
    };
    let mut service = Service::start();
    // More clients than servers several times over: one that none chooses would be a wonder.
    let clients = Clients::with(&psql, &service.history, &service.services, "ids", 5 * CLIENTS);
    (1..=3).for_each(|machine| clients.flow_from(machine));
    service.lose_one(&clients);
    wait_until("new sessions are with the server that is back", || clients.session().server() == Some(1));
    service.lose_another(clients);
}
