//! Generators: giving out ids by the fast step, what a call does that it cannot serve, and how a backend finds the
//! generator that it is asked for.

use crate::{
    counter, drops,
    error::Error,
    label, machine_clock,
    mechanism::{
        Micros,
        allocator::{Refusal, Run, Words},
        layout::{Layout, SERVER},
    },
    places::Place,
    settings,
    shmem::{self, Shared},
    worker,
};
use once_cell::unsync::OnceCell;
use pgrx::{PgSqlErrorCode, prelude::*};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

/// The next id of the server generator, if it can be had without waiting. Raises nothing.
#[inline(always)]
pub fn next_at_once() -> Option<u64> {
    let shared = shmem::shared().ok()?;
    let now = shared.now();
    let run = shared.server.take(&SERVER, now, now + shared.max_borrow(), 1).ok()?;
    Some(SERVER.id(run.first, run.machine))
}

/// The next id of the server generator.
pub fn next() -> Result<u64, Error> {
    let shared = shmem::shared()?;
    let run = take_waiting(shared, &shared.server, &SERVER, None, 1)?;
    Ok(SERVER.id(run.first, run.machine))
}

/// The next id of the generator that stands on `sequence`, if it is the one that this transaction used last, and it can
/// be had without waiting. Raises nothing.
#[inline(always)]
pub fn next_of_at_once(sequence: pg_sys::Oid) -> Option<u64> {
    let shared = shmem::shared().ok()?;
    // SAFETY: points to a generator that KNOWN keeps, or is null: see `forget` and `resolve`.
    let generator = unsafe { CURRENT.get().as_ref() }?;
    // SAFETY: state of this process.
    let (user, transaction) = unsafe { (GetUserId(), local_transaction()) };
    let same = generator.sequence == sequence
        && generator.user == user
        && generator.transaction.get() == transaction
        && generator.valid.get();
    let run = if same { generator.take_at_once(shared, 1)? } else { return None };
    Some(generator.id(&run))
}

/// The next id of the generator that stands on `sequence`.
pub fn next_of(sequence: pg_sys::Oid) -> Result<u64, Error> {
    let shared = shmem::shared()?;
    let generator = find(sequence)?;
    CURRENT.set(Rc::as_ptr(&generator));
    let run = generator.take(shared, 1)?;
    Ok(generator.id(&run))
}

unsafe extern "C" {
    /// pgrx's own binding guards against errors, which this cannot raise.
    fn GetUserId() -> pg_sys::Oid;
}

/// `n` ids, increasing, taken in runs of consecutive stamps: each run with one atomic operation, when the one before
/// it is used up.
pub struct Ids {
    /// None: the server generator.
    sequence: Option<pg_sys::Oid>,
    wanted: u64,
    run: Run,
    layout: Layout,
    backend_part: u64,
}

impl Ids {
    pub fn new(sequence: Option<pg_sys::Oid>, wanted: u64) -> Self {
        let run = Run { first: 0, count: 0, machine: 0 };
        Ids { sequence, wanted, run, layout: SERVER, backend_part: 0 }
    }

    /// The next of them, if there is one left.
    pub fn next(&mut self) -> Result<Option<u64>, Error> {
        if self.run.count == 0 {
            if self.wanted == 0 {
                return Ok(None);
            }
            let shared = shmem::shared()?;
            self.run = match self.sequence {
                None => take_waiting(shared, &shared.server, &SERVER, None, self.wanted)?,
                Some(sequence) => {
                    let generator = find(sequence)?;
                    (self.layout, self.backend_part) = (generator.layout, generator.backend_part);
                    generator.take(shared, self.wanted)?
                }
            };
            self.wanted -= self.run.count;
        }
        let id = self.layout.id(self.run.first, self.run.machine) | self.backend_part;
        self.run.first += 1;
        self.run.count -= 1;
        Ok(Some(id))
    }
}

/// What a backend knows of a generator.
pub struct Generator {
    pub sequence: pg_sys::Oid,
    pub layout: Layout,
    pub place: &'static Place,
    /// Of a counter: how many values a block has; else 0.
    pub flush_every: u32,
    /// Of a counter: the file of the sequence.
    pub file: u32,
    backend_part: u64,
    /// Of a layout with backend bits: this backend's stream, the same for all its users.
    own: Option<Rc<Stream>>,
    /// For whom the privilege was checked; the transaction that holds the lock against DROP; and whether nothing was
    /// changed since.
    user: pg_sys::Oid,
    transaction: Cell<u32>,
    valid: Cell<bool>,
}

