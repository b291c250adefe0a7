//! The machine id in force: that of the setting, for all time, or the one that an authority granted, until a time.
//!
//! | words               | who writes                              | who reads |
//! |---------------------|-----------------------------------------|-----------|
//! | the grant           | idgen's member worker                   | the horizon's worker, which opens bounds by it |
//! | `applied`           | the horizon's worker, when it has followed | the member worker, before it gives a grant back |
//!
//! A restart goes on with the grant: it is kept in a file of the data directory. A copy of the directory has the file as
//! well, so that a grant is for one incarnation only: a promotion makes another timeline, files that were copied are other
//! files, and the machine that was started anew may be another one with the same disk. What is not told by that is told by
//! the token that the authority changes with each answer.

use crate::{
    error::Error,
    mechanism::{Micros, SECOND},
    protocol::{
        grants::{Grant, Incarnation, Member},
        message::Claim,
    },
    settings,
    shmem::{self, Shared},
};
use pgrx::pg_sys;
use std::{
    fs::{File, OpenOptions},
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    sync::atomic::{AtomicI64, Ordering::*},
};

/// The words of the grant in shared memory, under the lock of the places. Epoch 0: there is none.
#[derive(Default)]
pub struct GrantWords {
    machine: AtomicI64,
    epoch: AtomicI64,
    from: AtomicI64,
    until: AtomicI64,
    length: AtomicI64,
    /// The epoch that the bounds are open for.
    applied: AtomicI64,
}

impl Shared {
    /// The grant that this server holds, if any.
    pub fn grant(&self) -> Option<Grant> {
        let words = &self.grant;
        self.locked(pg_sys::LWLockMode::LW_SHARED, || {
            (words.epoch.load(Relaxed) != 0).then(|| Grant {
                machine: words.machine.load(Relaxed) as u64,
                epoch: words.epoch.load(Relaxed) as u64,
                from: words.from.load(Relaxed),
                until: words.until.load(Relaxed),
                length: words.length.load(Relaxed),
            })
        })
    }

    /// Member worker only: publishes what the bounds are to follow.
    pub fn set_grant(&self, grant: Option<Grant>) {
        let words = &self.grant;
        self.locked(pg_sys::LWLockMode::LW_EXCLUSIVE, || {
            let Grant { machine, epoch, from, until, length } =
                grant.unwrap_or(Grant { machine: 0, epoch: 0, from: 0, until: 0, length: 0 });
            words.machine.store(machine as i64, Relaxed);
            words.epoch.store(epoch as i64, Relaxed);
            words.from.store(from, Relaxed);
            words.until.store(until, Relaxed);
            words.length.store(length, Relaxed);
        });
        // What is durable already may permit more now.
        self.want_horizon(1);
    }

    /// The epoch that the bounds follow. Under one before it no id is given beyond the horizon as it is now.
    pub fn applied_grant(&self) -> u64 {
        self.grant.applied.load(Acquire) as u64
    }

    /// Horizon's worker only: if another grant is held than the bounds are open for, closes them, leaves every tick that
    /// was begun, and goes on at or after where the new one begins. The bounds are left closed.
    pub fn apply_grant(&self) {
        let grant = self.grant();
        let epoch = grant.map_or(0, |grant| grant.epoch);
        if epoch == self.applied_grant() || settings::MACHINE_ID.get() >= 0 {
            return;
        }
        self.for_each_clock(|words, layout, _| {
            if layout.max_machine() != 0 {
                words.close();
                words.leave_tick(layout);
            }
        });
        let from = grant.map_or(0, |grant| grant.from);
        self.raise_floors(from);
        // Later than any raise before: streams of backends see that, and leave their ticks by themselves.
        self.raise_all(from.max(self.attach_at() + 1));
        self.grant.applied.store(epoch as i64, Release);
    }

    /// The machine id to put into ids whose largest is `max`, and the time at which it is no longer this server's. A
    /// layout without machine bits takes any, and needs none.
    pub fn machine(&self, max: u64) -> Result<(u64, Micros), Error> {
        machine_of(self.grant(), max)
    }
}

/// As [`Shared::machine`], where `grant` is held.
pub fn machine_of(grant: Option<Grant>, max: u64) -> Result<(u64, Micros), Error> {
    if max == 0 || settings::MACHINE_ID.get() >= 0 || settings::authority().is_none() {
        return own_machine(max).map(|machine| (machine, Micros::MAX));
    }
    let grant = grant.ok_or(Error::NoGrant)?;
    if grant.machine > max {
        return Err(Error::MachineIdTooLarge { machine: grant.machine, max });
    }
    Ok((grant.machine, grant.until))
}

