//! A server that crashes at any step of its worker and loses records that were not flushed; whose worker is ended at any
//! step; whose clocks show anything; and whose synchronous standby is promoted while the server goes on, cut off.
//!
//! stateright explores every order of [`Action`]s within [`Bounds`]. Clock, horizon, layouts, allocator and the worker's
//! steps are the mechanism's own code. The steps act on a [`Seen`] here, and on a `Host` in src/workers/horizon.rs.

use Fault::*;
use Worker::*;
use stateright::{Checker, HasDiscoveries, Model, Property};

type Micros = i64;

/// Two generators on one horizon, with different ticks and epochs: only every third microsecond begins a tick of both.
const LAYOUTS: [&str; 2] = ["timestamp:6 machine:1 epoch:0 tick:1", "timestamp:5 machine:1 sequence:1 epoch:1 tick:3"];
const MACHINE: u64 = 1;

/// The bounds within which everything is tried.
#[derive(Clone, Copy)]
struct Bounds {
    lead: Micros,
    /// How far calls may borrow: less than the coarse tick.
    borrow: Micros,
    jump: Micros,
    /// The readings that the wall clock may show at this boot-time clock.
    walls: fn(Micros) -> [Micros; 2],
    /// The boot-time clock counts up to this, a step at a time.
    boot: Micros,
    step: Micros,
    crashes: u8,
    /// How often the worker alone is ended.
    ends: u8,
    /// Whether there is a synchronous standby.
    standby: bool,
    /// How many stamps a call wants.
    wants: &'static [u64],
    /// If given: the boot-time clock is the true time, a crash takes one step of it, and the horizon may be at most this far
    /// ahead.
    ahead: Option<Micros>,
}

/// Crashes, and a worker that is ended, with a wall clock that is far too early or far too late.
const ALONE: Bounds = Bounds {
    lead: 4,
    borrow: 1,
    jump: 4,
    walls: |_| [0, 8],
    boot: 2,
    step: 1,
    crashes: 1,
    ends: 1,
    standby: false,
    wants: &[1, 99],
    ahead: None,
};

const CRASHED_TWICE: Bounds = Bounds { crashes: 2, ends: 0, ..ALONE };

const WITH_STANDBY: Bounds = Bounds { standby: true, wants: &[99], ..ALONE };

/// Crash after crash, with a wall clock that is right or stands still.
const CRASH_LOOP: Bounds = Bounds {
    lead: 16,
    borrow: 0,
    jump: -1,
    walls: |boot| [1, boot],
    boot: 1,
    step: 6,
    crashes: 3,
    ends: 0,
    standby: false,
    wants: &[1],
    ahead: Some(16),
};

/// A rule left out on the server that the steps act on.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// Permits the tick that the horizon is in.
    OpenTickOfHorizon,
    /// A generator that gets a place after the start begins anywhere.
    AttachWithoutRaise,
}

/// The primary, and the register on its standby.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    boot: Micros,
    shared: Shared,
    worker: Worker,
    /// The register that is surely on disk, and its values in later records: a crash may lose any number of those.
    flushed: Micros,
    written: Vec<Micros>,
    /// The register on the standby's disk.
    standby: Micros,
    /// The last stamp that each generator gave, and the first that it gave on the promoted standby.
    given: [u64; 2],
    promoted: Option<[u64; 2]>,
    crashes: u8,
    ends: u8,
    broken: Option<&'static str>,
}

/// The words that every crash wipes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shared {
    clock: Clock,
    floor: Micros,
    horizon: Micros,
    started: Micros,
    attach_at: Micros,
    /// Last stamp and limit of each generator; None: it has no place yet.
    words: [Option<(u64, u64)>; 2],
    /// The register that the standby is known to have on disk.
    acknowledged: Micros,
}

/// The offset, its base, and when the wall clock was last followed.
type Clock = [Micros; 3];

