//! The replacement of the registry, on a real file system: what stays as it is, who wins against whom, and what a run
//! that died leaves behind.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use reconcile::apply::{Batch, Change, Committed, Owes, PlannedOn, Registered, plan};
use reconcile::backend::Commands;
use reconcile::backend::file::{FileBackend, LockedFiles, Method, Proceed, RegistryFile};
use reconcile::chat::{Chat, Model};
use reconcile::error::{Error, Holder, Result};
use reconcile::launch::Registration;
use reconcile::os::Stamp;
use reconcile::os::exchange::{ExchangeNote, PutBack};
use reconcile::plan::json::{Head, JsonRun, Origin, Record, name};
use reconcile::plan::ledger::Note;
use reconcile::plan::select::Selector;
use reconcile::plan::{Limits, Outcome, Plan, PlanInput, Reading, Verdict};
use reconcile::policy::{Source, read};
use reconcile::registry::Position;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::slow::{Over, until};
use crate::support::{framed, write_ledger, write_state};
use crate::world::at;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const OLD: &str = r#"{"a": {"model": "opus"}, "b": {"model": "opus"}}"#;
const NEW: &str = r#"{"a": {"model": "haiku"}, "b": {"model": "haiku"}}"#;
const FOREIGN: &str = r#"{"a": {"model": "opus"}, "b": {"model": "opus"}, "theirs": {}}"#;
const LATER: &str = r#"{"a": {"model": "opus"}, "b": {"model": "opus"}, "theirs": {}, "later": {}}"#;

fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("sessions.json"), OLD).unwrap();
    directory
}

fn open(registry: &Path) -> RegistryFile {
    RegistryFile::open(registry).unwrap()
}

pub fn locked(registry: &Path) -> LockedFiles {
    LockedFiles::lock(&open(registry), Duration::ZERO, &|| false).unwrap()
}

/// The registry and the ledger as they are now.
pub fn reading(registry: &Path) -> Reading {
    let registry = open(registry);
    let (snapshot, ledger) = (Box::new(registry.snapshot().unwrap()), registry.kept().unwrap().ledger);
    Reading { snapshot, ledger, doubtful: BTreeSet::new(), imposed: None }
}

/// Makes every entry say haiku. `owing` are the chats that owed a restart when that was planned. Whether it was done: it
/// is not where what it was planned on is another by now.
pub fn commit(files: &LockedFiles, reading: &Reading, owing: &[&str]) -> bool {
    match commit_when(files, reading, owing, &|| {}).unwrap() {
        Committed::Stale | Committed::NotTaken(_) | Committed::Blocked(_) => false,
        Committed::Done { error: None } => true,
        Committed::Done { error: Some(error) } => panic!("{error}"),
    }
}

/// Makes every entry say haiku. `meanwhile` happens when all is ready for that.
pub fn commit_when(files: &LockedFiles, reading: &Reading, owing: &[&str], meanwhile: &dyn Fn()) -> Result<Committed> {
    let haiku = Model::new("haiku").unwrap();
    let mut entries = Vec::new();
    reading.snapshot.each(&mut |entry| entries.push((entry.chat.id.into_owned(), entry.at))).unwrap();
    let owes = Owes { ran: None, identity: None, planned_on: PlannedOn::Debt };
    let mut changes = Vec::new();
    for (chat, at) in &entries {
        let owes = owing.contains(&chat.as_ref()).then_some(owes);
        changes.push(Change { chat, at: *at, after: Some(&haiku), owes });
    }
    let batch = Batch { changes, notes: Vec::new(), void: Vec::new(), now: NOW };
    let ready = |_: &ExchangeNote| {
        meanwhile();
        Ok(Proceed::Yes)
    };
    files.commit(reading, &batch, &ready)
}