/// The machine id of the setting, to put into ids whose largest is `max`.
pub fn own_machine(max: u64) -> Result<u64, Error> {
    match settings::MACHINE_ID.get() {
        _ if max == 0 => Ok(0),
        id if id < 0 => Err(Error::MachineIdUnset),
        id if id as u64 > max => Err(Error::MachineIdTooLarge { machine: id as u64, max }),
        id => Ok(id as u64),
    }
}

/// Who this server is, in this boot of the machine: whom a grant is for. Outside recovery.
pub fn incarnation() -> Incarnation {
    let place = place();
    let mut nonce = DefaultHasher::new();
    place.hash(&mut nonce);
    // What copies on other machines and in other containers do not share, and what is known of the other no longer holds
    // in another boot.
    std::fs::metadata("PG_VERSION").map(|file| file.dev()).ok().hash(&mut nonce);
    std::fs::read("/proc/sys/kernel/random/boot_id").ok().hash(&mut nonce);
    std::fs::metadata("/proc/self/ns/pid").map(|space| space.ino()).ok().hash(&mut nonce);
    Incarnation { nonce: nonce.finish(), ..place }
}

/// Who this server is, over boots of the machine: whose a kept claim is. Outside recovery.
pub fn place() -> Incarnation {
    let mut nonce = DefaultHasher::new();
    // What a copy of the data directory beside its origin does not share: PostgreSQL's processes run in the directory, and
    // this file is written once. Where the file system keeps no time of birth, the number of the file tells a copy.
    if let Ok(file) = std::fs::metadata("PG_VERSION") {
        (file.ino(), file.created().ok()).hash(&mut nonce);
    }
    std::fs::read("/etc/machine-id").ok().hash(&mut nonce);
    // SAFETY: state of this server, which is not in recovery.
    let (system, timeline) = unsafe { (pg_sys::GetSystemIdentifier(), pg_sys::GetWALInsertionTimeLine()) };
    Incarnation { system, timeline, nonce: nonce.finish() }
}

/// Files of the data directory, in which no tool for settings looks and which nobody but the server's user can read.
const GRANT: &str = "idgen_grant";
const CLAIM: &str = "idgen_claim";

/// What this server kept, whoever wrote it: see [`Member::start`].
pub fn kept() -> Option<Member> {
    let text = std::fs::read_to_string(GRANT).ok()?;
    let mut words = text.split_ascii_whitespace();
    let mut next = || words.next()?.parse::<i64>().ok();
    let me = Incarnation { system: next()? as u64, timeline: next()? as u32, nonce: next()? as u64 };
    let me = if cfg!(feature = "copied_grants") { incarnation() } else { me };
    let (book, epoch, token) = (next()? as u64, next()? as u64, next()? as u64);
    let held = match next()? {
        -1 => None,
        machine => Some(Grant { machine: machine as u64, epoch, from: next()?, until: next()?, length: next()? }),
    };
    Some(Member { me, book, epoch, token, held, released: None, attempt: 0 })
}

/// How long who could not keep something waits before it is tried again.
pub const KEEP_AGAIN: Micros = 5 * SECOND;

/// Keeps what a restart goes on with. It is on disk when this returns true; else a restart goes on with what was kept
/// before.
pub fn keep(member: &Member) -> bool {
    let Incarnation { system, timeline, nonce } = member.me;
    let held = member
        .held
        .map_or("-1".into(), |Grant { machine, from, until, length, .. }| format!("{machine} {from} {until} {length}"));
    let Member { book, epoch, token, .. } = *member;
    let (system, nonce, book, token) = (system as i64, nonce as i64, book as i64, token as i64);
    write(GRANT, &format!("{system} {timeline} {nonce} {book} {epoch} {token} {held}\n"))
}

/// The claim to a machine id that this server kept, whoever wrote it.
pub fn kept_claim() -> Option<Claim> {
    std::fs::read_to_string(CLAIM).ok()?.parse().ok()
}

/// Keeps the claim: a restart is no new one. It is on disk when this returns true.
pub fn keep_claim(claim: &Claim) -> bool {
    write(CLAIM, &format!("{claim}\n"))
}

/// Writes a file as a whole or not at all.
fn write(name: &str, text: &str) -> bool {
    let written = || {
        let new = format!("{name}.tmp");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, name)?;
        File::open(".")?.sync_all()
    };
    let written: std::io::Result<()> = written();
    if let Ok(shared) = shmem::shared() {
        shared.state.note_kept(written.as_ref().err(), name);
    }
    written.is_ok()
}
