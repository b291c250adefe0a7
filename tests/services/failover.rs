//! A server made of three nodes under Patroni, with etcd, whose leader dies again and again: `examples/patroni/`.

use crate::IDENTITY;
use crate::client::Clients;
use crate::daemon::{Daemon, Network, all_here, directory, variables, write};
use crate::harness::checker::check;
use crate::harness::clock::{Clock, HOUR, SECOND, monotonic};
use crate::harness::cluster::{give_to_owner, program, root, run, signal};
use crate::harness::history::History;
use crate::harness::wait_at_most;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than Patroni's ttl, and what comes after it on a slow machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A clock that leaps ends replication for a moment, and then Patroni looks for another synchronous standby: until it has one, it
/// lets nobody take over.
const SETTLED: Duration = Duration::from_secs(4);

/// The machine id of all nodes.
const MACHINE: i64 = 7;

struct Node {
    address: String,
    dir: PathBuf,
    clock: Clock,
    environment: Vec<(String, String)>,
    patroni: Option<Daemon>,
    _etcd: Daemon,
}

impl Node {
    fn start(network: &Network, number: usize) -> Node {
        let dir = directory();
        let path = |name: &str| dir.join(name).to_str().unwrap().to_string();
        let own = [
            ("node1", &*format!("node{number}")),
            ("10.0.0.1", &*format!("10.0.0.{number}")),
            ("/var/lib/etcd/ids", &*path("etcd")),
        ];
        let mut environment = variables(&network.adapt("patroni/node.env", &own));
        environment.extend(variables(&network.adapt("patroni/etcd.env", &[])));
        environment.push(("PATRONI_POSTGRESQL_PGPASS".into(), path("pgpass")));
        let here = [
            ("/var/lib/postgresql/15/ids", &*path("data")),
            ("/usr/lib/postgresql/15/bin", &*path("bin")),
            ("/var/run/postgresql", dir.to_str().unwrap()),
            ("peer", "trust"),
            // A killed server leaves no file outside of its directory.
            ("wal_log_hints: on", "wal_log_hints: on\n        dynamic_shared_memory_type: mmap"),
        ];
        write(&dir.join("patroni.yml"), &network.adapt("patroni/patroni.yml", &here));
        let clock = Clock::create(&dir.join("wall_clock"));
        write_programs(&dir);
        let mut node = Node {
            address: network.address(number),
            clock,
            _etcd: Daemon::start("etcd", &dir, &[], &environment),
            environment,
            patroni: None,
            dir,
        };
        node.run();
        node
    }

    /// Patroni believes a server to be its own only if that was started when its file says, by the machine's clock.
    fn run(&mut self) {
        self.clock.set(0);
        let file = self.dir.join("patroni.yml");
        self.patroni = Some(Daemon::start("patroni", &self.dir, &[file.to_str().unwrap()], &self.environment));
    }

    fn kill(&mut self) {
        signal(self.postmaster().unwrap(), libc::SIGKILL);
        self.patroni = None;
    }

    fn postmaster(&self) -> Option<u32> {
        fs::read_to_string(self.dir.join("data/postmaster.pid")).ok()?.lines().next()?.parse().ok()
    }

    /// What Patroni says of its node, as it says it to HAProxy.
    fn is(&self, role: &str) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut answer = String::new();
            let mut stream = TcpStream::connect((&*self.address, 8008))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            write!(stream, "OPTIONS /{role} HTTP/1.0\r\n\r\n")?;
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.patroni = None;
        let Some(postmaster) = self.postmaster() else { return };
        // SAFETY: a system call that touches no memory; the process may be gone already.
        unsafe { libc::kill(postmaster as i32, libc::SIGQUIT) };
    }
}

/// PostgreSQL's programs, the server among them with a wall clock of its own.
fn write_programs(dir: &Path) {
    let real = PathBuf::from(std::env::var_os("PG_BINDIR").unwrap()).canonicalize().unwrap();
    let bin = dir.join("bin");
    fs::create_dir(&bin).unwrap();
    for entry in fs::read_dir(&real).unwrap().flatten().filter(|entry| entry.file_name() != "postgres") {
        symlink(entry.path(), bin.join(entry.file_name())).unwrap();
    }
    let [preload, clock, real] = [root().join("wall_clock.so"), dir.join("wall_clock"), real.join("postgres")];
    let [preload, clock, real] = [preload.display(), clock.display(), real.display()];
    let script = format!("#!/bin/sh\nLD_PRELOAD={preload} WALL_CLOCK_FILE={clock} exec {real} \"$@\"\n");
    write(&bin.join("postgres"), &script);
    fs::set_permissions(bin.join("postgres"), fs::Permissions::from_mode(0o755)).unwrap();
    give_to_owner(&bin);
}

