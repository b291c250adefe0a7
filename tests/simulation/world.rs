// One simulated world: servers, an authority with standbys, a network that does anything, and the promises to be kept.
// Everything follows from the seed. Servers and authority run the mechanism and the protocols; the calls around them, which
// the workers and the authority's SQL functions make, are written down here a second time.
//
// Included once for the protocols as they stand and once for each mutant.

use super::{Fault, Plan};
use mechanism::{
    allocator::Words,
    clock::{Clock, Reading},
    horizon::Position,
    layout::SERVER,
    loan,
};
use protocol::{
    Micros, SECOND,
    blocks::{Block, Blocks},
    book::{self, Book, Limits},
    gossip::{Gossip, Now, Settings},
    grants::{Answer, Change, Incarnation, Member, Question, Said},
    lease::Lease,
    message::{Claim, Heard, Message},
    tickets::{Request, Run, Ticket, Tickets},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{cmp::Reverse, collections::BinaryHeap, collections::HashMap};

const NOON: Micros = 1_800_000_000 * SECOND;
const LEAD: Micros = 4 * SECOND;
const BORROW: Micros = SECOND;
const OFFSET: Micros = 10 * SECOND;
/// The same for members of the authority, whose grants are short here.
const NEAR: Micros = SECOND;
const BLOCK: u64 = 20;

/// The nodes of the authority have addresses from here on.
const NODES: usize = 1 << 20;

/// The machine id of the authority's strict ids.
const AUTHORITY: u64 = 0;

/// idgen.max_clock_jump.
const JUMP: Micros = 86_400 * SECOND;

/// How long after a clock was set right ids must be given again, and how long an idle worker sleeps.
const BACK: Micros = SECOND;
const LOOK: Micros = SECOND / 2;

/// The clocks of a machine, and the server on it.
#[derive(Default)]
struct Machine {
    /// The boot-time clock at true time 0, and how many parts in a million it is fast.
    zero: Micros,
    fast: Micros,
    /// Wall clock less boot-time clock.
    wall: Micros,
    clock: Clock,
    words: Words,
    started: Micros,
    /// The horizon on disk.
    horizon: Micros,
    /// Up to where ids are permitted by the horizon; on a primary, once its standbys have it.
    limit: Micros,
}

/// A copy is another server, which has to be started.
impl Clone for Machine {
    fn clone(&self) -> Self {
        Machine { words: Words::default(), ..*self }
    }
}

impl Machine {
    fn boot(&self, time: Micros) -> Micros {
        self.zero + time + time * self.fast / 1_000_000
    }

    fn reading(&self, time: Micros) -> Reading {
        let boot = self.boot(time);
        // One clock is read after the other: they never agree to the microsecond.
        Reading { boot, wall: boot + self.wall + time % 7 }
    }

    fn now(&self, time: Micros) -> Now {
        let Reading { boot, wall } = self.reading(time);
        Now { boot, wall, reach: self.reach() }
    }

    /// The end of the tick of the last id.
    fn reach(&self) -> Micros {
        SERVER.tick_end(self.words.last())
    }

    fn effective(&self, time: Micros) -> Micros {
        self.clock.at(self.boot(time))
    }

    /// Shared memory is new; only the horizon is known.
    fn start(&mut self, time: Micros) {
        let boot = self.boot(time);
        self.clock = Clock::start(self.reading(time), self.horizon, LEAD, JUMP);
        (self.words, self.limit, self.started) = (Words::default(), 0, boot);
        let floor = loan::at_start(self.horizon, self.clock.at(boot), LEAD, BORROW);
        self.words.raise_floor(loan::floor(floor, boot));
        self.words.raise(SERVER.stamp_at(self.horizon).saturating_sub(1));
    }

    /// Follows the wall clock. Returns where the horizon moves to, if it is due.
    fn follow(&mut self, time: Micros) -> Option<Micros> {
        let (boot, before) = (self.boot(time), self.clock);
        self.clock = before.follow(self.reading(time), JUMP);
        if self.clock.offset < before.offset {
            self.words.raise_floor(loan::floor(before.at(boot), boot));
        }
        let (clock, reach) = (self.clock.at(boot), SERVER.tick_end(self.words.last() + 1));
        let position = Position { clock, reach, horizon: self.horizon, lead: LEAD, up: boot - self.started };
        position.is_due().then(|| position.target())
    }

    /// Gives no id below `reach`, which is no loan.
    fn raise(&mut self, time: Micros, reach: Micros) {
        self.words.raise_floor(loan::floor(reach, self.boot(time)));
        self.words.raise(SERVER.stamp_at(reach).saturating_sub(1));
    }

    /// Permits the ids of `machine` from before `until`, as far as the horizon permits them.
    fn open(&self, machine: u64, until: Micros) {
        self.words.open(&SERVER, SERVER.stamp_at(self.limit.min(until)), machine);
    }

    fn take(&mut self, time: Micros, want: u64) -> Option<Run> {
        let (now, boot) = (self.effective(time), self.boot(time));
        let latest = loan::latest(now, self.words.floor(), boot, BORROW);
        let run = self.words.take(&SERVER, now, latest, want).ok()?;
        Some(Run { first: run.first, count: run.count, machine: run.machine })
    }
}

/// A caller that may wait for a strict id.
#[derive(Clone, Copy, Default)]
struct Caller {
    generation: u32,
    waits: bool,
    /// The highest strict id that any caller had when this call began.
    above: u64,
}

#[derive(Clone)]
struct Server {
    up: bool,
    life: u32,
    /// The clock was never off by more than half a second, and never stepped.
    healthy: bool,
    /// Started once, with a right clock.
    fresh: bool,
    cut_in: bool,
    cut_out: bool,
    machine: Machine,
    member: Member,
    gossip: Gossip,
    /// The peers that answered, by place.
    peers: HashMap<usize, Incarnation>,
    started: Micros,
    next_round: Micros,
    tickets: Tickets2,
    callers: [Caller; 4],
    node: usize,
    /// Whether the node was asked if it knows the grant.
    known: bool,
    answered: Micros,
    blocks: Blocks,
    /// The block in use.
    block: Option<Block>,
    used: u64,
    counted: u64,
    asked_block: Micros,
    /// The highest id given, and every id with its time.
    given: u64,
    history: Vec<(Micros, u64)>,
}

/// Tickets are never copied with a server.
#[derive(Default)]
struct Tickets2(Tickets);

impl Clone for Tickets2 {
    fn clone(&self) -> Self {
        Tickets2::default()
    }
}

#[derive(Clone, Copy)]
enum Record {
    Row(book::Row),
    State(Micros, u64),
    Horizon(Micros),
    Block(u64),
}

/// One PostgreSQL server of the authority.
struct Node {
    up: bool,
    life: u32,
    paused: Micros,
    machine: Machine,
    log: Vec<Record>,
    book: Book,
    block: u64,
    /// In recovery, it follows this node.
    follows: Option<usize>,
    /// Its synchronous standbys, in the order of their names, and how many records each has.
    standbys: Vec<(usize, usize)>,
    /// When it grants again, on its own boot-time clock.
    grants_from: Micros,
    lease: Lease,
    /// Answers that wait until their records are durable.
    answers: Vec<(usize, Packet)>,
    moves: Vec<(usize, Micros, Micros)>,
}

#[derive(Clone)]
enum Body {
    Ask(Question),
    Granted(Answer, Incarnation),
    Strict(Request),
    Run(u64, Run),
    Refused,
    WantBlock(u64),
    Block(Block),
    Question(Message, Micros),
    Answer(Message, Micros),
}

#[derive(Clone)]
struct Packet {
    from: usize,
    to: usize,
    /// The life of the server that asks: the answer is not for another life.
    life: u32,
    body: Body,
}

enum Event {
    Work(usize, u32),
    Call(usize, u32),
    Node(usize, u32),
    Deliver(Packet),
    /// This many records have come from the first node to the second.
    Replicate(usize, usize, usize),
    Acknowledge(usize, usize, usize),
    Promote(usize, u32),
    Attach(usize, u32),
    Start(usize, u32),
    /// Whether the clocks of a server's or node's machine run from now on, and how far off its wall clock is set.
    Clock(usize, bool, Micros),
    Chaos,
}

struct Timed(Micros, u64, Event);

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Timed {}
impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// The stamps of one owner under a machine id. An owner: a server or node, and the beginning of its grant.
struct Span {
    owner: (usize, u64),
    low: u64,
    high: u64,
}

/// A grant that an answer carried.
#[derive(Clone, Copy, Debug)]
struct Granted {
    holder: Incarnation,
    epoch: u64,
    from: Micros,
    until: Micros,
    open: bool,
}

pub struct World {
    plan: Plan,
    random: SmallRng,
    time: Micros,
    events: BinaryHeap<Reverse<Timed>>,
    sequence: u64,
    servers: Vec<Server>,
    nodes: Vec<Node>,
    limits: Limits,
    /// How many standbys are named, and how many must acknowledge; if not all must, the first of those that are connected.
    named: usize,
    needed: usize,
    by_hand: bool,
    loss: f64,
    slow: f64,
    hours: bool,
    /// Whether the authority may be set back to an earlier time.
    restores: bool,
    drags: bool,
    /// The longest way of a record to a standby, and of its acknowledgement back.
    lag: Micros,
    settings: Settings,
    // The state of the checks.
    /// When the last clock will have been set right.
    right: Micros,
    spans: HashMap<u64, Vec<Span>>,
    granted: HashMap<u64, Vec<Granted>>,
    /// An authority was set back to an earlier time: everything but grants may repeat.
    set_back: bool,
    block_of: HashMap<u64, usize>,
    strict: u64,
    broken: Option<String>,
    pub counts: Counts,
}

/// Counts what happened, so that a world in which nothing happens does not pass for a right one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    pub ids: u64,
    pub strict: u64,
    pub blocks: u64,
    pub grants: u64,
    pub promotions: u64,
    pub restored: u64,
    pub clones: u64,
    pub messages: u64,
    pub gossip: u64,
}

