//! Threads that race for stamps while the worker raises, opens and closes.
//!
//! loom runs the steps in every order with up to [`SWITCHES`] switches away from a thread that could go on, and lets every
//! load see every value that the atomics' orderings allow. It never shows a store before an earlier read of the same thread,
//! and raising `last` reads it. So this does not show that opening must release and a call must acquire the bound:
//! src/mechanism/allocator.rs argues that.

use loom::{
    model::Builder,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};
use std::{
    ops::RangeInclusive,
    panic::catch_unwind,
    sync::{Arc, Mutex},
};

/// Enough to catch every mutant, and few enough to end in seconds. LOOM_MAX_PREEMPTIONS sets another number.
const SWITCHES: usize = 3;

/// Two stamps in a tick of one microsecond: tick 10 begins with stamp 20.
const LAYOUT: &str = "timestamp:8 machine:2 sequence:1 epoch:0 tick:1";

fn tick(stamp: u64) -> i64 {
    (stamp >> 1) as i64
}

/// What the worker does, or the backend that takes a block for a counter.
#[derive(Clone, Copy)]
enum Step {
    Raise(u64),
    Open { until: u64, machine: u64 },
    Close,
    Leave,
}
use Step::*;

/// The arguments of `Words::take`: the present tick, the latest tick that may be taken, and how many stamps.
type Call = (i64, i64, u64);

/// What happens at the same time: the worker goes through its steps, and each caller makes its calls one by one.
#[derive(Clone)]
struct Scene {
    /// The worker's steps before there are callers.
    before: &'static [Step],
    worker: &'static [Step],
    callers: &'static [&'static [Call]],
    /// Stamps that were given in an earlier life, or by another server.
    spent: RangeInclusive<u64>,
}

/// Callers alone: one whose clock was set back, one that wants a run; the bound refuses some.
const RACE: Scene = Scene {
    before: &[Open { until: 23, machine: 1 }],
    worker: &[],
    callers: &[&[(10, 20, 1)], &[(4, 20, 2)], &[(10, 20, 1)]],
    spent: 0..=0,
};

/// Calls that follow each other, in one caller and from one to the other, while the clock is set back.
const ORDER: Scene = Scene {
    before: &[Open { until: 100, machine: 1 }],
    worker: &[],
    callers: &[&[(10, 20, 1), (9, 20, 1)], &[(10, 20, 1), (11, 20, 1)]],
    spent: 0..=0,
};

/// Callers that may not borrow: some are refused.
const BORROW: Scene = Scene {
    before: &[Open { until: 100, machine: 1 }],
    worker: &[],
    callers: &[&[(10, 10, 1)], &[(10, 10, 2)], &[(9, 9, 1)]],
    spent: 0..=0,
};

/// A start, with a clock that stands below stamps given before.
const START: Scene = Scene {
    before: &[],
    worker: &[Raise(29), Open { until: 40, machine: 1 }],
    callers: &[&[(10, 40, 1), (10, 40, 1)], &[(10, 40, 2)]],
    spent: 0..=29,
};

/// The horizon moves while calls run; the worker raises to a stamp that all have long passed.
const MOVE: Scene = Scene {
    before: &[Open { until: 22, machine: 1 }],
    worker: &[Raise(5), Open { until: 26, machine: 1 }],
    callers: &[&[(10, 20, 1), (10, 20, 1)], &[(10, 20, 1), (12, 20, 2)]],
    spent: 0..=0,
};

/// A counter gets its next block, with a gap before it: values that nextval() took.
const BLOCK: Scene = Scene {
    before: &[Raise(9), Open { until: 12, machine: 1 }],
    worker: &[Raise(19), Open { until: 22, machine: 1 }],
    callers: &[&[(0, 99, 1), (0, 99, 1)], &[(0, 99, 2), (0, 99, 1)]],
    spent: 12..=19,
};

/// Another machine id: the stamps of the first end where those of the second begin.
const SWITCH: Scene = Scene {
    before: &[Open { until: 60, machine: 1 }],
    worker: &[Close, Raise(25), Open { until: 40, machine: 2 }],
    callers: &[&[(10, 30, 1), (10, 30, 1)], &[(10, 30, 1)]],
    spent: 0..=0,
};

/// Another machine id in the tick of the first one's last stamp: within one tick, ids of two machine ids are not in order.
/// The first call finds a tick that is used up.
const LEAVE: Scene = Scene {
    before: &[Raise(21), Open { until: 60, machine: 2 }],
    worker: &[Close, Leave, Open { until: 40, machine: 1 }],
    ..SWITCH
};

/// Stamps `first .. end` under `machine`: given to a call, or permitted by a bound.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    end: u64,
    machine: u64,
}

/// The words of a generator, with loom's atomics.
trait Words: Default + Send + Sync + 'static {
    fn take(&self, call: Call) -> Option<Run>;
    fn raise(&self, stamp: u64);
    fn leave(&self);
    fn open(&self, until: u64, machine: u64);
    fn last(&self) -> u64;
}

