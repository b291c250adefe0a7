//! What all processes of the server share: one block of words, wiped by every crash and restart; the register brings
//! back what must be kept.
//!
//! ```text
//! Shared | Place x idgen.max_generators | slot of each backend for strict ids | reach of each backend
//! ```
//!
//! Each word says who writes it. Giving out ids takes no lock.

use crate::{
    book::BookWords,
    errand::{Asking, Errand},
    error::Error,
    grant::GrantWords,
    machine_clock,
    mechanism::{Micros, allocator::Words, clock::Clock, loan},
    member::MemberWords,
    peers::GossipWords,
    places::Place,
    protocol::lease::Lease,
    settings,
    state::State,
    strict::Slot,
    wait_event::{Wait, event},
};
use pgrx::{pg_sys::panic::ErrorReport, prelude::*};
use std::{
    cell::UnsafeCell,
    ffi::CStr,
    ptr,
    sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering::*},
};

/// The shared words. Unless it says otherwise a word is written by the worker only and read by everyone, relaxed:
/// each stands for itself, and what permits an id is [`Words`] alone.
pub struct Shared {
    /// The words of `idgen_next()`.
    pub server: Words,
    /// See [`Clock`], field for field. `offset` and `max_borrow` are read by every call.
    offset: AtomicI64,
    max_borrow: AtomicI64,
    /// Set by backends with streams of their own, which the worker cannot see otherwise; cleared by the worker.
    pub own_streams_active: AtomicBool,
    /// Which synchronous standbys must have a record before it permits anything, as a hash of their setting; 0: none. At
    /// first nobody knows, and some must.
    standbys: AtomicU64,
    /// See there.
    pub(crate) grant: GrantWords,
    /// See [`Lease`], field for field.
    strict_from: AtomicI64,
    strict_until: AtomicI64,
    /// Set by callers of a strict generator that found no lease; cleared by the worker.
    pub strict_wanted: AtomicBool,
    /// The floor of a generator that gets a place: see [`loan`].
    attach_floor: AtomicI64,
    base: AtomicI64,
    held: AtomicI64,
    seen: AtomicI64,
    seen_offset: AtomicI64,
    steps: AtomicI64,
    stepped: AtomicI64,
    /// The boot-time clock when ids were first permitted; 0 before.
    started: AtomicI64,
    /// The durable horizon; no bound is beyond it.
    horizon: AtomicI64,
    moves: AtomicI64,
    /// The SQLSTATE that stopped the worker last; 0 after the next move. Ids are permitted or not whatever it says.
    pub fault: AtomicI32,
    /// The worker's place among the processes and its pid; -1 and 0 while there is none.
    worker: AtomicI32,
    worker_pid: AtomicI32,

    /// Where a generator that gets a place begins. Raised by the worker at the start.
    pub(crate) attach_at: AtomicI64,
    /// How many places were ever used. Written under the lock.
    pub(crate) used_places: AtomicU32,
    /// Whose places may be those of generators that are gone: see [`Shared::doubt`].
    pub(crate) doubtful: AtomicU32,
    /// Written by who keeps a next block: the worker should flush. The worker takes it.
    pub(crate) flush_wanted: AtomicBool,
    /// Set when a generator is used whose blocks are leased.
    pub(crate) leases: AtomicBool,
    /// Written by whoever waits: the horizon that his next stamp needs. The worker takes it.
    wanted: AtomicI64,
    /// What a superuser's repair asks for, with its time; [`ACCEPT`]: the clock is to be accepted.
    repair: Errand,
    repair_to: AtomicI64,

    /// See there.
    pub member: MemberWords,
    pub book: BookWords,
    pub gossip: GossipWords,

    /// See there.
    pub state: State,
    /// Counted by callers, off the hot path.
    pub horizon_waits: AtomicI64,
    pub loan_sleeps: AtomicI64,

    /// Wakes who waits for a move. It has a lock of its own inside.
    moved: UnsafeCell<pg_sys::ConditionVariable>,
    /// The LWLock of the places.
    pub(crate) lock: *mut pg_sys::LWLock,
    max_generators: u32,
    max_backends: u32,
}

/// No time that a horizon is raised to.
const ACCEPT: Micros = Micros::MIN;

/// What a superuser's repair asks the worker for.
#[derive(Clone, Copy)]
pub enum Repair {
    AcceptClock,
    RaiseHorizon(Micros),
}