impl World {
    pub fn new(plan: Plan) -> World {
        let mut random = SmallRng::seed_from_u64(plan.seed);
        let calm = plan.calm || plan.clocks;
        let mut world = World {
            time: 0,
            events: BinaryHeap::new(),
            sequence: 0,
            servers: vec![],
            nodes: vec![],
            limits: Limits {
                machines: 0..=plan.servers as u64 + 3,
                own: Some(AUTHORITY),
                length: if plan.clocks { JUMP } else { random.random_range(2..8) * SECOND },
                grace: 0,
                wall: 0,
                max_clock_offset: NEAR,
            },
            named: if plan.fault == Some(Fault::UnsafeNames) { 2 } else { random.random_range(1..=3) },
            needed: 0,
            by_hand: plan.calm || random.random_ratio(1, 5),
            loss: if calm { 0.0 } else { [0.0, 0.01, 0.1][random.random_range(0..3)] },
            slow: if calm { 0.0 } else { [0.0, 0.02, 0.2][random.random_range(0..3)] },
            drags: random.random_ratio(1, 3),
            lag: [5000, 300_000][random.random_range(0..2)],
            hours: !calm && random.random_ratio(1, 4),
            restores: !calm && (plan.set_back || random.random_ratio(1, 4)),
            settings: Settings { interval: plan.interval, max_clock_offset: OFFSET },
            right: 0,
            spans: HashMap::new(),
            granted: HashMap::new(),
            set_back: false,
            block_of: HashMap::new(),
            strict: 0,
            broken: None,
            counts: Counts::default(),
            random,
            plan,
        };
        world.needed = if plan.fault == Some(Fault::UnsafeNames) { 1 } else { world.named };
        for place in 0..plan.servers {
            world.add_server(place);
        }
        world.add_node(None);
        // The fleet is new: no member has anything to show.
        world.nodes[0].grants_from = 0;
        world.attach(0);
        if plan.clocks {
            (0..plan.servers).for_each(|place| world.misset(place));
            world.misset(NODES);
        }
        if !calm {
            world.after(SECOND, Event::Chaos);
        }
        world
    }

