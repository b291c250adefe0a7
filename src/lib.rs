//! idgen: 64-bit ids for sharded PostgreSQL. Unique over all shards without communication, strictly increasing on
//! each server, and durable before they are visible: no crash, failover or clock step makes one twice.
//!
//! ```text
//! SELECT idgen_next()
//!     |
//! functions     what SQL can call: guard, call, convert          form_functions, forms: ids as text, UUIDs, opaque
//!     |                                                          copy: what COPY FROM calls instead
//!     |
//! generator     what a call does that cannot be served at once   counter: blocks of a sequence (sequence)
//!     |    |                                                     strict: waits for the authority
//!     |    +--- lookup: finds the generator    label: what it is    drops: what is gone
//!     |
//! mechanism     layout, clock, allocator, horizon: every decision, without PostgreSQL
//!     |
//! shmem         the words that all processes share  <---  worker: the one process that moves horizon and clock
//! places        those of each generator                       |     state: whether ids are given, for who watches     errand: what it is asked to do
//!     ^                                                   register: the horizon on disk and on the standbys
//!     |
//! member        the connection to the authority: machine ids (grant), strict ids (strict), blocks (blocks)
//! peers         gossip with other servers                         process, libpq: how both work      wait_event: what waits are called
//!     |
//! protocol      what servers say to each other: every decision, without PostgreSQL
//!     |
//! book          what an authority answers                       ask: what the doctor asks other servers
//! ```

mod ask;
mod blocks;
mod book;
mod copy;
mod counter;
mod drops;
mod errand;
mod error;
mod faults;
mod form_functions;
pub mod forms;
mod functions;
mod generator;
mod grant;
mod label;
mod libpq;
mod lookup;
mod machine_clock;
pub mod mechanism;
mod member;
mod peers;
mod places;
mod process;
pub mod protocol;
mod register;
mod sequence;
mod settings;
mod shmem;
mod state;
mod strict;
mod wait_event;
mod worker;

use pgrx::{pg_sys::panic::ErrorReport, prelude::*};
use std::ffi::CStr;

pgrx::pg_module_magic!(name = c"idgen", version = VERSION);

/// Of the library, which is that of the SQL.
const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!(),
};

/// Sets everything up in the postmaster. In a session that loads the library without preload nothing is set up: what
/// only reads ids works, and what gives them says what to do.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    // SAFETY: plain flags of this process, set before any library is loaded.
    let (preloading, creating) =
        unsafe { (pg_sys::process_shared_preload_libraries_in_progress, pg_sys::creating_extension) };
    label::register();
    if preloading {
        settings::define();
        shmem::request();
        worker::register();
        drops::watch();
    } else if creating {
        // Not a NOTICE: PostgreSQL hides those while an extension's script runs.
        ErrorReport::from(error::Error::NotPreloaded).report(PgLogLevel::WARNING);
    }
}