/// A launch of chat a that registers nothing: it only settles what is owed.
fn launch(registry: &Path) -> Result<Registered> {
    let chat = Chat { id: "a".into(), ..Chat::default() };
    let told = serde_json::from_value(serde_json::json!({
        "chat_id": "a", "edit": false, "restart": false, "owed": false, "outcome": "done",
        "because": { "rule": "tiers.bots", "file": "policy.toml", "line": 1 },
    }));
    let told = told.unwrap();
    let settled =
        Registration { chat, entry: Some(Position(1)), fields: Vec::new(), model: None, remembers: None, told };
    let by = Origin::default();
    RegistryFile::open_or_new(registry)?.register(Duration::ZERO, NOW, &by, &mut |_, _| Ok(settled.clone()))
}

/// The note of a replacement under way, if there is one.
fn exchange(registry: &Path) -> Option<ExchangeNote> {
    open(registry).kept().unwrap().exchange
}

/// What the ledger leaves in the state directory.
const STATE: [&str; 2] = ["ledger.journal", "owed.json"];

/// Replaces the file as the daemon does: written whole beside it, then renamed.
fn replace_by_rename(registry: &Path, text: &str) {
    let temporary = registry.with_extension("tmp");
    fs::write(&temporary, text).unwrap();
    fs::rename(temporary, registry).unwrap();
}

fn stamp(path: &Path) -> Stamp {
    let facts = fs::metadata(path).unwrap();
    Stamp {
        device: facts.dev(),
        inode: facts.ino(),
        size: facts.size(),
        modified: (facts.mtime(), facts.mtime_nsec().try_into().unwrap()),
    }
}

/// What lies in the state directory, without the locks.
fn state(registry: &Path) -> Vec<String> {
    let state = registry.with_file_name("sessions.json.reconcile");
    let names = fs::read_dir(state).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !["run.lock", "data.lock"].contains(&name.as_str())).collect();
    names.sort();
    names
}

#[test]
fn a_replacement_keeps_mode_owner_and_links() {
    for method in [Method::Exchange, Method::Rename] {
        let directory = directory();
        let (real, link) = (directory.path().join("real.json"), directory.path().join("sessions.json"));
        fs::rename(&link, &real).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("real.json", &link).unwrap();
        let before = fs::metadata(&real).unwrap();

        let files = locked(&link).with_method(method);
        assert!(commit(&files, &reading(&link), &[]));

        let after = fs::metadata(&real).unwrap();
        assert_eq!(fs::read_to_string(&link).unwrap(), NEW);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_ne!(before.ino(), after.ino(), "written in place");
        assert_eq!((before.mode(), before.uid(), before.gid()), (after.mode(), after.uid(), after.gid()));
        assert!(!directory.path().join("real.json.reconcile/registry.new").exists());
    }
}

#[test]
fn what_somebody_else_replaced_is_not_replaced() {
    for method in [Method::Exchange, Method::Rename] {
        let directory = directory();
        let registry = directory.path().join("sessions.json");
        let files = locked(&registry).with_method(method);
        let reading = reading(&registry);
        replace_by_rename(&registry, FOREIGN);
        assert!(!commit(&files, &reading, &[]));
        assert_eq!(fs::read_to_string(&registry).unwrap(), FOREIGN);
        assert_eq!(exchange(&registry), None);
    }
}

#[test]
fn on_a_debt_that_a_launch_has_settled_nothing_is_replaced() {
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let files = locked(&registry);
    files.note(&[Note::Owes { chat: "a", ran: None, identity: None }], NOW).unwrap();
    let reading = reading(&registry);
    // Its session is started on what the registry says so far.
    let launched = launch(&registry).unwrap();
    assert!(matches!(launched, Registered { changed: false, paid: true, error: None }), "{launched:?}");
    assert!(!commit(&files, &reading, &["a"]));
    assert_eq!(fs::read_to_string(&registry).unwrap(), OLD);
    assert_eq!(open(&registry).kept().unwrap().ledger.owed.len(), 0, "a plan that is stale owes nothing");
    assert!(commit(&files, &reading, &[]));
}

#[test]
fn what_somebody_else_wrote_in_place_is_not_replaced() {
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let files = locked(&registry);
    let reading = reading(&registry);
    fs::write(&registry, FOREIGN).unwrap();
    assert!(!commit(&files, &reading, &[]));
    assert_eq!(fs::read_to_string(&registry).unwrap(), FOREIGN);
}

