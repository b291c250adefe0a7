//! How a backend finds the generator that it is asked for, and keeps it for as long as nothing has changed.

use super::{drops, label};
use crate::{
    error::{Error, beginning},
    mechanism::{
        Micros,
        definition::{Definition, Order},
        layout::Layout,
    },
    postgres::{latch, relation, sequence, settings},
    shared::{self, Shared, place::Place, serving::check_not_in_recovery},
};
use once_cell::unsync::OnceCell;
use pgrx::prelude::*;
use std::{
    cell::{Cell, RefCell},
    ffi::CString,
    rc::Rc,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed},
};

/// What a backend knows of a generator.
pub struct Generator {
    pub sequence: pg_sys::Oid,
    pub definition: Definition,
    pub place: &'static Place,
    pub kind: Kind,
    /// This backend's bits, in each id; 0 where the layout has none.
    pub backend_part: u64,
    /// The user whose privilege was checked; the transaction that holds the lock against DROP; and whether nothing has
    /// changed since.
    user: pg_sys::Oid,
    transaction: Cell<u32>,
    valid: Cell<bool>,
}

/// Where the ids of a generator come from.
pub enum Kind {
    /// The clock, and words that all backends share.
    Clock,
    /// The clock, and a stream of this backend's own, the same for all its users.
    Stream(Rc<Stream>),
    /// The authority, one request for all callers that wait.
    Strict,
    /// Blocks of a sequence.
    Counter(Counter),
}

/// A counter, as long as its sequence has this file.
pub struct Counter {
    pub file: u32,
    pub blocks: Blocks,
}

/// Whose sequence the blocks of a counter are taken from.
pub enum Blocks {
    /// This server's sequence, up to this value.
    Own { max: u64 },
    /// The authority's sequence, from which the member worker leases them.
    Leased,
}

/// The stream of one backend.
#[derive(Default)]
pub struct Stream {
    /// Its last stamp.
    pub last: AtomicU64,
    /// The `attach_at` to which it was last raised: see [`crate::shared::places::Places::attach_at`].
    pub since: Cell<Micros>,
}

impl Generator {
    fn stream(&self) -> Option<&Rc<Stream>> {
        match &self.kind {
            Kind::Stream(stream) => Some(stream),
            _ => None,
        }
    }
}

/// The generator that was used last, kept by KNOWN; or null. This process has one thread: it is atomic only because a
/// thread-local variable of a shared library is found by a function call.
static CURRENT: AtomicPtr<Generator> = AtomicPtr::new(std::ptr::null_mut());

thread_local! {
    /// The generators that this backend has used.
    static KNOWN: RefCell<Vec<Rc<Generator>>> = const { RefCell::new(Vec::new()) };
    /// Set when the callbacks below are registered.
    static WATCHING: OnceCell<()> = const { OnceCell::new() };
}

/// The generator that stands on `sequence`, if it is the one that this transaction used last. Raises nothing.
#[inline(always)]
pub fn current(sequence: pg_sys::Oid) -> Option<&'static Generator> {
    // SAFETY: points to a generator that KNOWN keeps, or is null: see `forget` and `resolve`.
    let generator = unsafe { CURRENT.load(Relaxed).as_ref() }?;
    // SAFETY: state of this process.
    let (user, transaction) = unsafe { (GetUserId(), local_transaction()) };
    let same = generator.sequence == sequence
        && generator.user == user
        && generator.transaction.get() == transaction
        && generator.valid.get();
    same.then_some(generator)
}

/// From now on [`current`] finds `generator`, which [`find`] has found.
pub fn make_current(generator: &Rc<Generator>) {
    CURRENT.store(Rc::as_ptr(generator).cast_mut(), Relaxed);
}

unsafe extern "C" {
    /// pgrx's own binding guards against errors, which this cannot raise.
    fn GetUserId() -> pg_sys::Oid;
}

/// The generator that stands on `sequence`, locked until the end of the transaction as nextval() locks it: against DROP
/// and against ALTER SEQUENCE. Looks into the catalog only when something may have changed.
pub fn find(sequence: pg_sys::Oid) -> Result<Rc<Generator>, Error> {
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
    // Taking the lock has brought in all invalidations.
    let generator = match known() {
        Some(generator) if generator.valid.get() => generator,
        _ => resolve(sequence, user)?,
    };
    generator.transaction.set(transaction);
    Ok(generator)
}

/// The generator with this name, for another server; an error if it has another definition here than there.
pub fn named(schema: &[u8], name: &[u8], definition: &str) -> Result<Rc<Generator>, Error> {
    let unknown = || Error::NotAGenerator(format!("{}.{}", beginning(schema), beginning(name)));
    let text = |text| CString::new(text).map_err(|_| unknown());
    let (schema_name, relation) = (text(schema)?, text(name)?);
    // SAFETY: lookups by name.
    let sequence = unsafe {
        let schema = pg_sys::get_namespace_oid(schema_name.as_ptr(), true);
        pg_sys::get_relname_relid(relation.as_ptr(), schema)
    };
    if sequence == pg_sys::InvalidOid {
        return Err(unknown());
    }
    let generator = find(sequence)?;
    let own = generator.definition.to_string();
    if own == definition { Ok(generator) } else { Err(Error::OtherDefinition(own)) }
}