/// The worker's next step: a `Step` of any copy of the mechanism. A record is represented by its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Worker {
    Starts,
    Raises(Micros),
    Decides,
    Writes(Micros),
    Flushes(Micros),
    Waits(Micros),
    Publishes(Micros),
    Opens(Micros, usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    Call {
        generator: usize,
        want: u64,
    },
    Attach,
    /// The worker's next step, with the wall clock at `wall`.
    Work {
        wall: Micros,
    },
    /// An idle worker opens bounds up to the durable horizon for a caller that came late.
    Reopen,
    EndWorker,
    /// Everything is killed; this many of the records that were not flushed are on disk all the same.
    Crash {
        found: usize,
        reboot: bool,
    },
    /// PostgreSQL flushes a record for its own reasons.
    Flush,
    Tick,
    Replicate,
    Acknowledge,
    /// The standby, with its wall clock at `wall`, becomes a primary and gives ids; the old primary is cut off.
    Promote {
        wall: Micros,
    },
}

/// The mechanism, or a mutant of it.
trait Mechanism: Sync {
    fn stamp_at(&self, generator: usize, at: Micros) -> u64;
    fn tick_start(&self, generator: usize, stamp: u64) -> Micros;
    fn tick_end(&self, generator: usize, stamp: u64) -> Micros;
    fn start(&self, boot: Micros, wall: Micros, horizon: Micros, lead: Micros, jump: Micros) -> Clock;
    fn follow(&self, clock: Clock, boot: Micros, wall: Micros, jump: Micros) -> Clock;
    fn floor(&self, at: Micros, boot: Micros) -> Micros;
    fn floor_at_start(&self, horizon: Micros, clock: Micros, lead: Micros, borrow: Micros) -> Micros;
    fn latest(&self, clock: Micros, floor: Micros, boot: Micros, borrow: Micros) -> Micros;
    /// Takes the worker's next step.
    fn step(&self, worker: Worker, server: &mut Seen) -> Worker;
    /// The first and the last stamp; if there is none, whether a loan is the reason.
    fn take(
        &self,
        generator: usize,
        words: (u64, u64),
        now: Micros,
        latest: Micros,
        want: u64,
    ) -> Result<(u64, u64), bool>;
}

