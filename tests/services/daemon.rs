//! Programs that are not PostgreSQL's, and the network that they and the servers are in.

use crate::harness::cluster::{give_to_owner, program, root};
use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where Debian's packages were unpacked, if they are not installed: `tests/setup.sh` says it.
pub fn unpacked() -> Option<PathBuf> {
    std::env::var_os("IDGEN_SERVICES").map(|folder| Path::new(&folder).join("usr"))
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let unpacked = unpacked().into_iter().flat_map(|usr| [usr.join("sbin"), usr.join("bin")]);
    let mut folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]).chain(unpacked);
    folders.find_map(|folder| Some(folder.join(name)).filter(|file| file.exists()))
}

/// A command of a program of any package, run by the servers' user.
pub fn command(name: &str) -> Option<Command> {
    let mut command = program(find(name)?.to_str()?);
    if let Some(usr) = unpacked() {
        let libraries = fs::read_dir(usr.join("lib")).into_iter().flatten().flatten().map(|entry| entry.path());
        command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).ok()?);
        command.env("PYTHONPATH", usr.join("lib/python3/dist-packages"));
    }
    Some(command)
}

/// Whether all of these programs run here; if not, says that the test is skipped.
pub fn all_here(test: &str, programs: &[(&str, &str)]) -> bool {
    let runs = |(name, version): &&(&str, &str)| {
        command(name).and_then(|mut command| command.arg(version).output().ok()).is_some_and(|out| out.status.success())
    };
    let missing: Vec<&str> = programs.iter().filter(|program| !runs(program)).map(|(name, _)| *name).collect();
    if !missing.is_empty() {
        eprintln!("SKIPPED: {test}: this machine has no {}", missing.join(", no "));
    }
    missing.is_empty()
}

pub struct Daemon {
    process: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a program that stays in the foreground, with a log in the directory. It ends with the test at the latest.
    pub fn start(name: &str, dir: &Path, arguments: &[&str], environment: &[(String, String)]) -> Daemon {
        let log = dir.join(format!("{name}.log"));
        let file = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut command = command(name).unwrap();
        command.args(arguments).envs(environment.iter().cloned()).process_group(0);
        command.stdout(file.try_clone().unwrap()).stderr(file);
        // SAFETY: a system call that touches no memory, after which the program is executed.
        unsafe {
            command.pre_exec(|| {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 {
                    Ok(())
                } else {
                    Err(std::io::Error::last_os_error())
                }
            })
        };
        Daemon { process: command.spawn().unwrap(), log }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the end of {}:\n{}", self.log.display(), lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

/// The network 10.0.0.0/24 of the examples, as one of this machine's own that nobody else is in: with its own addresses every
/// program keeps the port that its example says.
pub struct Network {
    prefix: String,
}

impl Network {
    pub fn new() -> Network {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let free = |prefix: &String| (1..=3).all(|host| TcpListener::bind(format!("{prefix}{host}:5432")).is_ok());
        let process = std::process::id();
        let mut candidates = (0..100).map(|_| {
            let number = process.wrapping_mul(31).wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
            format!("127.{}.{}.", 1 + number / 256 % 254, number % 256)
        });
        Network { prefix: candidates.find(free).expect("no server on this machine takes port 5432 of all addresses") }
    }

    pub fn address(&self, host: usize) -> String {
        format!("{}{host}", self.prefix)
    }

    /// An example's text for this network, with more replaced that is another here; each of it must be there.
    pub fn adapt(&self, example: &str, others: &[(&str, &str)]) -> String {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
        let mut text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for (from, to) in others {
            assert!(text.contains(from), "{example} has no {from}");
            text = text.replace(from, to);
        }
        // What comes from this machine itself has any of its addresses.
        text.replace("10.0.0.0/24", "127.0.0.0/8").replace("10.0.0.", &self.prefix)
    }
}

/// A directory of the servers' user, gone with the other traces of the test.
pub fn directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let dir = root().join(format!("service-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir(&dir).unwrap();
    give_to_owner(&dir);
    dir
}

pub fn write(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    give_to_owner(file);
}

/// Lines NAME=VALUE, as systemd reads them.
pub fn variables(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
}
