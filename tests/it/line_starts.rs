//! No line of any output begins with what a name chose, blanks aside, nor holds a command in brackets: programs that read logs
//! take such a line for a command.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{POLICY, Run, Sandbox, finish};

/// Commands to the runners of three services.
const COMMANDS: [&str; 4] = ["::error title=a::x", "##[error]x", "##teamcity[x]", "  ::add-mask::x"];

/// Everything is called by this command: two chats, what is known of them, and the files of policy and registry.
struct World<'c> {
    command: &'c str,
    sandbox: Sandbox,
    /// The commands that were found, and by which arguments.
    found: RefCell<BTreeSet<String>>,
}

impl World<'_> {
    fn new(command: &str) -> World<'_> {
        let world = World { command, sandbox: Sandbox::new("", "{}"), found: RefCell::default() };
        let quoted = Value::from(command);
        let policy = POLICY.replace("\"sessions.json\"", &Value::from(world.registry()).to_string());
        let policy = policy.replace("[tiers]\n", &format!("[tiers]\n{quoted} = \"haiku\"\n"));
        let rest = format!(
            "[chats]\n{quoted} = {{ model = \"opus\", reason = {quoted} }}\n\
             over = {{ model = \"opus\", until = 2020-01-01, reason = {quoted} }}\n\
             #{command}\n\
             lines = {{ model = \"opus\", reason = \"\"\"\n{command}\n\"\"\" }}\n\
             [sessions]\nrestart = [\"./restart\"]\n[rollout]\ncanary = false\nmax_failures = 9\n"
        );
        world.sandbox.write(command, policy + &rest);
        let entry = |session: &str, model: &str| {
            let session = format!("{command}{session}");
            json!({ "session_name": session, "contact_name": command, "tier": command, "model": model })
        };
        let entries = json!({
            command: entry("", "sonnet"), "over": entry(" over", "haiku"), "held": { "tier": command, "model": command },
            "lines": entry(" lines", "haiku"),
            "near": { "contact_name": command, "session_name": format!("{command} near"), "type": command, "model": "sonnet" },
        });
        world.sandbox.write(&world.registry(), entries.to_string());
        world.sandbox.write("said", format!("{command}\n{command}"));
        world.sandbox.script("restart", "cat said >&2; exit 1");
        world
    }

    fn registry(&self) -> String {
        format!("{}.json", self.command)
    }

    /// Runs it on the policy of this world.
    fn run(&self, arguments: &[&str]) -> Run {
        self.run_exactly(&[&["--policy", self.command], arguments].concat())
    }

    /// Runs it, and looks at every line.
    fn run_exactly(&self, arguments: &[&str]) -> Run {
        let run = finish(&mut self.sandbox.command(arguments));
        for line in run.stdout.lines().chain(run.stderr.lines()).filter(|line| is_command(line)) {
            self.found.borrow_mut().insert(format!("{arguments:?} prints the line {line:?}"));
        }
        run
    }
}

/// Whether a workflow runner takes a line for a command.
fn is_command(line: &str) -> bool {
    let begins = line.trim_start();
    // `::: file` is how a further place of a mistake is shown; a runner has no command named `:`.
    let is_ours = begins.starts_with("::: ");
    let in_brackets = |(at, _)| line[at + 2..].trim_start_matches(|c: char| c.is_ascii_alphanumeric()).starts_with('[');
    (begins.starts_with("::") && !is_ours) || line.match_indices("##").any(in_brackets)
}

#[test]
fn no_line_of_an_output_begins_with_what_a_name_chose() {
    for command in COMMANDS {
        let world = World::new(command);
        let registry = world.registry();
        world.run(&["check"]);
        for format in ["text", "json", "markdown", "diff"] {
            world.run(&["--dry-run", "--format", format]).expect(0);
            world.run(&["set-model", "lines", "haiku", "--dry-run", "--format", format]);
        }
        world.run(&["adopt"]).expect(0);
        world.run_exactly(&["--policy", &format!("{command}.first"), "init"]).expect(0);
        world.run_exactly(&["init", "--postgres", "--grants", &format!("a\n{command}\"\n{command}")]).expect(0);
        world.run(&["diff", "--from", command]).expect(0);
        world.run(&["list"]).expect(0);
        world.run(&["--dry-run", "--plan", command]).expect(1);
        world.run(&["-vv", "--allow-changes", "0"]).expect(3);
        world.run(&["-vv"]).expect(4);
        let list = world.run(&["list"]).expect(0).stdout;
        assert!(
            list.contains("owed") && list.contains("in sync"),
            "there is a row without a mark, and one with: {list}"
        );
        assert!(world.run(&["owed"]).expect(0).stdout.contains("owed since"));
        for chat in [command, "over", "near", "new"] {
            world.run(&["explain", "--", chat]).expect(0);
            world.run(&["history", "--", chat]).expect(0);
        }
        world.run(&["explain", "other", "--tier", command, "--session-name", command]).expect(0);
        world.run(&["history"]).expect(0);
        world.run(&["doctor"]);
        world.run(&["check", "--registry", &registry]);
        world.run(&["owed", "--forget", command]).expect(0);
        world.run(&["set-model", "over", "haiku", "--dry-run", "--reason", command]);
        world.run(&["set-model", "over", "haiku", "--reason", command]);
        world.run(&["undo", "last"]);
        world.run(&["unset-model", "--", command]);
        world.sandbox.write(&registry, format!("{{ {0}: {{}}, {0}: 1 }}", Value::from(command)));
        for command in ["list", "doctor", "plan"] {
            world.run(&[command]);
        }
        world.sandbox.write(command, format!("{} = 1", Value::from(command)));
        for command in ["check", "list", "doctor", "plan"] {
            world.run(&[command]).expect(1);
        }
        let found = world.found.take();
        assert!(found.is_empty(), "{found:#?}");
    }
}
