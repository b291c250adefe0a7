//! idgen's background workers, each a process: the horizon's, which alone opens bounds; the member worker, with the
//! connection to the authority; and the gossip worker. The book's worker is in [`crate::authority`].

mod blocks;
mod bounds;
mod gossip;
mod held;
pub mod horizon;
mod kept;
mod link;
mod member;
mod said;