/// `mechanism!(name, "file.rs": "text" => "other text", ...)`: the mechanism as it stands, with texts replaced.
macro_rules! mechanism {
    ($name:ident $(, $file:tt: $from:tt => $to:tt)*) => {
        mod $name {
            use super::{Clock, LAYOUTS, MACHINE, Micros, Seen, Worker::{self, *}};
            // The lead never changes here, so a wall clock that it does not explain was set back.
            copy::mechanism! { copied, "clock.rs": "MAX_LEAD: Micros = 3600 * SECOND" => "MAX_LEAD: Micros = 0" $(, $file: $from => $to)* }
            use copied::{
                allocator::{Refusal, Words},
                clock::{self, Reading},
                horizon::{Position, Server, Step},
                layout::Layout,
                loan,
            };
            use std::sync::LazyLock;

            static BITS: LazyLock<[Layout; 2]> = LazyLock::new(|| LAYOUTS.map(|text| text.parse().unwrap()));

            fn short(clock: clock::Clock) -> Clock {
                [clock.offset, clock.base, clock.seen]
            }

            pub struct Copy;

            impl super::Mechanism for Copy {
                fn stamp_at(&self, generator: usize, at: Micros) -> u64 {
                    BITS[generator].stamp_at(at)
                }
                fn tick_start(&self, generator: usize, stamp: u64) -> Micros {
                    BITS[generator].tick_start(stamp)
                }
                fn tick_end(&self, generator: usize, stamp: u64) -> Micros {
                    BITS[generator].tick_end(stamp)
                }
                fn start(&self, boot: Micros, wall: Micros, horizon: Micros, lead: Micros, jump: Micros) -> Clock {
                    short(clock::Clock::start(Reading { boot, wall }, horizon, lead, jump))
                }
                fn follow(&self, [offset, base, seen]: Clock, boot: Micros, wall: Micros, jump: Micros) -> Clock {
                    let clock = clock::Clock { offset, base, seen, ..clock::Clock::default() };
                    short(clock.follow(Reading { boot, wall }, jump))
                }
                fn floor(&self, at: Micros, boot: Micros) -> Micros {
                    loan::floor(at, boot)
                }
                fn floor_at_start(&self, horizon: Micros, clock: Micros, lead: Micros, borrow: Micros) -> Micros {
                    loan::at_start(horizon, clock, lead, borrow)
                }
                fn latest(&self, clock: Micros, floor: Micros, boot: Micros, borrow: Micros) -> Micros {
                    loan::latest(clock, floor, boot, borrow)
                }
                fn step(&self, worker: Worker, server: &mut Seen) -> Worker {
                    let step = match worker {
                        Starts => Step::Start,
                        Raises(horizon) => Step::Raise(horizon),
                        Decides => Step::Decide,
                        Writes(target) => Step::Write(target),
                        Flushes(target) => Step::Flush(target, target),
                        Waits(target) => Step::Acknowledge(target, target),
                        Publishes(target) => Step::Publish(target),
                        Opens(target, part) => Step::Open(target, part),
                    };
                    match step.take(server) {
                        Step::Start => Starts,
                        Step::Raise(horizon) => Raises(horizon),
                        Step::Decide | Step::Done => Decides,
                        Step::Write(target) => Writes(target),
                        Step::Flush(target, _) => Flushes(target),
                        Step::Acknowledge(target, _) => Waits(target),
                        Step::Publish(target) => Publishes(target),
                        Step::Open(target, part) => Opens(target, part),
                    }
                }
                fn take(
                    &self,
                    generator: usize,
                    (last, limit): (u64, u64),
                    now: Micros,
                    latest: Micros,
                    want: u64,
                ) -> Result<(u64, u64), bool> {
                    let words = Words::default();
                    words.raise(last);
                    words.open(&BITS[generator], limit, MACHINE);
                    match words.take(&BITS[generator], now, latest, want) {
                        Ok(run) => Ok((run.first, run.first + run.count - 1)),
                        Err(refusal) => Err(matches!(refusal, Refusal::Loan { .. })),
                    }
                }
            }

            impl Server for Seen<'_> {
                type Record = Micros;
                fn has_started(&self) -> bool {
                    self.state.shared.started != 0
                }
                fn read_register(&self) -> Micros {
                    self.register()
                }
                fn start_clock(&mut self, horizon: Micros) {
                    self.start_clock(horizon)
                }
                fn start_floor(&mut self, horizon: Micros) {
                    self.start_floor(horizon)
                }
                fn raise_all(&mut self, at: Micros) {
                    self.raise_all(at)
                }
                fn follow_clock(&mut self) {
                    self.follow_clock()
                }
                fn position(&self) -> Position {
                    let [clock, reach, horizon, lead, up] = self.position();
                    Position { clock, reach, horizon, lead, up }
                }
                fn write_register(&mut self, to: Micros) -> Micros {
                    self.write(to)
                }
                fn flush(&mut self, _: Micros) {
                    self.flush()
                }
                fn is_acknowledged(&self, record: Micros) -> bool {
                    !self.cluster.bounds.standby || self.state.shared.acknowledged >= record
                }
                fn publish(&mut self, horizon: Micros) {
                    self.publish(horizon)
                }
                fn open(&mut self, horizon: Micros, part: usize) -> bool {
                    self.cluster.open(self.state, part, horizon);
                    part == 0
                }
            }
        }
    };
}

struct Cluster {
    mechanism: &'static dyn Mechanism,
    fault: Option<Fault>,
    bounds: Bounds,
    /// The only claim that is checked; None: all are.
    claim: Option<&'static str>,
}

