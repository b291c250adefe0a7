//! One PostgreSQL server in a directory of its own; both are gone when the test ends, however it ends.

use super::clock::{Clock, HOUR};
use super::wait_until;
use postgres::error::{DbError, SqlState};
use postgres::types::FromSqlOwned;
use postgres::{Client, Config, NoTls};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

/// A test that takes longer hangs: its server is killed, so the test fails.
const LONGEST_LIFE: Duration = Duration::from_secs(120);

/// The settings of every test server; its test sets others after them. A killed server leaves no file outside its directory.
const SETTINGS: &str = "
listen_addresses = ''
log_line_prefix = '%m [%p] %b '
dynamic_shared_memory_type = mmap
shared_buffers = 16MB
max_connections = 50
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 50ms
";

/// The settings of a server that gives ids; a test may set another machine id after them.
pub const IDGEN: &str = "
shared_preload_libraries = 'idgen'
idgen.machine_id = 1
";

#[derive(Debug)]
pub enum Mode {
    Smart,
    Fast,
    Immediate,
}

pub struct Cluster {
    dir: PathBuf,
    pub clock: Clock,
    pub longest_life: Duration,
    /// Options on the command line of the next start.
    pub options: Vec<&'static str>,
    postmaster: Option<Postmaster>,
}

struct Postmaster {
    process: Child,
    /// Dropped when the server is no longer watched.
    _watched: mpsc::Sender<()>,
}

impl Cluster {
    /// A running server with idgen, and the extension in its database postgres.
    pub fn with_idgen(settings: &str) -> Cluster {
        let cluster = Cluster::running(&format!("{IDGEN}{settings}"));
        cluster.create_extensions();
        cluster
    }

    /// The extensions that its settings need, in the database postgres.
    pub fn create_extensions(&self) {
        let mut client = self.connect("postgres");
        client.batch_execute("CREATE EXTENSION idgen").unwrap();
        if one(&mut client, "SELECT current_setting('idgen.authority_database', true) <> ''") {
            // No server has a machine id yet. What was confirmed before the horizon began would count for an earlier life.
            wait_until("the horizon begins", || one(&mut client, "SELECT horizon_moves > 0 FROM idgen_status()"));
            client.batch_execute("CREATE EXTENSION idgen_authority; SELECT idgen_authority.confirm_book()").unwrap();
        }
    }

    /// A running server with nothing but these settings.
    pub fn running(settings: &str) -> Cluster {
        let mut cluster = Cluster::prepared(settings);
        cluster.start();
        cluster
    }

    /// A server that was never started.
    pub fn prepared(settings: &str) -> Cluster {
        let cluster = Cluster::empty();
        let copied = Command::new("cp").arg("-a").arg(template()).arg(cluster.data()).status().unwrap();
        assert!(copied.success(), "the template of a server could not be copied");
        cluster.configure(SETTINGS);
        cluster.configure(settings);
        cluster
    }

    /// A standby of this server, under a name that `synchronous_standby_names` may list; not started.
    pub fn standby(&self, name: &str) -> Cluster {
        let standby = self.copy();
        standby.become_standby(self, name);
        standby
    }

    /// A standby whose clock is an hour behind, started.
    pub fn standby_an_hour_behind(&self, name: &str) -> Cluster {
        let mut standby = self.standby(name);
        standby.clock.set(-HOUR);
        standby.start();
        standby
    }

    /// Waits until the horizon has moved this many times.
    pub fn wait_for_moves(&self, times: i64) {
        let moves = || self.one::<i64>("SELECT horizon_moves FROM idgen_status()");
        let before = moves();
        wait_until("the horizon has moved", || moves() >= before + times);
    }

    /// A base backup of this server, not started.
    pub fn copy(&self) -> Cluster {
        let copy = Cluster::empty();
        copy.back_up(self);
        copy
    }

