//! Clients as they are in the field: sessions of libpq (those of psql) that take ids, and connect anew when theirs has ended.

use crate::harness::checker::machine_of;
use crate::harness::clock::monotonic;
use crate::harness::cluster::program;
use crate::harness::history::{History, Recorder};
use crate::harness::wait_until;
use postgres::error::SqlState;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Leave the machine time for what is tested.
const AFTER_A_CALL: Duration = Duration::from_millis(2);
const BEFORE_A_RECONNECT: Duration = Duration::from_millis(100);

pub fn psql() -> PathBuf {
    PathBuf::from(std::env::var_os("PG_BINDIR").expect("PG_BINDIR names the folder of PostgreSQL's programs"))
        .join("psql")
}

/// `load_balance_hosts` is libpq 16's: the trees of newer versions may lie beside the one of the servers.
pub fn psql_with_random_hosts() -> Option<PathBuf> {
    let trees = psql().ancestors().nth(3)?.to_owned();
    let newer = ["18", "17", "16"].map(|version| trees.join(version).join("bin/psql"));
    let runs =
        |file: &PathBuf| Command::new(file).arg("--version").output().is_ok_and(|output| output.status.success());
    newer.into_iter().find(runs)
}

pub enum Answer {
    Id(i64),
    Refused(SqlState),
    Ended,
}

pub struct Session {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Session {
    /// Has a psql of any version connect as a service of `pg_service.conf` says.
    pub fn open(psql: &Path, services: &Path, service: &str) -> Session {
        let mut command = program(psql.to_str().unwrap());
        command.env("PGSERVICEFILE", services).env("PGPASSWORD", "change-me");
        command.args(["-XqAt", &format!("service={service}")]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut process = command.spawn().unwrap();
        let questions = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Session { process, questions, answers }
    }

    pub fn next(&mut self) -> Answer {
        const QUESTION: &[u8] = b"SELECT idgen_next() AS id \\gset\n\\echo :SQLSTATE :id\n";
        let mut answer = String::new();
        if self.questions.write_all(QUESTION).is_err() || self.answers.read_line(&mut answer).is_err() {
            return Answer::Ended;
        }
        match answer.trim().split_once(' ') {
            Some(("00000", id)) => Answer::Id(id.parse().unwrap()),
            Some((code, _)) => Answer::Refused(SqlState::from_code(code)),
            None => Answer::Ended,
        }
    }

    /// The machine id of the server that answers with an id, if any does.
    pub fn server(&mut self) -> Option<i64> {
        if let Answer::Id(id) = self.next() { Some(machine_of(id)) } else { None }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What is known of clients while they run.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    calls: AtomicU64,
    /// When each machine id was last seen.
    seen: Mutex<BTreeMap<i64, i64>>,
}

pub struct Clients {
    /// What opens a session.
    open: Arc<dyn Fn() -> Session + Send + Sync>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    pub fn start(history: &Arc<History>, services: &Path, service: &str, number: usize) -> Clients {
        Clients::with(&psql(), history, services, service, number)
    }

    pub fn with(psql: &Path, history: &Arc<History>, services: &Path, service: &str, number: usize) -> Clients {
        let (psql, services, service) = (psql.to_owned(), services.to_owned(), service.to_owned());
        let open: Arc<dyn Fn() -> Session + Send + Sync> = Arc::new(move || Session::open(&psql, &services, &service));
        let shared = Arc::<Shared>::default();
        let threads = (0..number).map(|_| {
            let (open, shared, history) = (open.clone(), shared.clone(), history.clone());
            std::thread::spawn(move || shared.take_ids(&history, &*open))
        });
        Clients { threads: threads.collect(), open, shared }
    }

    /// Another session like those of these clients.
    pub fn session(&self) -> Session {
        (self.open)()
    }

    /// Waits until this many more calls have returned ids.
    #[track_caller]
    pub fn flow(&self, calls: u64) {
        let enough = self.shared.calls.load(Ordering::Relaxed) + calls;
        wait_until("ids flow", || self.shared.calls.load(Ordering::Relaxed) >= enough);
    }

    /// Waits until a server gives ids, by its machine id.
    #[track_caller]
    pub fn flow_from(&self, machine: i64) {
        let now = monotonic();
        wait_until("ids flow from one server", || self.seen(machine) > now);
    }

    /// When an id of this machine id was last returned, by [`monotonic`].
    pub fn seen(&self, machine: i64) -> i64 {
        self.shared.seen.lock().unwrap().get(&machine).copied().unwrap_or(0)
    }

    pub fn finish(mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    /// What a client does not know the id says: which server made it. The history has a caller for each.
    fn take_ids(&self, history: &History, open: &dyn Fn() -> Session) {
        let mut servers: BTreeMap<i64, Recorder> = BTreeMap::new();
        let mut unanswered = history.client("none", "ids", -1);
        while !self.stop.load(Ordering::Relaxed) {
            let mut session = open();
            while !self.stop.load(Ordering::Relaxed) {
                let begin = monotonic();
                let answer = session.next();
                let end = monotonic();
                match answer {
                    Answer::Id(id) => {
                        let machine = machine_of(id);
                        let server = || history.client(&format!("server {machine}"), "ids", machine);
                        servers.entry(machine).or_insert_with(server).returned(begin, end, &[id]);
                        self.calls.fetch_add(1, Ordering::Relaxed);
                        self.seen.lock().unwrap().insert(machine, end);
                    }
                    Answer::Refused(code) => unanswered.failed(begin, end, Some(&code)),
                    Answer::Ended => {
                        unanswered.failed(begin, end, None);
                        break;
                    }
                }
                std::thread::sleep(AFTER_A_CALL);
            }
            std::thread::sleep(BEFORE_A_RECONNECT);
        }
    }
}
