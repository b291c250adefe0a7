//! idgen's gossip worker: asks a few peers each `idgen.gossip_interval` and hears what they ask. What follows from it is
//! decided in `protocol::gossip`; here is only what sends, hears, raises and publishes.
//!
//! A peer's question comes into a session. It is put into the inbox for the worker, and answered at once with what the
//! worker published last, brought up to date.
//!
//! It runs while `idgen.peers` is set, and is launched by the worker of the horizon.

use crate::{
    book,
    errand::{Asking, Errand},
    error::Error,
    grant,
    libpq::{Answer, Connection, Hosts, Progress},
    machine_clock,
    mechanism::{Micros, SECOND, definition::Order, layout::SERVER, loan},
    process::{Process, Waiter},
    protocol::{
        gossip::{self, Gossip, Now},
        grants::Incarnation,
        lease,
        message::{Claim, Message},
    },
    settings,
    shmem::{self, Shared, Text},
    wait_event::Wait,
};
use pgrx::{pg_sys, prelude::*};
use std::{
    ffi::CString,
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::*},
};

/// How long a peer may take to connect, and to answer.
const PATIENCE: Micros = SECOND;
/// How long a peer that could not be reached is left alone.
const PAUSE: Micros = SECOND;
/// How long the first id waits for peers where no gossip worker comes.
const FIRST_ROUND: Micros = SECOND * 3 / 2;

const INBOX: usize = 8;
const MESSAGE: usize = 4096;
/// Room for a line of the view for each of 1024 servers.
const LINES: usize = 160 * 1024;

/// What the gossip worker shares with the others. Texts are under the lock of the places.
pub struct GossipWords {
    pub process: Process,
    /// A number that no other life of the shared memory has; 0: not drawn yet.
    life: AtomicU64,
    /// Whether the first round is over; and whether another server has this machine id. Written by the gossip worker.
    ready: AtomicBool,
    refused: AtomicBool,
    /// Who has it, for the error.
    refused_by: Text<128>,
    /// Written by the horizon's worker: whether it has closed the bounds because of that.
    closed: AtomicBool,
    /// The message of the last round and the boot-time clock then.
    message: Text<MESSAGE>,
    at: AtomicI64,
    /// Lines of the view idgen_peers.
    lines: Text<LINES>,
    /// Questions, each written at the next number by a session; the worker has read up to `read`.
    inbox: [Text<MESSAGE>; INBOX],
    written: AtomicU64,
    read: AtomicU64,
    /// A superuser's idgen_take_over().
    take_over: Errand,
}