/// The stream of one backend.
#[derive(Default)]
struct Stream {
    /// Its last stamp.
    last: AtomicU64,
    /// What it was last raised to: see [`Shared::attach_at`].
    since: Cell<Micros>,
}

thread_local! {
    /// The generator that was used last, kept by KNOWN; or null.
    static CURRENT: Cell<*const Generator> = const { Cell::new(std::ptr::null()) };
    /// The generators that this backend has used.
    static KNOWN: RefCell<Vec<Rc<Generator>>> = const { RefCell::new(Vec::new()) };
    /// Set when the callbacks below are registered.
    static WATCHING: OnceCell<()> = const { OnceCell::new() };
}

/// The generator that stands on `sequence`, locked until the end of the transaction as nextval() locks it: against DROP
/// and against ALTER SEQUENCE. Looks into the catalog only when something may have changed.
fn find(sequence: pg_sys::Oid) -> Result<Rc<Generator>, Error> {
    // SAFETY: state of this process.
    let (user, transaction) = unsafe { (pg_sys::GetUserId(), local_transaction()) };
    let known = || KNOWN.with_borrow(|known| known.iter().find(|g| g.sequence == sequence && g.user == user).cloned());
    if let Some(generator) = known()
        && generator.valid.get()
        && generator.transaction.get() == transaction
    {
        return Ok(generator);
    }
    lock(sequence);
    // The lock has let changes be noticed.
    let generator = match known() {
        Some(generator) if generator.valid.get() => generator,
        _ => resolve(sequence, user)?,
    };
    generator.transaction.set(transaction);
    Ok(generator)
}

/// The local transaction that this backend is in.
unsafe fn local_transaction() -> u32 {
    // SAFETY: a backend that runs SQL has a PGPROC, and only it writes this.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        return (*pg_sys::MyProc).lxid;
        #[cfg(not(any(feature = "pg15", feature = "pg16")))]
        return (*pg_sys::MyProc).vxid.lxid;
    }
}

/// Locks `sequence` for the whole transaction, also when a subtransaction asked for it.
fn lock(sequence: pg_sys::Oid) {
    struct Restore(pg_sys::ResourceOwner);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: the owner that was current before, in the same transaction.
            unsafe { pg_sys::CurrentResourceOwner = self.0 };
        }
    }
    // SAFETY: in a transaction; the owner is put back also when the lock is not had.
    unsafe {
        let _restore = Restore(pg_sys::CurrentResourceOwner);
        pg_sys::CurrentResourceOwner = pg_sys::TopTransactionResourceOwner;
        pg_sys::LockRelationOid(sequence, pg_sys::RowExclusiveLock as i32);
    }
}

/// Looks the generator up in the catalog, checks the privilege that nextval() checks, and gives it a place.
#[cold]
fn resolve(sequence: pg_sys::Oid, user: pg_sys::Oid) -> Result<Rc<Generator>, Error> {
    watch();
    let shared = shmem::shared()?;
    // `made_by`: the part of this transaction that made it, 0 if it was there before.
    // SAFETY: lookups by oid of a relation that is locked, or does not exist.
    let (file, made_by) = unsafe {
        if pg_sys::get_rel_relkind(sequence) as u8 != pg_sys::RELKIND_SEQUENCE {
            return Err(Error::NotAGenerator);
        }
        let mode = pg_sys::AclMode::from(pg_sys::ACL_USAGE | pg_sys::ACL_UPDATE);
        let access = pg_sys::pg_class_aclcheck(sequence, user, mode);
        if access != pg_sys::AclResult::ACLCHECK_OK {
            let name = pg_sys::get_rel_name(sequence);
            pg_sys::aclcheck_error(access, pg_sys::ObjectType::OBJECT_SEQUENCE, name);
        }
        let relation = pg_sys::relation_open(sequence, pg_sys::NoLock as i32);
        let (file, made_by) = ((*(*relation).rd_rel).relfilenode.to_u32(), (*relation).rd_createSubid);
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        (file, made_by)
    };
    let definition = label::definition(sequence)?;
    let layout = definition.layout;
    // SAFETY: set once, when the backend connected.
    let place = shared.attach(unsafe { pg_sys::MyDatabaseId }, sequence, &layout)?;
    if made_by != 0 {
        drops::made_by(made_by, sequence);
    }
    CURRENT.set(std::ptr::null());
    KNOWN.with_borrow_mut(|known| {
        let stream = known.iter().find(|g| g.sequence == sequence && g.layout == layout).and_then(|g| g.own.clone());
        // What is forgotten, and may come back, goes on above what it has reached.
        known.retain(|g| {
            let stays = g.valid.get() && !(g.sequence == sequence && g.user == user);
            if !stays && let Some(stream) = &g.own {
                publish(shared, g, stream);
            }
            stays
        });
        let (own, backend_part) = if layout.has_backend() {
            let number = backend_number(shared, &layout)?;
            let stream = stream.unwrap_or_else(|| {
                let reached = layout.stamp_at(shared.reached()[number].load(Relaxed));
                Rc::new(Stream { last: AtomicU64::new(reached.saturating_sub(1)), since: Cell::new(0) })
            });
            (Some(stream), layout.backend_part(number as u64))
        } else {
            (None, 0)
        };
        let generator = Rc::new(Generator {
            sequence,
            layout,
            place,
            flush_every: definition.flush_every,
            file,
            backend_part,
            own,
            user,
            transaction: Cell::new(0),
            valid: Cell::new(true),
        });
        known.push(generator.clone());
        Ok(generator)
    })
}

