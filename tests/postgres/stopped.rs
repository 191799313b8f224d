//! A server that is stopped at once in the middle of a run, and comes back.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::database::{COLUMNS, MODELS, TABLE};
use crate::server::{Server, as_unprivileged, program};
use crate::support::Sandbox;

/// The server's own program for that, as the user that the server runs as.
fn pg_ctl(data: &PathBuf) -> Command {
    let mut command = as_unprivileged(rustix::process::geteuid().is_root(), &program("pg_ctl"));
    command.arg("-D").arg(data);
    command
}

/// Stops a server at once, as if it had crashed, and starts it again.
pub fn restart(server: &Server) -> impl Fn() + Send + Sync + use<> {
    let (data, log) = (server.data(), server.socket().join("second-log"));
    move || {
        pg_ctl(&data).args(["stop", "-m", "immediate"]).output().unwrap();
        let started = pg_ctl(&data).args(["-w", "-l"]).arg(&log).arg("start").stdout(Stdio::null()).status().unwrap();
        assert!(started.success(), "{}", std::fs::read_to_string(&log).unwrap_or_default());
    }
}

/// Stops what the test has started, however it ends.
pub struct Stop(PathBuf);

impl Stop {
    pub fn of(server: &Server) -> Self {
        Self(server.data())
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        let _ = pg_ctl(&self.0).args(["stop", "-m", "immediate"]).output();
    }
}

fn in_words(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| format!("'{}' ", word.to_str().unwrap())).collect()
}

#[test]
fn a_server_that_is_stopped_in_the_middle_of_a_run_has_lost_nothing_that_the_next_run_does_not_finish() {
    let server = Server::start();
    let (name, mut client) = server.new_database();
    let _stop = Stop::of(&server);
    let sandbox = Sandbox::new("", "{}");
    // The servers of tests are told to lose what they have committed, for speed.
    let keep = format!("SET synchronous_commit = on; ALTER DATABASE {name} SET synchronous_commit = on");
    client.batch_execute(&keep).unwrap();
    client.batch_execute(TABLE).unwrap();
    client.batch_execute(&sandbox.run(&["init", "--postgres"]).expect(0).stdout).unwrap();
    client
        .batch_execute("INSERT INTO sessions (id, tier, model) VALUES ('+1', 'family', 'opus'), ('+2', 'bots', 'opus')")
        .unwrap();
    let address = format!("{} dbname={name} user=postgres", server.address());
    let registry = format!("[registry]\npostgres = \"{address}\"\ntable = \"sessions\"\n[registry.columns]\n{COLUMNS}");
    let sessions =
        "[sessions]\nrestart = [\"./restart\"]\nparallel = 1\ntimeout = \"60s\"\n[rollout]\ncanary = false\n";
    sandbox.write("policy.toml", format!("{MODELS}{sessions}{registry}"));
    let (stop, start) = (pg_ctl(&server.data()), pg_ctl(&server.data()));
    let log = server.socket().join("second-log");
    sandbox.script(
        "restart",
        &format!(
            "echo \"$RECONCILE_CHAT_ID $RECONCILE_MODEL\" >> calls\ntest -e stopped && exit 0\ntouch stopped\n{} stop -m immediate\n{} -w -l '{}' start",
            in_words(&stop),
            in_words(&start),
            log.display()
        ),
    );
    let run = sandbox.run(&[]);
    assert!([0, 4].contains(&run.code), "{run:?}");
    let mut client = server.connect(&name).unwrap();
    client.batch_execute("UPDATE reconcile.registry SET held_until = now() - interval '1 s'").unwrap();
    let finished = sandbox.run(&["--retry-failed"]).expect(0);
    let mut texts =
        |query: &str| -> Vec<String> { client.query(query, &[]).unwrap().iter().map(|row| row.get(0)).collect() };
    let story = format!("{run:?} {finished:?}");
    assert_eq!(texts("SELECT id || model FROM sessions ORDER BY id"), ["+1sonnet", "+2haiku"], "{story}");
    assert_eq!(texts("SELECT key FROM reconcile.memory WHERE kind = 'owed'"), [] as [&str; 0], "{story}");
    let told = "SELECT row ->> 'chat_id' FROM reconcile.run, json_array_elements(run -> 'changes') AS row
                WHERE (row ->> 'edit')::boolean ORDER BY 1";
    assert_eq!(texts(told), ["+1", "+2"], "{story}");
    assert!(sandbox.calls().contains(&"+2 haiku".to_owned()), "{story}");
}
