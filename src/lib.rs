//! idgen: 64-bit ids for sharded PostgreSQL. Unique over all shards without communication, strictly increasing on
//! each server, and durable before they are visible: no crash, failover or clock step makes one twice.
//!
//! ```text
//! sql           what SQL can call, by topic: guard, call, convert       authority     what members ask their authority: the book,
//!     |                                                                     |         strict ids, blocks
//!     +-------------------------------+-------------------------------------+
//!                                     |
//!                                 generator    what a backend does: finds the generator, takes ids from it, and waits where
//!                                     |        it must; counters, streams, strict ids, dropped generators
//!                                     v
//!                                  shared      the words that all processes share, one file for each part and its rules
//!                                     ^
//!                                     |
//!                                  workers     the horizon's, which alone permits ids; the member's; gossip
//!
//! Below all of them:  postgres     one thing of PostgreSQL or the machine a file: register, sequence, clock, latch, settings, libpq
//!                     protocol     what servers say to each other: every decision, without PostgreSQL
//!                     mechanism    layout, clock, allocator, horizon: every decision, without PostgreSQL
//!                     forms        ids as text, UUIDs and opaque texts                    error    all that a user can meet
//! ```
//!
//! Modules know those below them and none above. docs/architecture.md follows a call, a crash, a failover and a strict id
//! through them, and has the glossary.

mod authority;
mod error;
pub mod forms;
mod generator;
pub mod mechanism;
mod postgres;
pub mod protocol;
mod shared;
mod sql;
mod workers;

use pgrx::{pg_sys::panic::ErrorReport, prelude::*};
use std::ffi::CStr;

pgrx::pg_module_magic!(name = c"idgen", version = VERSION);

/// The version of the library, which is also the version of its SQL.
const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!(),
};

/// Sets everything up in the postmaster. In a session that loads the library without preload nothing is set up: functions
/// that read ids work, and those that give ids raise an error that says what to do.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    // SAFETY: plain flags of this process, set before any library is loaded.
    let (preloading, creating) =
        unsafe { (pg_sys::process_shared_preload_libraries_in_progress, pg_sys::creating_extension) };
    generator::label::register();
    if preloading {
        postgres::settings::define();
        shared::request();
        workers::horizon::register();
        generator::drops::watch();
    } else if creating {
        // Not a NOTICE: PostgreSQL hides those while an extension's script runs.
        ErrorReport::from(error::Error::NotPreloaded).report(PgLogLevel::WARNING);
    }
}