    /// A snapshot of the disk under this server, which runs on; not started.
    pub fn snapshot(&self) -> Cluster {
        let copy = Cluster::empty();
        self.pause();
        let copied = Command::new("cp").arg("-a").arg(self.data()).arg(copy.data()).status();
        self.resume();
        assert!(copied.unwrap().success(), "the data directory could not be copied");
        fs::remove_file(copy.data().join("postmaster.pid")).unwrap();
        copy
    }

    /// Throws its data away, and is a copy of another server and its standby; not started.
    pub fn become_copy_of(&self, primary: &Cluster, name: &str) {
        assert!(self.postmaster.is_none(), "the server runs");
        fs::remove_dir_all(self.data()).unwrap();
        self.back_up(primary);
        self.become_standby(primary, name);
    }

    /// Makes it a standby of another server from its next start on; it must have nothing that the other has not.
    pub fn become_standby(&self, primary: &Cluster, name: &str) {
        self.follow(Some(primary), name);
        let signal = self.data().join("standby.signal");
        File::create(&signal).unwrap();
        give_to_owner(&signal);
    }

    /// Sets the primary that a standby follows; a running standby must then read its settings again.
    pub fn follow(&self, primary: Option<&Cluster>, name: &str) {
        let from =
            primary.map(|primary| format!("host={} user=postgres application_name={name}", primary.dir.display()));
        self.configure(&format!("primary_conninfo = '{}'", from.unwrap_or_default()));
    }

    fn back_up(&self, origin: &Cluster) {
        let mut backup = program("pg_basebackup");
        backup.args(["-c", "fast", "-X", "stream", "--no-sync", "-U", "postgres", "-h"]);
        run(backup.arg(&origin.dir).arg("-D").arg(self.data()));
    }

    /// The name of a wait of idgen in pg_stat_activity: before 17 PostgreSQL has no names for extensions' waits.
    pub fn wait_event(name: &str) -> &str {
        if Cluster::version() >= 17 { name } else { "Extension" }
    }

    /// PostgreSQL's major version: 18 of "18.1", 19 of "19rc1".
    pub fn version() -> u32 {
        let output = program("postgres").arg("--version").output().unwrap();
        let words = String::from_utf8(output.stdout).unwrap();
        words.split(|c: char| !c.is_ascii_digit()).find_map(|number| number.parse().ok()).unwrap()
    }

