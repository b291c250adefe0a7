//! Gives places to generators, and frees the places of generators that are gone: dropped by a transaction that commits, or
//! made by one that does not.
//!
//! PostgreSQL's object access hook says what is made and dropped; that is remembered until the transaction ends. The
//! transaction still holds its locks then, so nobody is taking ids. No hook says how a prepared transaction ends: its places
//! are doubtful, and are looked at when this database needs one.

use super::label;
use crate::{
    error::Error,
    mechanism::definition::Definition,
    shared::{self, Shared, place::Place},
};
use once_cell::unsync::OnceCell;
use pgrx::prelude::*;
use std::{cell::RefCell, ffi::CString};

/// A relation, or all of a database, that is gone if a transaction ends in a certain way.
struct Going {
    database: pg_sys::Oid,
    relation: Option<pg_sys::Oid>,
    gone_if: End,
    /// The subtransaction whose end decides; when it commits, its parent takes its place.
    transaction: pg_sys::SubTransactionId,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Commit,
    Abort,
}

thread_local! {
    /// What the current transaction has made and dropped.
    static GOING: RefCell<Vec<Going>> = const { RefCell::new(Vec::new()) };
    /// Set when the callbacks below are registered.
    static WATCHING: OnceCell<()> = const { OnceCell::new() };
}

static mut PREVIOUS: pg_sys::object_access_hook_type = None;

/// Installs the hook. While preloading only.
pub fn watch() {
    // SAFETY: the hook of this process, before there is any other thread or process.
    unsafe {
        PREVIOUS = pg_sys::object_access_hook;
        pg_sys::object_access_hook = Some(on_access);
    }
}

/// The place of the generator that stands on `sequence`, which is locked. If all places are taken, those of generators that
/// are gone are freed first.
pub fn attach(
    shared: &'static Shared,
    sequence: pg_sys::Oid,
    definition: &Definition,
    name: &[CString; 2],
) -> Result<&'static Place, Error> {
    // SAFETY: set once, when the backend connected.
    let database = unsafe { pg_sys::MyDatabaseId };
    if shared.places.take_doubt(database) {
        sweep(shared, database);
    }
    match shared.places.attach(database, sequence, definition, name) {
        Err(Error::NoPlace) => {
            sweep(shared, database);
            shared.places.attach(database, sequence, definition, name)
        }
        attached => attached,
    }
}

/// Frees the places of generators of this database that are gone and cannot come back by any transaction: a transaction that
/// makes, drops or uses a generator holds a lock on it until it ends.
fn sweep(shared: &Shared, database: pg_sys::Oid) {
    for sequence in shared.places.attached_in(database).into_iter().filter(|sequence| !label::is_generator(*sequence)) {
        let mode = pg_sys::ShareRowExclusiveLock as i32;
        // SAFETY: a lock that is not waited for, and given back.
        unsafe {
            if pg_sys::ConditionalLockRelationOid(sequence, mode) {
                if !label::is_generator(sequence) {
                    shared.places.free(database, Some(&[sequence]));
                }
                pg_sys::UnlockRelationOid(sequence, mode);
            } else {
                // A transaction that has not ended, or is prepared, holds it.
                shared.places.doubt(database);
            }
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    column: i32,
    arg: *mut std::ffi::c_void,
) {
    // SAFETY: the hook before this one, with the arguments that it would have had.
    unsafe {
        if let Some(previous) = PREVIOUS {
            previous(access, class, object, column, arg);
        }
    }
    let gone_if = match access {
        pg_sys::ObjectAccessType::OAT_DROP => End::Commit,
        // It cannot be seen yet whether this is a sequence.
        pg_sys::ObjectAccessType::OAT_POST_CREATE if class == pg_sys::RelationRelationId => End::Abort,
        _ => return,
    };
    if column != 0 {
        return;
    }
    // SAFETY: state of this process, and a lookup by oid of what is not dropped yet.
    let (transaction, database, is_sequence) = unsafe {
        let dropped = class == pg_sys::RelationRelationId && gone_if == End::Commit;
        let is_sequence = dropped && pg_sys::get_rel_relkind(object) as u8 == pg_sys::RELKIND_SEQUENCE;
        (pg_sys::GetCurrentSubTransactionId(), pg_sys::MyDatabaseId, is_sequence)
    };
    if is_sequence || gone_if == End::Abort {
        remember(Going { database, relation: Some(object), gone_if, transaction });
    } else if class == pg_sys::DatabaseRelationId {
        remember(Going { database: object, relation: None, gone_if, transaction });
    }
}

fn remember(going: Going) {
    #[pg_guard]
    unsafe extern "C-unwind" fn transaction_ends(event: pg_sys::XactEvent::Type, _arg: *mut std::ffi::c_void) {
        match event {
            pg_sys::XactEvent::XACT_EVENT_COMMIT => free(End::Commit, |_| true),
            pg_sys::XactEvent::XACT_EVENT_ABORT => free(End::Abort, |_| true),
            pg_sys::XactEvent::XACT_EVENT_PREPARE => {
                if let Ok(shared) = shared::shared() {
                    GOING.with_borrow(|going| going.iter().for_each(|g| shared.places.doubt(g.database)));
                }
            }
            _ => return,
        }
        GOING.with_borrow_mut(Vec::clear);
    }
    #[pg_guard]
    unsafe extern "C-unwind" fn subtransaction_ends(
        event: pg_sys::SubXactEvent::Type,
        own: pg_sys::SubTransactionId,
        parent: pg_sys::SubTransactionId,
        _arg: *mut std::ffi::c_void,
    ) {
        match event {
            pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => GOING.with_borrow_mut(|going| {
                going.iter_mut().filter(|g| g.transaction == own).for_each(|g| g.transaction = parent);
            }),
            pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => {
                free(End::Abort, |g| g.transaction == own);
                GOING.with_borrow_mut(|going| going.retain(|g| g.transaction != own));
            }
            _ => {}
        }
    }
    WATCHING.with(|watching| {
        // SAFETY: functions for as long as the process lives.
        watching.get_or_init(|| unsafe {
            pg_sys::RegisterXactCallback(Some(transaction_ends), std::ptr::null_mut());
            pg_sys::RegisterSubXactCallback(Some(subtransaction_ends), std::ptr::null_mut());
        });
    });
    GOING.with_borrow_mut(|all| all.push(going));
}

fn free(end: End, ended: impl Fn(&Going) -> bool) {
    let Ok(shared) = shared::shared() else { return };
    GOING.with_borrow(|going| {
        let gone = || going.iter().filter(|g| g.gone_if == end && ended(g));
        gone().filter(|g| g.relation.is_none()).for_each(|g| shared.places.free(g.database, None));
        let relations: Vec<pg_sys::Oid> = gone().filter_map(|g| g.relation).collect();
        if !relations.is_empty() && shared.places.has_places() {
            // SAFETY: set once, when the backend connected. Relations are dropped and made in this database.
            let database = unsafe { pg_sys::MyDatabaseId };
            shared.places.free(database, Some(&relations));
        }
    });
}
