//! One server for all tests of this binary, on a socket in a directory of its own. It ends with the process that started it,
//! however that ends.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

/// The user that the server runs as where the tests run as root, which it refuses.
const NOBODY: u32 = 65534;
const SETTINGS: &str = "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nmax_connections = 200\nmax_prepared_transactions = 10\n\
                        password_encryption = 'scram-sha-256'\nlog_line_prefix = 'database=%d '\n";
/// What each entry of the server's log begins with, before the name of the database that it is about.
pub const LOG_MARK: &str = "database=";
/// Stops the server when its input ends, which the kernel sees to, and removes what it leaves.
const WATCHED: &str = r#"
"$@" > "$DIRECTORY/log" 2>&1 &
server=$!
cat > /dev/null
kill -QUIT $server # for a server: at once
kill -TERM $server # for a pooler, which has another word for that
wait $server
rm -rf "$DIRECTORY"
"#;

pub struct Server {
    directory: PathBuf,
    pub port: u16,
    /// Its input is open as long as this process lives.
    _watched: Child,
}

/// The server, which is started by the first test that asks for it.
pub fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

impl Server {
    /// A server of its own.
    pub fn start() -> Self {
        let directory = directory();
        let mut initdb = as_unprivileged(is_root(), &program("initdb"));
        initdb.args(["--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8", "--locale=C", "--pgdata"]);
        let made = initdb.arg(directory.join("data")).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        Self::run(directory)
    }

    /// A standby that follows this one.
    pub fn start_standby(&self) -> Self {
        let directory = directory();
        let mut copy = as_unprivileged(is_root(), &program("pg_basebackup"));
        copy.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--username=postgres", "--host"]);
        copy.arg(&self.directory).args(["--port", &self.port.to_string(), "--pgdata"]).arg(directory.join("data"));
        let made = copy.output().unwrap();
        assert!(made.status.success(), "{made:?}");
        Self::run(directory)
    }

    /// Runs a server on the cluster in a directory. Of two lines of its settings the last one counts.
    fn run(directory: PathBuf) -> Self {
        let (data, port) = (directory.join("data"), free_port());
        let settings = format!("\n{SETTINGS}port = {port}\nunix_socket_directories = '{}'\n", directory.display());
        let mut file = fs::OpenOptions::new().append(true).open(data.join("postgresql.auto.conf")).unwrap();
        file.write_all(settings.as_bytes()).unwrap();
        let mut postgres = as_unprivileged(is_root(), &program("postgres"));
        let watched = watched(postgres.arg("-D").arg(&data), &directory);
        let server = Self { directory, port, _watched: watched };
        server.await_start();
        server
    }

    /// Puts a file among those of its cluster, which only it can read.
    pub fn put(&self, name: &str, text: &[u8]) {
        let file = self.data().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        if is_root() {
            chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    /// Waits until it takes connections: the only sign of that is that it does.
    fn await_start(&self) {
        let begun = Instant::now();
        while let Err(error) = self.connect("postgres") {
            assert!(begun.elapsed() < Duration::from_secs(60), "{error}: {}", self.log());
            std::thread::yield_now();
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Where its socket is.
    pub fn socket(&self) -> &Path {
        &self.directory
    }

    /// The files of its cluster.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub fn connect(&self, database: &str) -> Result<Client, postgres::Error> {
        Client::connect(&format!("{} user=postgres dbname={database}", self.address()), NoTls)
    }

    /// A database for one test: its name, and a connection to it.
    pub fn new_database(&self) -> (String, Client) {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.connect("postgres").unwrap().batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
        let client = self.connect(&name).unwrap();
        (name, client)
    }

    /// Its address as keywords.
    pub fn address(&self) -> String {
        format!("host={} port={}", self.directory.display(), self.port)
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A directory of a server's own.
fn directory() -> PathBuf {
    let directory = tempfile::Builder::new().prefix("reconcile-postgres").tempdir().unwrap().keep();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    if is_root() {
        chown(&directory, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    directory
}

/// Starts a program that ends with this process, and takes its directory along.
pub fn watched(program: &Command, directory: &Path) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", WATCHED, "sh"]).arg(program.get_program()).args(program.get_args());
    command.env("DIRECTORY", directory).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // A signal from the terminal must leave it to the end of the input.
    command.process_group(0).spawn().unwrap()
}

/// A program of the server: from the PATH, or from where Debian has those of its newest version.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut versions: Vec<PathBuf> = versions.map(|version| version.join("bin")).collect();
    versions.sort();
    // Debian has poolers among the programs of the system's administrator.
    let others = versions.into_iter().rev().chain([PathBuf::from("/usr/sbin")]);
    let directories = std::env::split_paths(&path).chain(others);
    let mut programs = directories.map(|directory| directory.join(name));
    let found = programs.find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed: see .ci/provide"))
}

pub fn as_unprivileged(is_root: bool, program: &Path) -> Command {
    if !is_root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let nobody = NOBODY.to_string();
    command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]).arg(program).current_dir("/");
    command
}

/// A port of the loopback interface that nothing else listens on. It is free again by the time that the server takes it.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
