use super::*;
use proptest::prelude::*;

const HOUR: Micros = 3600 * SECOND;
const NOON: Micros = 1_800_000_000 * SECOND;
const INTERVAL: Micros = SECOND / 10;
const OFFSET: Micros = 10 * SECOND;

fn claim(machine: u64, nonce: u64, since: Micros) -> Claim {
    Claim { machine, by: Incarnation { system: 7, timeline: 1, nonce }, epoch: 0, taken_over: 0, since }
}

/// Servers whose wall clocks are off by these times, all with boot-time clock 0 at noon. Nonce and machine id are the
/// server's place unless said otherwise.
struct Servers {
    gossip: Vec<Gossip>,
    off: Vec<Micros>,
    reach: Vec<Micros>,
    boot: Micros,
    /// For each server, which of its peers it knows.
    known: Vec<Vec<Option<Incarnation>>>,
}

impl Servers {
    fn new(off: &[Micros]) -> Servers {
        let settings = Settings { interval: INTERVAL, max_clock_offset: OFFSET };
        let start =
            |(place, off): (usize, &Micros)| Gossip::start(claim(place as u64, place as u64, NOON + off), settings, 0);
        Servers {
            gossip: off.iter().enumerate().map(start).collect(),
            off: off.to_vec(),
            known: vec![vec![None; off.len() - 1]; off.len()],
            reach: off.iter().map(|off| NOON + off).collect(),
            boot: 0,
        }
    }

    fn now(&self, place: usize) -> Now {
        let wall = NOON + self.boot + self.off[place];
        Now { boot: self.boot, wall, reach: self.reach[place].max(wall) }
    }