impl Default for GossipWords {
    fn default() -> Self {
        GossipWords {
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
}

impl Shared {
    /// Whether another server has this one's machine id, and goes on with it.
    pub fn is_rivalled(&self) -> bool {
        self.gossip.refused.load(Acquire)
    }

    /// Who that is.
    pub fn rival(&self) -> Option<Error> {
        self.is_rivalled().then(|| {
            let by = self.locked(pg_sys::LWLockMode::LW_SHARED, || self.gossip.refused_by.get());
            Error::MachineTaken { by: by.unwrap_or_default() }
        })
    }

    /// Horizon's worker only: whether the bounds of layouts with machine bits may be open. Closes them if they may not.
    pub fn check_peers(&self) -> bool {
        let gossip = &self.gossip;
        let refused = gossip.refused.load(Acquire);
        if refused && !gossip.closed.swap(true, Relaxed) {
            self.close(|layout| layout.max_machine() != 0);
        } else if !refused && gossip.closed.swap(false, Relaxed) {
            self.want_horizon(1);
        }
        !refused
    }

    /// When the first round of gossip is over at the latest, if it must be waited for.
    pub fn first_round(&self) -> Option<Micros> {
        let until = self.lease().from - lease::WAIT + FIRST_ROUND;
        let waits = !self.gossip.ready.load(Relaxed) && !settings::peers().is_empty() && machine_clock::boot() < until;
        waits.then_some(until)
    }

    /// The end of the tick of the highest stamp of the generators that are in the gossip.
    fn gossip_reach(&self) -> Micros {
        let mut reach = 0;
        self.for_each_clock(|words, layout, order| {
            if order == Order::Gossip && words.last() != 0 {
                reach = reach.max(layout.tick_end(words.last()));
            }
        });
        reach
    }

    /// These generators go on at or after `reach`, which is no loan.
    fn follow_reach(&self, reach: Micros) {
        let floor = loan::floor(reach, machine_clock::boot());
        self.for_each_clock(|words, layout, order| {
            if order == Order::Gossip {
                words.raise_floor(floor);
                words.raise(layout.stamp_at(reach).saturating_sub(1));
            }
        });
    }

    /// The server generator goes on after an id from outside that ends at `reach`.
    pub fn observe(&self, reach: Micros) {
        self.server.raise_floor(loan::floor(reach, machine_clock::boot()));
        self.server.raise(SERVER.stamp_at(reach).saturating_sub(1));
    }

    fn now_for_gossip(&self) -> Now {
        let reading = machine_clock::both();
        Now { boot: reading.boot, wall: reading.wall, reach: self.gossip_reach() }
    }

    /// Answers a question of a peer, and leaves it to the worker. None: there is nothing to say yet.
    pub fn answer_peer(&self, question: &str) -> Result<Option<String>, Error> {
        question.parse::<Message>().map_err(Error::NotAMessage)?;
        let gossip = &self.gossip;
        let published = self.locked(pg_sys::LWLockMode::LW_EXCLUSIVE, || {
            let written = gossip.written.load(Relaxed);
            // A question that finds no room is lost, as one on the way could be.
            if written - gossip.read.load(Relaxed) < INBOX as u64 {
                gossip.inbox[written as usize % INBOX].set(question);
                gossip.written.store(written + 1, Release);
            }
            gossip.message.get()
        });
        gossip.process.wake();
        let Some(Ok(mut answer)) = published.map(|text| text.parse::<Message>()) else { return Ok(None) };
        let now = self.now_for_gossip();
        let since = now.boot - gossip.at.load(Relaxed);
        (answer.wall, answer.reach) = (now.wall, now.reach);
        for heard in &mut answer.heard {
            heard.age += since;
            heard.behind = heard.behind.map(|behind| behind + since);
        }
        Ok(Some(answer.to_string()))
    }

    /// The lines of the view idgen_peers.
    pub fn peer_lines(&self) -> String {
        self.locked(pg_sys::LWLockMode::LW_SHARED, || self.gossip.lines.get()).unwrap_or_default()
    }

    /// Asks the worker to take the machine id over, if it is not asked already.
    pub fn take_over(&self) -> Option<Asking<'_>> {
        let asking = self.gossip.take_over.claim()?;
        asking.ask();
        self.gossip.process.wake();
        Some(asking)
    }
}

/// Launches the worker, if it is not there.
pub fn launch(shared: &Shared) {
    shared.gossip.process.launch("idgen gossip", "idgen_gossip_main");
}

/// Where the worker's process begins.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn idgen_gossip_main(_arg: pg_sys::Datum) {
    if let Ok(shared) = shmem::shared() {
        shared.gossip.process.live(None, || run(shared));
    }
}

/// One peer of the setting, and the connection to it.
struct Peer {
    text: CString,
    hosts: Result<Hosts, String>,
    host: usize,
    connection: Option<Connection>,
    since: Micros,
    progress: Progress,
    asked: Option<Micros>,
    error: Option<String>,
    is: Option<Claim>,
}

impl Peer {
    fn new(text: CString) -> Self {
        let hosts = Hosts::parse(&text);
        let error = hosts.as_ref().err().cloned();
        Peer {
            text,
            hosts,
            host: 0,
            connection: None,
            since: Micros::MIN,
            progress: Progress::Writing,
            asked: None,
            error,
            is: None,
        }
    }

