//! Sessions that take ids one call after the other, and record them, until they are told to stop or their server dies.

use super::cluster::{Cluster, one};
use super::history::History;
use super::wait_until;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

pub struct Load {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    sessions: Vec<JoinHandle<()>>,
}

impl Load {
    /// Has this many sessions with the server, known to the history under this name, repeat a query that returns ids.
    pub fn start(cluster: &Cluster, history: &History, server: &str, sessions: usize, query: &str) -> Load {
        let mut load = Load { stop: Arc::default(), calls: Arc::default(), sessions: Vec::new() };
        load.add(cluster, history, server, "postgres", sessions, query);
        load
    }

    pub fn add(
        &mut self,
        cluster: &Cluster,
        history: &History,
        server: &str,
        database: &str,
        sessions: usize,
        query: &str,
    ) {
        for _ in 0..sessions {
            let mut client = cluster.connect(database);
            let query = client.prepare(query).unwrap();
            let machine = one(&mut client, "SELECT coalesce(current_setting('idgen.machine_id', true), '-1')::bigint");
            let mut recorder = history.client(server, database, machine);
            let (stop, calls) = (self.stop.clone(), self.calls.clone());
            self.sessions.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) && !client.is_closed() {
                    if recorder.call(&mut client, &query).is_ok() {
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }));
        }
    }

    /// Waits until this many more calls have returned ids.
    #[track_caller]
    pub fn flow(&self, calls: u64) {
        let enough = self.calls.load(Ordering::Relaxed) + calls;
        wait_until("ids flow", || self.calls.load(Ordering::Relaxed) >= enough);
    }

    /// Ends the sessions; those whose server died have ended.
    pub fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for session in self.sessions.drain(..) {
            session.join().unwrap();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
