//! A member that proves who it is by a password, and an authority that proves it by a certificate.

use crate::NEXT;
use crate::harness::cluster::{Cluster, IDGEN, Mode, assert_refused, give_to_owner};
use crate::harness::wait_until;
use postgres::error::SqlState;
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const PASSWORD: &str = "correct-horse-battery";
const WRONG: &str = "wrong-horse-battery";

/// A self-signed certificate for this name, and its key, in two files of the directory.
fn certificate(dir: &Path, name: &str) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &format!("/CN={name}")])
        .args(["-addext", &format!("subjectAltName=IP:127.0.0.1,DNS:{name}")])
        .arg("-keyout")
        .arg(dir.join(format!("{name}.key")))
        .arg("-out")
        .arg(dir.join(format!("{name}.crt")))
        .output()
        .expect("there is openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for file in ["key", "crt"] {
        private(&dir.join(format!("{name}.{file}")));
    }
}

/// Makes the file readable for the server's user only, as PostgreSQL demands of keys and password files.
fn private(file: &Path) {
    fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
    give_to_owner(file);
}

fn password_file(member: &Cluster, name: &str, password: &str) -> PathBuf {
    let file = member.data().join(name);
    fs::write(&file, format!("127.0.0.1:*:*:shard:{password}\n")).unwrap();
    private(&file);
    file
}

#[test]
fn a_member_connects_with_tls_and_scram_and_no_secret_is_in_a_log_or_view() {
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let mut authority = Cluster::prepared(&format!(
        "{IDGEN}idgen.machine_id = 0\nidgen.authority_database = postgres\nidgen.ordering = strict
         listen_addresses = '127.0.0.1'\nport = {port}
         ssl = on\nssl_cert_file = 'good.crt'\nssl_key_file = 'good.key'\nlog_connections = on"
    ));
    for name in ["good", "other"] {
        certificate(&authority.data(), name);
    }
    let who = "local all postgres trust\nhostssl all shard 127.0.0.1/32 scram-sha-256\nhost all all all reject\n";
    fs::write(authority.data().join("pg_hba.conf"), who).unwrap();
    if let Err(log) = authority.try_start() {
        assert!(log.contains("SSL is not supported by this build"), "the server did not start:\n{log}");
        println!("SKIPPED: this PostgreSQL is built without TLS");
        return;
    }
    let mut boss = authority.connection("postgres").port(port).connect(postgres::NoTls).unwrap();
    boss.batch_execute(&format!(
        "CREATE EXTENSION idgen; CREATE EXTENSION idgen_authority; CREATE ROLE shard LOGIN PASSWORD '{PASSWORD}'; SELECT idgen_authority.allow_member('shard')"
    ))
    .unwrap();

    let mut member = Cluster::prepared(&format!("{IDGEN}idgen.machine_id = -1\nidgen.ordering = strict"));
    let conninfo = |authority_certificate: &str, mode: &str, rest: &str| {
        let root = authority.data().join(format!("{authority_certificate}.crt"));
        format!(
            "idgen.authority = 'host=127.0.0.1 port={port} user=shard dbname=postgres sslmode={mode} sslrootcert={} {rest}'",
            root.display()
        )
    };
    let passfile = |name, password| format!("passfile={}", password_file(&member, name, password).display());
    let (passfile, wrong) = (passfile("passwords", PASSWORD), passfile("wrong", WRONG));
    member.configure(&conninfo("good", "verify-ca", &passfile));
    member.start();
    member.connect("postgres").batch_execute("CREATE EXTENSION idgen").unwrap();
    let mut client = member.connect("postgres");
    let id = |client: &mut postgres::Client| client.query_one(NEXT, &[]).unwrap().get::<_, i64>(0);
    let mut last = id(&mut client);
    let encrypted = "SELECT bool_and(ssl) AND count(*) = 1 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE usename = 'shard'";
    assert!(boss.query_one(encrypted, &[]).unwrap().get::<_, bool>(0));

    // Each wrong setting is shown, and ids stop; then they go on.
    for (settings, why) in [
        (conninfo("good", "verify-ca", &format!("{passfile}.missing")), "no password supplied"),
        (conninfo("good", "verify-ca", &wrong), "password authentication failed"),
        (conninfo("other", "verify-ca", &passfile), "certificate verify failed"),
        (conninfo("good", "disable", &passfile), "pg_hba.conf rejects"),
    ] {
        member.reconfigure(&settings);
        client.batch_execute("SET idgen.wait_timeout = '200ms'").unwrap();
        wait_until(why, || {
            let error: Option<String> = member.one("SELECT error FROM idgen_authority()");
            error.is_some_and(|error| error.contains(why))
        });
        assert_refused(&mut client, NEXT, SqlState::CANNOT_CONNECT_NOW, "idgen_authority");
        client.batch_execute("RESET idgen.wait_timeout").unwrap();
        member.reconfigure(&conninfo("good", "verify-ca", &passfile));
        let next = id(&mut client);
        assert!(next > last);
        last = next;
    }
    // A connection string that cannot be read is not repeated in the log. (PostgreSQL itself logs the settings that a reload
    // changes, primary_conninfo too: that is why the password is in a file.)
    drop(client);
    member.stop(Mode::Fast);
    member.configure(&format!("idgen.authority = 'host=127.0.0.1 password={WRONG} nonsense'"));
    member.start();
    wait_until("the mistake is shown", || {
        let error: Option<String> = member.one("SELECT error FROM idgen_authority()");
        error.is_some_and(|why| why.contains("cannot be read"))
    });

    let view: String = member.one("SELECT string_agg(a::text, ' ') FROM idgen_authority() a");
    let mut client = member.connect("postgres");
    client.batch_execute("CREATE ROLE someone; SET ROLE someone").unwrap();
    assert!(client.query("SHOW idgen.authority", &[]).is_err(), "an ordinary user reads the connection string");
    for (place, text) in [("view", view), ("member's log", member.log()), ("authority's log", authority.log())] {
        for secret in [PASSWORD, WRONG] {
            assert!(!text.contains(secret), "a password is in the {place}:\n{text}");
        }
    }
}