/// Where this process sees the shared memory; null where the library was not preloaded.
static SHARED: AtomicPtr<Shared> = AtomicPtr::new(ptr::null_mut());

const LOCK: &CStr = c"idgen";

static mut PREVIOUS_REQUEST: pg_sys::shmem_request_hook_type = None;
static mut PREVIOUS_STARTUP: pg_sys::shmem_startup_hook_type = None;

/// Asks for the shared memory. While preloading only.
pub fn request() {
    // SAFETY: the hooks of this process, before there is any other thread or process; each calls the one before it.
    unsafe {
        PREVIOUS_REQUEST = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(on_request);
        PREVIOUS_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(on_startup);
    }
}

fn sizes() -> (u32, u32, usize) {
    // SAFETY: set before the hooks are called.
    let (generators, backends) = (settings::MAX_GENERATORS.get() as u32, unsafe { pg_sys::MaxBackends } as u32);
    let size = size_of::<Shared>()
        + generators as usize * size_of::<Place>()
        + backends as usize * (size_of::<Slot>() + size_of::<AtomicI64>());
    (generators, backends, size)
}

#[pg_guard]
unsafe extern "C-unwind" fn on_request() {
    // SAFETY: called by PostgreSQL where shared memory may be requested.
    unsafe {
        if let Some(previous) = PREVIOUS_REQUEST {
            previous();
        }
        pg_sys::RequestAddinShmemSpace(sizes().2);
        pg_sys::RequestNamedLWLockTranche(LOCK.as_ptr(), 1);
    }
}

/// Called once in the postmaster, and again after every crash: in memory that is then new.
#[pg_guard]
unsafe extern "C-unwind" fn on_startup() {
    // SAFETY: called by PostgreSQL where shared memory may be initialized; the memory is as large as asked, aligned to
    // PG_CACHE_LINE_SIZE (128), and zero-filled or not: every part is written before the lock is released.
    unsafe {
        if let Some(previous) = PREVIOUS_STARTUP {
            previous();
        }
        compare_locks();
        let (max_generators, max_backends, size) = sizes();
        let init_lock = individual_lock(ADDIN_SHMEM_INIT_LOCK);
        pg_sys::LWLockAcquire(init_lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let mut found = false;
        let shared = pg_sys::ShmemInitStruct(c"idgen".as_ptr(), size, &mut found).cast::<Shared>();
        if !found {
            let lock = &raw mut (*pg_sys::GetNamedLWLockTranche(LOCK.as_ptr())).lock;
            shared.write(Shared::new(lock, max_generators, max_backends));
            SHARED.store(shared, Release);
            for place in 0..max_generators as usize {
                (*shared).first_place().add(place).write(Place::default());
            }
            for backend in 0..max_backends as usize {
                (*shared).first_slot().add(backend).write(Slot::default());
                (*shared).first_reach().add(backend).write(AtomicI64::new(0));
            }
        }
        pg_sys::LWLockRelease(init_lock);
        SHARED.store(shared, Release);
    }
}

/// Locks of PostgreSQL's own that idgen takes: number and name in storage/lwlocknames.h. No header tells them to Rust, so that
/// the names are compared at the start.
pub(crate) const ADDIN_SHMEM_INIT_LOCK: (u16, &CStr) = (21, c"AddinShmemInit");
pub(crate) const SYNC_REP_LOCK: (u16, &CStr) = (32, c"SyncRep");

/// One of them, which must have been compared.
pub(crate) unsafe fn individual_lock((number, _): (u16, &CStr)) -> *mut pg_sys::LWLock {
    // SAFETY: the array is in shared memory for as long as the process lives, and has all individual locks.
    unsafe { &raw mut (*pg_sys::MainLWLockArray.add(usize::from(number))).lock }
}

/// Stops a server that has other locks under their numbers.
fn compare_locks() {
    for (number, name) in [ADDIN_SHMEM_INIT_LOCK, SYNC_REP_LOCK] {
        // SAFETY: the number of an individual lock; the name is static.
        let found = unsafe { CStr::from_ptr(pg_sys::GetLWLockIdentifier(pg_sys::PG_WAIT_LWLOCK, number)) };
        if found != name {
            let message = format!("idgen was not made for this PostgreSQL: lock {number} is {found:?}, not {name:?}");
            ErrorReport::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message, "idgen").report(PgLogLevel::FATAL);
        }
    }
}