impl Cluster {
    fn claim(&self, state: &mut State, claim: &'static str, holds: bool) {
        if !holds && self.claim.is_none_or(|only| only == claim) {
            state.broken = Some(claim);
        }
    }

    /// A server that finds `register`, with one generator in use at once and one later.
    fn server(&self, register: Micros) -> State {
        State {
            boot: 1,
            shared: self.wiped(),
            worker: Starts,
            flushed: register,
            written: Vec::new(),
            standby: 0,
            given: [0; 2],
            promoted: None,
            crashes: 0,
            ends: 0,
            broken: None,
        }
    }

    fn wiped(&self) -> Shared {
        Shared {
            clock: [0; 3],
            floor: Micros::MIN / 2,
            horizon: 0,
            started: 0,
            attach_at: 0,
            words: [Some((0, 0)), None],
            acknowledged: 0,
        }
    }

    fn work(&self, state: &mut State, wall: Micros) {
        let mut server = Seen { cluster: self, state, wall };
        let next = self.mechanism.step(server.state.worker, &mut server);
        if let (Decides, Writes(target)) = (server.state.worker, next) {
            let permits = server.permits(target);
            self.claim(server.state, "a move permits the next stamp", permits);
        }
        state.worker = next;
    }

    fn open(&self, state: &mut State, generator: usize, horizon: Micros) {
        let tick = self.mechanism.tick_end(generator, 0) - self.mechanism.tick_start(generator, 0);
        let upwards = if self.fault == Some(OpenTickOfHorizon) { tick - 1 } else { 0 };
        if let Some((_, limit)) = &mut state.shared.words[generator] {
            let before = *limit;
            *limit = self.mechanism.stamp_at(generator, horizon + upwards);
            let rises = *limit >= before;
            self.claim(state, "a bound only rises", rises);
        }
    }

    /// The last stamp before those of the ticks from `at` on.
    fn before(&self, generator: usize, at: Micros) -> u64 {
        self.mechanism.stamp_at(generator, at).saturating_sub(1)
    }

    fn attach(&self, shared: &mut Shared) {
        shared.words[1] = Some((self.before(1, shared.attach_at), 0));
    }

    fn call(&self, state: &mut State, generator: usize, want: u64) {
        let (m, shared) = (self.mechanism, &mut state.shared);
        let Some(words) = shared.words[generator] else { return };
        let now = state.boot + shared.clock[0];
        let latest = m.latest(now, shared.floor, state.boot, self.bounds.borrow);
        match m.take(generator, words, now, latest, want) {
            Ok((first, last)) => {
                shared.words[generator] = Some((last, words.1));
                let durable = if self.bounds.standby { state.flushed.min(state.standby) } else { state.flushed };
                let given = state.given[generator];
                let below = state.promoted.is_none_or(|promoted| last < promoted[generator]);
                state.given[generator] = last.max(given);
                self.claim(state, "increasing", first > given);
                self.claim(state, "below what the promoted standby gives", below);
                self.claim(state, "durable before visible", m.tick_end(generator, last) <= durable);
                self.claim(state, "no loan beyond the limit", m.tick_start(generator, last) <= latest);
            }
            Err(for_a_loan) => {
                let next = m.stamp_at(generator, now).max(words.0 + 1);
                let within = m.tick_start(generator, next) <= latest;
                self.claim(state, "a loan within the limit", !(for_a_loan && within));
            }
        }
    }

    /// The standby goes through the same steps from its own register, and gives the first ids that it can.
    fn promote(&self, state: &mut State, wall: Micros) {
        let alone = Cluster { bounds: Bounds { standby: false, ..self.bounds }, ..*self };
        let mut promoted = self.server(state.standby);
        alone.attach(&mut promoted.shared);
        while promoted.worker != Decides || promoted.shared.started == 0 {
            alone.work(&mut promoted, wall);
        }
        (0..2).for_each(|generator| alone.call(&mut promoted, generator, 1));
        state.broken = promoted.broken;
        let above = (0..2).all(|generator| promoted.given[generator] > state.given[generator]);
        self.claim(state, "below what the promoted standby gives", above);
        state.promoted = Some(promoted.given);
    }
}

