//! Frees the places of generators that are dropped, by PostgreSQL's object access hook: called while DROP holds its lock,
//! so that nobody is taking ids.

use crate::shmem;
use pgrx::prelude::*;

static mut PREVIOUS: pg_sys::object_access_hook_type = None;

/// Hooks it in. While preloading only.
pub fn watch() {
    // SAFETY: the hook of this process, before there is any other thread or process.
    unsafe {
        PREVIOUS = pg_sys::object_access_hook;
        pg_sys::object_access_hook = Some(on_access);
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
    if access != pg_sys::ObjectAccessType::OAT_DROP || column != 0 {
        return;
    }
    let Ok(shared) = shmem::shared() else { return };
    if class == pg_sys::DatabaseRelationId {
        shared.free(object, None);
    } else if class == pg_sys::RelationRelationId {
        // SAFETY: set once, when the backend connected. Other relations than sequences have no place to free.
        shared.free(unsafe { pg_sys::MyDatabaseId }, Some(object));
    }
}
