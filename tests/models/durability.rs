//! A server that crashes at any step of its worker and loses what was not flushed, whose worker is ended at any step,
//! whose clocks show anything, and whose synchronous standby is promoted while it goes on, cut off.
//!
//! stateright explores every order of [`Action`]s within [`Bounds`]. Clock, horizon, layouts and allocator are the
//! mechanism. The worker's steps are those of src/worker.rs, one action each, written down here a second time: what
//! changes there in `start`, `position` or `move_horizon` changes here. The last test notices when their order does.

use Fault::*;
use Worker::*;
use stateright::{Checker, HasDiscoveries, Model, Property};

type Micros = i64;

/// Two generators over one horizon, with other ticks and other epochs: only every third microsecond begins a tick of
/// both.
const LAYOUTS: [&str; 2] = ["timestamp:6 machine:1 epoch:0 tick:1", "timestamp:5 machine:1 sequence:1 epoch:1 tick:3"];
const MACHINE: u64 = 1;

/// Within what everything is tried.
#[derive(Clone, Copy)]
struct Bounds {
    lead: Micros,
    /// How far calls may borrow: less than the coarse tick.
    borrow: Micros,
    jump: Micros,
    /// What the wall clock may show when the boot-time clock shows this.
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
    /// If given, the boot-time clock is the true time, a crash takes a step of it, and the horizon may be this far ahead.
    ahead: Option<Micros>,
}

/// Crashes, and a worker that is ended, with a wall clock that shows much too little or much too much.
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

/// A step of the worker left out, moved or weakened.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    OpenBeforeFlush,
    OpenBeforeAcknowledgement,
    /// A worker that starts opens what the register says, without a move of its own.
    OpenWhatWasRead,
    /// Permits the tick that the horizon is in.
    OpenTickOfHorizon,
    /// Shared memory says how far bounds are open only when they are.
    OpenBeforePublishing,
    StartWithoutRaise,
    /// Starts where the clock stood, a lead below the register.
    StartBelowRegister,
    /// A generator that gets a place after the start begins anywhere.
    AttachWithoutRaise,
}

/// The primary, and what its standby has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    boot: Micros,
    shared: Shared,
    worker: Worker,
    /// The register on disk for sure, and as the records say that come after it: a crash may lose any number of those.
    flushed: Micros,
    written: Vec<Micros>,
    /// The register on the standby's disk.
    standby: Micros,
    /// The last stamp that each generator gave; the first that it gave on the promoted standby.
    given: [u64; 2],
    promoted: Option<[u64; 2]>,
    crashes: u8,
    ends: u8,
    broken: Option<&'static str>,
}

/// What every crash wipes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shared {
    clock: Clock,
    floor: Micros,
    horizon: Micros,
    started: Micros,
    attach_at: Micros,
    /// Last stamp and limit of each generator; none: it has no place yet.
    words: [Option<(u64, u64)>; 2],
    /// What the standby is known to have on disk.
    acknowledged: Micros,
}

/// Offset, base and when it was last followed.
type Clock = [Micros; 3];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Worker {
    Gone,
    Idle,
    Written(Micros),
    Flushed(Micros),
    Acknowledged(Micros),
    /// So many bounds are open.
    Opening(Micros, usize),
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
    /// An idle worker opens what is durable to whoever came late.
    Reopen,
    EndWorker,
    /// Everything is killed; so many of the records that were not flushed are found again.
    Crash {
        found: usize,
        reboot: bool,
    },
    /// PostgreSQL flushes a record for its own reasons.
    Flush,
    Tick,
    Replicate,
    Acknowledge,
    /// The standby, its wall clock at `wall`, becomes a primary and gives ids; the old one is cut off.
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
    fn target(&self, clock: Micros, reach: Micros, horizon: Micros, lead: Micros, up: Micros) -> Micros;
    /// The first stamp and the last; or whether it is for a loan that there is none.
    fn take(
        &self,
        generator: usize,
        words: (u64, u64),
        now: Micros,
        latest: Micros,
        want: u64,
    ) -> Result<(u64, u64), bool>;
}

