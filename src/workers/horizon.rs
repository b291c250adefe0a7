//! The background worker: the one process that moves the horizon and the clock, and the only one that opens bounds.
//!
//! It starts when recovery has finished. So after a start, a crash restart and a promotion alike it decides when ids may be
//! given, and on a standby nobody does. If it is terminated it comes back after a second; until then callers live on the
//! horizon that there is, and then wait.

use super::{bounds, gossip, member};
use crate::{
    mechanism::{
        Micros, SECOND,
        clock::Clock,
        definition::Order,
        horizon::{Demand, Position, Server, Step},
        loan,
    },
    postgres::{clock, faults, latch, process, register, settings},
    protocol::lease::Lease,
    shared::{self, Shared, horizon::Repair, serving},
};
use pgrx::{
    PgTryBuilder,
    bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags},
    pg_sys::{
        self,
        panic::{CaughtError, ErrorReport},
    },
    prelude::*,
};
use std::{sync::atomic::Ordering, time::Duration};

/// How long the worker sleeps between two looks at the standbys' progress: at first, and at most.
const STANDBY_LOOK: Micros = SECOND / 1000;
const LONGEST_STANDBY_LOOK: Micros = SECOND / 20;

/// How often the worker follows the clock while there is nothing else to do. This writes nothing.
const LOOK: Micros = SECOND / 2;

/// How often a worker that is missing is launched.
const LAUNCH: Micros = SECOND;

/// Registers the worker. While preloading only.
pub fn register() {
    BackgroundWorkerBuilder::new("idgen horizon")
        .set_library("idgen")
        .set_function("idgen_worker_main")
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(Duration::from_secs(1)))
        .load();
}

/// Where the worker's process begins.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn idgen_worker_main(_arg: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    if let Ok(shared) = shared::shared() {
        announce(shared);
        run(shared);
    }
    // Only an exit with 1 lets the postmaster start it again.
    // SAFETY: ends the process the way PostgreSQL wants it.
    unsafe { pg_sys::proc_exit(1) };
}

/// Publishes where the worker can be woken, until the process ends.
fn announce(shared: &Shared) {
    #[pg_guard]
    extern "C-unwind" fn leave(_code: i32, _arg: pg_sys::Datum) {
        if let Ok(shared) = shared::shared() {
            shared.horizon.set_worker(-1, 0);
            shared.horizon.wake_waiting();
        }
    }
    // SAFETY: this process has a place in the array of all processes, where its latch is.
    unsafe {
        shared.horizon.set_worker(latch::own_place(), pg_sys::MyProcPid);
        pg_sys::on_shmem_exit(Some(leave), pg_sys::Datum::from(0));
    }
}

/// Works until the process is told to end.
fn run(shared: &'static Shared) {
    publish_settings(shared);
    shared.horizon.put_repair_back();
    Host { shared, wanted: 0, began: 0 }.go(Step::Start);
    let (mut seen, mut used, mut demand) = (given(shared), clock::boot(), Demand::default());
    let mut launched = Micros::MIN / 2;
    loop {
        let missing = is_worker_missing(shared);
        if missing && clock::boot() >= launched + LAUNCH {
            launched = clock::boot();
            launch_workers(shared);
        }
        bounds::apply_grant(shared);
        bounds::check_peers(shared);
        let repair = shared.horizon.take_repair();
        let mut raise_to = 0;
        match repair {
            Some(Repair::AcceptClock) => shared.horizon.set_clock(shared.horizon.clock().accept(clock::both())),
            Some(Repair::RaiseHorizon(to)) => {
                raise_to = to;
                shared.places.raise_all(to);
                shared.places.raise_floors(to, clock::boot());
            }
            None => {}
        }
        let flushed = shared.places.flush_next(|record| {
            register::flush(record);
            shared.horizon.is_acknowledged(record)
        });
        let wanted = shared.horizon.take_wanted();
        if wanted != 0 && shared.horizon.started() != 0 {
            // A generator that is used for the first time may only need the horizon that is durable already.
            bounds::open(shared, shared.horizon.durable());
        }
        let active = given(shared) != seen || shared.horizon.own_streams_active.swap(false, Ordering::Relaxed);
        let lease = renewal(shared, active);
        let waited_for = wanted > shared.horizon.durable();
        let must = waited_for || repair.is_some() || shared.horizon.started() == 0 || lease == Renewal::Now;
        let expected = active || demand.is_expected(clock::boot());
        if must || expected && position(shared, 0).is_due() {
            if !(Host { shared, wanted: wanted.max(raise_to), began: 0 }.go(Step::Decide)) {
                return;
            }
            shared.horizon.repaired();
        } else if clock::boot() - shared.horizon.clock().seen >= LOOK {
            follow(shared);
        }
        // Also if there was nothing to do: a caller that came in between may wait for something that is done already.
        shared.horizon.wake_waiting();
        serving::report(shared, false);

        if active || must {
            used = clock::boot();
        }
        if active {
            demand.used(used, settings::keep_ready());
        }
        // Raised stamps do not count as use. A caller that waited takes its id only now, and that counts.
        if active || must && !waited_for {
            seen = given(shared);
        }
        let look = if flushed { next_look(shared, used, &demand, &lease) } else { STANDBY_LOOK };
        let look = if missing { look.min(LAUNCH) } else { look };
        if !sleep(shared, look) {
            return;
        }
    }
}