    /// One server asks another, without delay.
    fn exchange(&mut self, from: usize, to: usize) {
        let question = self.gossip[from].message(self.now(from), None);
        let question: Message = question.to_string().parse().unwrap();
        self.hear(to, &question, None);
        let answer = self.gossip[to].message(self.now(to), Some(question.claim.machine));
        self.hear(from, &answer, Some(self.boot));
        self.known[from][if to < from { to } else { to - 1 }] = Some(answer.claim.by);
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
                for pick in self.gossip[from].round(&self.known[from], (round * 1000 + from) as u64, self.boot) {
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
        assert_eq!(servers.ahead(4), off, "nobody moves it by an hour");
        if off < 0 {
            assert!(servers.gossip[4].peers().all(|peer| peer.covered.is_none()), "its order is unknown");
        }
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
    let wall = servers.now(30).wall;
    servers.gossip[30].take_over(wall);
    servers.rounds(5);
    assert_eq!(servers.gossip[3].refused_by(servers.boot).map(|claim| claim.by.nonce), Some(30));
    assert_eq!(servers.refused().iter().filter(|refused| **refused).count(), 1);
}

#[test]
fn a_starting_server_finds_the_claimer_by_what_others_tell_and_the_dead_are_no_rivals() {
    let mut servers = Servers::new(&[0; 20]);
    servers.rounds(20);
    let late = claim(3, 99, NOON + servers.boot);
    servers.gossip[19] = Gossip::start(late, servers.gossip[0].settings, servers.boot);
    servers.known[19].fill(None);
    servers.exchange(19, 7);
    assert!(servers.gossip[19].peers().any(|peer| peer.claim.by.nonce == 3), "it was told");
    assert_eq!(servers.gossip[19].refused_by(servers.boot), None, "what is told stops nobody");
    servers.rounds(2);
    assert_eq!(servers.gossip[19].refused_by(servers.boot).map(|claim| claim.by.nonce), Some(3));
    // The first claimer is gone: nobody asks it, and it asks nobody.
    let [boot, live] = [servers.boot, LIVE * INTERVAL];
    servers.boot += live + INTERVAL;
    assert!(servers.gossip[19].refused_by(servers.boot).is_some(), "it may be cut off itself");
    servers.exchange(19, 7);
    assert_eq!(servers.gossip[19].refused_by(servers.boot), None, "not heard of since {boot}");
}

#[test]
fn a_promoted_standby_of_a_peer_goes_on_with_its_number_while_others_still_tell_of_the_dead_primary() {
    let mut servers = Servers::new(&[0; 5]);
    servers.rounds(10);
    let primary = servers.gossip[4].me;
    let by = Incarnation { timeline: 2, nonce: 77, ..primary.by };
    servers.boot += 2 * SECOND;
    let claim = Claim { by, since: NOON + servers.boot, ..primary };
    servers.gossip[4] = Gossip::start(claim, servers.gossip[0].settings, servers.boot);
    servers.known[4].fill(None);
    for _ in 0..40 {
        servers.rounds(1);
        assert_eq!(servers.refused(), [false; 5]);
    }
}

#[test]
fn an_earlier_life_of_a_server_is_forgotten_when_the_next_is_heard_and_twins_meet() {
    let mut servers = Servers::new(&[0; 4]);
    servers.rounds(10);
    let by = Incarnation { nonce: 500, ..servers.gossip[3].me.by };
    let next = Claim { by, ..servers.gossip[3].me };
    servers.gossip[3] = Gossip::start(next, servers.gossip[0].settings, servers.boot);
    servers.known[3].fill(None);
    servers.rounds(5);
    for place in 0..3 {
        let lives = servers.gossip[place].peers().filter(|peer| peer.claim.machine == 3);
        assert_eq!(lives.map(|peer| peer.claim.by.nonce).collect::<Vec<_>>(), [500]);
    }
    assert_eq!(servers.gossip[3].peers().count(), 3);
    // Two lives at once, from one disk: one of them goes on.
    servers.gossip[2].me = Claim { by: Incarnation { nonce: 600, ..by }, ..next };
    servers.rounds(5);
    assert_eq!(servers.refused(), [false, false, true, false]);
}

#[test]
fn what_anyone_invents_in_questions_stops_drags_and_displaces_nobody() {
    let mut servers = Servers::new(&[0; 4]);
    servers.rounds(10);
    for number in 0..3 * MAX_PEERS as u64 {
        let far = NOON + 100 * 365 * 24 * HOUR;
        let invented = Claim { taken_over: Micros::MAX, since: 0, ..claim(number % 4, 1000 + number, 0) };
        let heard = vec![Heard {
            claim: Claim { by: Incarnation { system: 9, ..invented.by }, ..invented },
            age: 0,
            behind: Some(0),
        }];
        servers.hear(0, &Message { claim: invented, wall: far, reach: far, heard }, None);
    }
    assert!(servers.gossip[0].peers.len() <= MAX_PEERS);
    assert_eq!(servers.gossip[0].peers().filter(|peer| peer.answered.is_some()).count(), 3);
    servers.rounds(5);
    assert_eq!(servers.refused(), [false; 4]);
    assert!((0..4).all(|place| servers.ahead(place) == 0));
    // What it passes on stops nobody else, and its own superuser still has the last word.
    let wall = servers.now(0).wall;
    servers.gossip[0].take_over(wall);
    assert_eq!(servers.gossip[0].me.taken_over, wall);
}

#[test]
fn what_is_said_in_the_name_of_who_answered_changes_nothing_of_it() {
    let mut servers = Servers::new(&[0; 4]);
    servers.gossip[1].me.machine = 0;
    servers.rounds(10);
    // 1 came later, and is refused because of 0. Someone says that 0 has gone to another number, or has begun another life.
    assert_eq!(servers.refused(), [false, true, false, false]);
    let first = servers.gossip[0].me;
    let known = |servers: &Servers| servers.gossip[1].peers().find(|peer| peer.claim.by == first.by).copied();
    let before = known(&servers);
    let far = NOON + 100 * 365 * 24 * HOUR;
    let wall = servers.now(1).wall;
    // All but when it was last heard of, and how often that was passed on.
    let state = |peer: Option<Peer>| peer.map(|peer| Peer { alive: 0, told: 0, ..peer });
    for invented in [
        Claim { machine: 9, since: NOON + HOUR, ..first },
        Claim { machine: 9, taken_over: wall, ..first },
        Claim { machine: 9, epoch: 7, ..first },
        Claim { by: Incarnation { nonce: u64::MAX, ..first.by }, ..first },
    ] {
        let heard = vec![Heard { claim: invented, age: 0, behind: Some(0) }];
        servers.hear(1, &Message { claim: invented, wall: far, reach: far, heard }, None);
        assert_eq!(state(known(&servers)), state(before));
        assert_eq!(servers.refused(), [false, true, false, false]);
    }
    servers.rounds(5);
    assert_eq!(servers.refused(), [false, true, false, false]);
}

#[test]
fn a_later_life_that_nobody_lives_hides_no_server() {
    let mut servers = Servers::new(&[0; 3]);
    let there = servers.gossip[2].me;
    let invented = Claim { by: Incarnation { nonce: u64::MAX, ..there.by }, ..there };
    for claim in [invented, there] {
        servers.hear(0, &Message { claim, wall: NOON, reach: NOON, heard: vec![] }, None);
    }
    assert!(servers.gossip[0].peers().any(|peer| peer.claim == there));
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
    assert_eq!(servers.gossip[0].round(&[None; 2], 5, 0).len(), 2);
    servers.exchange(0, 1);
    assert!(!servers.gossip[0].is_ready(1));
    servers.exchange(0, 2);
    assert!(servers.gossip[0].is_ready(1));
}

proptest! {
    /// No message overflows a number, drags a server beyond the limit, or makes two survivors.
    #[test]
    fn of_two_claims_one_survives_and_no_words_drag_beyond_the_limit(
        a in any::<(u8, i64, u64)>(), b in any::<(u8, i64, u64)>(), wall: i64, reach: i64, age: i64, behind: i64,
    ) {
        let [a, b] = [a, b].map(|(takeovers, since, nonce)| Claim { taken_over: takeovers.into(), ..claim(1, nonce, since) });
        prop_assert!(a.by == b.by || a.beats(&b) != b.beats(&a));
        let mut servers = Servers::new(&[0, 0, 0]);
        servers.rounds(2);
        let heard = vec![Heard { claim: b, age, behind: Some(behind) }];
        servers.hear(0, &Message { claim: a, wall, reach, heard }, Some(0));
        prop_assert!(servers.ahead(0) <= OFFSET);
    }
}