    /// Goes on connecting, and asks `question` if it is connected and nothing is open.
    fn work(&mut self, question: Option<&Message>, now: Micros) -> Result<Option<Message>, String> {
        let Ok(hosts) = &self.hosts else { return Ok(None) };
        let Some(connection) = &mut self.connection else {
            if question.is_some() && now >= self.since.saturating_add(PAUSE) {
                self.since = now;
                self.progress = Progress::Writing;
                self.connection = Some(Connection::start(hosts, self.host)?);
            }
            return Ok(None);
        };
        if !connection.is_established() {
            if now > self.since + PATIENCE {
                return Err("the host does not answer".into());
            }
            self.progress = connection.establish()?;
            if self.progress != Progress::Established {
                return Ok(None);
            }
        }
        let mut heard = None;
        connection.consume()?;
        while let Some(answer) = connection.answer()? {
            match answer {
                Answer::Row(row) => {
                    let text = row.and_then(|row| row.into_iter().next().flatten());
                    heard = text.map(|text| text.parse::<Message>()).transpose()?;
                }
                Answer::Refused { message, .. } => return Err(message),
            }
            self.error = None;
            if heard.is_none() {
                // It has nothing to say yet.
                self.asked = None;
            }
        }
        if self.asked.is_some_and(|asked| now > asked + PATIENCE) {
            return Err("the peer does not answer".into());
        }
        if let Some(question) = question.filter(|_| self.asked.is_none() && heard.is_none()) {
            let text = CString::new(question.to_string()).unwrap_or_default();
            connection.ask(c"SELECT idgen_gossip($1::text, $2::text)", &[settings::cluster(), text])?;
            self.asked = Some(now);
        }
        connection.flush()?;
        Ok(heard)
    }

    fn lose(&mut self, why: String, now: Micros) {
        (self.connection, self.asked, self.since) = (None, None, now);
        self.host = (self.host + 1) % self.hosts.as_ref().map_or(1, Hosts::count);
        if self.error.as_ref() != Some(&why) {
            let name = self.hosts.as_ref().map_or(String::new(), |hosts| hosts.name(self.host));
            log!("idgen: peer {name}: {why}");
        }
        self.error = Some(why);
    }
}

/// The claim of this server, if it has a machine id: the one that it kept, if that is still so, or a new one to keep. Each
/// life of the shared memory claims as another, so that two that run from one disk meet.
fn claim(shared: &Shared, keep_at: &mut Micros) -> Option<Claim> {
    let place = grant::place();
    let (machine, epoch) = match u64::try_from(settings::MACHINE_ID.get()) {
        Ok(machine) => (machine, 0),
        Err(_) => shared.grant().map(|grant| (grant.machine, grant.epoch))?,
    };
    let kept = grant::kept_claim().filter(|kept| kept.machine == machine && kept.by == place);
    let claim = kept.unwrap_or_else(|| {
        *keep_at = 0;
        Claim { machine, by: place, epoch, taken_over: 0, since: machine_clock::both().wall }
    });
    let life = &shared.gossip.life;
    // Of two lives the later has the higher number, but for those that live at once.
    let drawn = ((machine_clock::both().wall as u64) << 12) | (book::random() & 0xfff);
    _ = life.compare_exchange(0, drawn, Relaxed, Relaxed);
    Some(Claim { epoch, by: Incarnation { nonce: life.load(Relaxed), ..place }, ..claim })
}

/// Keeps the claim, and says when it is to be kept again.
fn keep(claim: &Claim) -> Micros {
    let kept = grant::keep_claim(&Claim { by: grant::place(), ..*claim });
    if kept { Micros::MAX } else { machine_clock::boot() + grant::KEEP_AGAIN }
}

fn gossip_settings() -> gossip::Settings {
    gossip::Settings { interval: settings::gossip_interval(), max_clock_offset: settings::max_clock_offset() }
}

