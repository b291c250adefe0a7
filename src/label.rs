//! Where a generator's definition is kept: a security label of provider `idgen` on its sequence. PostgreSQL dumps,
//! restores, copies and drops labels with their objects; the provider's check sees to it that one is never changed.

use crate::{
    error::{Error, OrRaise},
    mechanism::definition::Definition,
};
use pgrx::prelude::*;
use std::{cell::RefCell, ffi::CStr};

const PROVIDER: &CStr = c"idgen";

/// Registers the provider of labels, in every process that loads the library.
pub fn register() {
    // SAFETY: a static name and a function for as long as the process lives.
    unsafe { pg_sys::register_label_provider(PROVIDER.as_ptr(), Some(check)) };
}

/// Called before a label is set: only a permanent sequence gets one, it must mean something, and it stays.
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
    if read(object.objectId).is_some_and(|old| Some(old) != new) {
        Error::DefinitionStays.raise();
    }
}

fn parse(text: &CStr) -> Result<Definition, Error> {
    text.to_string_lossy().parse().map_err(Error::BadDefinition)
}

/// The definition of the generator that stands on `sequence`. Looks into the catalog only the first time.
pub fn definition(sequence: pg_sys::Oid) -> Result<Definition, Error> {
    thread_local! {
        static KNOWN: RefCell<Vec<(pg_sys::Oid, Definition)>> = const { RefCell::new(Vec::new()) };
    }
    // Never forgotten: a label never changes, and the oid of a dropped sequence is not given again in the life of a
    // session but after four billion others.
    KNOWN.with_borrow_mut(|known| {
        if let Some((_, definition)) = known.iter().find(|(oid, _)| *oid == sequence) {
            return Ok(*definition);
        }
        let definition = read(sequence).ok_or(Error::NotAGenerator)?;
        known.push((sequence, definition));
        Ok(definition)
    })
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