/// This backend's number: its place among the processes, which no other live one has.
fn backend_number(shared: &Shared, layout: &Layout) -> Result<usize, Error> {
    // SAFETY: this process has a place in the array of all processes.
    let number = unsafe { pg_sys::MyProc.offset_from((*pg_sys::ProcGlobal).allProcs) } as usize;
    if number as u64 > layout.max_backend() || number >= shared.reached().len() {
        return Err(Error::NoBackendNumber { max: layout.max_backend() });
    }
    Ok(number)
}

/// Sees to it that this backend notices when a generator or a privilege changes, and that whoever has its number next
/// goes on above its own streams.
fn watch() {
    #[pg_guard]
    unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
        forget(|generator| relation == pg_sys::InvalidOid || generator.sequence == relation);
    }
    #[pg_guard]
    unsafe extern "C-unwind" fn role_changed(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
        forget(|_| true);
    }
    #[pg_guard]
    unsafe extern "C-unwind" fn leave(_code: i32, _arg: pg_sys::Datum) {
        if let Ok(shared) = shmem::shared() {
            KNOWN.with_borrow(|known| {
                for generator in known.iter() {
                    if let Some(stream) = &generator.own {
                        publish(shared, generator, stream);
                    }
                }
            });
        }
    }
    fn forget(affected: impl Fn(&Generator) -> bool) {
        KNOWN.with_borrow(|known| known.iter().filter(|g| affected(g)).for_each(|g| g.valid.set(false)));
    }
    WATCHING.with(|watching| {
        // SAFETY: functions for as long as the process lives.
        watching.get_or_init(|| unsafe {
            let none = pg_sys::Datum::from(0);
            pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), none);
            pg_sys::CacheRegisterSyscacheCallback(
                pg_sys::SysCacheIdentifier::AUTHMEMROLEMEM as i32,
                Some(role_changed),
                none,
            );
            pg_sys::CacheRegisterSyscacheCallback(pg_sys::SysCacheIdentifier::AUTHOID as i32, Some(role_changed), none);
            pg_sys::before_shmem_exit(Some(leave), none);
        });
    });
}

/// Whoever has this backend's number next goes on above `stream`.
fn publish(shared: &Shared, generator: &Generator, stream: &Stream) {
    if let Ok(number) = backend_number(shared, &generator.layout) {
        let reach = generator.layout.tick_end(stream.last.load(Relaxed));
        shared.reached()[number].fetch_max(reach, Relaxed);
    }
}

impl Generator {
    fn id(&self, run: &Run) -> u64 {
        self.layout.id(run.first, run.machine) | self.backend_part
    }

    /// Takes up to `want` stamps, if they can be had without waiting. Raises nothing.
    #[inline(always)]
    fn take_at_once(&self, shared: &Shared, want: u64) -> Option<Run> {
        let words = &self.place.words;
        if self.layout.is_counter() {
            return counter::take_at_once(self, want);
        }
        let now = shared.now();
        let latest = now + shared.max_borrow();
        let own = self.own.as_deref();
        if own.is_some() && !shared.own_streams_active.load(Relaxed) {
            shared.own_streams_active.store(true, Relaxed);
        }
        take_permitted(shared, words, &self.layout, own, now, latest, want).ok()
    }

