//! Gossip: what servers tell each other, so that their clocks follow each other and a machine id that was given to two of
//! them is found. It corrects mistakes and makes the order good; duplicates are prevented by grants.
//!
//! Each [`Settings::interval`] a server asks [`FANOUT`] others; question and answer are a [`Message`] each. The receiver
//! follows the highest stamp in it, by raising every `last` to it and `floor` with it. So a server's own highest stamp stands
//! above all that it heard, and is passed on. A stamp is followed only up to a limit: the own *wall clock* or the middle of
//! those that peers answered with, whichever is less, + `max_clock_offset`. So a dragged server drags nobody's wall clock,
//! and no message drags a server further than that.
//!
//! A server is stopped only by an answer to a question of its own, from a peer that it was told to ask. Questions, and news
//! of others, only say whom to ask; of a server that has answered already they only say that it lives.
//!
//! A time without a named clock is of the own boot-time clock.

use super::{
    Micros, SECOND,
    grants::Incarnation,
    message::{Claim, Heard, MAX_HEARD, Message},
};
use std::{cmp::Ordering, collections::BTreeMap};

/// How many peers are asked in a round.
pub const FANOUT: usize = 3;

/// How many peers of unknown name are asked besides while another server is said to claim the own machine id.
const SEEK: usize = 16;

/// How many other servers are remembered.
const MAX_PEERS: usize = 4096;

/// For how many intervals a clock reading counts, and a sign of life of another claimer.
const FRESH: Micros = 100;
const LIVE: Micros = 30;

/// The first id waits for the answers of one round, but no longer than this.
const FIRST_ROUND: Micros = SECOND;

/// A server that was not heard of for this long is forgotten.
const FORGOTTEN: Micros = 600 * SECOND;

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub interval: Micros,
    pub max_clock_offset: Micros,
}

impl Claim {
    /// Whether the two claims cannot both be right. Granted machine ids cannot collide.
    fn disputes(&self, other: &Claim) -> bool {
        self.machine == other.machine && self.by != other.by && (self.epoch == 0 || other.epoch == 0)
    }

    /// A total order, so that one claim survives whatever the paths of messages: the one taken over last, then the earlier
    /// one, then the one with the smaller nonce.
    fn beats(&self, other: &Claim) -> bool {
        let key = |claim: &Claim| (std::cmp::Reverse(claim.taken_over), claim.since, claim.by.nonce, claim.by);
        key(self).cmp(&key(other)) == Ordering::Less
    }
}

/// Whether one claim was kept by an earlier life of the server that makes the other.
fn is_earlier_life(claim: &Claim, other: &Claim) -> bool {
    (other.machine, other.since) == (claim.machine, claim.since) && other.by.nonce > claim.by.nonce
}

/// Another server, as `idgen_peers()` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub claim: Claim,
    /// When it is known to have been alive, and when it last answered a question.
    pub alive: Micros,
    answered: Option<Micros>,
    /// Ids that it gave before this are below every id that this server gives: the order bound is the time since. None: order
    /// unknown.
    pub covered: Option<Micros>,
    /// Its wall clock less the own boot-time clock, and the boot-time clock when it answered so.
    pub clock: Option<(Micros, Micros)>,
    pub round_trip: Option<Micros>,
    /// Its clock or its stamps are too far from those of the others to be followed.
    pub outlier: bool,
    /// In how many rounds this claim was passed on.
    told: u32,
}

/// Readings of the own clocks and the own highest stamp.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub boot: Micros,
    pub wall: Micros,
    pub reach: Micros,
}

/// What one server knows of the others.
#[derive(Clone, Debug)]
pub struct Gossip {
    pub me: Claim,
    pub settings: Settings,
    peers: BTreeMap<Incarnation, Peer>,
    /// The servers that are told of in this round.
    telling: Vec<Incarnation>,
    /// Of the servers that answered that they claim the own machine id, the one that goes on.
    rival: Option<Incarnation>,
    /// The middle of the wall clocks less the own boot-time clock, and when it was found; None: no majority agrees.
    middle: (Option<Micros>, Micros),
    clocks: usize,
    started: Micros,
    asked: usize,
    answered: usize,
    last_answer: Micros,
}

