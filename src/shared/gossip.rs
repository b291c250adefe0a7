//! The words that the gossip worker shares with all other processes.

use super::{
    errand::{Asking, Errand},
    text::Text,
};
use crate::{
    error::Error,
    mechanism::{Micros, SECOND},
    postgres::{clock, lock::Lock, process::Process, settings},
    protocol::{
        gossip::Now,
        lease::{self, Lease},
        message::Message,
    },
};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::*};

/// How long the first id waits for peers if the gossip worker does not start.
const FIRST_ROUND: Micros = SECOND * 3 / 2;

const INBOX: usize = 8;
const MESSAGE: usize = 4096;
/// Room for a line of the view for each of 1024 servers.
const LINES: usize = 160 * 1024;

/// The words that the gossip worker shares with all other processes. Texts are under idgen's lock.
pub struct Gossip {
    lock: Lock,
    pub process: Process,
    /// A number that no other life of the shared memory has; 0: not drawn yet.
    pub life: AtomicU64,
    /// Whether the first round is over; and whether another server has this machine id. Written by the gossip worker.
    pub ready: AtomicBool,
    pub refused: AtomicBool,
    /// The server that has it, for the error.
    refused_by: Text<128>,
    /// Written by the horizon's worker: whether it has closed the bounds because another server has the machine id.
    pub closed: AtomicBool,
    /// The message of the last round, and the boot-time clock at that time.
    message: Text<MESSAGE>,
    pub at: AtomicI64,
    /// The lines of `idgen_peers()`.
    lines: Text<LINES>,
    /// Questions: a session writes each at the next number, and the worker has read up to `read`.
    inbox: [Text<MESSAGE>; INBOX],
    written: AtomicU64,
    read: AtomicU64,
    /// The errand of a superuser's idgen_take_over().
    pub take_over: Errand,
}

impl Gossip {
    pub fn new(lock: Lock) -> Self {
        Gossip {
            lock,
            process: Process::default(),
            life: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            refused_by: Text::default(),
            closed: AtomicBool::new(false),
            message: Text::default(),
            at: AtomicI64::new(0),
            lines: Text::default(),
            inbox: std::array::from_fn(|_| Text::default()),
            written: AtomicU64::new(0),
            read: AtomicU64::new(0),
            take_over: Errand::default(),
        }
    }

    /// Whether another server has this server's machine id, and goes on with it.
    pub fn is_rivalled(&self) -> bool {
        self.refused.load(Acquire)
    }

    /// That server, as an error.
    pub fn rival(&self) -> Option<Error> {
        self.is_rivalled()
            .then(|| Error::MachineTaken { by: self.lock.shared(|| self.refused_by.get()).unwrap_or_default() })
    }

    /// Gossip worker only: this other server has the machine id and goes on with it; None: there is none.
    pub fn set_rival(&self, by: Option<&str>) {
        if let Some(by) = by {
            self.lock.exclusive(|| self.refused_by.set(by));
        }
        self.refused.store(by.is_some(), Release);
    }

    /// When the first round of gossip is over at the latest; None: no need to wait. `lease` says when recovery ended.
    pub fn first_round(&self, lease: &Lease) -> Option<Micros> {
        let until = lease.from - lease::WAIT + FIRST_ROUND;
        let waits = !self.ready.load(Relaxed) && !settings::peers().is_empty() && clock::boot() < until;
        waits.then_some(until)
    }

    /// Answers a question of a peer, and leaves the question to the worker. None: there is nothing to say yet.
    pub fn answer(&self, question: &str, now: Now) -> Result<Option<String>, Error> {
        question.parse::<Message>().map_err(Error::NotAMessage)?;
        let published = self.lock.exclusive(|| {
            let written = self.written.load(Relaxed);
            // Without room a question is lost, as it could be on its way.
            if written - self.read.load(Relaxed) < INBOX as u64 {
                self.inbox[written as usize % INBOX].set(question);
                self.written.store(written + 1, Release);
            }
            self.message.get()
        });
        self.process.wake();
        let Some(Ok(mut answer)) = published.map(|text| text.parse::<Message>()) else { return Ok(None) };
        let since = now.boot - self.at.load(Relaxed);
        (answer.wall, answer.reach) = (now.wall, now.reach);
        for heard in &mut answer.heard {
            heard.age += since;
            heard.behind = heard.behind.map(|behind| behind + since);
        }
        Ok(Some(answer.to_string()))
    }

    /// Gossip worker only: the next question that a peer has asked.
    pub fn next_question(&self) -> Option<Message> {
        while self.read.load(Relaxed) < self.written.load(Acquire) {
            let number = self.read.load(Relaxed);
            let text = self.lock.shared(|| self.inbox[number as usize % INBOX].get());
            self.read.store(number + 1, Release);
            if let Some(Ok(message)) = text.map(|text| text.parse()) {
                return Some(message);
            }
        }
        None
    }

    /// Gossip worker only: its message at `boot`, and the lines of `idgen_peers()`, as many as there is room for.
    pub fn publish(&self, message: &str, lines: &str, boot: Micros) {
        let room = lines.len().min(LINES - 1);
        let end = lines.as_bytes()[..room].iter().rposition(|byte| *byte == b'\n');
        self.lock.exclusive(|| {
            self.message.set(message);
            self.at.store(boot, Relaxed);
            self.lines.set(end.map_or("", |end| &lines[..=end]));
        });
    }

    /// The lines of `idgen_peers()`.
    pub fn lines(&self) -> String {
        self.lock.shared(|| self.lines.get()).unwrap_or_default()
    }

    /// Asks the worker to take the machine id over, unless it is asked to already.
    pub fn ask_take_over(&self) -> Option<Asking<'_>> {
        let asking = self.take_over.claim()?;
        asking.ask();
        self.process.wake();
        Some(asking)
    }
}