/// A server with its wall clock, as the worker's steps see it.
struct Seen<'a> {
    cluster: &'a Cluster,
    state: &'a mut State,
    wall: Micros,
}

impl Seen<'_> {
    /// The register in memory.
    fn register(&self) -> Micros {
        self.state.written.iter().copied().fold(self.state.flushed, Micros::max)
    }

    fn start_clock(&mut self, horizon: Micros) {
        let Bounds { lead, jump, .. } = self.cluster.bounds;
        self.state.shared.clock = self.cluster.mechanism.start(self.state.boot, self.wall, horizon, lead, jump);
    }

    fn start_floor(&mut self, horizon: Micros) {
        let (boot, Bounds { lead, borrow, .. }) = (self.state.boot, self.cluster.bounds);
        let clock = boot + self.state.shared.clock[0];
        let at = self.cluster.mechanism.floor_at_start(horizon, clock, lead, borrow);
        self.state.shared.floor = self.cluster.mechanism.floor(at, boot);
    }

    fn raise_all(&mut self, at: Micros) {
        let shared = &mut self.state.shared;
        if self.cluster.fault != Some(AttachWithoutRaise) {
            shared.attach_at = shared.attach_at.max(at);
        }
        for (generator, words) in shared.words.iter_mut().enumerate() {
            if let Some((last, _)) = words {
                *last = self.cluster.before(generator, at).max(*last);
            }
        }
    }

    fn follow_clock(&mut self) {
        let (boot, shared) = (self.state.boot, &mut self.state.shared);
        let before = shared.clock;
        shared.clock = self.cluster.mechanism.follow(before, boot, self.wall, self.cluster.bounds.jump);
        if shared.clock[0] < before[0] {
            shared.floor = shared.floor.max(self.cluster.mechanism.floor(boot + before[0], boot));
        }
    }

    /// The last stamp of a generator, if it has given any.
    fn used(&self, generator: usize) -> Option<u64> {
        self.state.shared.words[generator].map(|(last, _)| last).filter(|last| *last != 0)
    }

    fn position(&self) -> [Micros; 5] {
        let (boot, shared) = (self.state.boot, &self.state.shared);
        let up = if shared.started == 0 { 0 } else { boot - shared.started };
        let next_ends = |generator| Some(self.cluster.mechanism.tick_end(generator, self.used(generator)? + 1));
        let reach = (0..2).filter_map(next_ends).max().unwrap_or(0);
        [boot + shared.clock[0], reach, shared.horizon, self.cluster.bounds.lead, up]
    }

    /// Whether a horizon at `target` permits the next stamp of every generator.
    fn permits(&self, target: Micros) -> bool {
        let stamp_at = |generator| self.cluster.mechanism.stamp_at(generator, target);
        (0..2).all(|generator| self.used(generator).is_none_or(|last| stamp_at(generator) > last + 1))
    }

    fn write(&mut self, target: Micros) -> Micros {
        self.state.written.push(target);
        target
    }

    fn flush(&mut self) {
        self.state.flushed = self.state.written.drain(..).fold(self.state.flushed, Micros::max);
    }

    fn publish(&mut self, horizon: Micros) {
        self.state.shared.horizon = horizon;
        if self.state.shared.started == 0 {
            self.state.shared.started = self.state.boot;
        }
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.server(0)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        use Action::*;
        if state.broken.is_some() {
            return;
        }
        let walls = (self.bounds.walls)(state.boot);
        for generator in 0..2 {
            actions.extend(self.bounds.wants.iter().map(|&want| Call { generator, want }));
        }
        if state.shared.words[1].is_none() {
            actions.push(Attach);
        }
        match state.worker {
            Raises(_) | Decides => actions.extend(walls.map(|wall| Work { wall })),
            _ => actions.push(Work { wall: 0 }),
        }
        if state.worker == Decides && state.shared.started != 0 {
            actions.push(Reopen);
        }
        if state.worker != Starts && state.ends < self.bounds.ends {
            actions.push(EndWorker);
        }
        if state.crashes < self.bounds.crashes {
            for found in 0..=state.written.len() {
                actions.push(Crash { found, reboot: false });
                if self.bounds.ahead.is_none() {
                    actions.push(Crash { found, reboot: true });
                }
            }
        }
        if !state.written.is_empty() {
            actions.push(Flush);
        }
        if state.boot < self.bounds.boot {
            actions.push(Tick);
        }
        if self.bounds.standby && state.promoted.is_none() {
            actions.extend([Replicate, Acknowledge]);
            actions.extend(walls.map(|wall| Promote { wall }));
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        use Action::*;
        let mut next = state.clone();
        match action {
            Call { generator, want } => self.call(&mut next, generator, want),
            Attach => self.attach(&mut next.shared),
            Work { wall } => self.work(&mut next, wall),
            Reopen => (0..2).for_each(|generator| self.open(&mut next, generator, state.shared.horizon)),
            EndWorker => {
                next.worker = Starts;
                next.ends += 1;
            }
            Crash { found, reboot } => {
                next.flushed = next.written.drain(..).take(found).fold(next.flushed, Micros::max);
                (next.shared, next.worker) = (self.wiped(), Starts);
                next.boot = match self.bounds.ahead {
                    Some(_) => next.boot + self.bounds.step,
                    None if reboot => 1,
                    None => next.boot,
                };
                next.crashes += 1;
            }
            Flush => next.flushed = next.written.remove(0).max(next.flushed),
            Tick => next.boot += self.bounds.step,
            Replicate => next.standby = next.flushed,
            Acknowledge => next.shared.acknowledged = next.standby,
            Promote { wall } => self.promote(&mut next, wall),
        }
        let near = self.bounds.ahead.is_none_or(|ahead| next.flushed <= next.boot + ahead);
        self.claim(&mut next, "near the true time", near);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("every claim holds", |_, state: &State| state.broken.is_none()),
            Property::sometimes("both generators give ids", |_, state: &State| !state.given.contains(&0)),
        ]
    }
}