/// Works until there are no peers any more, with 0, or the process is told to end, with 1.
fn run(shared: &'static Shared) -> i32 {
    let mut peers: Vec<Peer> = Vec::new();
    let mut gossip: Option<Gossip> = None;
    let mut round_at = machine_clock::boot();
    // When the claim is to be kept, also again after that could not be done.
    let mut keep_at = Micros::MAX;
    let mut waiter = Waiter::new(Wait::Work);
    shared.gossip.take_over.put_back();
    loop {
        let texts = settings::peers();
        if texts.is_empty() {
            shared.gossip.refused.store(false, Release);
            shared.want_horizon(1);
            return 0;
        }
        if texts.iter().ne(peers.iter().map(|peer| &peer.text)) {
            peers = texts.into_iter().map(Peer::new).collect();
        }
        let now = machine_clock::boot();
        if gossip.is_none() && shared.started() != 0 {
            gossip = claim(shared, &mut keep_at).map(|claim| Gossip::start(claim, gossip_settings(), now));
        }
        let mut chosen = Vec::new();
        if let Some(gossip) = gossip.as_mut().filter(|_| now >= round_at) {
            gossip.settings = gossip_settings();
            if settings::MACHINE_ID.get() < 0 && shared.grant().is_none_or(|grant| grant.epoch != gossip.me.epoch) {
                gossip.me = claim(shared, &mut keep_at).unwrap_or(gossip.me);
            }
            let known: Vec<_> = peers.iter().map(|peer| peer.is.map(|claim| claim.by)).collect();
            chosen = gossip.round(&known, now as u64, now);
            // Rounds that were missed are not made up for.
            round_at = now + gossip.settings.interval;
        }
        if let Some(gossip) = &mut gossip {
            if now >= keep_at {
                keep_at = keep(&gossip.me);
            }
            talk(shared, gossip, &mut peers, &chosen, now);
            decide(shared, gossip, &peers, !chosen.is_empty(), &mut keep_at);
        }
        let timeout = (round_at - machine_clock::boot()).clamp(1_000, settings::gossip_interval());
        let open = peers.iter().find(|peer| peer.asked.is_some()).or_else(|| {
            peers.iter().find(|peer| peer.connection.as_ref().is_some_and(|connection| !connection.is_established()))
        });
        let open = open.and_then(|peer| Some((peer.connection.as_ref()?, peer.progress)));
        // Others may be open as well.
        let timeout = if open.is_some() { timeout.min(5_000) } else { timeout };
        if !waiter.wait(open, timeout) {
            return 1;
        }
    }
}

/// Asks those that were chosen, and hears whatever has come.
fn talk(shared: &Shared, gossip: &mut Gossip, peers: &mut [Peer], chosen: &[usize], now: Micros) {
    for (number, peer) in peers.iter_mut().enumerate() {
        let machine = peer.is.map(|claim| claim.machine);
        let question = chosen.contains(&number).then(|| gossip.message(shared.now_for_gossip(), machine));
        match peer.work(question.as_ref(), now) {
            Ok(Some(message)) => {
                let asked = peer.asked.take();
                peer.is = Some(message.claim);
                hear(shared, gossip, &message, asked);
            }
            Ok(None) => {}
            Err(why) => peer.lose(why, now),
        }
    }
    let words = &shared.gossip;
    while words.read.load(Relaxed) < words.written.load(Acquire) {
        let number = words.read.load(Relaxed);
        let text = shared.locked(pg_sys::LWLockMode::LW_SHARED, || words.inbox[number as usize % INBOX].get());
        words.read.store(number + 1, Release);
        if let Some(Ok(message)) = text.map(|text| text.parse::<Message>()) {
            hear(shared, gossip, &message, None);
        }
    }
}

fn hear(shared: &Shared, gossip: &mut Gossip, message: &Message, asked: Option<Micros>) {
    if let Some(reach) = gossip.hear(message, asked, shared.now_for_gossip()) {
        shared.follow_reach(reach);
    }
}

