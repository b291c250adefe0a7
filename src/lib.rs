//! idgen: 64-bit ids for sharded PostgreSQL. Unique over all shards without communication, strictly increasing on
//! each server, and durable before they are visible: no crash, failover or clock step makes one twice.
//!
//! ```text
//! SELECT idgen_next()
//!     |
//! functions     what SQL can call: guard, call, convert          form_functions, forms: ids as text, UUIDs, opaque
//!     |
//! generator     finds the generator; what a call does that cannot be served at once
//!     |    |
//!     |    +--- label: what a generator is    counter: blocks of a sequence    drops: what is gone
//!     |
//! mechanism     layout, clock, allocator, horizon: every decision, without PostgreSQL
//!     |
//! shmem         the words that all processes share  <---  worker: the one process that moves horizon and clock
//!                                                             |
//!                                                         register: the horizon on disk and on the standbys
//! ```

mod counter;
mod drops;
mod error;
mod faults;
mod form_functions;
pub mod forms;
mod functions;
mod generator;
mod label;
mod machine_clock;
pub mod mechanism;
mod places;
pub mod protocol;
mod register;
mod settings;
mod shmem;
mod worker;

use pgrx::{pg_sys::panic::ErrorReport, prelude::*};

pgrx::pg_module_magic!(name = c"idgen", version = c"0.2.0");

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
