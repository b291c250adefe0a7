//! An authority with synchronous standbys, and its members.

use crate::harness::cluster::{Cluster, IDGEN, Mode, signal};
use crate::harness::wait_until;
use crate::longest_life;
use postgres::types::PgLsn;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failover {
    /// The primary is killed without a word.
    Killed,
    /// The primary pauses, and goes on when another server has taken its place.
    Paused,
    /// The primary is shut down in good order, and is a standby soon after.
    Switched,
}

pub struct Authorities {
    nodes: Vec<Cluster>,
    primary: usize,
    /// The server that was the primary before this one.
    before: usize,
}

fn name(node: usize) -> String {
    format!("n{node}")
}

impl Authorities {
    /// One primary with this many standbys; the extension is in the database postgres.
    pub fn new(standbys: usize, settings: &str) -> Authorities {
        let settings = format!(
            "{IDGEN}idgen.machine_id = 0\nidgen.authority_database = postgres\nmax_connections = 60\n{settings}"
        );
        let mut primary = Cluster::prepared(&settings);
        primary.longest_life = longest_life();
        primary.start();
        primary.create_extensions();
        let mut nodes = vec![primary];
        for node in 1..=standbys {
            let mut standby = nodes[0].standby(&name(node));
            standby.longest_life = longest_life();
            standby.start();
            nodes.push(standby);
        }
        let names: Vec<String> = (0..nodes.len()).map(name).collect();
        let synchronous = format!("synchronous_standby_names = 'FIRST 1 ({})'", names.join(", "));
        for node in &nodes {
            node.reconfigure(&synchronous);
        }
        let authorities = Authorities { nodes, primary: 0, before: 0 };
        authorities.wait_for_standbys();
        authorities
    }

    pub fn primary(&self) -> &Cluster {
        &self.nodes[self.primary]
    }

    /// A running member with the extension.
    pub fn member(&self, settings: &str) -> Cluster {
        let mut member = Cluster::prepared(&format!("{IDGEN}{}{settings}", self.membership()));
        member.longest_life = longest_life();
        member.start();
        member.create_extensions();
        member
    }

    fn membership(&self) -> String {
        format!("idgen.machine_id = -1\nidgen.authority = '{}'\n", Cluster::conninfo_of_primary(&self.nodes))
    }

    fn standbys(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| *node != self.primary).collect()
    }

    fn wait_for_standbys(&self) {
        let count = format!(
            "SELECT count(*) = {} AND bool_or(sync_state = 'sync') FROM pg_stat_replication WHERE state = 'streaming'",
            self.nodes.len() - 1
        );
        wait_until("the standbys follow", || self.primary().one::<Option<bool>>(&count) == Some(true));
    }

    /// Makes another server the primary, with its clock at `offset`. `meanwhile` gets the old and the new one, and the moment
    /// when the promotion began. In the end the old one is a standby.
    pub fn fail_over(
        &mut self,
        how: Failover,
        offset: i64,
        meanwhile: impl FnOnce(&Cluster, Option<&Cluster>, Instant),
    ) {
        let old = self.primary;
        match how {
            Failover::Killed => self.nodes[old].kill(),
            Failover::Paused => self.nodes[old].pause(),
            Failover::Switched => self.nodes[old].stop(Mode::Fast),
        }
        // No standby follows the old one when another begins: acknowledgements after this would break the promise.
        let standbys = self.standbys();
        for node in &standbys {
            self.follow(*node, None);
        }
        for node in &standbys {
            let gone = "SELECT count(*) = 0 FROM pg_stat_wal_receiver";
            wait_until("a standby is cut off", || self.nodes[*node].one(gone));
        }
        // Of the standbys that have equally much, the one that was the primary before: there and back within one lead.
        let advance =
            |node: &usize| (self.nodes[*node].one::<PgLsn>("SELECT pg_last_wal_receive_lsn()"), *node == self.before);
        let new = standbys.iter().copied().max_by_key(advance).unwrap();
        for node in standbys.iter().filter(|node| **node != new) {
            self.follow(*node, Some(new));
        }
        self.nodes[new].clock.set(offset);
        let promoted = Instant::now();
        self.nodes[new].promote();
        (self.before, self.primary) = (old, new);
        if how == Failover::Paused {
            self.nodes[old].resume();
        }
        if how == Failover::Switched {
            self.nodes[old].become_standby(&self.nodes[new], &name(old));
            self.nodes[old].start();
        }
        meanwhile(&self.nodes[new], (how == Failover::Paused).then(|| &self.nodes[old]), promoted);
        if how == Failover::Paused {
            self.nodes[old].kill();
        }
        if how != Failover::Switched {
            self.nodes[old].become_copy_of(&self.nodes[new], &name(old));
            self.nodes[old].start();
        }
        self.wait_for_standbys();
    }

    fn follow(&self, node: usize, whom: Option<usize>) {
        self.nodes[node].follow(whom.map(|whom| &self.nodes[whom]), &name(node));
        signal(self.nodes[node].pid(), libc::SIGHUP);
    }
}

/// How long after `since` a probe first succeeds; it gets 20 seconds.
#[track_caller]
pub fn time_until(since: Instant, what: &str, mut probe: impl FnMut() -> bool) -> Duration {
    while !probe() {
        assert!(since.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
    since.elapsed()
}