/// Publishes what follows from all that was heard.
fn decide(shared: &Shared, gossip: &mut Gossip, peers: &[Peer], new_round: bool, keep_at: &mut Micros) {
    let words = &shared.gossip;
    if words.take_over.take() {
        gossip.take_over(machine_clock::both().wall);
        *keep_at = keep(&gossip.me);
        words.take_over.done();
        shared.wake_waiting();
    }
    let now = shared.now_for_gossip();
    let rival = gossip.refused_by(now.boot);
    if rival.is_some() != words.refused.load(Relaxed) {
        let me = name(&gossip.me);
        match rival {
            Some(rival) => {
                let by = name(&rival);
                shared.locked(pg_sys::LWLockMode::LW_EXCLUSIVE, || words.refused_by.set(&by));
                log!("idgen: {by} has machine id {} too, and goes on; this server, {me}, gives no ids", rival.machine);
            }
            None => log!("idgen: machine id {} is that of this server, {me}, alone", gossip.me.machine),
        }
        words.refused.store(rival.is_some(), Release);
        shared.want_horizon(1);
    }
    if !words.ready.load(Relaxed) && gossip.is_ready(now.boot) {
        words.ready.store(true, Relaxed);
        shared.want_horizon(1);
    }
    if new_round {
        let message = gossip.message(now, None).to_string();
        let lines = lines(gossip, peers, now.boot);
        shared.locked(pg_sys::LWLockMode::LW_EXCLUSIVE, || {
            words.message.set(&message);
            words.at.store(now.boot, Relaxed);
            words.lines.set(whole_lines(&lines));
        });
        for peer in gossip.peers().filter(|peer| peer.claim.machine == gossip.me.machine) {
            if rival.is_none() && peer.claim.epoch == 0 && gossip.me.epoch == 0 {
                warn_once(&peer.claim);
            }
        }
    }
}

/// The one that goes on says so too.
fn warn_once(rival: &Claim) {
    static WARNED: AtomicU64 = AtomicU64::new(0);
    if WARNED.swap(rival.by.nonce, Relaxed) != rival.by.nonce {
        log!("idgen: {} has the machine id {} of this server too; it should give no ids", name(rival), rival.machine);
    }
}

fn name(claim: &Claim) -> String {
    format!("server {} on timeline {} ({:x})", claim.by.system, claim.by.timeline, claim.by.nonce)
}

/// As many of the lines as there is room for.
fn whole_lines(lines: &str) -> &str {
    let room = lines.len().min(LINES - 1);
    let end = lines.as_bytes()[..room].iter().rposition(|byte| *byte == b'\n');
    end.map_or("", |end| &lines[..=end])
}

/// One line for each server that was heard of, then one for each peer that cannot be reached.
fn lines(gossip: &Gossip, peers: &[Peer], boot: Micros) -> String {
    use std::fmt::Write;
    let mut lines = String::new();
    let optional = |number: Option<Micros>| number.map_or("-".into(), |number| number.to_string());
    for peer in gossip.peers() {
        let connection = peers.iter().find(|other| other.is.is_some_and(|claim| claim.by == peer.claim.by));
        let host = connection.and_then(|other| Some(other.hosts.as_ref().ok()?.name(other.host)));
        let offset = peer.clock.map(|(clock, _)| clock - (machine_clock::both().wall - boot));
        _ = writeln!(
            lines,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            host.unwrap_or("-".into()),
            name(&peer.claim),
            peer.claim.machine,
            if peer.outlier { "outlier" } else { "heard" },
            optional(offset),
            optional(peer.round_trip),
            boot - peer.alive,
            optional(peer.covered.map(|covered| boot - covered)),
            connection.and_then(|other| other.error.as_deref()).unwrap_or("-").replace(['\t', '\n'], " "),
        );
    }
    for peer in peers.iter().filter(|peer| peer.is.is_none()) {
        let host = peer.hosts.as_ref().map_or("-".into(), |hosts| hosts.name(peer.host));
        let error = peer.error.as_deref().unwrap_or("-").replace(['\t', '\n'], " ");
        _ = writeln!(lines, "{host}\t-\t-\tunknown\t-\t-\t-\t-\t{error}");
    }
    lines
}