/// Waits until there have been a leader, a synchronous standby and one more for some time; returns the leader.
fn complete(nodes: &[Node], some_time: Duration) -> usize {
    let mut roles = Default::default();
    let mut since = Instant::now();
    wait_at_most(PATIENCE, "all nodes are there", || {
        let have = |role| (0..nodes.len()).filter(|number| nodes[*number].is(role)).collect::<Vec<usize>>();
        let now = ["primary", "sync", "replica"].map(have);
        if roles != now {
            (roles, since) = (now, Instant::now());
        }
        roles.each_ref().map(Vec::len) == [1, 1, 2] && since.elapsed() >= some_time
    });
    roles[0][0]
}

#[test]
fn ids_stay_unique_and_in_order_when_patroni_replaces_a_killed_leader_5_times_with_clocks_an_hour_apart() {
    let programs = [("patroni", "--version"), ("etcd", "--version"), ("haproxy", "-v")];
    if !all_here("failover, Patroni", &programs) {
        return;
    }
    let (network, dir) = (Network::new(), directory());
    let mut nodes: Vec<Node> = (1..=3).map(|number| Node::start(&network, number)).collect();
    let leader = complete(&nodes, Duration::ZERO);
    let sql = dir.join("server.sql");
    write(&sql, &network.adapt("id_service/server.sql", &[]));
    let mut psql = program("psql");
    psql.env("PGPASSWORD", "change-me").args(["-Xq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres"]);
    run(psql.args(["-h", &nodes[leader].address, "-f"]).arg(&sql));

    let file = dir.join("haproxy.cfg");
    write(&file, &network.adapt("patroni/haproxy.cfg", &[]));
    let _haproxy = Daemon::start("haproxy", &dir, &["-db", "-f", file.to_str().unwrap()], &[]);
    let services = dir.join("pg_service.conf");
    write(&services, &network.adapt("patroni/pg_service.conf", &[]));
    let history = Arc::new(History::new());
    let clients = ["ids", "ids_haproxy"].map(|service| Clients::start(&history, &services, service, 3));

    let mut kills = Vec::new();
    for failover in 0..5 {
        let leader = complete(&nodes, Duration::ZERO);
        // The next leader's clock is behind the old one's, or ahead.
        let standbys = nodes.iter().enumerate().filter(|(number, _)| *number != leader);
        standbys.for_each(|(_, node)| node.clock.set(if failover % 2 == 0 { -HOUR } else { HOUR }));
        let leader = complete(&nodes, SETTLED);
        clients.iter().for_each(|clients| clients.flow(300));
        kills.push(monotonic());
        nodes[leader].kill();
        let killed = monotonic();
        for clients in &clients {
            wait_at_most(PATIENCE, "ids flow from another node", || clients.seen(MACHINE) > killed + SECOND);
            clients.flow(300);
        }
        nodes[leader].run();
    }
    clients.into_iter().for_each(Clients::finish);
    eprintln!(
        "failover, Patroni: leader killed {} times, no ids for {}",
        kills.len(),
        gaps(&history, &kills).join(", ")
    );
    check(&history, &IDENTITY).assert_clean();
    assert!(history.callers().iter().all(|caller| [MACHINE, -1].contains(&caller.machine)));
}

/// For how long nobody had an id, after each kill: the longest time between two returns, from the last one before the kill to
/// the next kill.
fn gaps(history: &History, kills: &[i64]) -> Vec<String> {
    let mut ends: Vec<i64> = history.calls().filter(|call| call.count > 0).map(|call| call.end).collect();
    ends.sort_unstable();
    let mut rounds: Vec<&[i64]> =
        kills.iter().map(|kill| &ends[ends.partition_point(|end| end < kill).saturating_sub(1)..]).collect();
    for (round, next) in rounds.iter_mut().zip(&kills[1..]) {
        *round = &round[..round.partition_point(|end| end < next)];
    }
    let longest = |round: &[i64]| round.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    rounds.into_iter().map(|round| format!("{:.1} s", longest(round) as f64 / SECOND as f64)).collect()
}
