//! idgen's gossip worker: asks a few peers each `idgen.gossip_interval` and hears their questions. The decisions are in
//! `protocol::gossip`; here messages are sent and heard, stamps raised, and the state published.
//!
//! A peer's question comes into a session. The session puts it into the worker's inbox, and answers at once with the worker's
//! last message, brought up to date.
//!
//! The worker runs while `idgen.peers` is set; the horizon's worker launches it.

use super::kept;
use crate::{
    mechanism::{Micros, SECOND},
    postgres::{
        clock,
        hosts::Hosts,
        libpq::{Answer, Connection, Progress},
        process::Waiter,
        random, settings,
        wait_event::Wait,
    },
    protocol::{
        gossip::{self, Gossip, Now},
        grants::Incarnation,
        message::{Claim, Message},
    },
    shared::{self, Shared},
};
use pgrx::{pg_sys, prelude::*};
use std::{
    ffi::CString,
    sync::{Mutex, atomic::Ordering::Relaxed},
};

/// How long a peer may take to connect, and to answer.
const PATIENCE: Micros = SECOND;
/// How long a peer that could not be reached is left alone.
const PAUSE: Micros = SECOND;
/// Launches the worker, if it does not run.
pub fn launch(shared: &Shared) {
    shared.gossip.process.launch("idgen gossip", "idgen_gossip_main");
}

/// Where the worker's process begins.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn idgen_gossip_main(_arg: pg_sys::Datum) {
    if let Ok(shared) = shared::shared() {
        shared.gossip.process.live(None, || run(shared));
    }
}

