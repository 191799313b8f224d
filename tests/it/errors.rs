//! Errors: a folder for each code, and what the binary says then.
//!
//! A folder of `tests/errors` is a case, and its name is the code. It holds
//!
//! - `case.sh`, which provokes the error. `sh -eu` runs it in a fresh directory with a copy of `tests/errors/base` and a key
//!   of pseudonyms, `redact.key`. The last command is the one that fails.
//! - `stderr.txt`: the exit code, and what stood on stderr. The directory is called `DIRECTORY` there.
//! - `redacted.txt`, where the script has `$REDACT`: the same with `--redact` in that place.
//!
//! After an intended change, `SNAPSHOTS=overwrite cargo test` writes what is said now; review it by eye.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use serde_json::Value;
use snapbox::data::DataFormat;
use snapbox::{Assert, Data, IntoData};
use tempfile::TempDir;

use crate::support::{Run, below, codes_of_errors, file, finish, root};

/// How many cases run at a time.
const WORKERS: usize = 4;

/// What `$REDACT` stands for in a case that hides names. The key is the same each time, and so are the pseudonyms.
const REDACT: &str = "--redact --redact-key redact.key";

/// The commands that show names in any case.
const NEVER_REDACTED: [&str; 6] = ["adopt", "completions", "init", "launch", "man", "record-session"];

