//! Other forms of ids, where they depend on the server: UUIDs that are given out, and the key of the opaque form.

use crate::harness::checker::{Rules, check};
use crate::harness::clock::HOUR;
use crate::harness::cluster::{Cluster, assert_refused, give_to_owner, one, refusal};
use crate::harness::history::History;
use crate::harness::load::Load;
use crate::harness::wait_until;
use postgres::error::SqlState;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// The bits that put a UUID of version 7 in order, as a number: 48 of milliseconds and 12 of sequence.
const NEXT_UUID: &str = "SELECT ('x' || substr(u, 1, 8) || substr(u, 10, 4) || substr(u, 16, 3))::bit(60)::bigint \
                         FROM (SELECT idgen_next_uuid()::text) uuids(u)";

#[test]
fn uuids_are_unique_and_in_order_over_all_sessions_across_kills_while_the_clock_goes_back() {
    let mut cluster = Cluster::with_idgen("");
    let history = History::new();
    for time in 1..=3 {
        let load = Load::start(&cluster, &history, "a", 4, NEXT_UUID);
        load.flow(500);
        cluster.clock.set(-time * HOUR);
        cluster.kill();
        load.finish();
        cluster.start();
    }
    let load = Load::start(&cluster, &history, "a", 4, NEXT_UUID);
    load.flow(500);
    load.finish();
    check(&history, &Rules::default()).assert_clean();
}

const KEY: &str = "0123456789abcdef";

/// The text that OpenSSL makes of 1 with this key, in base32:
/// printf '\0\0\0\0\0\0\0\1' | openssl enc -bf-ecb -nopad -K 30313233343536373839616263646566 -provider legacy
const OPAQUE_1: &str = "3F80JVS2C3S9M";

/// Writes the file with the key, readable for the server only.
fn write_key(cluster: &Cluster, key: &str) {
    let file = cluster.data().join("opaque.key");
    fs::write(&file, key).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    give_to_owner(&file);
}

const KEY_FILE: &str = "idgen.opaque_key_file = 'opaque.key'\n";

#[test]
fn the_opaque_form_needs_a_key_and_is_read_back_with_it_only() {
    let cluster = Cluster::with_idgen("");
    let mut client = cluster.connect("postgres");
    for sql in ["SELECT idgen_to_opaque(1)", "SELECT idgen_from_opaque('0000000000000')"] {
        assert_refused(&mut client, sql, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "idgen.opaque_key_file");
    }
    write_key(&cluster, &format!("{KEY}\n"));
    cluster.reconfigure(KEY_FILE);
    wait_until("the session has the key", || client.query_one("SELECT idgen_to_opaque(1)", &[]).is_ok());
    let text: String = one(&mut client, "SELECT idgen_to_opaque(1)");
    assert_eq!(text, OPAQUE_1);
    let same = "SELECT bool_and(idgen_from_opaque(lower(idgen_to_opaque(id))) = id) \
                FROM unnest('{0, 1, 1234, 9223372036854775807}'::bigint[]) id";
    assert!(one::<bool>(&mut client, same));
    assert_refused(&mut client, "SELECT idgen_to_opaque(-1)", SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "");
    assert_refused(&mut client, "SELECT idgen_from_opaque('x')", SqlState::INVALID_TEXT_REPRESENTATION, "mistyped");

    // A session that worked with the old key works with the new one after a reload of the settings.
    write_key(&cluster, "another key, long enough");
    assert_eq!(one::<String>(&mut client, "SELECT idgen_to_opaque(1)"), text);
    cluster.reconfigure("");
    wait_until("the session has the other key", || one::<String>(&mut client, "SELECT idgen_to_opaque(1)") != text);
    match client.query_one("SELECT idgen_from_opaque($1)", &[&text]) {
        Ok(row) => assert_ne!(row.get::<_, i64>(0), 1),
        Err(error) => assert_eq!(error.code(), Some(&SqlState::INVALID_TEXT_REPRESENTATION)),
    }
    cluster.reconfigure("idgen.opaque_key_file = ''");
    wait_until("the session has no key", || client.query("SELECT idgen_to_opaque(1)", &[]).is_err());
}

#[test]
fn a_file_that_holds_no_key_or_that_others_can_read_is_refused_and_not_named() {
    let cluster = Cluster::with_idgen(KEY_FILE);
    let mut client = cluster.connect("postgres");
    client.batch_execute("CREATE ROLE someone; SET ROLE someone").unwrap();
    let file = cluster.data().join("opaque.key");
    let mut refused = |why: &str| {
        cluster.connect("postgres").batch_execute("SELECT pg_reload_conf()").unwrap();
        wait_until(why, || {
            let error = refusal(&mut client, "SELECT idgen_to_opaque(1)");
            assert_eq!(error.code(), &SqlState::CONFIG_FILE_ERROR);
            let detail = error.detail().unwrap_or_default();
            assert!(!detail.contains("opaque.key"), "{detail}");
            detail.contains(why)
        });
    };
    refused("cannot be looked at");
    for length in [15, 57] {
        write_key(&cluster, &"x".repeat(length));
        refused(&format!("it has {length}"));
    }
    write_key(&cluster, KEY);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    refused("others can read it");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    refused("regular file");
}

#[test]
fn the_key_is_in_no_setting_and_no_log() {
    let cluster = Cluster::with_idgen("");
    write_key(&cluster, KEY);
    cluster.reconfigure(KEY_FILE);
    let mut client = cluster.connect("postgres");
    wait_until("the session has the key", || client.query_one("SELECT idgen_to_opaque(1)", &[]).is_ok());
    let set = format!("SET {KEY_FILE}");
    assert_eq!(*refusal(&mut client, &set).code(), SqlState::CANT_CHANGE_RUNTIME_PARAM);
    assert_eq!(one::<i64>(&mut client, &format!("SELECT count(*) FROM pg_settings WHERE setting ~ '{KEY}'")), 0);
    assert!(!cluster.log().contains(KEY));
    client.batch_execute("CREATE ROLE someone; SET ROLE someone").unwrap();
    assert_eq!(*refusal(&mut client, "SHOW idgen.opaque_key_file").code(), SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(one::<String>(&mut client, "SELECT idgen_to_opaque(1)"), OPAQUE_1);
}

#[test]
fn without_preload_text_and_uuids_are_read_and_the_opaque_form_says_what_it_needs() {
    let cluster = Cluster::running("");
    let mut client = cluster.connect("postgres");
    client.batch_execute("CREATE EXTENSION idgen").unwrap();
    assert!(one::<bool>(&mut client, "SELECT idgen_from_text(idgen_to_text(1234)) = 1234"));
    assert!(one::<bool>(&mut client, "SELECT idgen_from_uuid(idgen_to_uuid(1234)) = 1234"));
    let unset = SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE;
    assert_refused(&mut client, "SELECT idgen_next_uuid()", unset.clone(), "shared_preload_libraries");
    client.batch_execute("SET idgen.opaque_key_file = 'opaque.key'").unwrap();
    assert_refused(&mut client, "SELECT idgen_to_opaque(1)", unset, "Preload idgen");
}