/// One peer of the setting, and the connection to it.
struct Peer {
    text: CString,
    hosts: Result<Hosts, String>,
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
            connection: None,
            since: Micros::MIN,
            progress: Progress::Writing,
            asked: None,
            error,
            is: None,
        }
    }

    /// Goes on connecting, and asks `question` if the peer is connected and no question is open.
    fn work(&mut self, question: Option<&Message>, now: Micros) -> Result<Option<Message>, String> {
        let Ok(hosts) = &mut self.hosts else { return Ok(None) };
        let Some(connection) = &mut self.connection else {
            if (question.is_some() || hosts.is_resolving()) && now >= self.since.saturating_add(PAUSE) {
                self.connection = hosts.connect(now)?;
                if self.connection.is_some() {
                    (self.since, self.progress) = (now, Progress::Writing);
                }
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
                // The peer has nothing to say yet.
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
        if self.error.as_ref() != Some(&why) {
            let name = self.hosts.as_ref().map_or(String::new(), Hosts::name);
            log!("idgen: peer {name}: {why}");
        }
        if let Ok(hosts) = &mut self.hosts {
            hosts.next();
        }
        self.error = Some(why);
    }
}

/// The claim of this server, if it has a machine id: the kept one, if it is still true, or a new one to be kept. Each life of
/// the shared memory claims under another nonce, so that two lives from one disk find each other.
fn claim(shared: &Shared, keep_at: &mut Micros) -> Option<Claim> {
    let place = kept::place();
    let (machine, epoch) = match u64::try_from(settings::MACHINE_ID.get()) {
        Ok(machine) => (machine, 0),
        Err(_) => shared.grant.held().map(|grant| (grant.machine, grant.epoch))?,
    };
    let kept = kept::kept_claim().filter(|kept| kept.machine == machine && kept.by == place);
    let claim = kept.unwrap_or_else(|| {
        *keep_at = 0;
        Claim { machine, by: place, epoch, taken_over: 0, since: clock::both().wall }
    });
    let life = &shared.gossip.life;
    // The later of two lives has the higher number, unless both run at once.
    let drawn = ((clock::both().wall as u64) << 12) | (random::number() & 0xfff);
    _ = life.compare_exchange(0, drawn, Relaxed, Relaxed);
    Some(Claim { epoch, by: Incarnation { nonce: life.load(Relaxed), ..place }, ..claim })
}

/// Keeps the claim on disk, and returns when to try again.
fn keep(claim: &Claim) -> Micros {
    let kept = kept::keep_claim(&Claim { by: kept::place(), ..*claim });
    if kept { Micros::MAX } else { clock::boot() + kept::KEEP_AGAIN }
}

fn gossip_settings() -> gossip::Settings {
    gossip::Settings { interval: settings::gossip_interval(), max_clock_offset: settings::max_clock_offset() }
}

/// Works until there are no peers any more (0), or until the process is told to end (1).
fn run(shared: &'static Shared) -> i32 {
    let mut peers: Vec<Peer> = Vec::new();
    let mut gossip: Option<Gossip> = None;
    let mut round_at = clock::boot();
    // When the claim is to be kept next, because it is new or could not be kept before.
    let mut keep_at = Micros::MAX;
    let mut waiter = Waiter::new(Wait::Work);
    shared.gossip.take_over.put_back();
    loop {
        let texts = settings::peers();
        if texts.is_empty() {
            shared.gossip.set_rival(None);
            shared.horizon.want_horizon(1);
            return 0;
        }
        if texts.iter().ne(peers.iter().map(|peer| &peer.text)) {
            peers = texts.into_iter().map(Peer::new).collect();
        }
        let now = clock::boot();
        if gossip.is_none() && shared.horizon.started() != 0 {
            gossip = claim(shared, &mut keep_at).map(|claim| Gossip::start(claim, gossip_settings(), now));
        }
        let mut chosen = Vec::new();
        if let Some(gossip) = gossip.as_mut().filter(|_| now >= round_at) {
            gossip.settings = gossip_settings();
            if settings::MACHINE_ID.get() < 0 && shared.grant.held().is_none_or(|grant| grant.epoch != gossip.me.epoch)
            {
                gossip.me = claim(shared, &mut keep_at).unwrap_or(gossip.me);
            }
            let known: Vec<_> = peers.iter().map(|peer| peer.is.map(|claim| claim.by)).collect();
            chosen = gossip.round(&known, now as u64, now);
            // Missed rounds are not made up for.
            round_at = now + gossip.settings.interval;
        }
        if let Some(gossip) = &mut gossip {
            if now >= keep_at {
                keep_at = keep(&gossip.me);
            }
            talk(shared, gossip, &mut peers, &chosen, now);
            decide(shared, gossip, &peers, !chosen.is_empty(), &mut keep_at);
        }
        let timeout = (round_at - clock::boot()).clamp(1_000, settings::gossip_interval());
        let open = peers.iter().find(|peer| peer.asked.is_some()).or_else(|| {
            peers.iter().find(|peer| peer.connection.as_ref().is_some_and(|connection| !connection.is_established()))
        });
        let open = open.and_then(|peer| Some((peer.connection.as_ref()?, peer.progress)));
        // Other connections may be open as well, and only one is watched.
        let timeout = if open.is_some() { timeout.min(5_000) } else { timeout };
        if !waiter.wait(open, timeout) {
            return 1;
        }
    }
}

/// Asks the chosen peers, and hears all messages that have come.
fn talk(shared: &Shared, gossip: &mut Gossip, peers: &mut [Peer], chosen: &[usize], now: Micros) {
    for (number, peer) in peers.iter_mut().enumerate() {
        let machine = peer.is.map(|claim| claim.machine);
        let question = chosen.contains(&number).then(|| gossip.message(reading(shared), machine));
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
    while let Some(message) = shared.gossip.next_question() {
        hear(shared, gossip, &message, None);
    }
}

fn reading(shared: &Shared) -> Now {
    let reading = clock::both();
    Now { boot: reading.boot, wall: reading.wall, reach: shared.places.gossip_reach() }
}

fn hear(shared: &Shared, gossip: &mut Gossip, message: &Message, asked: Option<Micros>) {
    if let Some(reach) = gossip.hear(message, asked, reading(shared)) {
        shared.places.follow_gossip(reach, clock::boot());
    }
}

/// Publishes what follows from the messages heard so far.
fn decide(shared: &Shared, gossip: &mut Gossip, peers: &[Peer], new_round: bool, keep_at: &mut Micros) {
    let words = &shared.gossip;
    if words.take_over.take() {
        gossip.take_over(clock::both().wall);
        *keep_at = keep(&gossip.me);
        words.take_over.done();
        shared.horizon.wake_waiting();
    }
    let now = reading(shared);
    let rival = gossip.refused_by(now.boot);
    if rival.is_some() != words.is_rivalled() {
        let (me, by) = (name(&gossip.me), rival.as_ref().map(name));
        match (rival, &by) {
            (Some(rival), Some(by)) => {
                log!("idgen: {by} has machine id {} too, and goes on; this server, {me}, gives no ids", rival.machine);
            }
            _ => log!("idgen: machine id {} is that of this server, {me}, alone", gossip.me.machine),
        }
        words.set_rival(by.as_deref());
        shared.horizon.want_horizon(1);
    }
    if !words.ready.load(Relaxed) && gossip.is_ready(now.boot) {
        words.ready.store(true, Relaxed);
        shared.horizon.want_horizon(1);
    }
    if new_round {
        let message = gossip.message(now, None).to_string();
        let lines = lines(gossip, peers, now.boot);
        words.publish(&message, &lines, now.boot);
        for peer in gossip.peers().filter(|peer| peer.claim.machine == gossip.me.machine) {
            if rival.is_none() && peer.claim.epoch == 0 && gossip.me.epoch == 0 {
                warn_once(&peer.claim);
            }
        }
    }
}

/// The server that goes on logs the dispute too: once for each rival, and of some only, since a peer can invent any number.
fn warn_once(rival: &Claim) {
    const MOST: usize = 16;
    static WARNED: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    let Ok(mut warned) = WARNED.lock() else { return };
    if warned.len() < MOST && !warned.contains(&rival.by.nonce) {
        warned.push(rival.by.nonce);
        let more = if warned.len() == MOST { "; more such servers are not logged" } else { "" };
        log!(
            "idgen: {} has the machine id {} of this server too; it should give no ids{more}",
            name(rival),
            rival.machine
        );
    }
}

fn name(claim: &Claim) -> String {
    format!("server {} on timeline {} ({:x})", claim.by.system, claim.by.timeline, claim.by.nonce)
}

/// One line for each server that was heard of, then one for each peer that cannot be reached.
fn lines(gossip: &Gossip, peers: &[Peer], boot: Micros) -> String {
    use std::fmt::Write;
    let mut lines = String::new();
    let optional = |number: Option<Micros>| number.map_or("-".into(), |number| number.to_string());
    for peer in gossip.peers() {
        let connection = peers.iter().find(|other| other.is.is_some_and(|claim| claim.by == peer.claim.by));
        let host = connection.and_then(|other| Some(other.hosts.as_ref().ok()?.name()));
        let offset = peer.clock.map(|(clock, _)| clock - (clock::both().wall - boot));
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
        let host = peer.hosts.as_ref().map_or("-".into(), Hosts::name);
        let error = peer.error.as_deref().unwrap_or("-").replace(['\t', '\n'], " ");
        _ = writeln!(lines, "{host}\t-\t-\tunknown\t-\t-\t-\t-\t{error}");
    }
    lines
}