/// The errors that no short script provokes: races, faults, other users, servers. The test that provokes each, below `tests/it`
/// or `tests`; its file names the code.
const TESTED_BY: &[(&str, &str)] = &[
    ("certificate-elsewhere", "openclaw_remote::the_user_names_the_certificate_of_another_host_and_a_policy_does_not"),
    ("commit-unknown", "postgres::lost::a_conversation_whose_commit_cannot_be_asked_about_may_not_be_recorded"),
    ("connection", "postgres::errors::a_connection_that_is_lost_is_told_as_one"),
    ("connection-number", "postgres::errors::each_mistake_in_a_connection_has_a_code"),
    ("connection-value", "postgres::errors::each_mistake_in_a_connection_has_a_code"),
    ("daemon-answer", "dispatch_socket::an_answer_in_another_form_is_an_error"),
    ("daemon-hangs", "dispatch_socket::a_daemon_that_takes_no_connections_costs_no_more_than_the_timeout"),
    ("daemon-no-answer", "dispatch_socket::a_daemon_that_hangs_costs_no_more_than_the_timeout"),
    ("daemon-owner", "dispatch_socket::a_socket_of_somebody_else_is_refused"),
    ("daemon-refuses", "dispatch_socket::a_socket_that_nobody_listens_at_may_be_a_daemon_whose_queue_is_full"),
    ("directory-moved", "vanished::a_state_directory_that_is_removed_or_moved_during_a_run_is_an_error"),
    ("displaced-file", "names::what_takes_the_place_of_the_waiting_file_is_not_removed"),
    ("disputed", "postgres::narrowed::a_row_of_which_the_database_says_one_thing_and_then_another_is_an_error"),
    ("foreign-note", "set_model_races::a_note_by_a_stranger_puts_no_policy_in_place"),
    ("gateway-certificate", "openclaw_remote::a_gateway_with_another_certificate_than_the_pinned_one_is_told_nothing"),
    ("gateway-device", "openclaw_errors::each_failure_of_a_gateway_has_a_code"),
    ("gateway-doubled", "openclaw_errors::each_failure_of_a_gateway_has_a_code"),
    ("gateway-elsewhere", "openclaw_remote::a_policy_alone_does_not_choose_another_host"),
    ("gateway-no-reply", "openclaw_errors::each_failure_of_a_gateway_has_a_code"),
    ("gateway-protocol", "openclaw_errors::each_failure_of_a_gateway_has_a_code"),
    ("gateway-refused", "openclaw_errors::each_failure_of_a_gateway_has_a_code"),
    ("gateway-refuses", "openclaw_errors::each_failure_of_a_gateway_has_a_code"),
    ("gateway-reply", "openclaw_errors::each_failure_of_a_gateway_has_a_code"),
    ("gateway-request-too-large", "openclaw_errors::each_failure_of_a_gateway_has_a_code"),
    ("gateway-scope", "openclaw_errors::each_failure_of_a_gateway_has_a_code"),
    ("gateway-selection", "openclaw_errors::each_failure_of_a_gateway_has_a_code"),
    ("gateway-stopping", "openclaw_errors::each_failure_of_a_gateway_has_a_code"),
    ("gateway-too-old", "openclaw_errors::each_failure_of_a_gateway_has_a_code"),
    ("gateway-truncated", "openclaw_errors::each_failure_of_a_gateway_has_a_code"),
    ("gateway-unavailable", "openclaw_errors::each_failure_of_a_gateway_has_a_code"),
    ("gateway-unreachable", "openclaw_errors::a_gateway_that_takes_no_connections_is_unreachable"),
    ("host-counts", "postgres::errors::each_mistake_in_a_connection_has_a_code"),
    ("interrupted", "patience::a_run_that_waits_for_the_data_stops_waiting_when_asked_to"),
    ("invalid", "doctor::a_policy_with_mistakes_keeps_nothing_else_from_being_looked_at"),
    (
        "last-model-unknown",
        "postgres::errors::without_its_server_a_session_starts_only_where_this_host_can_know_what_it_ran",
    ),
    ("ledger-removed", "vanished::a_ledger_that_is_removed_during_a_run_is_an_error_and_its_debts_are_kept"),
    ("ledger-replaced", "vanished::a_ledger_that_an_older_copy_replaces_during_a_run_is_an_error"),
    ("lock-lost", "names::a_run_whose_lock_is_no_longer_what_it_took_has_no_effect"),
    ("locked", "patience::only_a_process_that_holds_the_lock_is_named"),
    ("long-socket-path", "dispatch_socket::a_path_that_is_too_long_is_said_to_be"),
    ("mounted-file", "mounts::a_registry_that_is_mounted_as_a_single_file_is_found_when_planning"),
    ("no-chat-id", "postgres::errors::each_failure_of_a_table_has_a_code"),
    ("no-column", "postgres::errors::each_failure_of_a_table_has_a_code"),
    ("no-device-key", "openclaw_remote::a_key_that_others_can_read_or_that_is_none_is_not_used"),
    (
        "no-devices",
        "without_remote::what_needs_tls_or_the_identity_of_a_device_is_an_error_that_names_the_build_and_a_tunnel",
    ),
    ("no-exchange", "mounts::a_file_system_that_cannot_exchange_two_files_is_a_problem_of_doctor"),
    ("no-key-kept", "postgres::errors::each_failure_of_a_table_has_a_code"),
    ("no-memory", "postgres::errors::each_failure_of_a_table_has_a_code"),
    ("no-postgres", "without_postgres::a_registry_that_is_a_table_is_an_error_that_names_the_build_which_reads_it"),
    ("no-roots", "postgres::errors::each_mistake_in_a_connection_has_a_code"),
    ("no-service", "postgres::errors::each_mistake_in_a_connection_has_a_code"),
    ("no-thread", "bad_state::where_threads_and_processes_are_scarce_a_run_ends_in_order_and_the_next_one_finishes_it"),
    ("no-user", "postgres::errors::what_the_environment_says_of_a_connection_is_looked_at_as_well"),
    ("not-a-device-key", "openclaw_remote::a_key_that_others_can_read_or_that_is_none_is_not_used"),
    ("not-a-gateway", "openclaw_errors::each_failure_of_a_gateway_has_a_code"),
    ("not-an-address", "postgres::errors::what_the_environment_says_of_a_connection_is_looked_at_as_well"),
    ("not-roots", "postgres::errors::each_mistake_in_a_connection_has_a_code"),
    ("not-taken", "postgres::errors::each_failure_of_a_table_has_a_code"),
    ("not-writable", "postgres::errors::each_failure_of_a_table_has_a_code"),
    ("open-passwords", "postgres::errors::each_mistake_in_a_connection_has_a_code"),
    ("other-file-system", "mounts::state_on_another_file_system_is_found_when_planning"),
    ("other-form", "postgres::errors::json_of_another_form_keeps_a_session_from_being_started"),
    (
        "pending-changed",
        "dispatch_down::what_the_run_remembers_of_the_daemon_and_cannot_find_again_is_an_error_after_the_first_effect",
    ),
    ("panicked", "interrupted::a_worker_that_panics_ends_the_run_with_an_error_and_the_rest_stays_owed"),
    ("policy-changed", "set_model_races::what_an_editor_saves_meanwhile_is_not_lost"),
    ("policy-exposed", "commands_as_root::root_runs_no_commands_of_a_policy_that_others_can_write"),
    ("policy-not-editable", "mounts::a_policy_that_cannot_be_replaced_is_found_when_planning"),
    ("policy-unsteady", "set_model_races::a_policy_whose_override_moves_each_time_is_left_alone"),
    ("policy-would-be-too-large", "wide::a_policy_is_never_made_larger_than_what_can_be_read"),
    ("read-only", "mounts::a_registry_on_a_read_only_file_system_is_found_when_planning"),
    ("registry-changing", "readers::a_large_registry_that_is_cut_short_in_place_while_it_is_read_is_an_error"),
    ("registry-owner", "doctor::another_user_than_the_registrys_owner_is_told_so"),
    ("registry-unreadable", "readers::a_large_registry_that_the_disk_cannot_read_is_an_error"),
    ("rights-not-kept", "attributes::a_group_that_cannot_be_kept_is_told_as_one"),
    ("schema-damaged", "postgres::errors::each_failure_of_a_table_has_a_code"),
    ("schema-format", "postgres::errors::each_failure_of_a_table_has_a_code"),
    ("server", "postgres::errors::each_failure_of_a_table_has_a_code"),
    ("server-elsewhere", "postgres::errors::each_mistake_in_a_connection_has_a_code"),
    ("server-silent", "postgres::launch::without_its_server_a_session_starts_on_what_it_last_had_on_this_host"),
    ("server-unreachable", "postgres::errors::each_mistake_in_a_connection_has_a_code"),
    ("service", "postgres::errors::each_mistake_in_a_connection_has_a_code"),
    ("service-line", "postgres::errors::each_mistake_in_a_connection_has_a_code"),
    ("state-lost", "doctor::state_that_is_gone_is_a_problem"),
    ("table-unsteady", "postgres::errors::each_failure_of_a_table_has_a_code"),
    ("taken-over", "postgres::errors::each_failure_of_a_table_has_a_code"),
    ("thinking-levels", "openclaw_errors::saved_thinking_levels_that_cannot_be_read_are_an_error"),
    ("time-zone", "doctor::a_time_zone_that_is_none_is_a_problem_where_it_counts"),
    ("unavailable", "openclaw_errors::a_gateway_that_goes_away_during_a_run_ends_it"),
];