/// The files of a run that died during an exchange: what the registry and the displaced file hold, and which of them
/// are the ledger's "seen" and "new".
fn after_a_death(registry: &Path, displaced: &str, note: &ExchangeNote) {
    let state = registry.with_file_name("sessions.json.reconcile");
    assert_eq!(fs::read_to_string(state.join("registry.new")).unwrap(), displaced);
    write_ledger(&state, json!({ "exchange": { "under_way": note } }));
}

/// Writes the file that an exchange displaced, and returns what it is.
fn displace(registry: &Path, text: &str) -> Stamp {
    let state = registry.with_file_name("sessions.json.reconcile");
    write_state(&state, "registry.new", text);
    stamp(&state.join("registry.new"))
}

#[test]
fn a_death_before_the_exchange_leaves_the_old_registry() {
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let new = displace(&registry, NEW);
    after_a_death(&registry, NEW, &note(stamp(&registry), new));
    let _files = locked(&registry);
    assert_eq!(fs::read_to_string(&registry).unwrap(), OLD);
    assert_eq!(exchange(&registry), None);
    assert_eq!(state(&registry), STATE);
}

#[test]
fn a_death_after_the_exchange_leaves_the_new_registry() {
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let old = displace(&registry, OLD);
    fs::write(&registry, NEW).unwrap();
    after_a_death(&registry, OLD, &note(old, stamp(&registry)));
    let _files = locked(&registry);
    assert_eq!(fs::read_to_string(&registry).unwrap(), NEW);
    assert_eq!(exchange(&registry), None);
    assert_eq!(state(&registry), STATE);
}

#[test]
fn an_update_that_a_dying_run_displaced_is_put_back() {
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let seen = stamp(&registry);
    replace_by_rename(&registry, NEW);
    displace(&registry, FOREIGN);
    after_a_death(&registry, FOREIGN, &note(seen, stamp(&registry)));
    let _files = locked(&registry);
    assert_eq!(fs::read_to_string(&registry).unwrap(), FOREIGN);
    assert_eq!(state(&registry), STATE);
}

#[test]
fn an_update_that_a_dying_run_displaced_is_put_back_also_where_the_disk_has_another_number_by_then() {
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let seen = stamp(&registry);
    replace_by_rename(&registry, NEW);
    displace(&registry, FOREIGN);
    let elsewhere = |stamp: Stamp| Stamp { device: stamp.device + 1, ..stamp };
    after_a_death(&registry, FOREIGN, &note(elsewhere(seen), elsewhere(stamp(&registry))));
    let _files = locked(&registry);
    assert_eq!(fs::read_to_string(&registry).unwrap(), FOREIGN);
    assert_eq!(state(&registry), STATE);
}

#[test]
fn a_registry_that_was_removed_after_a_death_is_missing_and_no_more() {
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let old = displace(&registry, OLD);
    fs::write(&registry, NEW).unwrap();
    after_a_death(&registry, OLD, &note(old, stamp(&registry)));
    fs::remove_file(&registry).unwrap();
    assert!(launch(&registry).is_err(), "nothing was to be written");
    assert!(!registry.exists());
    assert_eq!(state(&registry), STATE);

    // What another program had put there before is not lost with it.
    let seen = displace(&registry, FOREIGN);
    after_a_death(&registry, FOREIGN, &note(Stamp { inode: 0, ..seen }, Stamp::default()));
    launch(&registry).unwrap();
    assert_eq!(fs::read_to_string(&registry).unwrap(), FOREIGN);
}

fn note(seen: Stamp, new: Stamp) -> ExchangeNote {
    ExchangeNote { seen, new, back: None }
}