/// Explores everything until a claim fails. The error: that claim, and the actions that lead there.
fn explore(cluster: Cluster) -> Result<(), String> {
    let checker = cluster.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    match checker.discovery("every claim holds") {
        None => {
            checker.assert_properties();
            Ok(())
        }
        Some(path) => {
            let broken = path.last_state().broken.unwrap_or_default();
            Err(format!("{broken}: {:?} after {:?}", path.last_state().clone(), path.into_actions()))
        }
    }
}

mechanism!(real);

/// `explored!(name, BOUNDS)`: every claim holds.
macro_rules! explored {
    ($name:ident, $bounds:expr) => {
        #[test]
        fn $name() {
            let cluster = Cluster { mechanism: &real::Copy, fault: None, bounds: $bounds, claim: None };
            assert_eq!(explore(cluster), Ok(()));
        }
    };
}

explored!(crash_after_crash_nothing_is_given_twice, CRASHED_TWICE);
explored!(a_worker_that_is_ended_at_any_step_does_no_harm, ALONE);
explored!(the_promoted_standby_and_the_old_primary_never_give_the_same, WITH_STANDBY);
explored!(quick_crashes_keep_the_horizon_within_a_lead, CRASH_LOOP);

/// `faulty!(name, FAULT, BOUNDS, "claim")`: with the fault, the claim must fail.
macro_rules! faulty {
    ($name:ident, $fault:expr, $bounds:expr, $claim:literal) => {
        #[test]
        fn $name() {
            let cluster = Cluster { mechanism: &real::Copy, fault: Some($fault), bounds: $bounds, claim: Some($claim) };
            assert!(explore(cluster).is_err(), "not caught");
        }
    };
}