    /// Takes up to `want` stamps.
    fn take(&self, shared: &Shared, want: u64) -> Result<Run, Error> {
        match self.take_at_once(shared, want) {
            Some(run) => Ok(run),
            None if self.layout.is_counter() => counter::take_with_new_block(shared, self, want),
            None => take_waiting(shared, &self.place.words, &self.layout, self.own.as_deref(), want),
        }
    }
}

/// Takes up to `want` stamps, of a stream of its own where `own` is given: see [`Words::take`].
///
/// Nobody raises a stream of its own but the backend that has it, and it looks whether it must after it has read the
/// bound: whoever opened that had raised before. What was taken below is a gap.
#[inline(always)]
fn take_permitted(
    shared: &Shared,
    words: &Words,
    layout: &Layout,
    own: Option<&Stream>,
    now: Micros,
    latest: Micros,
    want: u64,
) -> Result<Run, Refusal> {
    let Some(stream) = own else { return words.take(layout, now, latest, want) };
    loop {
        let run = words.take_after(&stream.last, layout, now, latest, want)?;
        let attach_at = shared.attach_at();
        if stream.since.get() == attach_at {
            return Ok(run);
        }
        stream.last.fetch_max(layout.stamp_at(attach_at).saturating_sub(1), Relaxed);
        stream.since.set(attach_at);
    }
}

/// Takes up to `want` stamps, of a stream of its own where `own` is given, and waits for the horizon or sleeps for a
/// loan as long as that takes.
#[cold]
#[inline(never)]
fn take_waiting(
    shared: &Shared,
    words: &Words,
    layout: &Layout,
    own: Option<&Stream>,
    want: u64,
) -> Result<Run, Error> {
    let (mut slept, mut waited) = (false, false);
    worker::wait_for_move(shared, || {
        loop {
            let now = shared.now();
            let latest = now.max(shared.floor()).saturating_add(shared.max_borrow());
            match take_permitted(shared, words, layout, own, now, latest, want) {
                Ok(run) => return Ok(Some(run)),
                Err(Refusal::Bound) => {
                    let last = own.map_or_else(|| words.last(), |stream| stream.last.load(Relaxed));
                    let first = layout.stamp_at(now).max(last + 1);
                    check_can_be_served(shared, layout, now, first)?;
                    count_once(&mut waited, &shared.horizon_waits);
                    shared.want_horizon(layout.tick_end(first));
                    return Ok(None);
                }
                // Not a loan: it would last until the epoch.
                Err(Refusal::Loan { .. }) if now < layout.epoch() => return Err(Error::BeforeEpoch),
                Err(Refusal::Loan { due }) => {
                    count_once(&mut slept, &shared.loan_sleeps);
                    sleep(due - latest);
                }
            }
        }
    })
}

fn count_once(done: &mut bool, counter: &AtomicI64) {
    if !std::mem::replace(done, true) {
        counter.fetch_add(1, Relaxed);
    }
}

/// Why waiting for the horizon to permit `first` would be in vain, if it would.
fn check_can_be_served(shared: &Shared, layout: &Layout, now: Micros, first: u64) -> Result<(), Error> {
    check_not_in_recovery()?;
    settings::machine_id(layout.max_machine())?;
    if shared.fault.load(Relaxed) == PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED as i32 {
        Err(Error::NoOrigin)
    } else if shared.started() == 0 {
        Ok(())
    } else if first >= layout.stamps() {
        Err(Error::Exhausted)
    } else if now < layout.epoch() {
        Err(Error::BeforeEpoch)
    } else {
        Ok(())
    }
}

/// The error of a server in recovery, which gives out nothing.
pub fn check_not_in_recovery() -> Result<(), Error> {
    // SAFETY: may be asked at any time.
    if unsafe { pg_sys::RecoveryInProgress() } { Err(Error::InRecovery) } else { Ok(()) }
}

/// Sleeps for `time`, without a lock; cancel and terminate end it at once.
pub fn sleep(time: Micros) {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: the latch of this process; whoever else waits on it looks at his condition again.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, time / 1000 + 1, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}

/// The effective deadline of a wait that begins now.
pub fn deadline() -> Micros {
    machine_clock::boot() + settings::wait_timeout()
}
