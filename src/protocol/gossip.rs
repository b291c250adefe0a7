//! Gossip: what servers tell each other so that their clocks follow each other and a machine id that was given to two
//! is found. It corrects mistakes and makes an order good; grants are what prevents duplicates.
//!
//! Each [`Settings::interval`] a server asks [`FANOUT`] others; question and answer are a [`Message`] each. The highest
//! stamp in it is followed, by raising every `last` to it and `floor` with it; so a server's own highest stamp stands
//! above all that it heard, and goes on from mouth to mouth. It is followed only up to the middle of the *wall clocks*
//! heard first-hand, the own one among them, + `max_clock_offset`: a dragged server drags nobody's wall clock, and
//! one that is wrong can neither stop nor drag the others.
//!
//! All times without a name are of the own boot-time clock.

use super::{
    Micros, SECOND,
    grants::Incarnation,
    message::{Claim, Heard, MAX_HEARD, Message},
};
use std::{cmp::Ordering, collections::BTreeMap};

/// How many are asked in a round.
pub const FANOUT: usize = 3;

/// Of a first-hand clock reading, and of the sign of life of another claimer: how many intervals it counts.
const FRESH: Micros = 100;
const LIVE: Micros = 30;

/// The first id waits for the answers of one round, but no longer than this.
const FIRST_ROUND: Micros = SECOND;

/// Who was not heard of for so long is forgotten.
const FORGOTTEN: Micros = 600 * SECOND;

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub interval: Micros,
    pub max_clock_offset: Micros,
}

impl Claim {
    /// Whether both cannot be right. What an authority granted cannot collide.
    fn disputes(&self, other: &Claim) -> bool {
        self.machine == other.machine && self.by != other.by && (self.epoch == 0 || other.epoch == 0)
    }

    /// A total order, so that there is one survivor whatever the paths of messages: the more often taken over, then
    /// the earlier, then the smaller nonce.
    fn beats(&self, other: &Claim) -> bool {
        let key = |claim: &Claim| (std::cmp::Reverse(claim.takeovers), claim.since, claim.by.nonce, claim.by);
        key(self).cmp(&key(other)) == Ordering::Less
    }
}