/// `mechanism!(name, "file.rs": "text" => "other text", ...)`: the mechanism as it stands, with texts exchanged.
macro_rules! mechanism {
    ($name:ident $(, $file:tt: $from:tt => $to:tt)*) => {
        mod $name {
            use super::{Clock, LAYOUTS, MACHINE, Micros};
            copy::mechanism! { copied $(, $file: $from => $to)* }
            use copied::{
                allocator::{Refusal, Words},
                clock::{self, Reading},
                horizon::Position,
                layout::Layout,
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
                fn target(&self, clock: Micros, reach: Micros, horizon: Micros, lead: Micros, up: Micros) -> Micros {
                    Position { clock, reach, horizon, lead, up }.target()
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
        }
    };
}

struct Cluster {
    mechanism: &'static dyn Mechanism,
    fault: Option<Fault>,
    bounds: Bounds,
    /// The one claim that is looked at; none: all.
    claim: Option<&'static str>,
}

impl Cluster {
    fn claim(&self, state: &mut State, claim: &'static str, holds: bool) {
        if !holds && self.claim.is_none_or(|only| only == claim) {
            state.broken = Some(claim);
        }
    }

    /// A server that finds `register`, with a generator that is in use at once and one that is not.
    fn server(&self, register: Micros) -> State {
        State {
            boot: 1,
            shared: self.wiped(),
            worker: Gone,
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
            floor: 0,
            horizon: 0,
            started: 0,
            attach_at: 0,
            words: [Some((0, 0)), None],
            acknowledged: 0,
        }
    }

    fn work(&self, state: &mut State, wall: Micros) {
        state.worker = match state.worker {
            Gone => self.start(state, wall),
            Idle => self.write(state, wall),
            Written(target) if self.fault == Some(OpenBeforeFlush) => Acknowledged(target),
            Written(target) => {
                state.flushed = state.written.drain(..).fold(state.flushed, Micros::max);
                Flushed(target)
            }
            Flushed(target) => {
                let waits = self.bounds.standby && self.fault != Some(OpenBeforeAcknowledgement);
                if waits && state.shared.acknowledged < target { Flushed(target) } else { Acknowledged(target) }
            }
            Acknowledged(target) => {
                if self.fault != Some(OpenBeforePublishing) {
                    publish(state, target);
                }
                Opening(target, 0)
            }
            Opening(target, 2) => {
                if self.fault == Some(OpenBeforePublishing) {
                    publish(state, target);
                }
                Idle
            }
            Opening(target, generator) => {
                self.open(state, generator, target);
                Opening(target, generator + 1)
            }
        };
    }

    /// What a worker does that starts.
    fn start(&self, state: &mut State, wall: Micros) -> Worker {
        // It reads what is in memory.
        let register = state.written.iter().copied().fold(state.flushed, Micros::max);
        let shared = &mut state.shared;
        if shared.started == 0 {
            shared.clock = self.mechanism.start(state.boot, wall, register, self.bounds.lead, self.bounds.jump);
            shared.floor = shared.floor.max(register);
            let at = if self.fault == Some(StartBelowRegister) { register - self.bounds.lead } else { register };
            if self.fault != Some(AttachWithoutRaise) {
                shared.attach_at = shared.attach_at.max(at);
            }
            if self.fault != Some(StartWithoutRaise) {
                for (generator, words) in shared.words.iter_mut().enumerate() {
                    if let Some((last, _)) = words {
                        *last = self.before(generator, at).max(*last);
                    }
                }
            }
        }
        if self.fault == Some(OpenWhatWasRead) {
            (0..2).for_each(|generator| self.open(state, generator, register));
        }
        Idle
    }

    /// Follows the wall clock, decides where the horizon goes, and writes the register.
    fn write(&self, state: &mut State, wall: Micros) -> Worker {
        let (boot, shared) = (state.boot, &mut state.shared);
        let before = shared.clock;
        shared.clock = self.mechanism.follow(before, boot, wall, self.bounds.jump);
        shared.floor = shared.floor.max(boot + shared.clock[0].max(before[0]));
        let up = if shared.started == 0 { 0 } else { boot - shared.started };
        let used = |generator: usize| shared.words[generator].map(|(last, _)| last).filter(|last| *last != 0);
        let next_ends = |generator| used(generator).map(|last| self.mechanism.tick_end(generator, last + 1));
        let reach = (0..2).filter_map(next_ends).max().unwrap_or(0);
        let target = self.mechanism.target(boot + shared.clock[0], reach, shared.horizon, self.bounds.lead, up);
        let permits = |generator| used(generator).is_none_or(|l| self.mechanism.stamp_at(generator, target) > l + 1);
        let all = (0..2).all(permits);
        self.claim(state, "a move permits the next stamp", all);
        state.written.push(target);
        Written(target)
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

    /// The last stamp before those at or after `at`.
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
        let latest = now.max(shared.floor) + self.bounds.borrow;
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

    /// The standby goes through the same steps, with the register that it has, and gives the first ids that it can.
    fn promote(&self, state: &mut State, wall: Micros) {
        let alone = Cluster { bounds: Bounds { standby: false, ..self.bounds }, ..*self };
        let mut promoted = self.server(state.standby);
        alone.attach(&mut promoted.shared);
        while !matches!(promoted.worker, Opening(_, 2)) {
            alone.work(&mut promoted, wall);
        }
        (0..2).for_each(|generator| alone.call(&mut promoted, generator, 1));
        state.broken = promoted.broken;
        let above = (0..2).all(|generator| promoted.given[generator] > state.given[generator]);
        self.claim(state, "below what the promoted standby gives", above);
        state.promoted = Some(promoted.given);
    }
}

/// Shared memory says how far bounds are open.
fn publish(state: &mut State, horizon: Micros) {
    state.shared.horizon = horizon;
    if state.shared.started == 0 {
        state.shared.started = state.boot;
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
            Gone | Idle => actions.extend(walls.map(|wall| Work { wall })),
            _ => actions.push(Work { wall: 0 }),
        }
        if state.worker == Idle && state.shared.started != 0 {
            actions.push(Reopen);
        }
        if state.worker != Gone && state.ends < self.bounds.ends {
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
                next.worker = Gone;
                next.ends += 1;
            }
            Crash { found, reboot } => {
                next.flushed = next.written.drain(..).take(found).fold(next.flushed, Micros::max);
                (next.shared, next.worker) = (self.wiped(), Gone);
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

/// Explores everything, up to a state in which a claim does not hold: that claim, and the way to there.
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

/// `faulty!(name, FAULT, BOUNDS, "claim")`: with the worker's fault the claim does not hold.
macro_rules! faulty {
    ($name:ident, $fault:expr, $bounds:expr, $claim:literal) => {
        #[test]
        fn $name() {
            let cluster = Cluster { mechanism: &real::Copy, fault: Some($fault), bounds: $bounds, claim: Some($claim) };
            assert!(explore(cluster).is_err(), "not caught");
        }
    };
}

faulty!(opened_before_the_flush, OpenBeforeFlush, CRASHED_TWICE, "increasing");
faulty!(seen_before_the_flush, OpenBeforeFlush, CRASHED_TWICE, "durable before visible");
faulty!(
    opened_before_acknowledgement,
    OpenBeforeAcknowledgement,
    WITH_STANDBY,
    "below what the promoted standby gives"
);
faulty!(seen_before_acknowledgement, OpenBeforeAcknowledgement, WITH_STANDBY, "durable before visible");
faulty!(opened_what_was_read, OpenWhatWasRead, ALONE, "increasing");
faulty!(opened_what_was_read_and_flushed, OpenWhatWasRead, WITH_STANDBY, "below what the promoted standby gives");
faulty!(opened_the_tick_of_the_horizon, OpenTickOfHorizon, CRASHED_TWICE, "increasing");
faulty!(opened_before_publishing, OpenBeforePublishing, ALONE, "a bound only rises");
faulty!(started_without_raise, StartWithoutRaise, CRASHED_TWICE, "increasing");
faulty!(promoted_without_raise, StartWithoutRaise, WITH_STANDBY, "below what the promoted standby gives");
faulty!(started_below_the_register, StartBelowRegister, CRASHED_TWICE, "increasing");
faulty!(attached_without_raise, AttachWithoutRaise, CRASHED_TWICE, "increasing");

/// `mutant!(name, BOUNDS, "claim", "file.rs": "text" => "other text")`: the claim does not hold with the texts exchanged.
macro_rules! mutant {
    ($name:ident, $bounds:expr, $claim:literal, $file:tt: $from:tt => $to:tt) => {
        mechanism!($name, $file: $from => $to);

        #[test]
        fn $name() {
            let cluster = Cluster { mechanism: &$name::Copy, fault: None, bounds: $bounds, claim: Some($claim) };
            assert!(explore(cluster).is_err(), "not caught");
        }
    };
}

mutant!(horizon_rounded_up, CRASHED_TWICE, "durable before visible",
    "layout.rs": "(at - self.epoch) as u64 / self.tick as u64" =>
    "((at - self.epoch) as u64).div_ceil(self.tick as u64)");
mutant!(start_at_the_horizon, CRASH_LOOP, "near the true time",
    "clock.rs": "{ horizon - lead }" => "{ horizon }");
mutant!(horizon_by_the_clock_alone, CRASHED_TWICE, "a move permits the next stamp",
    "horizon.rs": ".max(self.reach.saturating_add(self.margin()))" => "");
mutant!(tick_lent_as_a_whole, CRASHED_TWICE, "a loan within the limit",
    "allocator.rs": "let due = layout.tick_start(first);" => "let due = layout.tick_end(first);");
mutant!(loans_without_limit, CRASHED_TWICE, "no loan beyond the limit",
    "allocator.rs": "if due > latest {" => "if false {");

/// What the model takes over by hand: the worker's steps, in their order.
#[test]
fn the_worker_goes_through_the_steps_of_the_model_in_their_order() {
    const SOURCE: &str = include_str!("../../src/worker.rs");
    const START: &[&str] = &[
        "register::read()",
        "shared.set_clock(Clock::start(",
        "shared.raise_floor(horizon)",
        "shared.raise_all(horizon)",
    ];
    const MOVE: &[&str] = &[
        "follow(shared)",
        "position(shared, wanted).target()",
        "register::advance(target)",
        "register::is_on_standbys(record)",
        "shared.set_horizon(target",
        "open_bounds(shared, target)",
    ];
    for (function, steps) in [("\nfn start(", START), ("\nfn move_horizon(", MOVE)] {
        let body = SOURCE.split_once(function).unwrap().1.split_once("\n}\n").unwrap().0;
        let places: Vec<Option<usize>> = steps.iter().map(|step| body.find(step)).collect();
        let in_order = places.iter().all(Option::is_some) && places.is_sorted();
        assert!(in_order, "{} has other steps than the model: {steps:?}", function.trim());
    }
}
