//! Frees the places of generators that are gone: dropped by a transaction that commits, or made by one that does not.
//!
//! PostgreSQL's object access hook says what is being dropped; it is remembered until the transaction ends. The
//! transaction still holds its locks then, so that nobody is taking ids.

use crate::shmem;
use once_cell::unsync::OnceCell;
use pgrx::prelude::*;
use std::cell::RefCell;

/// A generator, or all of a database, that is gone if a transaction ends in a certain way.
struct Going {
    database: pg_sys::Oid,
    sequence: Option<pg_sys::Oid>,
    gone_if: End,
    /// Whose end decides; a subtransaction that commits leaves that to its parent.
    transaction: pg_sys::SubTransactionId,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Commit,
    Abort,
}

thread_local! {
    /// Of the current transaction.
    static GOING: RefCell<Vec<Going>> = const { RefCell::new(Vec::new()) };
    /// Set when the callbacks below are registered.
    static WATCHING: OnceCell<()> = const { OnceCell::new() };
}

static mut PREVIOUS: pg_sys::object_access_hook_type = None;

/// Hooks it in. While preloading only.
pub fn watch() {
    // SAFETY: the hook of this process, before there is any other thread or process.
    unsafe {
        PREVIOUS = pg_sys::object_access_hook;
        pg_sys::object_access_hook = Some(on_access);
    }
}

/// Says that `sequence`, which has a place now, was made by subtransaction `transaction`, and goes should that abort.
pub fn made_by(transaction: pg_sys::SubTransactionId, sequence: pg_sys::Oid) {
    // SAFETY: set once, when the backend connected.
    let database = unsafe { pg_sys::MyDatabaseId };
    remember(Going { database, sequence: Some(sequence), gone_if: End::Abort, transaction });
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
    if access != pg_sys::ObjectAccessType::OAT_DROP || column != 0 {
        return;
    }
    // SAFETY: state of this process, and a lookup by oid of what is not dropped yet.
    let (transaction, my_database, is_sequence) = unsafe {
        let of_relation = class == pg_sys::RelationRelationId;
        let is_sequence = of_relation && pg_sys::get_rel_relkind(object) as u8 == pg_sys::RELKIND_SEQUENCE;
        (pg_sys::GetCurrentSubTransactionId(), pg_sys::MyDatabaseId, is_sequence)
    };
    if is_sequence {
        remember(Going { database: my_database, sequence: Some(object), gone_if: End::Commit, transaction });
    } else if class == pg_sys::DatabaseRelationId {
        remember(Going { database: object, sequence: None, gone_if: End::Commit, transaction });
    }
}

fn remember(going: Going) {
    #[pg_guard]
    unsafe extern "C-unwind" fn transaction_ends(event: pg_sys::XactEvent::Type, _arg: *mut std::ffi::c_void) {
        match event {
            pg_sys::XactEvent::XACT_EVENT_COMMIT => free(End::Commit, |_| true),
            pg_sys::XactEvent::XACT_EVENT_ABORT => free(End::Abort, |_| true),
            // The places stay: who finishes it may be another session.
            pg_sys::XactEvent::XACT_EVENT_PREPARE => {}
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
    if let Ok(shared) = shmem::shared() {
        GOING.with_borrow(|going| {
            for gone in going.iter().filter(|g| g.gone_if == end && ended(g)) {
                shared.free(gone.database, gone.sequence);
            }
        });
    }
}