    fn empty() -> Cluster {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = root().join(COUNT.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&dir).unwrap();
        give_to_owner(&dir);
        let clock = Clock::create(&dir.join("wall_clock"));
        Cluster { dir, clock, longest_life: LONGEST_LIFE, options: vec![], postmaster: None }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Adds lines to the configuration file; if a setting has several lines, the last one counts.
    pub fn configure(&self, settings: &str) {
        let mut file = OpenOptions::new().append(true).open(self.data().join("postgresql.conf")).unwrap();
        writeln!(file, "{settings}").unwrap();
    }

    /// Adds lines, and makes the running server read them: new sessions have them on return, others soon.
    pub fn reconfigure(&self, settings: &str) {
        let loaded = || self.one::<f64>("SELECT extract(epoch FROM pg_conf_load_time())::float8");
        let before = loaded();
        self.configure(settings);
        signal(self.pid(), libc::SIGHUP);
        wait_until("the settings are read", || loaded() != before);
    }

    #[track_caller]
    pub fn start(&mut self) {
        if let Err(log) = self.try_start() {
            panic!("the server did not start:\n{log}");
        }
    }

    /// Starts the server, and waits until it accepts connections; an error has the log.
    pub fn try_start(&mut self) -> Result<(), String> {
        assert!(self.postmaster.is_none(), "the server runs already");
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let mut process = program("postgres")
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(&self.dir)
            .args(&self.options)
            .env("LD_PRELOAD", PRELOADED.map(|(name, _)| root().join(name).display().to_string()).join(":"))
            .env("BOOT_ID_FILE", self.boot_id_file())
            .env("PGSERVICEFILE", self.services())
            .env("WALL_CLOCK_FILE", self.dir.join("wall_clock"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        let mut lives = true;
        wait_until("the server accepts connections", || {
            lives = process.try_wait().unwrap().is_none();
            !lives || self.says_ready(process.id())
        });
        if !lives {
            return Err(self.log());
        }
        self.postmaster = Some(Postmaster { _watched: watch(process.id(), self.longest_life), process });
        Ok(())
    }

    /// At its next start the server finds that the machine was booted again.
    pub fn reboot_machine(&self) {
        fs::write(self.boot_id_file(), "another boot\n").unwrap();
    }

    /// The server's service file, which a test may write.
    pub fn services(&self) -> PathBuf {
        self.dir.join("services")
    }

    fn boot_id_file(&self) -> PathBuf {
        self.dir.join("boot_id")
    }

    /// The postmaster writes its state into the last line of its pid file.
    fn says_ready(&self, pid: u32) -> bool {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let lines: Vec<&str> = file.lines().map(str::trim).collect();
        lines.len() >= 8 && lines[0] == pid.to_string() && lines[7] == "ready"
    }

    pub fn stop(&mut self, mode: Mode) {
        let number = match mode {
            Mode::Smart => libc::SIGTERM,
            Mode::Fast => libc::SIGINT,
            Mode::Immediate => libc::SIGQUIT,
        };
        self.end(|postmaster| signal(postmaster, number));
    }

    /// Ends the postmaster and all its children without a word, as when the machine fails.
    pub fn kill(&mut self) {
        self.end(kill_tree);
    }

    /// Waits until a server that cannot go on has ended by itself.
    pub fn wait_for_end(&mut self) {
        self.end(|_| ());
    }

    /// Stops the postmaster and all its children, as when the machine pauses.
    pub fn pause(&self) {
        let postmaster = self.pid();
        // The postmaster first, so that it starts no other child.
        signal(postmaster, libc::SIGSTOP);
        signal_all(&children(postmaster), libc::SIGSTOP);
    }

    pub fn resume(&self) {
        let postmaster = self.pid();
        signal_all(&children(postmaster), libc::SIGCONT);
        signal(postmaster, libc::SIGCONT);
    }

    fn end(&mut self, how: impl FnOnce(u32)) {
        let mut postmaster = self.postmaster.take().expect("the server runs");
        let shared_memory = self.shared_memory();
        how(postmaster.process.id());
        wait_until("the postmaster is gone", || postmaster.process.try_wait().unwrap().is_some());
        if let Some(id) = shared_memory {
            // SAFETY: removes what a killed server has left, if it has, and touches no memory of ours.
            unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
        }
    }

    /// The id of the System V segment by which a server holds its data directory.
    fn shared_memory(&self) -> Option<i32> {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        file.lines().nth(6)?.split_whitespace().nth(1)?.parse().ok()
    }

    /// Sends a signal to the child with this in its title, such as `checkpointer` or `idgen`.
    pub fn signal_child(&self, title: &str, number: i32) -> u32 {
        let pid = self.child(title).unwrap_or_else(|| panic!("the server has no process {title}"));
        signal(pid, number);
        pid
    }

    pub fn child(&self, title: &str) -> Option<u32> {
        children(self.pid()).into_iter().find(|pid| title_of(*pid).contains(title))
    }

    /// Waits until a server whose shared memory was reset, as after the kill of a backend, accepts connections again.
    pub fn wait_for_crash_restart(&self, killed: u32) {
        wait_until("the postmaster has seen the end of the killed process", || stat(killed).is_none());
        wait_until("the server is back", || self.says_ready(self.pid()) && self.try_connect("postgres").is_ok());
    }

    pub fn promote(&self) {
        assert!(self.one::<bool>("SELECT pg_promote(true, 30)"), "the standby was not promoted");
    }

    /// Waits until the standby has replayed all that is on this server's disk now.
    pub fn wait_for_replay(&self, standby: &Cluster) {
        let lsn: String = self.one("SELECT pg_current_wal_flush_lsn()::text");
        let query = format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{lsn}', false)");
        wait_until("the standby has replayed", || standby.one(&query));
    }

    #[track_caller]
    pub fn connect(&self, database: &str) -> Client {
        self.try_connect(database).unwrap_or_else(|error| panic!("cannot connect to {database}: {error}"))
    }

    pub fn try_connect(&self, database: &str) -> Result<Client, postgres::Error> {
        self.connection(database).connect(NoTls)
    }

    /// The address of this server, for clients that reconnect by themselves.
    pub fn connection(&self, database: &str) -> Config {
        self.address(database).into()
    }

    pub fn address(&self, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.dir).user("postgres").dbname(database).connect_timeout(Duration::from_secs(30));
        config
    }

    /// The address of this server, as a libpq connection string.
    pub fn conninfo(&self) -> String {
        format!("host={} user=postgres dbname=postgres", self.dir.display())
    }

    /// The address of these servers, as a libpq connection string that leads to the primary.
    pub fn conninfo_of_primary(servers: &[Cluster]) -> String {
        let hosts: Vec<String> = servers.iter().map(|server| server.dir.display().to_string()).collect();
        format!("host={} user=postgres dbname=postgres target_session_attrs=read-write", hosts.join(","))
    }

    /// The socket at which this server listens.
    pub fn socket(&self) -> PathBuf {
        self.dir.join(".s.PGSQL.5432")
    }

    /// The one value of a query, in a session of its own.
    #[track_caller]
    pub fn one<T: FromSqlOwned>(&self, sql: &str) -> T {
        one(&mut self.connect("postgres"), sql)
    }

    pub fn pid(&self) -> u32 {
        self.postmaster.as_ref().expect("the server runs").process.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.postmaster.is_some() {
            self.resume();
            self.stop(Mode::Immediate);
        }
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "the end of the log of {}:\n{}",
                self.dir.display(),
                lines[lines.len().saturating_sub(40)..].join("\n")
            );
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The one value of a query.
#[track_caller]
pub fn one<T: FromSqlOwned>(client: &mut Client, sql: &str) -> T {
    client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

/// The error that the server gives for a query.
#[track_caller]
pub fn refusal(client: &mut Client, sql: &str) -> DbError {
    let error = client.query(sql, &[]).expect_err(sql);
    error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}")).clone()
}

/// Fails unless the query is refused with this code, and with a hint that contains `hint`.
#[track_caller]
pub fn assert_refused(client: &mut Client, sql: &str, code: SqlState, hint: &str) {
    let error = refusal(client, sql);
    let said = error.hint().unwrap_or("");
    assert!(
        *error.code() == code && said.contains(hint),
        "{sql}: {} {}, hint: {said}",
        error.code().code(),
        error.message()
    );
}

pub fn signal(pid: u32, number: i32) {
    // SAFETY: a system call that touches no memory.
    let result = unsafe { libc::kill(pid as i32, number) };
    assert_eq!(result, 0, "process {pid} cannot be sent signal {number}");
}

/// Processes that are gone already are left out.
fn signal_all(pids: &[u32], number: i32) {
    for pid in pids {
        // SAFETY: a system call that touches no memory.
        unsafe { libc::kill(*pid as i32, number) };
    }
}

/// Kills the postmaster and its children; stopped first, it cannot fork one that escapes.
pub fn kill_tree(postmaster: u32) {
    signal(postmaster, libc::SIGSTOP);
    let children = children(postmaster);
    signal_all(&children, libc::SIGKILL);
    signal_all(&[postmaster], libc::SIGKILL);
    wait_until("the killed processes are gone", || children.iter().all(|pid| is_gone(*pid)));
}

/// Kills the server when it lives too long, unless the sender that is returned is dropped before.
fn watch(postmaster: u32, longest_life: Duration) -> mpsc::Sender<()> {
    let (watched, end) = mpsc::channel();
    thread::spawn(move || {
        if end.recv_timeout(longest_life) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("the server {postmaster} has run for {longest_life:?}: killed");
            kill_tree(postmaster);
        }
    });
    watched
}

fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent)).collect()
}