/// Another server, for the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub claim: Claim,
    /// When it is known to have been alive.
    pub alive: Micros,
    /// Its ids from before this are below every id that this server gives: the order bound is the time since. None:
    /// order unknown.
    pub covered: Option<Micros>,
    /// Its wall clock less the own boot-time clock, and when that was heard first-hand.
    pub clock: Option<(Micros, Micros)>,
    pub round_trip: Option<Micros>,
    /// Its clock or its stamps are too far from the others' to be followed.
    pub outlier: bool,
    /// In how many rounds others were told of this claim.
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
    /// Who is told of in this round.
    telling: Vec<Incarnation>,
    /// The strongest claim to the own machine id that was heard.
    rival: Option<Incarnation>,
    /// The middle of the wall clocks less the own boot-time clock, and when it was found; none: nobody can say.
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

    /// Whether the first id may be given: one round was answered, or took too long.
    pub fn is_ready(&self, boot: Micros) -> bool {
        self.asked > 0 && self.answered >= self.asked || boot - self.started >= FIRST_ROUND
    }

    /// The claim because of which this server may give no ids, if there is one. It goes on when the other is no longer
    /// heard of, unless that may be because it hears nobody.
    pub fn refused_by(&self, boot: Micros) -> Option<Claim> {
        let rival = self.peers.get(&self.rival?)?;
        let live = LIVE * self.settings.interval;
        let stands = boot - rival.alive <= live || boot - self.last_answer > live;
        Some(rival.claim).filter(|claim| stands && claim.disputes(&self.me) && claim.beats(&self.me))
    }

    /// The machine id is to be this server's, whoever else claims it.
    pub fn take_over(&mut self) {
        let claims = self.peers.values().map(|peer| &peer.claim).filter(|claim| claim.disputes(&self.me));
        let highest = claims.map(|claim| claim.takeovers).max().unwrap_or(0);
        self.me.takeovers = self.me.takeovers.max(highest.saturating_add(1));
    }

    /// Begins a round: whom of `peers` to ask. `random` is any number, another one each time.
    pub fn round(&mut self, peers: usize, random: u64, boot: Micros) -> Vec<usize> {
        self.peers.retain(|_, peer| boot - peer.alive < FORGOTTEN);
        // Half is what was told least: news, and all others in turn. Half is what is freshest, so that it can be passed
        // on while it is of use.
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
        let (mut chosen, mut state) = (Vec::with_capacity(FANOUT), random);
        while chosen.len() < FANOUT.min(peers) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pick = ((state >> 33) as usize) % peers;
            if !chosen.contains(&pick) {
                chosen.push(pick);
            }
        }
        if self.asked == 0 {
            self.asked = chosen.len();
        }
        chosen
    }

    /// What to tell now; to a server that claims `machine`, first of others that claim it.
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

    /// Hears a question, or the answer to what was `asked` then. What comes back is a time up to which every `last` and
    /// `floor` are to be raised, before what the view states is shown.
    pub fn hear(&mut self, message: &Message, asked: Option<Micros>, now: Now) -> Option<Micros> {
        if message.claim.by == self.me.by {
            return None;
        }
        // A question's age is not known, an answer is not older than what it answers.
        let at = asked.unwrap_or(now.boot);
        self.learn(&message.claim, at, true);
        let round_trip = asked.map(|asked| now.boot - asked);
        if let Some(peer) = self.peers.get_mut(&message.claim.by) {
            self.clocks += usize::from(peer.clock.is_none());
            peer.clock = Some((message.wall.saturating_sub(now.boot - round_trip.unwrap_or(0) / 2), now.boot));
            peer.round_trip = round_trip.or(peer.round_trip);
        }
        if asked.is_some() {
            self.answered += 1;
            self.last_answer = now.boot;
        }

        let limit = self.limit(now);
        let followed = limit.is_some_and(|limit| message.reach <= limit);
        let middle = self.middle.0;
        let offset = self.settings.max_clock_offset;
        if let Some(peer) = self.peers.get_mut(&message.claim.by) {
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
            self.learn(&heard.claim, at.saturating_sub(heard.age), asked.is_some());
            let covered = heard.behind.filter(|_| followed).and_then(|behind| asked?.checked_sub(behind.max(0)));
            if let Some(peer) = self.peers.get_mut(&heard.claim.by) {
                peer.covered = peer.covered.max(covered);
            }
        }
        followed.then_some(message.reach)
    }

    /// Up to where stamps are followed.
    fn limit(&mut self, now: Now) -> Option<Micros> {
        if self.clocks < 16 || now.boot - self.middle.1 >= self.settings.interval {
            self.middle = (self.find_middle(now), now.boot);
        }
        self.middle.0.map(|middle| middle.saturating_add(now.boot).saturating_add(self.settings.max_clock_offset))
    }

    /// The middle of the clocks, the lower of two, if more than half of them are near it.
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

    /// A claim whose claimer was alive `at` then. Hearsay in a question tells only of claims, not of life: its age is
    /// not known, and the dead would live on from mouth to mouth.
    fn learn(&mut self, claim: &Claim, at: Micros, timed: bool) {
        let peer = self.peers.entry(claim.by).or_insert(Peer {
            claim: *claim,
            alive: at,
            covered: None,
            clock: None,
            round_trip: None,
            outlier: false,
            told: u32::MAX,
        });
        let age = |claim: &Claim| (claim.takeovers, claim.epoch, claim.since);
        let newer = age(claim) > age(&peer.claim);
        if peer.told == u32::MAX || newer {
            peer.told = 0;
            peer.claim = *claim;
            self.telling.insert(0, claim.by);
            self.telling.truncate(MAX_HEARD);
        }
        if timed {
            peer.alive = peer.alive.max(at);
        }
        let claim = peer.claim;
        if claim.disputes(&self.me) {
            let old = self.rival.and_then(|rival| self.peers.get(&rival));
            let live = LIVE * self.settings.interval;
            if old.is_none_or(|old| claim.beats(&old.claim) || at - old.alive > live) {
                self.rival = Some(claim.by);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Micros = 3600 * SECOND;
    const NOON: Micros = 1_800_000_000 * SECOND;
    const INTERVAL: Micros = SECOND / 10;
    const OFFSET: Micros = 10 * SECOND;

    fn claim(machine: u64, nonce: u64, since: Micros) -> Claim {
        Claim { machine, by: Incarnation { system: 7, timeline: 1, nonce }, epoch: 0, takeovers: 0, since }
    }

    /// Servers whose wall clocks are off by so much, all with boot-time clock 0 at noon. Nonce and machine id are the
    /// place unless said otherwise.
    struct Servers {
        gossip: Vec<Gossip>,
        off: Vec<Micros>,
        reach: Vec<Micros>,
        boot: Micros,
    }

    impl Servers {
        fn new(off: &[Micros]) -> Servers {
            let settings = Settings { interval: INTERVAL, max_clock_offset: OFFSET };
            let start = |(place, off): (usize, &Micros)| {
                Gossip::start(claim(place as u64, place as u64, NOON + off), settings, 0)
            };
            Servers {
                gossip: off.iter().enumerate().map(start).collect(),
                off: off.to_vec(),
                reach: off.iter().map(|off| NOON + off).collect(),
                boot: 0,
            }
        }

        fn now(&self, place: usize) -> Now {
            let wall = NOON + self.boot + self.off[place];
            Now { boot: self.boot, wall, reach: self.reach[place].max(wall) }
        }

        /// One asks another, without delay.
        fn exchange(&mut self, from: usize, to: usize) {
            let question = self.gossip[from].message(self.now(from), None);
            let question: Message = question.to_string().parse().unwrap();
            self.hear(to, &question, None);
            let answer = self.gossip[to].message(self.now(to), Some(question.claim.machine));
            self.hear(from, &answer, Some(self.boot));
        }

        fn hear(&mut self, place: usize, message: &Message, asked: Option<Micros>) {
            let now = self.now(place);
            let followed = self.gossip[place].hear(message, asked, now);
            self.reach[place] = now.reach.max(followed.unwrap_or(0));
        }

        fn rounds(&mut self, count: usize) {
            for round in 0..count {
                self.boot += INTERVAL;
                for from in 0..self.off.len() {
                    let peers = self.off.len() - 1;
                    for pick in self.gossip[from].round(peers, (round * 1000 + from) as u64, self.boot) {
                        self.exchange(from, if pick < from { pick } else { pick + 1 });
                    }
                }
            }
        }

        fn ahead(&self, place: usize) -> Micros {
            self.now(place).reach - NOON - self.boot
        }

        fn refused(&self) -> Vec<bool> {
            self.gossip.iter().map(|gossip| gossip.refused_by(self.boot).is_some()).collect()
        }
    }

    #[test]
    fn clocks_within_the_limit_follow_each_other_from_the_first_message_on() {
        let mut servers = Servers::new(&[0, 3 * SECOND]);
        servers.exchange(0, 1);
        assert_eq!(servers.ahead(0), 3 * SECOND);
        assert_eq!(servers.gossip[0].peers().map(|peer| peer.covered).collect::<Vec<_>>(), [Some(0)]);
        assert!(servers.gossip[0].peers().all(|peer| !peer.outlier && peer.round_trip == Some(0)));
    }

    #[test]
    fn one_of_five_an_hour_off_neither_drags_nor_stops_the_four_and_is_reported() {
        for off in [HOUR, -HOUR] {
            let mut servers = Servers::new(&[0, 1000, 2000, 3000, off]);
            servers.rounds(20);
            for place in 0..4 {
                assert!((0..=3000).contains(&servers.ahead(place)), "{place} is at {}", servers.ahead(place));
                let outliers = servers.gossip[place].peers().filter(|peer| peer.outlier);
                assert_eq!(outliers.map(|peer| peer.claim.machine).collect::<Vec<_>>(), [4]);
                let mut followed = servers.gossip[place].peers().filter(|peer| !peer.outlier);
                assert!(followed.all(|peer| peer.covered.is_some_and(|at| servers.boot - at <= 2 * INTERVAL)));
            }
            assert_eq!(servers.ahead(4), if off > 0 { off } else { 3000 }, "who is behind follows");
        }
    }

    #[test]
    fn of_two_an_hour_apart_nobody_can_say_who_is_wrong() {
        let mut servers = Servers::new(&[0, HOUR]);
        servers.rounds(5);
        assert_eq!((servers.ahead(0), servers.ahead(1)), (0, HOUR));
        assert!(servers.gossip.iter().all(|gossip| gossip.peers().all(|peer| peer.covered.is_none())));
        assert_eq!(servers.refused(), [false, false]);
    }

    #[test]
    fn the_first_claimer_of_a_machine_id_goes_on_and_take_over_turns_it_round() {
        let mut servers = Servers::new(&[0; 50]);
        servers.gossip[30].me.machine = 3;
        servers.gossip[30].me.since += 1;
        servers.rounds(5);
        assert_eq!(servers.gossip[30].refused_by(servers.boot).map(|claim| claim.by.nonce), Some(3));
        assert_eq!(servers.refused().iter().filter(|refused| **refused).count(), 1);
        servers.gossip[30].take_over();
        servers.rounds(5);
        assert_eq!(servers.gossip[3].refused_by(servers.boot).map(|claim| claim.by.nonce), Some(30));
        assert_eq!(servers.refused().iter().filter(|refused| **refused).count(), 1);
    }

    #[test]
    fn a_starting_server_finds_the_claimer_with_its_first_question_and_the_dead_are_no_rivals() {
        let mut servers = Servers::new(&[0; 20]);
        servers.rounds(20);
        let late = claim(3, 99, NOON + servers.boot);
        servers.gossip[19] = Gossip::start(late, servers.gossip[0].settings, servers.boot);
        servers.exchange(19, 7);
        assert_eq!(servers.gossip[19].refused_by(servers.boot).map(|claim| claim.by.nonce), Some(3));
        // The first claimer is gone: nobody asks it, and it asks nobody.
        let [boot, live] = [servers.boot, LIVE * INTERVAL];
        servers.boot += live + INTERVAL;
        assert!(servers.gossip[19].refused_by(servers.boot).is_some(), "it may be cut off itself");
        servers.exchange(19, 7);
        assert_eq!(servers.gossip[19].refused_by(servers.boot), None, "not heard of since {boot}");
    }

    #[test]
    fn granted_numbers_are_in_no_dispute_with_each_other() {
        let mut servers = Servers::new(&[0; 3]);
        servers.gossip[1].me = Claim { machine: 2, epoch: 4, ..servers.gossip[1].me };
        servers.gossip[2].me.epoch = 5;
        servers.rounds(3);
        assert_eq!(servers.refused(), [false; 3]);
        servers.gossip[2].me.epoch = 0;
        servers.rounds(3);
        assert_eq!(servers.refused().iter().filter(|refused| **refused).count(), 1);
    }

    #[test]
    fn the_first_id_waits_for_one_round_and_at_most_a_second() {
        let mut servers = Servers::new(&[0; 3]);
        assert!(!servers.gossip[0].is_ready(0) && servers.gossip[0].is_ready(SECOND));
        assert_eq!(servers.gossip[0].round(2, 5, 0).len(), 2);
        servers.exchange(0, 1);
        assert!(!servers.gossip[0].is_ready(1));
        servers.exchange(0, 2);
        assert!(servers.gossip[0].is_ready(1));
    }

    proptest! {
        /// Nothing that anyone may say overflows, drags beyond the limit, or makes two survivors.
        #[test]
        fn of_two_claims_one_survives_and_no_words_drag_beyond_the_limit(
            a in any::<(u8, i64, u64)>(), b in any::<(u8, i64, u64)>(), wall: i64, reach: i64, age: i64, behind: i64,
        ) {
            let [a, b] = [a, b].map(|(takeovers, since, nonce)| Claim { takeovers: takeovers.into(), ..claim(1, nonce, since) });
            prop_assert!(a.by == b.by || a.beats(&b) != b.beats(&a));
            let mut servers = Servers::new(&[0, 0, 0]);
            servers.rounds(2);
            let heard = vec![Heard { claim: b, age, behind: Some(behind) }];
            servers.hear(0, &Message { claim: a, wall, reach, heard }, Some(0));
            prop_assert!(servers.ahead(0) <= OFFSET);
        }
    }
}
