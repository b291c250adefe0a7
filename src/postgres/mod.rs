//! One file for each thing of PostgreSQL, or of the machine, that idgen needs: how it is called, and which of its rules a
//! caller must know. Nothing here decides anything about ids.

pub mod clock;
pub mod faults;
pub mod hosts;
pub mod keys;
pub mod latch;
pub mod libpq;
pub mod lock;
pub mod process;
pub mod random;
pub mod register;
pub mod relation;
pub mod sequence;
pub mod settings;
pub mod wait_event;