/// The shared words, if the library was preloaded.
#[inline(always)]
pub fn attached() -> Option<&'static Shared> {
    // SAFETY: initialized by `on_startup`, and in place for as long as the process lives.
    unsafe { SHARED.load(Relaxed).as_ref() }
}

/// The shared words, or the error of a session that loaded the library by itself.
pub fn shared() -> Result<&'static Shared, Error> {
    attached().ok_or(Error::NotPreloaded)
}

impl Shared {
    /// As it is after every start of the server and every crash restart: nothing is permitted.
    fn new(lock: *mut pg_sys::LWLock, max_generators: u32, max_backends: u32) -> Self {
        let mut moved = pg_sys::ConditionVariable::default();
        // SAFETY: a valid place to initialize; it holds no pointer to itself and may be moved.
        unsafe { pg_sys::ConditionVariableInit(&mut moved) };
        Shared {
            server: Words::default(),
            offset: AtomicI64::new(0),
            max_borrow: AtomicI64::new(0),
            own_streams_active: AtomicBool::new(false),
            standbys: AtomicU64::new(u64::MAX),
            grant: GrantWords::default(),
            strict_from: AtomicI64::new(Micros::MAX),
            strict_until: AtomicI64::new(0),
            strict_wanted: AtomicBool::new(false),
            attach_floor: AtomicI64::new(0),
            base: AtomicI64::new(0),
            held: AtomicI64::new(0),
            seen: AtomicI64::new(0),
            seen_offset: AtomicI64::new(0),
            steps: AtomicI64::new(0),
            stepped: AtomicI64::new(0),
            started: AtomicI64::new(0),
            horizon: AtomicI64::new(0),
            moves: AtomicI64::new(0),
            fault: AtomicI32::new(0),
            worker: AtomicI32::new(-1),
            worker_pid: AtomicI32::new(0),
            attach_at: AtomicI64::new(0),
            used_places: AtomicU32::new(0),
            doubtful: AtomicU32::new(0),
            flush_wanted: AtomicBool::new(false),
            leases: AtomicBool::new(false),
            wanted: AtomicI64::new(0),
            repair: Errand::default(),
            repair_to: AtomicI64::new(0),
            member: MemberWords::default(),
            book: BookWords::default(),
            gossip: GossipWords::default(),
            state: State::default(),
            horizon_waits: AtomicI64::new(0),
            loan_sleeps: AtomicI64::new(0),
            moved: UnsafeCell::new(moved),
            lock,
            max_generators,
            max_backends,
        }
    }

    /// The places follow this struct in the same allocation, see `sizes`: beyond what a reference to it may reach.
    fn first_place(&self) -> *mut Place {
        const { assert!(size_of::<Shared>().is_multiple_of(align_of::<Place>())) };
        // SAFETY: the pointer to the whole allocation, of which this is the beginning.
        unsafe { SHARED.load(Relaxed).add(1).cast() }
    }

    fn first_slot(&self) -> *mut Slot {
        const { assert!(size_of::<Place>().is_multiple_of(align_of::<Slot>())) };
        // SAFETY: they follow the places in the same allocation, see `sizes`.
        unsafe { self.first_place().add(self.max_generators as usize).cast() }
    }

    fn first_reach(&self) -> *mut AtomicI64 {
        // SAFETY: they follow the slots in the same allocation, see `sizes`.
        unsafe { self.first_slot().add(self.max_backends as usize).cast() }
    }

    /// The slots in which backends wait for strict ids, one for each backend number.
    pub(crate) fn slots(&self) -> &[Slot] {
        // SAFETY: initialized by `on_startup`; all their words are atomic.
        unsafe { std::slice::from_raw_parts(self.first_slot(), self.max_backends as usize) }
    }

    /// All places, free ones too.
    pub(crate) fn places(&self) -> &[Place] {
        // SAFETY: initialized by `on_startup`; all their words are atomic.
        unsafe { std::slice::from_raw_parts(self.first_place(), self.max_generators as usize) }
    }

    /// How far the streams of each backend number reached, published when a backend ends. Written by the backend that
    /// has the number.
    pub fn reached(&self) -> &[AtomicI64] {
        // SAFETY: initialized by `on_startup`; all atomic.
        unsafe { std::slice::from_raw_parts(self.first_reach(), self.max_backends as usize) }
    }

