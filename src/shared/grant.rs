//! The grant of a machine id that this server holds, if any.
//!
//! | words               | who writes them                         | who reads them |
//! |---------------------|-----------------------------------------|-----------|
//! | the grant           | idgen's member worker                   | the horizon's worker, which opens bounds by it |
//! | `applied`           | the horizon's worker, when the bounds follow it | the member worker, before it gives a grant back |

use crate::{postgres::lock::Lock, protocol::grants};
use std::sync::atomic::{AtomicI64, Ordering::*};

/// The words of the grant, under idgen's lock. Epoch 0: there is none.
pub struct Grant {
    lock: Lock,
    machine: AtomicI64,
    epoch: AtomicI64,
    from: AtomicI64,
    until: AtomicI64,
    length: AtomicI64,
    /// The epoch of the grant that the bounds are open for.
    applied: AtomicI64,
}

impl Grant {
    pub fn new(lock: Lock) -> Self {
        let [machine, epoch, from, until, length, applied] = [const { AtomicI64::new(0) }; 6];
        Grant { lock, machine, epoch, from, until, length, applied }
    }

    pub fn held(&self) -> Option<grants::Grant> {
        self.lock.shared(|| {
            (self.epoch.load(Relaxed) != 0).then(|| grants::Grant {
                machine: self.machine.load(Relaxed) as u64,
                epoch: self.epoch.load(Relaxed) as u64,
                from: self.from.load(Relaxed),
                until: self.until.load(Relaxed),
                length: self.length.load(Relaxed),
            })
        })
    }

    /// Member worker only.
    pub fn set(&self, grant: Option<grants::Grant>) {
        let none = grants::Grant { machine: 0, epoch: 0, from: 0, until: 0, length: 0 };
        let grants::Grant { machine, epoch, from, until, length } = grant.unwrap_or(none);
        self.lock.exclusive(|| {
            self.machine.store(machine as i64, Relaxed);
            self.epoch.store(epoch as i64, Relaxed);
            self.from.store(from, Relaxed);
            self.until.store(until, Relaxed);
            self.length.store(length, Relaxed);
        });
    }

    /// The epoch of the grant that the bounds follow; under an earlier grant no id is given beyond the present horizon.
    pub fn applied(&self) -> u64 {
        self.applied.load(Acquire) as u64
    }

    /// Horizon's worker only.
    pub fn set_applied(&self, epoch: u64) {
        self.applied.store(epoch as i64, Release);
    }
}