#[test]
fn of_two_updates_around_a_dying_run_the_later_stays() {
    // A copy may keep the time of its original: either update may be the one with the older time.
    for aged in ["sessions.json", "sessions.json.reconcile/registry.new"] {
        // What stands there, what waits beside it, and what the run noted of putting back; the later update stays.
        let around = |there: &str, waits: &str, back: &dyn Fn(Stamp, Stamp) -> Option<PutBack>| {
            let directory = directory();
            let registry = directory.path().join("sessions.json");
            let seen = stamp(&registry);
            replace_by_rename(&registry, there);
            displace(&registry, waits);
            age(&directory.path().join(aged));
            let stamps = [registry.clone(), directory.path().join("sessions.json.reconcile/registry.new")];
            let [in_place, waiting] = stamps.map(|path| stamp(&path));
            let back = back(in_place, waiting);
            after_a_death(&registry, waits, &ExchangeNote { back, ..note(seen, Stamp::default()) });
            drop(locked(&registry));
            assert_eq!(state(&registry), STATE);
            fs::read_to_string(&registry).unwrap()
        };
        let put_back = |goes_in, comes_out| Some(PutBack { goes_in, comes_out });
        let ours = Stamp::default();
        // The earlier was displaced; then another program replaced what the dying run had put there.
        assert_eq!(around(LATER, FOREIGN, &|_, _| None), LATER, "{aged}");
        // The same, after it was noted that the earlier would be put back.
        assert_eq!(around(LATER, FOREIGN, &|_, waits| put_back(waits, ours)), LATER, "{aged}");
        // The earlier was put back over the later.
        assert_eq!(around(FOREIGN, LATER, &|there, _| put_back(there, ours)), LATER, "{aged}");
        // Then the later was put back over the earlier, too.
        assert_eq!(around(LATER, FOREIGN, &|there, waits| put_back(there, waits)), LATER, "{aged}");
    }
}

/// Makes a file a minute older than it is.
fn age(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(file.metadata().unwrap().modified().unwrap() - Duration::from_secs(60)).unwrap();
}

#[test]
fn a_writer_that_holds_its_state_in_memory_loses_nothing() {
    const UPDATES: usize = 2_000;
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let files = locked(&registry);
    let over = AtomicBool::new(false);
    let (mut done, mut refused) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let _over = Over(&over);
            for number in 1..=UPDATES {
                replace_by_rename(&registry, &format!(r#"{{"a": {{"model": "opus", "update": {number}}}}}"#));
                // It is the only one that writes updates, so its latest must be there, or come back at once.
                until(&format!("update {number} is there"), || {
                    let now: Value = serde_json::from_str(&fs::read_to_string(&registry).unwrap()).unwrap();
                    now["a"]["update"] == number
                });
            }
        });
        while !over.load(Ordering::Acquire) {
            if commit(&files, &reading(&registry), &[]) {
                done += 1;
            } else {
                refused += 1;
            }
        }
    });
    let last: Value = serde_json::from_str(&fs::read_to_string(&registry).unwrap()).unwrap();
    assert_eq!(last["a"]["update"], UPDATES, "the last update is lost ({done} replaced, {refused} left)");
    assert_eq!(exchange(&registry), None);
}

#[test]
fn a_lock_names_its_holder_and_goes_with_it() {
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let holder = locked(&registry);
    match LockedFiles::lock(&open(&registry), Duration::ZERO, &|| false) {
        Err(Error::Locked { holder, .. }) => assert_eq!(holder, Holder::Run(std::process::id())),
        other => panic!("{other:?}"),
    }
    drop(holder);
    drop(locked(&registry));
}

#[test]
fn notes_are_taken_on_what_the_file_holds_now() {
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let files = locked(&registry);
    files.note(&[Note::Owes { chat: "a", ran: None, identity: None }], NOW).unwrap();
    // Another program takes the data lock and settles that debt meanwhile.
    let journal = registry.with_file_name("sessions.json.reconcile").join("ledger.journal");
    let debt = &crate::support::ledger_in(&registry.with_file_name("sessions.json.reconcile"))["owed"]["a"];
    let settled = framed(&json!({ "owed": { "a": null, "b": debt } }));
    fs::File::options().append(true).open(&journal).unwrap().write_all(settled.as_bytes()).unwrap();
    let owed =
        files.note(&[Note::Owes { chat: "c", ran: None, identity: None }, Note::Failed { chat: "a" }], NOW).unwrap();
    assert_eq!(owed.keys().collect::<Vec<_>>(), ["c"]);
    assert_eq!(open(&registry).kept().unwrap().ledger.owed.keys().collect::<Vec<_>>(), ["b", "c"]);
}