/// The local transaction that this backend is in.
unsafe fn local_transaction() -> u32 {
    // SAFETY: a backend that runs SQL has a PGPROC, and only it writes this.
    unsafe {
        #[cfg(feature = "plain_lxid")]
        return (*pg_sys::MyProc).lxid;
        #[cfg(not(feature = "plain_lxid"))]
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
    // SAFETY: in a transaction; the owner is put back even if the lock raises an error.
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
    let shared = shared::shared()?;
    // SAFETY: lookups by oid of a relation that is locked, or does not exist.
    let (file, is_permanent) = unsafe {
        if pg_sys::get_rel_relkind(sequence) as u8 != pg_sys::RELKIND_SEQUENCE {
            return Err(Error::NotAGenerator(relation::shown(sequence)));
        }
        let mode = pg_sys::AclMode::from(pg_sys::ACL_USAGE | pg_sys::ACL_UPDATE);
        let access = pg_sys::pg_class_aclcheck(sequence, user, mode);
        if access != pg_sys::AclResult::ACLCHECK_OK {
            let name = pg_sys::get_rel_name(sequence);
            pg_sys::aclcheck_error(access, pg_sys::ObjectType::OBJECT_SEQUENCE, name);
        }
        let relation = pg_sys::relation_open(sequence, pg_sys::NoLock as i32);
        let file = (*(*relation).rd_rel).relfilenode.to_u32();
        let persistence = (*(*relation).rd_rel).relpersistence as u8;
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        (file, persistence == pg_sys::RELPERSISTENCE_PERMANENT)
    };
    let definition = label::definition(sequence)?;
    let layout = definition.layout;
    let counter = if layout.is_counter() {
        let max = sequence::highest(sequence, is_permanent)?.min(layout.stamps() - 1);
        let is_leased = definition.order == Order::Block && !settings::is_authority();
        Some(Counter { file, blocks: if is_leased { Blocks::Leased } else { Blocks::Own { max } } })
    } else {
        None
    };
    // On a standby nothing says when a generator is dropped.
    check_not_in_recovery()?;
    let place = drops::attach(shared, sequence, &definition, &relation::name(sequence))?;
    CURRENT.store(std::ptr::null_mut(), Relaxed);
    KNOWN.with_borrow_mut(|known| {
        let stream = known
            .iter()
            .find(|g| g.sequence == sequence && g.definition.layout == layout)
            .and_then(|g| g.stream().cloned());
        // A stream that is forgotten may come back, and then goes on above what it has reached.
        known.retain(|g| {
            let stays = g.valid.get() && !(g.sequence == sequence && g.user == user);
            if !stays && let Some(stream) = g.stream() {
                publish(shared, g, stream);
            }
            stays
        });
        let (kind, backend_part) = match counter {
            Some(counter) => (Kind::Counter(counter), 0),
            None if layout.has_backend() => {
                let number = backend_number(shared, &layout)?;
                let stream = stream.unwrap_or_else(|| {
                    let reached = layout.stamp_at(shared.backends.reached()[number].load(Relaxed));
                    Rc::new(Stream { last: AtomicU64::new(reached.saturating_sub(1)), since: Cell::new(0) })
                });
                (Kind::Stream(stream), layout.backend_part(number as u64))
            }
            None if definition.order == Order::Strict && !settings::is_authority() => (Kind::Strict, 0),
            None => (Kind::Clock, 0),
        };
        let generator = Rc::new(Generator {
            sequence,
            definition,
            place,
            kind,
            backend_part,
            user,
            transaction: Cell::new(0),
            valid: Cell::new(true),
        });
        known.push(generator.clone());
        Ok(generator)
    })
}

/// This backend's number: its place among the processes, which no other live process has.
fn backend_number(shared: &Shared, layout: &Layout) -> Result<usize, Error> {
    let number = latch::own_place() as usize;
    if number as u64 > layout.max_backend() || number >= shared.backends.reached().len() {
        return Err(Error::NoBackendNumber { max: layout.max_backend() });
    }
    Ok(number)
}

/// Makes this backend notice when a generator or a privilege changes, and publish at its end how far its streams went, for the
/// next backend that has its number.
fn watch() {
    #[pg_guard]
    unsafe extern "C-unwind" fn role_changed(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
        forget(|_| true);
    }
    #[pg_guard]
    unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
        forget(|generator| relation == pg_sys::InvalidOid || generator.sequence == relation);
    }
    #[pg_guard]
    unsafe extern "C-unwind" fn leave(_code: i32, _arg: pg_sys::Datum) {
        if let Ok(shared) = shared::shared() {
            KNOWN.with_borrow(|known| {
                for generator in known.iter() {
                    if let Some(stream) = generator.stream() {
                        publish(shared, generator, stream);
                    }
                }
            });
        }
    }
    WATCHING.with(|watching| {
        // SAFETY: functions for as long as the process lives.
        watching.get_or_init(|| unsafe {
            let none = pg_sys::Datum::from(0);
            // As utils/adt/acl.c does: the owner of the database is a member of pg_database_owner.
            for cache in [
                pg_sys::SysCacheIdentifier::AUTHMEMROLEMEM,
                pg_sys::SysCacheIdentifier::AUTHOID,
                pg_sys::SysCacheIdentifier::DATABASEOID,
            ] {
                pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(role_changed), none);
            }
            pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), none);
            pg_sys::before_shmem_exit(Some(leave), none);
        });
    });
}

fn forget(affected: impl Fn(&Generator) -> bool) {
    KNOWN.with_borrow(|known| known.iter().filter(|g| affected(g)).for_each(|g| g.valid.set(false)));
}

/// Lets the next backend that has this backend's number go on above `stream`. One that never gave an id reaches nowhere: its
/// epoch may be in the future.
fn publish(shared: &Shared, generator: &Generator, stream: &Stream) {
    let last = stream.last.load(Relaxed);
    if last != 0
        && let Ok(number) = backend_number(shared, &generator.definition.layout)
    {
        let reach = generator.definition.layout.tick_end(last);
        shared.backends.reached()[number].fetch_max(reach, Relaxed);
    }
}