/// How long the worker sleeps if nobody wakes it, when ids were last given out at `used`. While they are given out, or
/// expected to be, it looks often enough that no caller has to wait; else it only follows the clock.
fn next_look(shared: &Shared, used: Micros, demand: &Demand, lease: &Renewal) -> Micros {
    let boot = clock::boot();
    let mut look = LOOK;
    if boot - used < settings::horizon_lead() || demand.is_expected(boot) {
        look = look.min(position(shared, 0).look_again());
    }
    if let Renewal::At(at) = lease {
        look = look.min(at - boot);
    }
    // Callers that wait for the first round of gossip are not woken when it takes too long.
    if let Some(at) = shared.gossip.first_round(&shared.horizon.lease()) {
        look = look.min(at - boot);
    }
    look.max(STANDBY_LOOK)
}

/// When the lease for strict ids is to be renewed, by a move.
#[derive(PartialEq)]
enum Renewal {
    Never,
    /// At this time on the boot-time clock.
    At(Micros),
    Now,
}

/// When to renew the lease, if this server serves strict ids and somebody takes some.
fn renewal(shared: &Shared, active: bool) -> Renewal {
    let mut strict = false;
    shared.places.for_each_clock(|_, _, order| strict |= order == Order::Strict);
    let used = active || shared.horizon.strict_wanted.load(Ordering::Relaxed);
    if !strict || !used || !settings::is_authority() {
        return Renewal::Never;
    }
    let boot = clock::boot();
    let (lease, clock) = (shared.horizon.lease(), shared.horizon.clock().at(boot));
    if lease.from <= boot {
        shared.horizon.strict_wanted.store(false, Ordering::Relaxed);
    }
    let due = lease.due(boot, clock);
    if due <= boot { Renewal::Now } else { Renewal::At(due) }
}

/// A number that changes when ids are given out.
fn given(shared: &Shared) -> u64 {
    let mut sum = 0u64;
    shared.places.for_each_clock(|words, _, _| sum = sum.wrapping_add(words.last()));
    sum
}

/// Where the horizon stands, and that it is wanted at `wanted`.
fn position(shared: &Shared, wanted: Micros) -> Position {
    let boot = clock::boot();
    let mut reach = wanted;
    shared.places.for_each_clock(|words, layout, _| {
        // A generator that never gave an id reaches nowhere, even if its epoch is in the future.
        let last = words.last();
        if last != 0 {
            reach = reach.max(layout.tick_end(last + 1));
        }
    });
    Position {
        clock: shared.horizon.clock().at(boot),
        reach,
        horizon: shared.horizon.durable(),
        lead: settings::horizon_lead(),
        up: if shared.horizon.started() == 0 { 0 } else { boot - shared.horizon.started() },
    }
}

/// This server, as the steps of the horizon act on it.
struct Host {
    shared: &'static Shared,
    /// The least horizon that is wanted.
    wanted: Micros,
    /// The effective clock when the move began.
    began: Micros,
}

impl Host {
    /// Goes through the steps from `step` on. False: the process is told to end meanwhile.
    fn go(mut self, mut step: Step<pg_sys::XLogRecPtr>) -> bool {
        let (mut since, mut named_at) = (clock::boot(), self.shared.horizon.named_at());
        while step != Step::Done {
            let mut next = step.take(&mut self);
            if next != step {
                faults::point(moment_after(&step));
                since = clock::boot();
            } else {
                // The longer a standby is away, the more seldom the worker looks for it.
                let waited = clock::boot() - since;
                if waited > LOOK {
                    serving::report(self.shared, true);
                }
                if clock::boot() - self.shared.horizon.clock().seen >= LOOK {
                    follow(self.shared);
                }
                if !sleep(self.shared, (waited / 16).clamp(STANDBY_LOOK, LONGEST_STANDBY_LOOK)) {
                    return false;
                }
                // Others may be named: they need a record of their own.
                let before = std::mem::replace(&mut named_at, self.shared.horizon.named_at());
                if before != named_at {
                    next = Step::Decide;
                }
            }
            step = next;
        }
        true
    }
}

