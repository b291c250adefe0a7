//! The settings, all under `idgen.`. No setting that a session can change can break uniqueness or order.

use crate::mechanism::{Micros, SECOND, definition::Order};
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum, pg_sys};
use std::ffi::CString;

/// This server's number; -1: unset.
pub static MACHINE_ID: GucSetting<i32> = GucSetting::<i32>::new(-1);
/// How many generators can be in use at once.
pub static MAX_GENERATORS: GucSetting<i32> = GucSetting::<i32>::new(256);
/// The file with the key of the opaque form; none or empty: there is no such form.
static OPAQUE_KEY_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static HORIZON_LEAD: GucSetting<i32> = GucSetting::<i32>::new(4_000);
static KEEP_READY: GucSetting<i32> = GucSetting::<i32>::new(60);
static MAX_BORROW: GucSetting<i32> = GucSetting::<i32>::new(1_000);
static MAX_CLOCK_JUMP: GucSetting<i32> = GucSetting::<i32>::new(86_400);
static WAIT_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(5_000);

/// The authority and the peers, as connection strings; none or empty: this server goes by itself.
static AUTHORITY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static PEERS: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static CLUSTER: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static AUTHORITY_DATABASE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static ORDER: GucSetting<OrderName> = GucSetting::<OrderName>::new(OrderName::Server);
static GRANT_LENGTH: GucSetting<i32> = GucSetting::<i32>::new(86_400);
static MAX_CLOCK_OFFSET: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static GOSSIP_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(100);
pub static MIN_BLOCK: GucSetting<i32> = GucSetting::<i32>::new(100);
pub static MAX_BLOCK: GucSetting<i32> = GucSetting::<i32>::new(1_000_000);

/// The values of `idgen.ordering`: the orders that need no definition of their own.
#[derive(Clone, Copy, PostgresGucEnum)]
enum OrderName {
    #[name = c"server"]
    Server,
    #[name = c"gossip"]
    Gossip,
    #[name = c"strict"]
    Strict,
}

/// The order of the server generator.
pub fn order() -> Order {
    match ORDER.get() {
        OrderName::Server => Order::Server,
        OrderName::Gossip => Order::Gossip,
        OrderName::Strict => Order::Strict,
    }
}

fn text(setting: &GucSetting<Option<CString>>) -> Option<CString> {
    setting.get().filter(|text| !text.is_empty())
}

/// How to connect to the authority, if there is one.
pub fn authority() -> Option<CString> {
    text(&AUTHORITY)
}

/// The database with the book of machine ids, if this server allocates for others.
pub fn authority_database() -> Option<CString> {
    text(&AUTHORITY_DATABASE)
}

/// Whether this server allocates for others.
pub fn is_authority() -> bool {
    authority_database().is_some()
}

/// How to connect to each peer: one connection string a line, or separated by semicolons.
pub fn peers() -> Vec<CString> {
    let peers = text(&PEERS).unwrap_or_default();
    let part = |part: &[u8]| CString::new(part.trim_ascii()).ok().filter(|part| !part.is_empty());
    peers.to_bytes().split(|byte| matches!(byte, b';' | b'\n')).filter_map(part).collect()
}

/// The file with the key of the opaque form, if there is one.
pub fn opaque_key_file() -> Option<CString> {
    text(&OPAQUE_KEY_FILE)
}

/// The name of the servers that belong together.
pub fn cluster() -> CString {
    text(&CLUSTER).unwrap_or_default()
}

/// For how long the authority grants a machine id.
pub fn grant_length() -> Micros {
    Micros::from(GRANT_LENGTH.get()) * SECOND
}

/// How far ahead of the wall clocks a stamp or a clock from outside may be.
pub fn max_clock_offset() -> Micros {
    Micros::from(MAX_CLOCK_OFFSET.get()) * 1000
}

/// How often a few peers are asked.
pub fn gossip_interval() -> Micros {
    Micros::from(GOSSIP_INTERVAL.get()) * 1000
}

/// How far ahead of the clock the horizon is promised.
pub fn horizon_lead() -> Micros {
    Micros::from(HORIZON_LEAD.get()) * 1000
}

/// How long the horizon is kept ready for calls that come now and then.
pub fn keep_ready() -> Micros {
    Micros::from(KEEP_READY.get()) * SECOND
}

/// How far a burst may run ahead of the clock.
pub fn max_borrow() -> Micros {
    Micros::from(MAX_BORROW.get()) * 1000
}

/// How far the wall clock may leap ahead and still be followed; negative: any distance.
pub fn max_clock_jump() -> Micros {
    Micros::from(MAX_CLOCK_JUMP.get()) * SECOND
}

/// How long a call waits for the horizon.
pub fn wait_timeout() -> Micros {
    Micros::from(WAIT_TIMEOUT.get()) * 1000
}

