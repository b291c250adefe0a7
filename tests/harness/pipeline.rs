//! A session that sends its next calls before it has the answers to earlier ones.

use super::clock::monotonic;
use super::cluster::Cluster;
use super::history::Recorder;
use futures_util::future::join_all;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls, Statement};

pub struct Pipeline {
    runtime: Runtime,
    client: Client,
    query: Statement,
    depth: usize,
}

impl Pipeline {
    /// A session with this many queries under way at a time; each returns ids.
    pub fn new(cluster: &Cluster, database: &str, query: &str, depth: usize) -> Pipeline {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (client, connection) = runtime.block_on(cluster.address(database).connect(NoTls)).unwrap();
        runtime.spawn(connection);
        let query = runtime.block_on(client.prepare(query)).unwrap();
        Pipeline { runtime, client, query, depth }
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Sends the queries, and records each from sending to answer. Returns how many of them returned ids.
    pub fn calls(&self, recorder: &mut Recorder) -> u64 {
        let call = async || {
            let begin = monotonic();
            let answer = self.client.query(&self.query, &[]).await;
            (begin, monotonic(), answer)
        };
        let answers = self.runtime.block_on(join_all((0..self.depth).map(|_| call())));
        let mut all = Vec::new();
        let mut returned = 0;
        for (begin, end, answer) in answers {
            if let Ok(ids) = recorder.record(begin, end, answer) {
                all.extend(ids);
                returned += 1;
            }
        }
        // To the recorder they overlap, but the server takes one after the other.
        assert!(all.is_sorted_by(|a, b| a < b), "the ids of one session are not in order: {all:?}");
        returned
    }
}