/// The name of the moment after a step, for tests.
const fn moment_after(step: &Step<pg_sys::XLogRecPtr>) -> &'static str {
    match step {
        Step::Start => "start:read",
        Step::Raise(_) => "start:raised",
        Step::Decide => "move:decided",
        Step::Write(_) => "move:logged",
        Step::Flush(..) => "move:flushed",
        Step::Acknowledge(..) => "move:acknowledged",
        Step::Publish(_) => "move:published",
        Step::Open(..) | Step::Done => "move:opened",
    }
}

impl Server for Host {
    type Record = pg_sys::XLogRecPtr;

    fn has_started(&self) -> bool {
        self.shared.horizon.started() != 0
    }

    fn read_register(&self) -> Micros {
        register::read()
    }

    fn start_clock(&mut self, horizon: Micros) {
        let now = clock::both();
        self.shared.horizon.set_lease(Lease::start(now.boot));
        let clock = Clock::start(now, horizon, settings::horizon_lead(), settings::max_clock_jump());
        self.shared.horizon.set_clock(clock);
    }

    fn start_floor(&mut self, horizon: Micros) {
        let clock = self.shared.horizon.clock().at(clock::boot());
        let (lead, borrow) = (settings::horizon_lead(), settings::max_borrow());
        self.shared.places.raise_floors(loan::at_start(horizon, clock, lead, borrow), clock::boot());
    }

    fn raise_all(&mut self, at: Micros) {
        self.shared.places.raise_all(at);
    }

    fn follow_clock(&mut self) {
        self.began = follow(self.shared);
    }

    fn position(&self) -> Position {
        position(self.shared, self.wanted)
    }

    fn write_register(&mut self, to: Micros) -> pg_sys::XLogRecPtr {
        // The error must end this process; the SQLSTATE is left behind for the callers.
        let fault = &self.shared.horizon.fault;
        PgTryBuilder::new(|| register::write(to))
            .catch_others(|cause| {
                let (CaughtError::PostgresError(report)
                | CaughtError::ErrorReport(report)
                | CaughtError::RustPanic { ereport: report, .. }) = &cause;
                fault.store(report.sql_error_code() as i32, Ordering::Relaxed);
                cause.rethrow()
            })
            .execute()
    }

    fn flush(&mut self, record: pg_sys::XLogRecPtr) {
        register::flush(record);
    }

    fn is_acknowledged(&self, record: pg_sys::XLogRecPtr) -> bool {
        self.shared.horizon.is_acknowledged(record)
    }

    fn publish(&mut self, horizon: Micros) {
        let boot = clock::boot();
        self.shared.horizon.set_durable(horizon, boot);
        let mut lease = self.shared.horizon.lease();
        lease.acknowledged(boot, self.began);
        self.shared.horizon.set_lease(lease);
    }

    fn open(&mut self, horizon: Micros, _all: usize) -> bool {
        bounds::open(self.shared, horizon);
        false
    }
}

/// Lets the effective clock follow the wall clock, and warns when a leap is not followed. Returns the effective clock.
fn follow(shared: &Shared) -> Micros {
    let before = shared.horizon.clock();
    let clock = before.follow(clock::both(), settings::max_clock_jump());
    shared.horizon.set_clock(clock);
    if clock.held > 0 && (before.held == 0 || shared.horizon.moves() == 0) {
        let message = format!("the wall clock is {} seconds ahead and is not followed", clock.held / SECOND);
        ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, message, "idgen")
            .set_detail("Ids go on with the clock as it was.")
            .set_hint("If the wall clock is right, run SELECT idgen_accept_clock().")
            .report(PgLogLevel::WARNING);
    }
    // Stamps up to where the clock stood before it went back are no loan.
    if clock.offset < before.offset {
        shared.places.raise_floors(before.at(clock.seen), clock::boot());
    }
    clock.at(clock.seen)
}

/// Waits to be woken, at most `timeout`, and reloads the settings if that is asked for. False: the process is to end.
fn sleep(shared: &Shared, timeout: Micros) -> bool {
    let go_on = BackgroundWorker::wait_latch(Some(Duration::from_micros(timeout.max(1) as u64)));
    if BackgroundWorker::sighup_received() {
        process::reload();
        publish_settings(shared);
    }
    go_on
}

/// Publishes the settings of the configuration files, by which all callers go: never a session's own settings.
fn publish_settings(shared: &Shared) {
    shared.horizon.set_clock(shared.horizon.clock());
    bounds::follow_standbys(shared, register::synchronous_standbys());
}

/// Whether a worker that the settings ask for does not run: it was never launched, has ended just before it was needed again,
/// or found no place.
fn is_worker_missing(shared: &Shared) -> bool {
    settings::authority().is_some() && shared.member.process.pid().is_none()
        || !settings::peers().is_empty() && shared.gossip.process.pid().is_none()
}

fn launch_workers(shared: &Shared) {
    if settings::authority().is_some() {
        member::launch(shared);
    }
    if !settings::peers().is_empty() {
        gossip::launch(shared);
    }
}
