//! A server with a certificate: which ones count, and that a password is proved over an encrypted connection.

use std::path::{Path, PathBuf};

use postgres::config::{ChannelBinding, SslMode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::database::{COLUMNS, Database, TABLE};
use crate::server::Server;

fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/gateway/certificates").join(format!("{name}.pem"))
}

/// Makes a server encrypt with this certificate.
fn present(server: &Server, name: &str) {
    server.put(name, &std::fs::read(certificate(name)).unwrap());
    server.put("key", &std::fs::read(certificate("key")).unwrap());
    let mut client = server.connect("postgres").unwrap();
    for setting in ["ssl_key_file = 'key'", &format!("ssl_cert_file = '{name}'"), "ssl = on"] {
        client.batch_execute(&format!("ALTER SYSTEM SET {setting}")).unwrap();
    }
    client.batch_execute("SELECT pg_reload_conf()").unwrap();
    let shown = |setting: &str| {
        let row = server.connect("postgres").unwrap().query_one(&format!("SHOW {setting}"), &[]).unwrap();
        row.get::<_, String>(0)
    };
    // The server reads its settings anew when it sees fit.
    while (shown("ssl").as_str(), shown("ssl_cert_file").as_str()) != ("on", name) {}
}

/// A server on which a role may connect by its password alone, and only where the connection is encrypted.
fn server() -> (Server, Database) {
    let server = Server::start();
    let database = Database::on(&server, TABLE);
    database.execute(
        "INSERT INTO sessions (id, tier, model) VALUES ('+1', 'family', 'opus');
         CREATE ROLE planner LOGIN PASSWORD 'secret'; GRANT SELECT ON sessions TO planner",
    );
    let rules = server.data().join("pg_hba.conf");
    let said = std::fs::read_to_string(&rules).unwrap();
    server.put(
        "pg_hba.conf",
        format!("hostssl all planner all scram-sha-256\nhost all planner all reject\n{said}").as_bytes(),
    );
    database.policy(&database.registry(COLUMNS));
    (server, database)
}

#[test]
fn a_server_counts_whose_certificate_is_for_its_name_and_descends_from_a_trusted_root() {
    let (server, database) = server();
    let run = |roots: &str| {
        let roots = certificate(roots);
        let address = format!(
            "host=127.0.0.1 port={} dbname={} user=planner sslmode=verify-full sslrootcert={}",
            server.port,
            database.name,
            roots.display()
        );
        crate::support::finish(database.command(&["--dry-run", "--connect", &address]).env("PGPASSWORD", "secret"))
    };
    present(&server, "trusted");
    assert!(run("authority").expect(0).summary().starts_with("Plan: 1 to change"));
    for (presented, roots, why) in [
        ("trusted", "self-signed", "no authority that this host trusts has issued it"),
        ("other-host", "authority", "it is for another host"),
        ("expired", "authority", "it has expired"),
    ] {
        present(&server, presented);
        let run = run(roots).expect(1);
        let message = format!("the certificate of the server is not trusted: {why}");
        assert!(run.stderr.contains(&message), "{presented}: {run:?}");
        assert!(run.stderr.contains("sslrootcert"), "{presented}: {run:?}");
    }
}

#[test]
fn a_password_is_bound_to_the_encrypted_connection() {
    let (server, database) = server();
    present(&server, "trusted");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate("authority")).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = MakeRustlsConnect::new(builder.with_root_certificates(roots).with_no_client_auth());
    let mut config = postgres::Config::new();
    config.host("127.0.0.1").port(server.port).dbname(&database.name).user("planner").password("secret");
    config.ssl_mode(SslMode::Require).channel_binding(ChannelBinding::Require);
    let mut client = config.connect(tls).unwrap();
    let row = client.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).unwrap();
    assert!(row.get::<_, bool>(0));
}