/// The errors that no test provokes, and why.
const UNTESTED: &[(&str, &str)] = &[("bug", "it stands for what cannot happen as long as the program is right")];

struct Case {
    folder: PathBuf,
}

impl Case {
    fn code(&self) -> &str {
        self.folder.file_name().unwrap().to_str().unwrap()
    }

    fn script(&self) -> String {
        fs::read_to_string(self.folder.join("case.sh")).unwrap_or_else(|error| panic!("{}: {error}", self.code()))
    }

    fn hides_names(&self) -> bool {
        self.script().contains("$REDACT")
    }

    /// Runs the script, where `$REDACT` stands for these options.
    fn run(&self, redact: &str) -> Run {
        let scratch = TempDir::new().unwrap();
        let directory = scratch.path().canonicalize().unwrap();
        for entry in walkdir::WalkDir::new(base()).min_depth(1).into_iter().map(|entry| entry.unwrap()) {
            let copy = directory.join(entry.path().strip_prefix(base()).unwrap());
            if entry.file_type().is_dir() {
                fs::create_dir(copy).unwrap();
            } else {
                fs::copy(entry.path(), copy).unwrap();
            }
        }
        let key = directory.join("redact.key");
        fs::write(&key, "01".repeat(32)).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let run = finish(shell(&directory).arg(self.folder.join("case.sh")).env("REDACT", redact));
        let nameless = |text: String| text.replace(directory.to_str().unwrap(), "DIRECTORY");
        Run { stdout: nameless(run.stdout), stderr: nameless(run.stderr), ..run }
    }

    /// Compares what the script did with what was reviewed.
    fn expect(&self, snapshot: &str, run: &Run) {
        assert_ne!(run.code, 0, "{}: nothing failed: {run:#?}", self.code());
        assert!(run.stderr.contains(&format!("error[{}]: ", self.code())), "{}: {run:#?}", self.code());
        let expected = Data::read_from(&self.folder.join(snapshot), Some(DataFormat::Text)).raw();
        let actual = format!("exit {}\n{}", run.code, run.stderr);
        Assert::new().action_env("SNAPSHOTS").eq(actual.into_data().raw(), expected);
    }
}

/// A shell that knows of this host only where programs are.
fn shell(directory: &Path) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_reconcile")).parent().unwrap().display();
    let mut shell = Command::new("sh");
    shell.arg("-eu").current_dir(directory).stdin(Stdio::null()).env_clear();
    shell.env("PATH", format!("{program}:/usr/bin:/bin")).env("HOME", directory);
    shell.env("TZ", "UTC").env("LC_ALL", "C");
    for of in ["AUTHOR", "COMMITTER"] {
        shell.env(format!("GIT_{of}_NAME"), "Test").env(format!("GIT_{of}_EMAIL"), "test@example.org");
        shell.env(format!("GIT_{of}_DATE"), "2026-01-01T00:00:00Z");
    }
    shell
}