    /// Runs the world. Returns the first promise that was broken, if any.
    pub fn run(&mut self) -> Option<String> {
        while self.broken.is_none() && self.step() {}
        self.broken.take()
    }

    /// Runs a calm world in which the last server has the number of the first. Returns how long after its start one of the
    /// two is refused, how long after its take-over the first is refused, and the order bounds.
    pub fn measure(&mut self) -> (Option<Micros>, Option<Micros>, Vec<Micros>) {
        let last = self.plan.servers - 1;
        let (mut found, mut turned, mut taken) = (None, None, 0);
        while self.step() {
            let refused = |world: &World, place: usize| {
                let server = &world.servers[place];
                server.up && server.gossip.refused_by(server.machine.boot(world.time)).is_some()
            };
            if found.is_none() && (refused(self, last) || refused(self, 0)) {
                found = Some(self.time - self.plan.length / 2);
            }
            if found.is_some() && taken == 0 && self.time > self.plan.length * 3 / 4 {
                taken = self.time;
                self.take_over(last);
            }
            if taken != 0 && turned.is_none() && refused(self, 0) {
                turned = Some(self.time - taken);
            }
        }
        let bound = |server: &Server| {
            let boot = server.machine.boot(self.time);
            server
                .gossip
                .peers()
                .map(|peer| peer.covered.map_or(Micros::MAX, |covered| boot - covered))
                .collect::<Vec<_>>()
        };
        (found, turned, self.servers.iter().flat_map(bound).collect())
    }