fn is_gone(pid: u32) -> bool {
    stat(pid).is_none_or(|(state, _)| state == "Z" || state == "X")
}

/// State and parent of a process. Its name, which comes before them, may hold any character, also a parenthesis.
fn stat(pid: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.to_string(), fields.next()?.parse().ok()?))
}

fn title_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// A program of PostgreSQL, run by a user that it accepts, without the environment's settings for it.
pub fn program(name: &str) -> Command {
    let folder =
        std::env::var_os("PG_BINDIR").expect("PG_BINDIR names the folder of PostgreSQL's programs: see tests/setup.sh");
    let mut command = Command::new(Path::new(&folder).join(name));
    for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        command.env_remove(variable);
    }
    // Without the files that libpq looks for at home.
    command.env("HOME", "/nonexistent");
    command.env("LC_ALL", "C").env("RUST_BACKTRACE", "0").stdin(Stdio::null()).current_dir("/");
    if let Some((user, group)) = owner() {
        command.uid(user).gid(group);
    }
    command
}

pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// The user postgres, which owns the servers when root runs the tests: PostgreSQL refuses to run as root.
fn owner() -> Option<(u32, u32)> {
    // SAFETY: a system call that touches no memory.
    if unsafe { libc::geteuid() } != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let entry = users.lines().find(|line| line.starts_with("postgres:")).expect("there is a user postgres");
    let fields: Vec<&str> = entry.split(':').collect();
    Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
}

