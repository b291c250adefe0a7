//! What several servers say to each other, as state machines: no PostgreSQL, no `unsafe`, no clock and no network, but
//! messages and times handed in. The same code runs in the worker and in a simulation of a thousand servers.
#![forbid(unsafe_code)]

pub mod blocks;
pub mod book;
pub mod gossip;
pub mod grants;
pub mod lease;
pub mod message;
pub mod slot;
pub mod tickets;
pub mod words;

pub use crate::mechanism::{Micros, SECOND};