faulty!(opened_the_tick_of_the_horizon, OpenTickOfHorizon, CRASHED_TWICE, "increasing");
faulty!(attached_without_raise, AttachWithoutRaise, CRASHED_TWICE, "increasing");

/// `mutant!(name, "file.rs": "text" => "other text", ...; BOUNDS: "claim", ...)`: with the texts replaced, each claim must
/// fail.
macro_rules! mutant {
    ($name:ident, $($file:tt: $from:tt => $to:tt),+; $($bounds:ident: $claim:literal),+) => {
        mechanism!($name, $($file: $from => $to),+);

        #[test]
        fn $name() {
            for (bounds, claim) in [$(($bounds, $claim)),+] {
                let cluster = Cluster { mechanism: &$name::Copy, fault: None, bounds, claim: Some(claim) };
                assert!(explore(cluster).is_err(), "{claim} is not caught");
            }
        }
    };
}

mutant!(opened_before_the_flush,
    "horizon.rs": "Step::Flush(target, server.write_register(target))," =>
    "{ server.write_register(target); Step::Publish(target) }";
    CRASHED_TWICE: "increasing", CRASHED_TWICE: "durable before visible");
mutant!(opened_before_acknowledgement,
    "horizon.rs": " if server.is_acknowledged(record) => Step::Publish(target)" => " if { _ = record; true } => Step::Publish(target)";
    WITH_STANDBY: "below what the promoted standby gives", WITH_STANDBY: "durable before visible");
mutant!(opened_what_was_read,
    "horizon.rs": "if server.has_started() => Step::Done" =>
    "if server.has_started() => { let read = server.read_register(); server.open(read, 0); server.open(read, 1); Step::Done }";
    ALONE: "increasing", WITH_STANDBY: "below what the promoted standby gives");
mutant!(opened_before_publishing,
    "horizon.rs": "if server.is_acknowledged(record) => Step::Publish(target)" => "if server.is_acknowledged(record) => Step::Open(target, 0)",
    "horizon.rs": "Step::Open(..) | Step::Done => Step::Done" => "Step::Open(target, _) => Step::Publish(target), Step::Done => Step::Done",
    "horizon.rs": "server.publish(target);
                Step::Open(target, 0)" => "server.publish(target);
                Step::Done";
    ALONE: "a bound only rises");
mutant!(started_without_raise,
    "horizon.rs": "server.raise_all(horizon);" => "";
    CRASHED_TWICE: "increasing", WITH_STANDBY: "below what the promoted standby gives");
mutant!(started_below_the_register,
    "horizon.rs": "server.raise_all(horizon);" => "server.raise_all(horizon - server.position().lead);";
    CRASHED_TWICE: "increasing");
mutant!(horizon_rounded_up,
    "layout.rs": "(at - self.epoch) as u64 / self.tick as u64" =>
    "((at - self.epoch) as u64).div_ceil(self.tick as u64)";
    CRASHED_TWICE: "durable before visible");
mutant!(start_at_the_horizon,
    "clock.rs": "{ horizon - lead }" => "{ horizon }";
    CRASH_LOOP: "near the true time");
mutant!(horizon_by_the_clock_alone,
    "horizon.rs": ".max(self.reach.saturating_add(self.margin()))" => "";
    CRASHED_TWICE: "a move permits the next stamp");
mutant!(tick_lent_as_a_whole,
    "allocator.rs": "let due = layout.tick_start(first);" => "let due = layout.tick_end(first);";
    CRASHED_TWICE: "a loan within the limit");
mutant!(loans_without_limit,
    "allocator.rs": "if due > latest {" => "if false {";
    CRASHED_TWICE: "no loan beyond the limit");