pub fn give_to_owner(path: &Path) {
    if let Some((user, group)) = owner() {
        chown(path, Some(user), Some(group)).unwrap();
    }
}

/// The directory of all servers of this process. A shell removes it; the shell outlives the process, even if that is killed.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        const REMOVE: &str = r#"trap '' HUP INT TERM; read -r _
            for pid in "$0"/*/data/postmaster.pid; do [ -f "$pid" ] && kill -QUIT "$(head -n 1 "$pid")" && kill -CONT "$(head -n 1 "$pid")"; done
            rm -rf "$0" || { sleep 2; rm -rf "$0"; }"#;
        let root = tempfile::Builder::new().prefix("idgen-").tempdir().unwrap().keep();
        fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let quiet = || Stdio::null();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(REMOVE).arg(&root).stdin(Stdio::piped()).stdout(quiet()).stderr(quiet()).current_dir("/");
        // The end of the pipe closes when this process ends.
        std::mem::forget(shell.process_group(0).spawn().unwrap());
        PRELOADED.iter().for_each(|(name, source)| build(&root.join(name), source));
        root
    })
}

/// What each server is started with.
const PRELOADED: [(&str, &[u8]); 3] = [
    ("wall_clock.so", include_bytes!("wall_clock.c")),
    ("boot_id.so", include_bytes!("boot_id.c")),
    ("names.so", include_bytes!("names.c")),
];

fn build(library: &Path, source: &[u8]) {
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O2", "-o"]).arg(library).args(["-x", "c", "-", "-ldl"]);
    let mut process = compiler.stdin(Stdio::piped()).spawn().expect("there is a C compiler");
    process.stdin.take().unwrap().write_all(source).unwrap();
    assert!(process.wait().unwrap().success(), "{} was not built", library.display());
}

/// A data directory on which no server ever ran: to copy it is ten times as fast as another initdb.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let dir = root().join("template");
        fs::create_dir(&dir).unwrap();
        give_to_owner(&dir);
        run(program("initdb").args(["--no-sync", "-A", "trust", "-U", "postgres", "-D"]).arg(&dir));
        dir
    })
}
