//! The modules of idgen that know nothing of PostgreSQL, in a crate that Miri can run: see `make miri`.

#[path = "../../src/forms/mod.rs"]
pub mod forms;
#[path = "../../src/mechanism/mod.rs"]
pub mod mechanism;