impl Gossip {
    pub fn start(me: Claim, settings: Settings, boot: Micros) -> Gossip {
        Gossip {
            me,
            settings,
            peers: BTreeMap::new(),
            telling: Vec::new(),
            rival: None,
            middle: (None, boot),
            clocks: 0,
            started: boot,
            asked: 0,
            answered: 0,
            last_answer: boot,
        }
    }

    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// Whether the first id may be given: one round was answered, or has taken too long.
    pub fn is_ready(&self, boot: Micros) -> bool {
        self.asked > 0 && self.answered >= self.asked || boot - self.started >= FIRST_ROUND
    }

    /// The claim because of which this server may give no ids, if there is one. This server goes on when it no longer hears
    /// of the other, unless that may be because it hears nobody.
    pub fn refused_by(&self, boot: Micros) -> Option<Claim> {
        let rival = self.peers.get(&self.rival?)?;
        let live = LIVE * self.settings.interval;
        let stands = boot - rival.answered? <= live || boot - self.last_answer > live;
        Some(rival.claim).filter(|claim| stands && claim.disputes(&self.me) && claim.beats(&self.me))
    }

    /// Makes the machine id this server's, whoever else claims it. `wall` is the wall clock.
    pub fn take_over(&mut self, wall: Micros) {
        let claims = self.peers.values().map(|peer| &peer.claim).filter(|claim| claim.disputes(&self.me));
        let last = claims.map(|claim| claim.taken_over).max().unwrap_or(0);
        self.me.taken_over = wall.max(self.me.taken_over).max(last.saturating_add(1));
    }

