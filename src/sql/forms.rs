//! What SQL can call to turn ids into other forms and back.

use crate::{
    error::{Error, OrRaise, beginning},
    forms::{opaque::Opaque, text, uuid},
    generator,
    postgres::{random, settings},
};
use pgrx::{datum::Uuid, pg_sys, prelude::*};
use std::{
    cell::RefCell,
    ffi::{CStr, CString, OsStr},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

#[pg_extern]
fn idgen_to_text(id: i64) -> String {
    text::to_text(checked(id))
}

#[pg_extern]
fn idgen_from_text(text: &[u8]) -> i64 {
    let id = text::from_text(text).and_then(|id| i64::try_from(id).ok());
    id.ok_or_else(|| Error::NotAText(beginning(text))).or_raise()
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
    let random = random::bits().or_raise();
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
    id.ok_or_else(|| Error::NotOpaque(beginning(text))).or_raise() as i64
}

fn checked(id: i64) -> u64 {
    u64::try_from(id).map_err(|_| Error::NegativeId).or_raise()
}

/// Works with the key in the file that the setting names; the file is read again after a reload.
fn with_key<T>(work: impl FnOnce(&Opaque) -> T) -> Result<T, Error> {
    /// The file, the time when the settings were loaded, and the key.
    type Ready = (CString, pg_sys::TimestampTz, Opaque);
    thread_local! {
        static READY: RefCell<Option<Ready>> = const { RefCell::new(None) };
    }
    let file = settings::opaque_key_file().ok_or(Error::NoOpaqueKey)?;
    // SAFETY: a variable of this process.
    let loaded = unsafe { pg_sys::PgReloadTime };
    READY.with_borrow_mut(|ready| match ready {
        Some((of, then, opaque)) if *of == file && *then == loaded => Ok(work(opaque)),
        _ => {
            let opaque = read_key(&file).map_err(Error::OpaqueKeyFile)?;
            Ok(work(&ready.insert((file, loaded, opaque)).2))
        }
    })
}

/// The key in `file`, under the rules of ssl_key_file: nobody else may read it. A line feed at its end is not part of it. An
/// error is a clause that does not name the file.
fn read_key(file: &CStr) -> Result<Opaque, String> {
    let path = Path::new(OsStr::from_bytes(file.to_bytes()));
    let about = std::fs::metadata(path).map_err(|error| format!("it cannot be looked at: {error}"))?;
    // SAFETY: no arguments.
    let own = about.uid() == unsafe { libc::geteuid() };
    if !about.is_file() || about.len() > 4096 {
        return Err("it is no small regular file".into());
    } else if !own && about.uid() != 0 {
        return Err("it belongs neither to the database user nor to root".into());
    } else if about.mode() & (if own { 0o077 } else { 0o037 }) != 0 {
        return Err("others can read it: it should have mode 0600, or 0640 if it is root's".into());
    }
    let bytes = std::fs::read(path).map_err(|error| format!("it cannot be read: {error}"))?;
    let key = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    Opaque::new(key).ok_or_else(|| format!("a key has 16 to 56 bytes, and it has {}", key.len()))
}