    /// The effective clock. The one clock read of a call.
    #[inline(always)]
    pub fn now(&self) -> Micros {
        machine_clock::boot() + self.offset.load(Relaxed)
    }

    /// How far a burst may run ahead.
    #[inline(always)]
    pub fn max_borrow(&self) -> Micros {
        self.max_borrow.load(Relaxed)
    }

    /// On which floor a generator begins that gets a place.
    pub(crate) fn attach_floor(&self) -> Micros {
        self.attach_floor.load(Relaxed)
    }

    /// Where a stream begins that has no words in shared memory.
    pub fn attach_at(&self) -> Micros {
        self.attach_at.load(Relaxed)
    }

    /// The durable horizon that permits ids, 0 before the first move.
    pub fn horizon(&self) -> Micros {
        self.horizon.load(Relaxed)
    }

    /// How often it moved.
    pub fn moves(&self) -> i64 {
        self.moves.load(Relaxed)
    }

    /// The boot-time clock at the first move, 0 before it.
    pub fn started(&self) -> Micros {
        self.started.load(Relaxed)
    }

    /// The worker's pid, if there is one.
    pub fn worker_pid(&self) -> Option<i32> {
        Some(self.worker_pid.load(Relaxed)).filter(|pid| *pid != 0)
    }

    pub fn clock(&self) -> Clock {
        Clock {
            offset: self.offset.load(Relaxed),
            base: self.base.load(Relaxed),
            held: self.held.load(Relaxed),
            seen: self.seen.load(Relaxed),
            seen_offset: self.seen_offset.load(Relaxed),
            steps: self.steps.load(Relaxed),
            stepped: self.stepped.load(Relaxed),
        }
    }

    /// Worker only.
    pub fn set_clock(&self, clock: Clock) {
        self.offset.store(clock.offset, Relaxed);
        self.base.store(clock.base, Relaxed);
        self.held.store(clock.held, Relaxed);
        self.seen.store(clock.seen, Relaxed);
        self.seen_offset.store(clock.seen_offset, Relaxed);
        self.steps.store(clock.steps, Relaxed);
        self.stepped.store(clock.stepped, Relaxed);
        self.max_borrow.store(settings::max_borrow(), Relaxed);
    }

    /// Worker only: of no generator, also one that has no place yet, is what is up to `at` now anybody's loan.
    pub fn raise_floors(&self, at: Micros) {
        let floor = loan::floor(at, machine_clock::boot());
        self.attach_floor.fetch_max(floor, Relaxed);
        self.for_each_clock(|words, _, _| words.raise_floor(floor));
    }

    /// Worker only: every generator goes on at or after `at`, also one that has no place yet. The streams of backends
    /// see it by themselves, in `attach_at`.
    pub fn raise_all(&self, at: Micros) {
        self.attach_at.fetch_max(at, Relaxed);
        self.for_each_clock(|words, layout, _| words.raise(layout.stamp_at(at).saturating_sub(1)));
    }

    /// Asks the worker for a lease to serve strict ids.
    pub fn want_lease(&self) {
        self.strict_wanted.store(true, Relaxed);
        self.wake_worker();
    }

    /// When strict ids are served here.
    pub fn lease(&self) -> Lease {
        Lease { from: self.strict_from.load(Relaxed), until: self.strict_until.load(Relaxed) }
    }

    /// Worker only.
    pub fn set_lease(&self, lease: Lease) {
        self.strict_from.store(lease.from, Relaxed);
        self.strict_until.store(lease.until, Relaxed);
    }

    /// Worker only: the horizon is at `horizon`, durable and acknowledged.
    pub fn set_horizon(&self, horizon: Micros, boot: Micros) {
        self.horizon.store(horizon, Relaxed);
        if self.started() == 0 {
            self.started.store(boot, Relaxed);
        }
        self.moves.fetch_add(1, Relaxed);
        self.fault.store(0, Relaxed);
    }

    /// Whether a record must be on synchronous standbys before it permits anything.
    pub fn is_synchronous(&self) -> bool {
        self.standbys.load(Relaxed) != 0
    }