/// Defines the settings. While preloading only: a session may not define settings that are fixed at server start.
pub fn define() {
    GucRegistry::define_int_guc(
        c"idgen.machine_id",
        c"This server's number in every id it gives out.",
        c"Each server needs its own, from 0 to 1023 for idgen_next(). -1 is unset: no ids are given out.",
        &MACHINE_ID,
        -1,
        i32::MAX,
        GucContext::Postmaster,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"idgen.max_generators",
        c"How many generators can be in use at once, over all databases.",
        c"Each takes 512 bytes of shared memory from its first use until it is dropped or the server is restarted.",
        &MAX_GENERATORS,
        0,
        1_000_000,
        GucContext::Postmaster,
        GucFlags::default(),
    );
    let reloadable = |name, short, long, setting, min, max, flags| {
        GucRegistry::define_int_guc(name, short, long, setting, min, max, GucContext::Sighup, flags);
    };
    reloadable(
        c"idgen.horizon_lead",
        c"How far ahead of the clock ids are promised to stay, durably.",
        c"Longer: fewer records of WAL, and with an asynchronous standby more lag is covered. A crash skips at most this.",
        &HORIZON_LEAD,
        100,
        3_600_000,
        GucFlags::UNIT_MS,
    );
    reloadable(
        c"idgen.keep_ready",
        c"How long the horizon is kept ready for calls that come now and then; 0: the first one after a pause waits for a flush.",
        c"It is for twice the pause between the last two uses, if that is not more than this: a small record of WAL each half idgen.horizon_lead.",
        &KEEP_READY,
        0,
        86_400,
        GucFlags::UNIT_S,
    );
    reloadable(
        c"idgen.max_borrow",
        c"How far a burst of ids may run ahead of the clock before calls wait.",
        c"A layout has a number of ids for each tick of its clock; a burst beyond it takes those of coming ticks.",
        &MAX_BORROW,
        0,
        3_600_000,
        GucFlags::UNIT_MS,
    );
    reloadable(
        c"idgen.max_clock_jump",
        c"How far in all the wall clock of a running server may leap ahead and still be followed.",
        c"A leap beyond it is held, with a warning and in idgen_status(), until idgen_accept_clock(). -1 follows any leap.",
        &MAX_CLOCK_JUMP,
        -1,
        i32::MAX,
        GucFlags::UNIT_S,
    );
    reloadable(
        c"idgen.grant_length",
        c"On an authority: for how long a machine id is granted, and renewed at half of it.",
        c"So long, at least half of it, a server goes on while the authority is away.",
        &GRANT_LENGTH,
        2,
        i32::MAX,
        GucFlags::UNIT_S,
    );
    reloadable(
        c"idgen.max_clock_offset",
        c"How far the clock of another server, or an observed id, may be from the wall clocks here.",
        c"Above idgen.max_borrow and idgen.horizon_lead together, or healthy servers look as if their clocks were wrong.",
        &MAX_CLOCK_OFFSET,
        100,
        i32::MAX,
        GucFlags::UNIT_MS,
    );
    reloadable(
        c"idgen.gossip_interval",
        c"How often this server hears a few of its peers.",
        c"Two servers with one machine id are found within five of these.",
        &GOSSIP_INTERVAL,
        10,
        60_000,
        GucFlags::UNIT_MS,
    );
    reloadable(
        c"idgen.min_block_size",
        c"The fewest values that a counter of order block leases from the authority at once.",
        c"The size doubles when a block lasts too short a time.",
        &MIN_BLOCK,
        1,
        i32::MAX,
        GucFlags::default(),
    );
    reloadable(
        c"idgen.max_block_size",
        c"The most values that a counter of order block leases at once; on an authority, the most it gives.",
        c"A crash skips at most two blocks.",
        &MAX_BLOCK,
        1,
        i32::MAX,
        GucFlags::default(),
    );
    for (name, short, long, setting, flags) in [
        (
            c"idgen.authority",
            c"How to connect to the server that allocates for this one; empty: none.",
            c"A libpq connection string. Several hosts with target_session_attrs=read-write follow a failover.",
            &AUTHORITY,
            GucFlags::SUPERUSER_ONLY,
        ),
        (
            c"idgen.peers",
            c"How to connect to the servers whose ids this one goes by; empty: none.",
            c"libpq connection strings, separated by semicolons.",
            &PEERS,
            GucFlags::SUPERUSER_ONLY,
        ),
        (
            c"idgen.cluster",
            c"The name of the servers that belong together.",
            c"An authority or a peer of another name refuses this server.",
            &CLUSTER,
            GucFlags::default(),
        ),
    ] {
        GucRegistry::define_string_guc(name, short, long, setting, GucContext::Sighup, flags);
    }
    GucRegistry::define_string_guc(
        c"idgen.authority_database",
        c"The database from which this server allocates for others; empty: it does not.",
        c"The extension idgen_authority in it keeps the book of machine ids, and ids of strict and block generators come from it.",
        &AUTHORITY_DATABASE,
        GucContext::Postmaster,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"idgen.ordering",
        c"The order of idgen_next() without arguments over several servers.",
        c"server: this server's own. gossip: also after the ids of peers. strict: after every id that any server returned.",
        &ORDER,
        GucContext::Postmaster,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"idgen.wait_timeout",
        c"How long a call waits for the durable horizon, the authority or a loan before it fails.",
        c"Calls wait when the horizon cannot move: no background worker, or a synchronous standby that is away.",
        &WAIT_TIMEOUT,
        1,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_string_guc(
        c"idgen.opaque_key_file",
        c"The file with the key of idgen_to_opaque() and idgen_from_opaque(), the same key on every server.",
        c"16 to 56 bytes, readable by the server alone. With another key the texts given out before cannot be read.",
        &OPAQUE_KEY_FILE,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    // SAFETY: a NUL-terminated literal; PostgreSQL copies it.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"idgen".as_ptr()) };
}