    /// Begins a round: gives the places in `peers` that are to be asked. A peer is known if it has answered before. `random`
    /// is any number, and another one each time.
    pub fn round(&mut self, peers: &[Option<Incarnation>], random: u64, boot: Micros) -> Vec<usize> {
        self.peers.retain(|_, peer| boot - peer.alive < FORGOTTEN);
        // Half are the claims that were told least: news, and all others in turn. Half are the freshest, which are of use
        // only if they are passed on soon.
        let key = |peer: &Peer| (peer.told, std::cmp::Reverse(peer.covered), peer.claim.by);
        let mut order: Vec<_> = self.peers.values().map(key).collect();
        if order.len() > MAX_HEARD {
            order.select_nth_unstable(MAX_HEARD / 2);
            order[MAX_HEARD / 2..].select_nth_unstable_by_key(MAX_HEARD / 2, |(_, covered, by)| (*covered, *by));
            order.truncate(MAX_HEARD);
        }
        self.telling = order.into_iter().map(|(.., by)| by).collect();
        for by in &self.telling {
            if let Some(peer) = self.peers.get_mut(by) {
                peer.told = peer.told.saturating_add(1);
            }
        }
        let mut state = random;
        let mut pick = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) as usize) % peers.len().max(1)
        };
        let mut chosen = self.rivals(peers, boot, pick());
        let wanted = (chosen.len() + FANOUT).min(peers.len());
        while chosen.len() < wanted {
            let peer = pick();
            if !chosen.contains(&peer) {
                chosen.push(peer);
            }
        }
        if self.asked == 0 {
            self.asked = chosen.len();
        }
        chosen
    }

    /// The peers to ask because of the own machine id: those that answered that they claim it, and those that are said to. If
    /// none of these is known, some unknown peers, from number `first` on.
    fn rivals(&self, peers: &[Option<Incarnation>], boot: Micros, first: usize) -> Vec<usize> {
        let recent = boot - FRESH * self.settings.interval;
        let told = self
            .peers
            .values()
            .filter(|peer| peer.alive >= recent && peer.claim.disputes(&self.me) && peer.claim.beats(&self.me));
        let rivals: Vec<Incarnation> = told.map(|peer| peer.claim.by).chain(self.rival).collect();
        if rivals.is_empty() {
            return vec![];
        }
        let known = |by: &Option<Incarnation>| by.is_some_and(|by| rivals.contains(&by));
        let mut chosen: Vec<usize> = (0..peers.len()).filter(|peer| known(&peers[*peer])).take(SEEK).collect();
        if chosen.is_empty() {
            let turn = (0..peers.len()).map(|peer| (first + peer) % peers.len());
            chosen.extend(turn.filter(|peer| peers[*peer].is_none()).take(SEEK));
        }
        chosen
    }

    /// What to tell now. To a server that claims `machine`, other claimers of it come first.
    pub fn message(&self, now: Now, machine: Option<u64>) -> Message {
        let tell = |peer: &Peer| Heard {
            claim: peer.claim,
            age: now.boot - peer.alive,
            behind: peer.covered.map(|covered| now.boot - covered),
        };
        let claim =
            |machine| self.peers.values().filter(move |peer| peer.claim.machine == machine && peer.claim.epoch == 0);
        let same = machine.into_iter().flat_map(claim);
        let rest = self.telling.iter().filter_map(|by| self.peers.get(by));
        let heard = same.chain(rest).take(MAX_HEARD).map(tell).collect();
        Message { claim: self.me, wall: now.wall, reach: now.reach, heard }
    }

    /// Hears a question, or the answer to what was `asked` at that time. Returns a time to which every `last` and `floor` are
    /// to be raised, before the view shows what follows from the message.
    pub fn hear(&mut self, message: &Message, asked: Option<Micros>, now: Now) -> Option<Micros> {
        if message.claim.by == self.me.by {
            // One list of peers may serve all servers, each of which then finds itself in it.
            self.answered += usize::from(asked.is_some());
            return None;
        }
        // The age of a question is not known; an answer is not older than its question.
        let at = asked.unwrap_or(now.boot);
        let claim = self.believed(&message.claim, now);
        if asked.is_some() {
            self.forget_earlier_lives(&claim);
        }
        self.learn(&claim, at, true, asked.is_some());
        if let Some(asked) = asked {
            self.answered += 1;
            self.last_answer = now.boot;
            if let Some(peer) = self.peers.get_mut(&claim.by) {
                let round_trip = now.boot - asked;
                self.clocks += usize::from(peer.clock.is_none());
                peer.clock = Some((message.wall.saturating_sub(now.boot - round_trip / 2), now.boot));
                (peer.round_trip, peer.answered) = (Some(round_trip), Some(asked));
            }
            self.dispute(&claim, now.boot);
        }

        let limit = self.limit(now);
        let followed = limit.is_some_and(|limit| message.reach <= limit);
        let middle = self.middle.0;
        let offset = self.settings.max_clock_offset;
        if let Some(peer) =
            self.peers.get_mut(&message.claim.by).filter(|peer| asked.is_some() || peer.answered.is_none())
        {
            let away = |middle| peer.clock.is_some_and(|(clock, _)| clock.abs_diff(middle) > offset as u64);
            peer.outlier = middle.is_some_and(|middle| !followed || away(middle));
            if !followed {
                peer.covered = None;
            } else if asked.is_some() {
                peer.covered = peer.covered.max(asked);
            }
        }
        for heard in &message.heard {
            if heard.claim.by == self.me.by || heard.age < 0 || heard.age > FORGOTTEN {
                continue;
            }
            let claim = self.believed(&heard.claim, now);
            self.learn(&claim, at.saturating_sub(heard.age), asked.is_some(), false);
            let covered = heard.behind.filter(|_| followed).and_then(|behind| asked?.checked_sub(behind.max(0)));
            if let Some(peer) = self.peers.get_mut(&heard.claim.by) {
                peer.covered = peer.covered.max(covered);
            }
        }
        followed.then_some(message.reach)
    }

    /// The latest stamp that is followed.
    fn limit(&mut self, now: Now) -> Option<Micros> {
        if self.clocks < 16 || now.boot - self.middle.1 >= self.settings.interval {
            self.middle = (self.find_middle(now), now.boot);
        }
        let own = now.wall.saturating_sub(now.boot);
        let least = self.middle.0.map(|middle| middle.min(own));
        least.map(|least| least.saturating_add(now.boot).saturating_add(self.settings.max_clock_offset))
    }

    /// The middle of the clocks, or the lower of two middle ones, if more than half of the clocks are near it.
    fn find_middle(&self, now: Now) -> Option<Micros> {
        let fresh = now.boot - FRESH * self.settings.interval;
        let heard = self.peers.values().filter_map(|peer| peer.clock).filter(|(_, at)| *at >= fresh);
        let mut clocks: Vec<Micros> = heard.map(|(clock, _)| clock).collect();
        clocks.push(now.wall.saturating_sub(now.boot));
        let place = (clocks.len() - 1) / 2;
        let middle = *clocks.select_nth_unstable(place).1;
        let near = |clock: &&Micros| clock.abs_diff(middle) <= self.settings.max_clock_offset as u64;
        (clocks.iter().filter(near).count() * 2 > clocks.len()).then_some(middle)
    }

    /// The claim without a take-over later than a right clock can have said.
    fn believed(&self, claim: &Claim, now: Now) -> Claim {
        let latest = now.wall.saturating_add(self.settings.max_clock_offset);
        Claim { taken_over: if claim.taken_over > latest { 0 } else { claim.taken_over }, ..*claim }
    }

    /// Learns a claim whose claimer was alive `at` this time; `answered` by the claimer itself, or told by another. Hearsay
    /// in a question is not `timed`: its age is not known, and dead servers would live on from message to message.
    fn learn(&mut self, claim: &Claim, at: Micros, timed: bool, answered: bool) {
        if !answered && self.is_past(claim) {
            return;
        }
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&claim.by) {
            self.forget_one();
        }
        let peer = self.peers.entry(claim.by).or_insert(Peer {
            claim: *claim,
            alive: at,
            answered: None,
            covered: None,
            clock: None,
            round_trip: None,
            outlier: false,
            told: u32::MAX,
        });
        let age = |claim: &Claim| (claim.taken_over, claim.epoch, claim.since);
        let newer = age(claim) > age(&peer.claim) && (answered || peer.answered.is_none());
        if peer.told == u32::MAX || newer {
            peer.told = 0;
            peer.claim = *claim;
            self.telling.insert(0, claim.by);
            self.telling.truncate(MAX_HEARD);
        }
        if timed {
            peer.alive = peer.alive.max(at);
        }
    }

    /// Whether a later life of the same server is this one or has answered. If two live from one disk at once, the earlier
    /// one is back as soon as it answers.
    fn is_past(&self, claim: &Claim) -> bool {
        let same = |me: &Claim| (me.by.system, me.by.timeline) == (claim.by.system, claim.by.timeline);
        let (first, last) = (claim.by, Incarnation { nonce: u64::MAX, ..claim.by });
        same(&self.me) && is_earlier_life(claim, &self.me)
            || self
                .peers
                .range(first..=last)
                .any(|(_, peer)| peer.answered.is_some() && is_earlier_life(claim, &peer.claim))
    }

    /// Forgets earlier lives of the server that answered.
    fn forget_earlier_lives(&mut self, claim: &Claim) {
        let from = Incarnation { nonce: 0, ..claim.by };
        let lives = self.peers.range(from..claim.by).filter(|(_, peer)| is_earlier_life(&peer.claim, claim));
        for by in lives.map(|(by, _)| *by).collect::<Vec<_>>() {
            self.peers.remove(&by);
        }
    }

    /// Makes room: a server that never answered goes first.
    fn forget_one(&mut self) {
        let oldest = self.peers.values().min_by_key(|peer| (peer.answered, peer.alive)).map(|peer| peer.claim.by);
        if let Some(by) = oldest {
            self.peers.remove(&by);
        }
    }

    /// Notes, of the servers that answered that they claim the own machine id, the one that goes on.
    fn dispute(&mut self, claim: &Claim, boot: Micros) {
        if !claim.disputes(&self.me) {
            return;
        }
        let old = self.rival.and_then(|rival| self.peers.get(&rival));
        let live = LIVE * self.settings.interval;
        let stands =
            old.is_some_and(|old| !claim.beats(&old.claim) && old.answered.is_some_and(|at| boot - at <= live));
        if !stands {
            self.rival = Some(claim.by);
        }
    }
}

#[cfg(test)]
mod tests;
