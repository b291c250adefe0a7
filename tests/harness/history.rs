//! What clients saw: each call with the moments of its begin and its return, and the ids that it returned or the error.
//!
//! A history of 100 million calls fits on a disk, not into memory: records of fixed size in a file for each client.

use super::clock::monotonic;
use super::cluster::root;
use postgres::error::SqlState;
use postgres::{Client, Row, Statement};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// One call, or the part of a call whose ids follow each other without a gap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Call {
    /// When it began and when it returned, by [`monotonic`].
    pub begin: i64,
    pub end: i64,
    /// The first of `count` ids; if there are none, the SQLSTATE (or zeros) as eight bytes.
    pub first: i64,
    pub count: u32,
    pub client: u32,
}

impl Call {
    pub const SIZE: usize = 32;

    /// The highest id of the call. There must be one.
    pub fn last(&self) -> i64 {
        self.first + i64::from(self.count) - 1
    }

    /// Why it returned no id: `None` where it returned one, an empty code where no answer came.
    pub fn failure(&self) -> Option<String> {
        let code = self.first.to_be_bytes();
        (self.count == 0).then(|| String::from_utf8_lossy(&code).trim_matches('\0').to_string())
    }

    fn to_bytes(self) -> [u8; Call::SIZE] {
        let mut bytes = [0; Call::SIZE];
        bytes[0..8].copy_from_slice(&self.begin.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.end.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.count.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.client.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; Call::SIZE]) -> Call {
        let long = |at: usize| i64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let short = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        Call { begin: long(0), end: long(8), first: long(16), count: short(24), client: short(28) }
    }
}

/// A client, and the server that it calls.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The name of all servers whose ids must be in order as if they were one: those before and after a failover share it.
    pub server: String,
    pub database: String,
    /// The machine id that the ids must have.
    pub machine: i64,
}

pub struct History {
    dir: PathBuf,
    callers: Mutex<Vec<Caller>>,
}

impl History {
    pub fn new() -> History {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = root().join(format!("history-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&dir).unwrap();
        History { dir, callers: Mutex::default() }
    }

    pub fn client(&self, server: &str, database: &str, machine: i64) -> Recorder {
        let mut callers = self.callers.lock().unwrap();
        let client = callers.len() as u32;
        callers.push(Caller { server: server.into(), database: database.into(), machine });
        Recorder { client, file: BufWriter::new(File::create(self.file(client)).unwrap()) }
    }

    pub fn callers(&self) -> Vec<Caller> {
        self.callers.lock().unwrap().clone()
    }

    /// All calls of all clients whose recorders are gone.
    pub fn calls(&self) -> impl Iterator<Item = Call> + '_ {
        let clients = self.callers.lock().unwrap().len() as u32;
        (0..clients).flat_map(|client| read(File::open(self.file(client)).unwrap()))
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn file(&self, client: u32) -> PathBuf {
        self.dir.join(client.to_string())
    }
}

impl Drop for History {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The calls of a file of records.
pub fn read(file: File) -> impl Iterator<Item = Call> {
    let mut file = BufReader::with_capacity(1 << 16, file);
    std::iter::from_fn(move || {
        let mut bytes = [0; Call::SIZE];
        file.read_exact(&mut bytes).ok().map(|()| Call::from_bytes(&bytes))
    })
}

pub fn write(file: &mut impl Write, call: Call) {
    file.write_all(&call.to_bytes()).unwrap();
}

/// Makes the table that [`Recorder::copy`] copies into.
pub const COPIED: &str = "
    CREATE TABLE copied (id bigint DEFAULT idgen_next() PRIMARY KEY, batch text NOT NULL);
    CREATE INDEX ON copied (batch);";

/// The history of one client, complete when it is dropped.
pub struct Recorder {
    client: u32,
    file: BufWriter<File>,
}

impl Recorder {
    /// Calls, records, and returns the ids.
    pub fn call(&mut self, client: &mut Client, query: &Statement) -> Result<Vec<i64>, postgres::Error> {
        let begin = monotonic();
        let answer = client.query(query, &[]);
        self.record(begin, monotonic(), answer)
    }

    /// Copies rows into the table of [`COPIED`], records the call, and returns the ids that they were given.
    pub fn copy(&mut self, client: &mut Client, rows: usize) -> Result<Vec<i64>, postgres::Error> {
        let begin = monotonic();
        let batch = format!("{}/{begin}", self.client);
        let copied = client.copy_in("COPY copied (batch) FROM STDIN").and_then(|mut copy| {
            // If the rows cannot be written, the end of the copy tells why.
            let _ = copy.write_all(format!("{batch}\n").repeat(rows).as_bytes());
            copy.finish()
        });
        let end = monotonic();
        let answer = copied.and_then(|_| client.query("SELECT id FROM copied WHERE batch = $1 ORDER BY id", &[&batch]));
        let ids = self.record(begin, end, answer)?;
        assert_eq!(ids.len(), rows, "rows of a COPY are missing");
        Ok(ids)
    }

    /// Records a call by its answer, and returns the ids.
    pub fn record(
        &mut self,
        begin: i64,
        end: i64,
        answer: Result<Vec<Row>, postgres::Error>,
    ) -> Result<Vec<i64>, postgres::Error> {
        match answer {
            Ok(rows) => {
                let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
                self.returned(begin, end, &ids);
                Ok(ids)
            }
            Err(error) => {
                self.failed(begin, end, error.code());
                Err(error)
            }
        }
    }

    pub fn returned(&mut self, begin: i64, end: i64, ids: &[i64]) {
        for run in ids.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
            write(&mut self.file, Call { begin, end, first: run[0], count: run.len() as u32, client: self.client });
        }
    }

    /// Records a call that failed. Without a code no answer came: the call may have taken an id, or not.
    pub fn failed(&mut self, begin: i64, end: i64, code: Option<&SqlState>) {
        let mut packed = [0; 8];
        let code = code.map_or("", SqlState::code);
        packed[..code.len()].copy_from_slice(code.as_bytes());
        write(&mut self.file, Call { begin, end, first: i64::from_be_bytes(packed), count: 0, client: self.client });
    }
}