/// `words!("text" => "other text", ...)`: the allocator as it stands, with texts replaced.
macro_rules! words {
    ($($from:tt => $to:tt),*) => {
        copy::mechanism! {
            copied, "allocator.rs": "std::sync::atomic" => "loom::sync::atomic" $(, "allocator.rs": $from => $to)*
        }
        pub use copied::allocator::Words;
        use copied::layout::Layout;

        static BITS: std::sync::LazyLock<Layout> = std::sync::LazyLock::new(|| super::LAYOUT.parse().unwrap());

        impl super::Words for Words {
            fn take(&self, (now, latest, want): super::Call) -> Option<super::Run> {
                let run = self.take(&BITS, now, latest, want).ok()?;
                Some(super::Run { first: run.first, end: run.first + run.count, machine: run.machine })
            }
            fn raise(&self, stamp: u64) {
                self.raise(stamp);
            }
            fn leave(&self) {
                self.leave_tick(&BITS);
            }
            fn open(&self, until: u64, machine: u64) {
                self.open(&BITS, until, machine);
            }
            fn last(&self) -> u64 {
                self.last()
            }
        }
    };
}

/// One order of the steps.
struct Race<W> {
    words: W,
    /// The highest stamp of which callers have told each other.
    told: AtomicU64,
    seen: Mutex<Seen>,
}

/// What the test sees. It is not part of what is explored: no step comes between a fact and its record.
#[derive(Default)]
struct Seen {
    permitted: Vec<Run>,
    given: Vec<Run>,
    raised: u64,
}

impl Seen {
    /// A bound that continues the one before permits more under it; a bound with another machine id ends the one before.
    fn permit(&mut self, run: Run) {
        if let Some(last) = self.permitted.last_mut() {
            if last.machine == run.machine && run.first <= last.end {
                last.end = run.end;
                return;
            }
            last.end = last.end.min(run.first);
        }
        self.permitted.push(run);
    }

    fn permits(&self, run: &Run) -> bool {
        self.permitted.iter().any(|p| p.machine == run.machine && p.first <= run.first && run.end <= p.end)
    }
}

impl<W: Words> Race<W> {
    fn work(&self, step: Step) {
        match step {
            Raise(stamp) => {
                self.words.raise(stamp);
                let mut seen = self.seen.lock().unwrap();
                seen.raised = seen.raised.max(stamp);
            }
            Close => self.words.open(0, 0),
            Leave => {
                self.words.leave();
                let mut seen = self.seen.lock().unwrap();
                seen.raised = seen.raised.max(self.words.last());
            }
            Open { until, machine } => {
                let first = self.words.last() + 1;
                self.seen.lock().unwrap().permit(Run { first, end: until, machine });
                self.words.open(until, machine);
            }
        }
    }

    fn call(&self, call: Call) {
        let told = self.told.load(Ordering::Acquire);
        let Some(run) = self.words.take(call) else { return };
        let (now, latest, want) = call;
        assert!(run.first > told, "order: {run:?} after {told}");
        assert!((1..=want).contains(&(run.end - run.first)), "count: {run:?} of {want}");
        assert!(tick(run.first) >= now, "clock: {run:?} at {now}");
        assert!(tick(run.end - 1) <= latest, "loan: {run:?} by {latest}");
        {
            let mut seen = self.seen.lock().unwrap();
            assert!(seen.permits(&run), "bound: {run:?} of {:?}", seen.permitted);
            seen.given.push(run);
        }
        self.told.fetch_max(run.end - 1, Ordering::Release);
    }

    /// What must hold when all have ended.
    fn check(&self, spent: &RangeInclusive<u64>) {
        let last = self.words.last();
        let mut seen = self.seen.lock().unwrap();
        seen.given.sort_by_key(|run| run.first);
        for pair in seen.given.windows(2) {
            assert!(pair[0].end <= pair[1].first, "twice: {pair:?}");
            let same_tick = tick(pair[0].end - 1) == tick(pair[1].first);
            assert!(!same_tick || pair[0].machine == pair[1].machine, "tick: {pair:?}");
        }
        for run in &seen.given {
            assert!(run.end <= *spent.start() || *spent.end() < run.first, "twice: {run:?} of {spent:?}");
            assert!(seen.permits(run), "bound: {run:?} of {:?}", seen.permitted);
        }
        let given = seen.given.last().map_or(0, |run| run.end - 1);
        assert!(last == given.max(seen.raised), "burned: {last} is the last stamp, {given} the last given");
    }
}

/// Runs a scene in every order of its steps, until a claim fails.
fn explore<W: Words>(scene: Scene) -> Result<(), String> {
    let play = move || {
        let race = Arc::new(Race { words: W::default(), told: AtomicU64::new(0), seen: Mutex::default() });
        scene.before.iter().for_each(|step| race.work(*step));
        let caller = |calls: &&'static [Call]| {
            let (race, calls) = (race.clone(), *calls);
            thread::spawn(move || calls.iter().for_each(|call| race.call(*call)))
        };
        let callers: Vec<_> = scene.callers.iter().map(caller).collect();
        scene.worker.iter().for_each(|step| race.work(*step));
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        race.check(&scene.spent);
    };
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(SWITCHES);
    catch_unwind(|| builder.check(play)).map_err(|claim| *claim.downcast::<String>().expect("a claim has a text"))
}