    /// Worker only: these standbys, 0: none, must have what permits something from now on. What was permitted before is
    /// not known to be on others: it is closed, and opened again by a move that they acknowledge.
    pub fn set_standbys(&self, standbys: u64) {
        let before = self.standbys.swap(standbys, Relaxed);
        if standbys != 0 && standbys != before && self.started() != 0 {
            self.horizon.store(0, Relaxed);
            self.close(|_| true);
            self.want_horizon(1);
        }
    }

    /// Worker only: says where the worker is to be woken, or that it has gone.
    pub fn set_worker(&self, place: i32, pid: i32) {
        self.worker_pid.store(pid, Relaxed);
        self.worker.store(place, Release);
    }

    /// Asks the worker for a horizon at or beyond `horizon`.
    pub fn want_horizon(&self, horizon: Micros) {
        self.wanted.fetch_max(horizon, AcqRel);
        self.wake_worker();
    }

    /// Worker only: the horizon wanted since it last asked, 0 if none.
    pub fn take_wanted(&self) -> Micros {
        self.wanted.swap(0, AcqRel)
    }

    /// Asks the worker for a repair, if it is not at another.
    pub fn ask(&self, repair: Repair) -> Option<Asking<'_>> {
        let asking = self.repair.claim()?;
        let to = match repair {
            Repair::AcceptClock => ACCEPT,
            Repair::RaiseHorizon(to) => to,
        };
        self.repair_to.store(to, Relaxed);
        asking.ask();
        self.wake_worker();
        Some(asking)
    }

    /// Worker only: a repair to do now. [`Shared::repaired`] ends it.
    pub fn take_repair(&self) -> Option<Repair> {
        self.repair.take().then(|| match self.repair_to.load(Relaxed) {
            ACCEPT => Repair::AcceptClock,
            to => Repair::RaiseHorizon(to),
        })
    }

    /// Worker only.
    pub fn repaired(&self) {
        self.repair.done();
    }

    /// Worker only, when it begins.
    pub fn put_repair_back(&self) {
        self.repair.put_back();
    }

    /// Sleeps until the next move or for `timeout`, whichever is first, shown as `wait`; a spurious return is possible. Raises if the
    /// session is cancelled or terminated.
    pub fn sleep_until_moved(&self, timeout: Micros, wait: Wait) {
        // SAFETY: initialized in `new`; called by processes that have a PGPROC.
        unsafe {
            let milliseconds = timeout / 1000 + 1;
            pg_sys::ConditionVariableTimedSleep(self.moved.get(), milliseconds, event(wait));
        }
    }

    /// Ends what [`Shared::sleep_until_moved`] began.
    pub fn end_sleep(&self) {
        // SAFETY: takes no argument, and may be called when nothing was begun.
        unsafe { pg_sys::ConditionVariableCancelSleep() };
    }

    /// Wakes who waits for a move, or for a block.
    pub fn wake_waiting(&self) {
        // SAFETY: initialized in `new`.
        unsafe { pg_sys::ConditionVariableBroadcast(self.moved.get()) };
    }

    pub(crate) fn wake_worker(&self) {
        wake(self.worker.load(Acquire));
    }
}

/// A text in shared memory, cut to `N` bytes. Under a lock.
pub(crate) struct Text<const N: usize>([AtomicU8; N]);

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Text([const { AtomicU8::new(0) }; N])
    }
}

impl<const N: usize> Text<N> {
    pub(crate) fn set(&self, text: &str) {
        let bytes = text.bytes().take(N - 1).chain([0]);
        self.0.iter().zip(bytes).for_each(|(place, byte)| place.store(byte, Relaxed));
    }

    pub(crate) fn get(&self) -> Option<String> {
        let bytes: Vec<u8> = self.0.iter().map(|byte| byte.load(Relaxed)).take_while(|byte| *byte != 0).collect();
        (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Wakes the process with this place among all processes; -1: nobody.
pub(crate) fn wake(place: i32) {
    if place >= 0 {
        // SAFETY: a place in the array of all processes stays valid; should the process have gone, whoever has the place
        // now is woken for nothing, which every latch user allows for.
        unsafe { pg_sys::SetLatch(&raw mut (*(*pg_sys::ProcGlobal).allProcs.add(place as usize)).procLatch) };
    }
}

/// This process's place among all processes.
pub(crate) fn own_place() -> i32 {
    // SAFETY: who asks has one.
    unsafe { pg_sys::MyProc.offset_from((*pg_sys::ProcGlobal).allProcs) as i32 }
}
