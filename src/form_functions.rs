//! What SQL can call to turn ids into other forms and back.

use crate::{
    error::{Error, OrRaise},
    forms::{opaque::Opaque, text, uuid},
    generator, settings,
};
use pgrx::{datum::Uuid, pg_sys, prelude::*};
use std::{cell::RefCell, ffi::CString};

#[pg_extern]
fn idgen_to_text(id: i64) -> String {
    text::to_text(checked(id))
}

#[pg_extern]
fn idgen_from_text(text: &[u8]) -> i64 {
    let id = text::from_text(text).and_then(|id| i64::try_from(id).ok());
    id.ok_or_else(|| Error::NotAText(shown(text))).or_raise()
}

#[pg_extern]
fn idgen_to_uuid(id: i64) -> Uuid {
    Uuid::from_bytes(uuid::from_id(checked(id)))
}

#[pg_extern]
fn idgen_from_uuid(uuid: Uuid) -> i64 {
    uuid::to_id(*uuid.as_bytes()).ok_or(Error::NoIdInUuid).or_raise() as i64
}

#[pg_extern]
fn idgen_next_uuid() -> Uuid {
    let random = random().or_raise();
    Uuid::from_bytes(uuid::version_7(generator::next().or_raise(), random))
}

#[pg_extern]
fn idgen_to_opaque(id: i64) -> String {
    let id = checked(id);
    with_key(|opaque| opaque.to_text(id)).or_raise()
}

#[pg_extern]
fn idgen_from_opaque(text: &[u8]) -> i64 {
    let id = with_key(|opaque| opaque.from_text(text)).or_raise();
    id.ok_or_else(|| Error::NotOpaque(shown(text))).or_raise() as i64
}

fn checked(id: i64) -> u64 {
    u64::try_from(id).map_err(|_| Error::NegativeId).or_raise()
}

/// For an error message.
fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// Random bits. They are taken from the system 512 bytes at a time, because each time costs 5 microseconds (measured).
fn random() -> Result<u64, Error> {
    thread_local! {
        static STORE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    }
    STORE.with_borrow_mut(|store| {
        if store.is_empty() {
            let mut bits = [0u64; 64];
            // SAFETY: writes this many bytes.
            if unsafe { pg_sys::pg_strong_random(bits.as_mut_ptr().cast(), size_of_val(&bits)) } {
                store.extend(bits);
            }
        }
        store.pop().ok_or(Error::NoRandomness)
    })
}

/// Works with the key of the setting; it is made ready again only when the setting has changed.
fn with_key<T>(work: impl FnOnce(&Opaque) -> T) -> Result<T, Error> {
    thread_local! {
        static READY: RefCell<Option<(CString, Opaque)>> = const { RefCell::new(None) };
    }
    let key = settings::OPAQUE_KEY.get().ok_or(Error::NoOpaqueKey)?;
    READY.with_borrow_mut(|ready| match ready {
        Some((of, opaque)) if *of == key => Ok(work(opaque)),
        _ => {
            let opaque = Opaque::new(key.as_bytes()).ok_or(Error::NoOpaqueKey)?;
            Ok(work(&ready.insert((key, opaque)).1))
        }
    })
}