/// `scene!(name, SCENE)`: every claim must hold.
macro_rules! scene {
    ($name:ident, $scene:expr) => {
        #[test]
        fn $name() {
            assert_eq!(explore::<real::Words>($scene), Ok(()));
        }
    };
}

/// `mutant!(name, SCENE, "claim", "text" => "other text", ...)`: with the texts replaced, the claim must fail.
macro_rules! mutant {
    ($name:ident, $scene:expr, $claim:literal $(, $from:tt => $to:tt)*) => {
        mod $name {
            use super::*;
            mod mutant {
                words!($($from => $to),*);
            }

            #[test]
            fn is_caught() {
                let found = explore::<mutant::Words>($scene).unwrap_err();
                assert!(found.starts_with($claim), "{found}");
            }
        }
    };
}

mod real {
    words!();
}

scene!(racing_calls_never_get_the_same_stamp, RACE);
scene!(a_call_gets_more_than_every_call_that_returned_before, ORDER);
scene!(a_refused_loan_changes_nothing, BORROW);
scene!(a_start_gives_nothing_that_was_given_before, START);
scene!(a_move_takes_nothing_back, MOVE);
scene!(a_block_is_entered_at_its_first_value, BLOCK);
scene!(a_switch_of_the_machine_id_parts_the_stamps, SWITCH);
scene!(a_switch_of_the_machine_id_leaves_the_tick, LEAVE);

mutant!(no_exchange, RACE, "twice", "take_after::<true>" => "take_after::<false>");
mutant!(exchange_before_the_check_of_the_bound, RACE, "burned",
    "if layout.id(first, machine) >= bound {" =>
    "if layout.id(first, machine) >= bound { after.compare_exchange(last, first, Ordering::AcqRel, Ordering::Relaxed).ok();");
mutant!(exchange_before_the_check_of_the_loan, BORROW, "burned",
    "if due > latest {" =>
    "if due > latest { after.compare_exchange(last, first, Ordering::AcqRel, Ordering::Relaxed).ok();");
mutant!(run_beyond_the_bound, RACE, "bound", "want.min(limit - first)" => "want");
mutant!(run_beyond_the_loan, BORROW, "loan", ".min(layout.last_stamp_at(latest) - first + 1)" => "");
mutant!(clock_followed_back, ORDER, "order",
    "let first = if now < layout.tick_end(last) { last + 1 } else" =>
    "let first = if now < layout.tick_start(last) { layout.stamp_at(now) } else if now < layout.tick_end(last) { last + 1 } else");
mutant!(bound_read_before_last, SWITCH, "bound",
    "let last = after.load(Ordering::Acquire);
            let bound = self.bound.load(Ordering::Acquire);" =>
    "let bound = self.bound.load(Ordering::Acquire);
            let last = after.load(Ordering::Acquire);");
mutant!(last_read_without_acquire, SWITCH, "bound",
    "let last = after.load(Ordering::Acquire);" => "let last = after.load(Ordering::Relaxed);");
mutant!(raised_without_release, SWITCH, "bound",
    "self.last.fetch_max(stamp, Ordering::AcqRel)" => "self.last.fetch_max(stamp, Ordering::Acquire)");
mutant!(raised_by_a_store, MOVE, "twice",
    "self.last.fetch_max(stamp, Ordering::AcqRel)" => "self.last.store(stamp, Ordering::Release)");
mutant!(opened_before_raised, Scene { worker: &[Open { until: 40, machine: 1 }, Raise(29)], ..START }, "twice");
mutant!(not_raised, Scene { worker: &[Open { until: 22, machine: 1 }], ..BLOCK }, "twice");
mutant!(not_closed, Scene { worker: &[Raise(25), Open { until: 40, machine: 2 }], ..SWITCH }, "bound");
mutant!(tick_left_in_two_steps, LEAVE, "bound",
    "_ = last.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| {
        (last != 0).then(|| layout.stamp_at(layout.tick_end(last + 1)).saturating_sub(1).max(last))
    });" =>
    "let end = layout.stamp_at(layout.tick_end(last.load(Ordering::Acquire) + 1));
    last.fetch_max(end.saturating_sub(1), Ordering::AcqRel);");
mutant!(tick_left_where_it_stood, LEAVE, "bound", "layout.tick_end(last + 1)" => "layout.tick_end(last)");
mutant!(tick_not_left, Scene { worker: &[Close, Raise(22), Open { until: 40, machine: 1 }], ..LEAVE }, "bound");
mutant!(closed_after_raised, Scene { worker: &[Raise(25), Close, Open { until: 40, machine: 2 }], ..SWITCH }, "bound");
