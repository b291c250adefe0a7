//! Where a generator's definition is kept: a security label of provider `idgen` on its sequence. PostgreSQL dumps, restores,
//! copies and drops labels with their objects; the provider's check lets no label change.

use crate::{
    error::{Error, OrRaise},
    mechanism::definition::{Definition, Order},
    postgres::relation,
};
use once_cell::unsync::OnceCell;
use pgrx::prelude::*;
use std::{cell::RefCell, ffi::CStr};

const PROVIDER: &CStr = c"idgen";

/// Registers the provider of labels, in every process that loads the library.
pub fn register() {
    // SAFETY: a static name and a function for as long as the process lives.
    unsafe { pg_sys::register_label_provider(PROVIDER.as_ptr(), Some(check)) };
}

/// Called before a label is set: only a permanent sequence gets one, it must be a definition, and it never changes.
#[pg_guard]
unsafe extern "C-unwind" fn check(object: *const pg_sys::ObjectAddress, label: *const std::ffi::c_char) {
    // SAFETY: PostgreSQL hands in a valid address, whose object it has locked, and a string or null.
    let (object, label) = unsafe { (*object, (!label.is_null()).then(|| CStr::from_ptr(label))) };
    // SAFETY: lookups in the system caches by oid.
    let (kind, persistence) = unsafe {
        if object.classId == pg_sys::RelationRelationId && object.objectSubId == 0 {
            (pg_sys::get_rel_relkind(object.objectId) as u8, pg_sys::get_rel_persistence(object.objectId) as u8)
        } else {
            (0, 0)
        }
    };
    if kind != pg_sys::RELKIND_SEQUENCE || persistence != pg_sys::RELPERSISTENCE_PERMANENT {
        Error::NotASequence.raise();
    }
    let new = label.map(|text| parse(text).or_raise());
    match read(object.objectId) {
        Some(old) if Some(old) == new => return,
        Some(_) => Error::DefinitionStays.raise(),
        None => {}
    }
    // The authority is asked for its ids by the name that it has here, and with the rights of this server there.
    // SAFETY: the user of this session.
    if new.is_some_and(|new| matches!(new.order, Order::Strict | Order::Block)) && !unsafe { pg_sys::superuser() } {
        Error::OrderOfSuperusers.raise();
    }
    // If this is rolled back and another label is set, nobody may go on with the first.
    // SAFETY: a relation that is locked.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(object.objectId) };
}

fn parse(text: &CStr) -> Result<Definition, Error> {
    text.to_string_lossy().parse().map_err(Error::BadDefinition)
}

thread_local! {
    /// The definitions that this backend has read.
    static KNOWN: RefCell<Vec<(pg_sys::Oid, Definition)>> = const { RefCell::new(Vec::new()) };
    /// Set when the callback below is registered.
    static WATCHING: OnceCell<()> = const { OnceCell::new() };
}

/// Makes this backend notice when a sequence changes.
fn watch() {
    #[pg_guard]
    unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
        KNOWN.with_borrow_mut(|known| known.retain(|(oid, _)| *oid != relation && relation != pg_sys::InvalidOid));
    }
    WATCHING.with(|watching| {
        // SAFETY: a function for as long as the process lives.
        watching.get_or_init(|| unsafe {
            pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0));
        });
    });
}

/// The definition of the generator that stands on `sequence`. Looks into the catalog only when that may have changed.
pub fn definition(sequence: pg_sys::Oid) -> Result<Definition, Error> {
    watch();
    let known = KNOWN.with_borrow(|known| known.iter().find(|(oid, _)| *oid == sequence).map(|(_, known)| *known));
    if let Some(definition) = known {
        return Ok(definition);
    }
    let definition = read(sequence).ok_or_else(|| Error::NotAGenerator(relation::shown(sequence)))?;
    KNOWN.with_borrow_mut(|known| known.push((sequence, definition)));
    Ok(definition)
}

/// Whether `sequence` is there and a generator.
pub fn is_generator(sequence: pg_sys::Oid) -> bool {
    // SAFETY: a lookup by oid.
    let exists = unsafe { pg_sys::get_rel_relkind(sequence) as u8 == pg_sys::RELKIND_SEQUENCE };
    exists && read(sequence).is_some()
}

/// Reads the label, if there is one.
fn read(sequence: pg_sys::Oid) -> Option<Definition> {
    let object = pg_sys::ObjectAddress { classId: pg_sys::RelationRelationId, objectId: sequence, objectSubId: 0 };
    // SAFETY: a valid address and name; the result is a palloc'd string or null.
    let text = unsafe {
        let text = pg_sys::GetSecurityLabel(&object, PROVIDER.as_ptr());
        (!text.is_null()).then(|| CStr::from_ptr(text))
    };
    text.map(|text| parse(text).or_raise())
}