fn base() -> PathBuf {
    root().join("tests/errors/base")
}

fn cases() -> Vec<Case> {
    let folders = below("errors").into_iter().filter(|folder| *folder != base());
    folders.map(|folder| Case { folder }).collect()
}

/// What becomes of these cases, a few at a time.
fn outcomes(cases: Vec<Case>, redact: &str) -> Vec<(Case, Run)> {
    let queue = Mutex::new(cases.into_iter());
    let next = || queue.lock().unwrap().next();
    let done = |case: Case| {
        let run = case.run(redact);
        (case, run)
    };
    let work = || std::iter::from_fn(next).map(done).collect::<Vec<_>>();
    let mut outcomes: Vec<(Case, Run)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    outcomes.sort_by(|(one, _), (other, _)| one.folder.cmp(&other.folder));
    outcomes
}

#[test]
fn every_error_is_shown_as_it_was_reviewed() {
    for (case, run) in outcomes(cases(), "") {
        case.expect("stderr.txt", &run);
    }
}

/// What tells whose chats those of the base are: ids, also within names of sessions, and each part of a person's name.
fn names() -> Vec<String> {
    let registry: Value = serde_json::from_str(&fs::read_to_string(base().join("sessions.json")).unwrap()).unwrap();
    let ids = registry.as_object().unwrap().keys().map(|id| id.trim_start_matches('+').to_owned());
    let contacts = registry.as_object().unwrap().values().map(|entry| entry["contact_name"].as_str().unwrap());
    let parts = contacts.flat_map(|name| name.split(' ')).map(str::to_lowercase);
    let names: Vec<String> = ids.chain(parts).collect();
    assert_eq!(names.len(), 9, "{names:?}");
    names
}

#[test]
fn with_redact_no_error_names_a_chat_or_a_person() {
    let names = names();
    let hiding: Vec<Case> = cases().into_iter().filter(Case::hides_names).collect();
    assert!(hiding.len() > 20, "where are the cases?");
    for (case, run) in outcomes(hiding, REDACT) {
        let said = format!("{}{}", run.stdout, run.stderr).to_lowercase();
        let told = names.iter().find(|name| said.contains(name.as_str()));
        assert_eq!(told, None, "{}: {run:#?}", case.code());
        case.expect("redacted.txt", &run);
    }
}

#[test]
fn every_case_hides_names_where_its_command_can() {
    for case in cases() {
        let script = case.script();
        let last = script.lines().last().unwrap();
        let command = last.split(' ').skip_while(|word| *word != "reconcile").nth(1);
        let cannot = command.is_some_and(|command| NEVER_REDACTED.contains(&command));
        // What goes wrong with redaction itself has its options written out.
        let is_about_it = script.contains("redact");
        assert_eq!(case.hides_names(), !cannot && !is_about_it, "{}: {script}", case.code());
        assert_eq!(case.folder.join("redacted.txt").exists(), case.hides_names(), "{}", case.code());
    }
}

#[test]
fn every_error_has_a_case_or_a_test() {
    let cases = cases();
    let listed = TESTED_BY.iter().chain(UNTESTED).map(|(code, _)| *code);
    let covered: Vec<String> = cases.iter().map(Case::code).chain(listed).map(str::to_owned).collect();
    let once: BTreeSet<String> = covered.iter().cloned().collect();
    assert_eq!(covered.len(), once.len(), "a code stands twice in the lists, or has a case besides");
    let made = codes_of_errors();
    let untested: Vec<&String> = made.difference(&once).collect();
    assert!(untested.is_empty(), "neither a case below tests/errors nor a test provokes {untested:?}");
    let unknown: Vec<&String> = once.difference(&made).collect();
    assert!(unknown.is_empty(), "the program does not say {unknown:?}");
}

#[test]
fn every_test_that_provokes_an_error_names_its_code() {
    for (code, test) in TESTED_BY {
        let (module, function) = test.rsplit_once("::").unwrap();
        let path = module.replace("::", "/");
        let places = ["tests/it/", "tests/"].map(|folder| format!("{folder}{path}.rs"));
        let found = places.iter().find(|path| root().join(path).exists());
        let text = file(found.unwrap_or_else(|| panic!("{test}: there is no such file")));
        assert!(text.contains(&format!("fn {function}(")), "there is no test {test}");
        // As it is printed, or as it is compared with that of an error of the library.
        let named = [format!("error[{code}]"), format!("{code:?}")];
        assert!(named.iter().any(|name| text.contains(name)), "{test} does not name the code {code}");
    }
}