    fn step(&mut self) -> bool {
        let Some(Reverse(Timed(time, _, event))) = self.events.pop() else { return false };
        if time > self.plan.length {
            return false;
        }
        self.time = time;
        match event {
            Event::Work(place, life) if self.lives(place, life) => self.work(place),
            Event::Call(place, life) if self.lives(place, life) => self.call(place),
            Event::Start(place, life) if self.servers[place].life == life => self.start(place),
            Event::Deliver(packet) if packet.to >= NODES => self.serve(packet),
            Event::Deliver(packet) => self.hear(packet),
            Event::Node(node, life) if self.is_primary(node, life) => self.work_node(node),
            Event::Replicate(from, to, count) => self.replicate(from, to, count),
            Event::Acknowledge(from, to, count) => self.acknowledge(from, to, count),
            Event::Promote(node, life) if self.nodes[node].life == life => self.promote(node),
            Event::Attach(node, life) if self.is_primary(node, life) => self.attach(node),
            Event::Clock(place, runs, off) => self.set_clock(place, runs, off),
            Event::Chaos => self.chaos(),
            _ => (),
        }
        true
    }

    fn after(&mut self, wait: Micros, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse(Timed(self.time + wait, self.sequence, event)));
    }

    fn claim(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            self.broken = Some(format!("at {} us: {}", self.time, what()));
        }
    }

    // The network.

    fn send(&mut self, from: usize, to: usize, life: u32, body: Body) {
        let cut = |place: usize, way: fn(&Server) -> bool| self.servers.get(place).is_some_and(way);
        if cut(from, |server| server.cut_out) || cut(to, |server| server.cut_in) || self.random.random_bool(self.loss) {
            return;
        }
        let packet = Packet { from, to, life, body };
        if self.random.random_bool(self.slow / 2.0) {
            let wait = self.random.random_range(0..4 * SECOND);
            self.after(wait, Event::Deliver(packet.clone()));
        }
        let wait = self.delay();
        self.after(wait, Event::Deliver(packet));
    }

    fn delay(&mut self) -> Micros {
        let longest = if self.random.random_bool(self.slow) { 4 * SECOND } else { self.plan.delay };
        self.random.random_range(longest / 10..=longest)
    }

    // Servers.

    fn clocks(&mut self) -> Machine {
        let zero = self.random.random_range(0..1000 * SECOND);
        let fast = self.random.random_range(-100..=100);
        // Most clocks are right, some a few seconds off, a few wildly.
        let off = match self.random.random_range(0..20) {
            _ if self.plan.calm => self.random.random_range(-100_000..=100_000),
            0 if self.hours => self.random.random_range(-3600 * SECOND..3600 * SECOND),
            1..=2 if self.drags => self.random.random_range(-9 * SECOND..9 * SECOND),
            _ => self.random.random_range(-SECOND / 2..SECOND / 2),
        };
        Machine { zero, fast, wall: NOON - zero + off, ..Machine::default() }
    }

    fn add_server(&mut self, place: usize) {
        let me = Incarnation { system: place as u64, timeline: 1, nonce: place as u64 };
        let machine = self.clocks();
        let healthy = (machine.wall + machine.zero - NOON).abs() <= SECOND / 2;
        // Numbers by setting; the last server of a calm world gets a number that is in use.
        let number = if self.plan.duplicate && place == self.plan.servers - 1 { 1 } else { place as u64 + 1 };
        let claim = Claim { machine: number, by: me, epoch: u64::from(!self.by_hand), ..Claim::default() };
        self.servers.push(Server {
            up: false,
            life: 0,
            healthy,
            fresh: true,
            cut_in: false,
            cut_out: false,
            machine,
            member: Member::new(me),
            gossip: Gossip::start(claim, self.settings, 0),
            peers: HashMap::new(),
            started: 0,
            next_round: 0,
            tickets: Tickets2::default(),
            callers: [Caller::default(); 4],
            node: 0,
            known: true,
            answered: 0,
            blocks: Blocks::new(&(BLOCK..=8 * BLOCK)),
            block: None,
            used: 0,
            counted: 0,
            asked_block: 0,
            given: 0,
            history: vec![],
        });
        let late = self.plan.duplicate && place == self.plan.servers - 1;
        let wait = if late { self.plan.length / 2 } else { self.random.random_range(0..=self.plan.spread) };
        self.after(wait, Event::Start(place, 0));
    }

    fn lives(&self, place: usize, life: u32) -> bool {
        self.servers[place].up && self.servers[place].life == life
    }

    fn start(&mut self, place: usize) {
        let time = self.time;
        let server = &mut self.servers[place];
        server.up = true;
        server.started = time;
        server.machine.start(time);
        let now = server.machine.now(time);
        let mut me = server.gossip.me;
        if me.since == 0 {
            me.since = now.wall;
        }
        server.gossip = Gossip::start(me, self.settings, now.boot);
        server.peers.clear();
        server.member = Member::start(me.by, Some(Member { attempt: 0, ..server.member.clone() }));
        server.known = false;
        server.blocks = Blocks::new(&(BLOCK..=8 * BLOCK));
        server.block = None;
        server.tickets = Tickets2::default();
        for caller in &mut server.callers {
            (caller.generation, caller.waits) = (caller.generation + 1, false);
        }
        if let Some(held) = server.member.held {
            server.machine.raise(time, held.from);
        }
        let life = server.life;
        self.after(0, Event::Work(place, life));
        self.after(SECOND / 4, Event::Call(place, life));
    }

    fn work(&mut self, place: usize) {
        let time = self.time;
        let (by_hand, life) = (self.by_hand, self.servers[place].life);
        let server = &mut self.servers[place];
        if let Some(target) = server.machine.follow(time) {
            (server.machine.horizon, server.machine.limit) = (target, target);
        }
        open(server, by_hand);
        let clock = server.machine.effective(time);
        let unknown = server.member.held.filter(|_| !server.known).map(|held| held.renewal());
        let (ask, node, wall) = (server.member.ask(clock).or(unknown), server.node, server.machine.now(time).wall);
        if server.tickets.0.len().1 > 0 && time - server.answered > SECOND {
            server.tickets.0.lost();
            server.answered = time;
            self.reconnect(place);
        }
        if let Some(ask) = ask.filter(|_| !by_hand) {
            let attempt = self.random.random();
            let question = self.servers[place].member.question(ask, clock, wall, attempt);
            self.servers[place].known = true;
            self.send(place, NODES + node, life, Body::Ask(question));
            if self.random.random_ratio(1, 8) {
                self.reconnect(place);
            }
        }
        self.ask_block(place);
        self.pump(place);
        self.check_clock(place);
        if time >= self.servers[place].next_round {
            self.servers[place].next_round = time + self.settings.interval;
            self.gossip(place);
        }
        let wait = if self.plan.clocks { LOOK } else { self.settings.interval.min(SECOND / 4) };
        self.after(wait, Event::Work(place, life));
    }

    /// As `target_session_attrs=read-write` does: any node that is not in recovery.
    fn reconnect(&mut self, place: usize) {
        let up: Vec<usize> =
            (0..self.nodes.len()).filter(|node| self.is_primary(*node, self.nodes[*node].life)).collect();
        if !up.is_empty() {
            self.servers[place].known = false;
            self.servers[place].node = up[self.random.random_range(0..up.len())];
        }
    }

    fn call(&mut self, place: usize) {
        let life = self.servers[place].life;
        match self.random.random_range(0..10) {
            0..=3 => self.give(place),
            4..=7 => self.wait_strict(place),
            8 => self.use_block(place),
            _ => {
                let slot = self.random.random_range(0..4);
                let server = &mut self.servers[place];
                server.tickets.0.cancel(slot, server.callers[slot as usize].generation);
                server.callers[slot as usize].waits = false;
            }
        }
        let wait = self.random.random_range(0..=self.plan.pause);
        self.after(wait, Event::Call(place, life));
    }

    fn give(&mut self, place: usize) {
        let (time, by_hand) = (self.time, self.by_hand);
        let want = self.random.random_range(1..4);
        let server = &mut self.servers[place];
        let boot = server.machine.boot(time);
        let claim = server.gossip.me;
        if let Some(by) = server.gossip.refused_by(boot).filter(|_| !by_hand) {
            return self.claim(false, || format!("server {place} was stopped by {by:?}"));
        }
        if !server.gossip.is_ready(boot) || server.gossip.refused_by(boot).is_some() {
            return;
        }
        let (machine, from) = match server.member.held {
            Some(held) => (held.machine, held.from as u64),
            None if by_hand => (claim.machine, 0),
            None => (AUTHORITY, 0),
        };
        let Some(run) = server.machine.take(time, want) else {
            let waits = time < server.started + 2 * BACK || time < self.right + BACK + 4 * self.plan.delay;
            return self.claim(!self.plan.clocks || waits, || format!("server {place} has no id"));
        };
        let end = run.first + run.count - 1;
        let before = std::mem::replace(&mut server.given, end);
        server.history.push((time, end));
        let inside = by_hand
            || server
                .member
                .held
                .is_some_and(|held| held.from <= SERVER.tick_start(run.first) && SERVER.tick_end(end) <= held.until);
        let ahead = SERVER.tick_start(end) - NOON - time;
        let right = server.healthy && !self.plan.clocks;
        self.counts.ids += run.count;
        self.claim(run.first > before, || format!("server {place} gave {} after {before}", run.first));
        self.claim(inside, || format!("server {place} gave {} outside its grant of {machine}", run.first));
        self.claim(!right || ahead <= OFFSET + 5 * SECOND, || format!("server {place} was dragged {ahead} us ahead"));
        self.span(machine, (place, from), run.first, end);
        self.check_order(place);
    }

    /// Under one machine id the stamps of different owners must not overlap, and those of each owner must increase: so none
    /// is given twice.
    fn span(&mut self, machine: u64, owner: (usize, u64), first: u64, end: u64) {
        // If two servers have one number by setting, gossip finds that, but nothing prevents duplicates.
        let twice = self.by_hand && machine != AUTHORITY && (self.plan.duplicate || self.counts.clones > 0);
        let spans = self.spans.entry(machine).or_default();
        let place = spans.iter().position(|span| span.owner == owner).unwrap_or_else(|| {
            spans.push(Span { owner, low: first, high: end });
            spans.len() - 1
        });
        let grows = spans[place].high < first || spans[place].low == first;
        spans[place].high = end;
        let (low, high) = (spans[place].low, end);
        let other =
            spans.iter().enumerate().find(|(other, span)| *other != place && span.low <= high && low <= span.high);
        let other = other.map(|(_, span)| span.owner);
        let twice = twice || self.set_back && machine == AUTHORITY;
        self.claim(grows, || format!("{owner:?} did not increase under machine id {machine}"));
        self.claim(twice || other.is_none(), || {
            format!("{owner:?} and {other:?} both gave ids of machine id {machine}")
        });
    }

    /// Checks the order bounds: ids that others gave before a bound are below all ids that this server gives now.
    fn check_order(&mut self, place: usize) {
        // An age means nothing where clocks stand still.
        if self.plan.clocks || self.random.random_range(0..8) > 0 {
            return;
        }
        let server = &self.servers[place];
        let boot = server.machine.boot(self.time);
        let mut wrong = None;
        for peer in server.gossip.peers() {
            let Some(covered) = peer.covered else { continue };
            let age = boot - covered;
            let before = self.time - age - age / 500 - 5000;
            let other = peer.claim.by.nonce as usize;
            let Some(history) = self.servers.get(other).map(|server| &server.history) else { continue };
            let count = history.partition_point(|(at, _)| *at <= before);
            if count > 0 && history[count - 1].1 >= server.given {
                wrong = Some((other, age));
            }
        }
        self.claim(wrong.is_none(), || format!("server {place} gave an id below one of (server, bound) {wrong:?}"));
    }

    /// A right clock must never be dragged, whatever stamps there are.
    fn check_clock(&mut self, place: usize) {
        let server = &self.servers[place];
        let ahead = server.machine.effective(self.time) - NOON - self.time;
        let right = self.plan.clocks || !(server.healthy && server.fresh) || ahead <= SECOND;
        self.claim(right, || format!("the clock of server {place} was dragged {ahead} us ahead"));
    }

    fn take_over(&mut self, place: usize) {
        let server = &mut self.servers[place];
        let wall = server.machine.now(self.time).wall;
        server.gossip.take_over(wall);
    }

    fn gossip(&mut self, place: usize) {
        let (time, random) = (self.time, self.random.random());
        let others = (0..self.servers.len()).filter(|other| *other != place);
        let server = &mut self.servers[place];
        let now = server.machine.now(time);
        let known: Vec<_> = others.map(|other| server.peers.get(&other).copied()).collect();
        let chosen = server.gossip.round(&known, random, now.boot);
        let (message, life) = (server.gossip.message(now, None), server.life);
        for pick in chosen {
            let to = if pick < place { pick } else { pick + 1 };
            self.send(place, to, life, Body::Question(message.clone(), now.boot));
        }
    }

    fn hear_gossip(&mut self, place: usize, message: &Message, asked: Option<Micros>) {
        let (time, fault) = (self.time, self.plan.fault);
        let server = &mut self.servers[place];
        let now = server.machine.now(time);
        if let Some(reach) = server.gossip.hear(message, asked, now) {
            server.machine.raise(time, reach);
            if fault == Some(Fault::KeepDrag) {
                server.machine.clock.offset = server.machine.clock.offset.max(reach - now.boot);
            }
        }
    }

    fn hear(&mut self, packet: Packet) {
        let (time, place, by_hand) = (self.time, packet.to, self.by_hand);
        let question = matches!(packet.body, Body::Question(..));
        if !self.servers[place].up || !question && self.servers[place].life != packet.life {
            return;
        }
        self.counts.messages += 1;
        self.counts.gossip += u64::from(matches!(packet.body, Body::Question(..) | Body::Answer(..)));
        let server = &mut self.servers[place];
        let clock = server.machine.effective(time);
        match packet.body {
            Body::Question(message, asked) => {
                self.hear_gossip(place, &message, None);
                let server = &self.servers[place];
                let answer = server.gossip.message(server.machine.now(time), Some(message.claim.machine));
                self.send(place, packet.from, packet.life, Body::Answer(answer, asked));
            }
            Body::Answer(message, asked) => {
                server.peers.insert(packet.from, message.claim.by);
                self.hear_gossip(place, &message, Some(asked));
            }
            Body::Granted(answer, _) => {
                let change = server.member.accept(&answer, clock);
                if let (Change::Taken, Some(held)) = (change, server.member.held) {
                    server.machine.words.close();
                    server.machine.words.leave_tick(&SERVER);
                    server.machine.raise(time, held.from);
                    let wall = server.machine.now(time).wall;
                    server.gossip.me =
                        Claim { machine: held.machine, epoch: held.epoch, since: wall, ..server.gossip.me };
                    self.counts.grants += 1;
                }
                open(server, by_hand);
            }
            Body::Run(number, run) => {
                server.answered = time;
                let (mut strict, mut below, mut count) = (self.strict, None, 0);
                let callers = &mut server.callers;
                server.tickets.0.answered(number, run, time, |ticket, run| {
                    let caller = &mut callers[ticket.slot as usize];
                    if caller.waits && caller.generation == ticket.generation {
                        caller.waits = false;
                        count += run.count;
                        if run.first <= caller.above {
                            below = Some((run.first, caller.above));
                        }
                        strict = strict.max(run.first + run.count - 1);
                    }
                });
                (self.strict, self.counts.strict) = (strict, self.counts.strict + count);
                self.claim(self.set_back || below.is_none(), || {
                    format!("server {place} returned a strict id too low: {below:?}")
                });
                self.pump(place);
            }
            Body::Refused => {
                server.answered = time;
                // The connection is given up, with all its questions.
                server.tickets.0.lost();
                self.reconnect(place);
            }
            Body::Block(block) => {
                server.blocks.accept(block);
            }
            _ => (),
        }
    }

    fn wait_strict(&mut self, place: usize) {
        let want = self.random.random_range(1..3);
        let slot = self.random.random_range(0..4);
        let (time, above) = (self.time, self.strict);
        let server = &mut self.servers[place];
        let caller = &mut server.callers[slot];
        if caller.waits {
            return;
        }
        *caller = Caller { generation: caller.generation + 1, waits: true, above };
        let ticket = Ticket { slot: slot as u32, generation: caller.generation, want };
        if server.tickets.0.is_empty() {
            server.answered = time;
        }
        server.tickets.0.wait(0, ticket);
        self.pump(place);
    }

    fn pump(&mut self, place: usize) {
        while let Some(request) = self.servers[place].tickets.0.next(self.time) {
            let (node, life) = (self.servers[place].node, self.servers[place].life);
            self.send(place, NODES + node, life, Body::Strict(request));
        }
    }

    fn ask_block(&mut self, place: usize) {
        let time = self.time;
        let server = &mut self.servers[place];
        let Some(want) = server.blocks.want().filter(|_| time - server.asked_block >= SECOND / 2) else { return };
        server.asked_block = time;
        let (node, life) = (server.node, server.life);
        self.send(place, NODES + node, life, Body::WantBlock(want));
    }

    fn use_block(&mut self, place: usize) {
        let time = self.time;
        let count = self.random.random_range(1..=BLOCK / 2);
        let server = &mut self.servers[place];
        if server.block.is_none_or(|block| server.used + count > block.count) {
            let Some(next) = server.blocks.advance(time, &(BLOCK..=8 * BLOCK)) else { return };
            (server.block, server.used) = (Some(next), 0);
        }
        let Some(block) = server.block else { return };
        server.used += count;
        let first = block.first + server.used - count;
        let before = std::mem::replace(&mut server.counted, first + count - 1);
        let owner = *self.block_of.entry(block.first).or_insert(place);
        self.counts.blocks += 1;
        self.claim(self.set_back || first > before, || format!("server {place} counted {first} after {before}"));
        self.claim(self.set_back || owner == place, || {
            format!("servers {owner} and {place} both used the block at {}", block.first)
        });
        self.ask_block(place);
    }
}

/// As the worker opens bounds: by horizon and grant together.
fn open(server: &Server, by_hand: bool) {
    match server.member.held {
        _ if by_hand => server.machine.open(server.gossip.me.machine, Micros::MAX),
        Some(held) => server.machine.open(held.machine, held.until),
        None => server.machine.words.close(),
    }
}