#[test]
fn a_ledger_that_cannot_be_read_stays_so_for_the_run_that_met_it() {
    let later = framed(&json!({ "version": 3 }));
    let unknown = framed(&json!({ "version": 2 })) + &framed(&json!({ "lent": {} }));
    for journal in [later, unknown] {
        let directory = directory();
        let registry = directory.path().join("sessions.json");
        let state = registry.with_file_name("sessions.json.reconcile");
        let files = locked(&registry);
        files.note(&[Note::Owes { chat: "a", ran: None, identity: None }], NOW).unwrap();
        // A later version has taken its place, or it is damaged.
        write_state(&state, "later", &journal);
        fs::rename(state.join("later"), state.join("ledger.journal")).unwrap();
        for _ in 0..2 {
            let result = files.note(&[Note::Owes { chat: "b", ran: None, identity: None }], NOW);
            assert!(result.is_err(), "{journal} was read as {result:?}");
        }
        assert_eq!(fs::read_to_string(state.join("ledger.journal")).unwrap(), journal);
    }
}

/// What a run did that gave every entry another model, and whose commands had a lot to say.
fn done(registry: &Path) -> Plan {
    let text = "models = { allowed = ['haiku'], fallback = 'haiku' }\nregistry = { path = 'x' }\n";
    let (policy, _) = read(&[Source::new("policy.toml", text.to_owned())]).unwrap();
    let (now, selector, capabilities) = (at(0), Selector::default(), Commands::none());
    let limits = Limits::default();
    let input = PlanInput { policy: &policy, capabilities: &capabilities, now: &now, selector: &selector, limits };
    let mut plan = plan(&input, &FileBackend::new(open(registry), std::collections::BTreeMap::new(), Commands::none()))
        .unwrap()
        .plan;
    for row in &mut plan.rows {
        row.outcome = Outcome::because(Verdict::Done, "what a command said");
        row.effects.edited = true;
    }
    plan
}

/// How the history calls a run.
fn record() -> Record {
    Record { name: name(NOW), head: Head { at: NOW, by: Origin::default(), plan_id: String::new() } }
}

#[test]
fn the_history_is_bounded() {
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let files = locked(&registry);
    let plan = done(&registry);
    let record = record();
    let run = JsonRun::of(&plan, &record);
    let state_directory = registry.with_file_name("sessions.json.reconcile");
    for part in 1..=6 {
        files.record(&run).unwrap();
        // As if a hundred thousand runs had been recorded.
        let file = fs::File::options().write(true).open(state_directory.join("history.jsonl")).unwrap();
        file.set_len(1 << 21).unwrap();
        assert!(state(&registry).len() <= part.min(5), "{:?}", state(&registry));
    }
    files.record(&run).unwrap();
    let parts = ["history.1.jsonl", "history.2.jsonl", "history.3.jsonl", "history.4.jsonl", "history.jsonl"];
    assert_eq!(state(&registry), parts);
    let last = fs::read_to_string(state_directory.join("history.jsonl")).unwrap();
    let line: Value = serde_json::from_str(last.trim()).unwrap();
    assert_eq!(line["summary"]["changed"], 2);
    assert_eq!(line["changes"][0]["outcome"], "done");
    assert_eq!(line["changes"][0]["detail"], Value::Null);
}

#[test]
fn half_a_line_in_the_history_does_not_spoil_the_next() {
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let files = locked(&registry);
    let plan = done(&registry);
    let record = record();
    let run = JsonRun::of(&plan, &record);
    files.record(&run).unwrap();
    let file = registry.with_file_name("sessions.json.reconcile").join("history.jsonl");
    let whole = fs::read_to_string(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    files.record(&run).unwrap();
    let lines = fs::read_to_string(&file).unwrap();
    let last = lines.lines().last().unwrap();
    assert!(serde_json::from_str::<Value>(last).is_ok(), "{last}");
}
