//! Sessions that take ids one call after the other, and record them, until they are told to stop or their server dies.

use super::cluster::{Cluster, one};
use super::history::History;
use super::pipeline::Pipeline;
use super::wait_until;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How a session takes ids, again and again.
#[derive(Clone, Copy, Debug)]
pub enum Way<'a> {
    /// By a query that returns them.
    Query(&'a str),
    /// By queries that return them, of which this many are under way at a time.
    Pipeline(&'a str, usize),
    /// By COPY of this many rows: see [`COPIED`](super::history::COPIED).
    Copy(usize),
}

impl<'a> From<&'a str> for Way<'a> {
    fn from(query: &'a str) -> Self {
        Way::Query(query)
    }
}

impl<'a> From<&'a String> for Way<'a> {
    fn from(query: &'a String) -> Self {
        Way::Query(query)
    }
}

pub struct Load {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    sessions: Vec<JoinHandle<()>>,
    /// How long each session that is added from now on rests between two calls.
    pub rest: Duration,
}

impl Load {
    /// Makes this many sessions with the server take ids in this way; the history knows the server by this name.
    pub fn start<'a>(
        cluster: &Cluster,
        history: &History,
        server: &str,
        sessions: usize,
        way: impl Into<Way<'a>>,
    ) -> Load {
        let mut load = Load::none();
        load.add(cluster, history, server, "postgres", sessions, way);
        load
    }

    /// The same for some time (see [`Load::flow`]), after which the load ends.
    pub fn run<'a>(
        cluster: &Cluster,
        history: &History,
        server: &str,
        sessions: usize,
        way: impl Into<Way<'a>>,
        calls: u64,
    ) {
        let load = Load::start(cluster, history, server, sessions, way);
        load.flow(calls);
        load.finish();
    }

    /// A load without sessions.
    pub fn none() -> Load {
        Load { stop: Arc::default(), calls: Arc::default(), sessions: Vec::new(), rest: Duration::ZERO }
    }

    pub fn add<'a>(
        &mut self,
        cluster: &Cluster,
        history: &History,
        server: &str,
        database: &str,
        sessions: usize,
        way: impl Into<Way<'a>>,
    ) {
        let way = way.into();
        for _ in 0..sessions {
            let mut client = cluster.connect(database);
            let machine = one(&mut client, "SELECT coalesce(current_setting('idgen.machine_id', true), '-1')::bigint");
            let mut recorder = history.client(server, database, machine);
            // Takes ids: the number of calls that returned some, or None when the session has ended.
            let mut take: Box<dyn FnMut() -> Option<u64> + Send> = match way {
                Way::Query(query) => {
                    let query = client.prepare(query).unwrap();
                    Box::new(move || {
                        (!client.is_closed()).then(|| u64::from(recorder.call(&mut client, &query).is_ok()))
                    })
                }
                Way::Pipeline(query, depth) => {
                    let pipeline = Pipeline::new(cluster, database, query, depth);
                    Box::new(move || (!pipeline.is_closed()).then(|| pipeline.calls(&mut recorder)))
                }
                Way::Copy(rows) => {
                    Box::new(move || (!client.is_closed()).then(|| u64::from(recorder.copy(&mut client, rows).is_ok())))
                }
            };
            let (stop, calls, rest) = (self.stop.clone(), self.calls.clone(), self.rest);
            self.sessions.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed)
                    && let Some(returned) = take()
                {
                    calls.fetch_add(returned, Ordering::Relaxed);
                    std::thread::sleep(rest);
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

    /// Ends the sessions; those of a server that died have ended.
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
