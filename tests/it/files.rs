//! The replacement of the registry, on a real file system: what stays as it is, who wins against whom, and what a run
//! that died leaves behind.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use reconcile::apply::{Files, Locked};
use reconcile::backend::file::{LockedStore, Means, Registration, Store};
use reconcile::chat::Model;
use reconcile::error::Error;
use reconcile::registry::Exchange;
use reconcile::registry::json::edit::{Splice, splice};
use reconcile::registry::{Snapshot, Stamp, scan};
use tempfile::TempDir;

const OLD: &str = r#"{"a": {"model": "opus"}, "b": {"model": "opus"}}"#;
const NEW: &str = r#"{"a": {"model": "haiku"}, "b": {"model": "haiku"}}"#;
const FOREIGN: &str = r#"{"a": {"model": "opus"}, "b": {"model": "opus"}, "theirs": {}}"#;
const LATER: &str = r#"{"a": {"model": "opus"}, "b": {"model": "opus"}, "theirs": {}, "later": {}}"#;

fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("sessions.json"), OLD).unwrap();
    directory
}

fn locked(registry: &Path) -> LockedStore {
    let store = Store::open(registry, "sessions.json").unwrap();
    store.lock(Duration::ZERO, "2026-03-01T00:00:00Z".parse().unwrap(), &|| false).unwrap()
}

use crate::slow::{Over, until};

/// The edits that make every entry say haiku.
fn edits(snapshot: &Snapshot) -> Vec<Splice> {
    let haiku = Model::new("haiku").unwrap();
    let mut splices = Vec::new();
    scan(snapshot, |entry| splices.push(splice(snapshot, &entry.site, &haiku))).unwrap();
    splices
}

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
    for means in [Means::Exchange, Means::Rename] {
        let directory = directory();
        let (real, link) = (directory.path().join("real.json"), directory.path().join("sessions.json"));
        fs::rename(&link, &real).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("real.json", &link).unwrap();
        let before = fs::metadata(&real).unwrap();

        let store = locked(&link).with_means(means);
        let snapshot = store.registry().unwrap();
        let replaced = store.replace(&snapshot, &edits(&snapshot), &[]).unwrap();

        let after = fs::metadata(&real).unwrap();
        assert_eq!(fs::read_to_string(&link).unwrap(), NEW);
        assert_eq!(replaced, Some(stamp(&real)));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_ne!(before.ino(), after.ino(), "written in place");
        assert_eq!((before.mode(), before.uid(), before.gid()), (after.mode(), after.uid(), after.gid()));
        assert!(!directory.path().join("real.json.reconcile/registry.new").exists());
    }
}

#[test]
fn what_somebody_else_replaced_is_not_replaced() {
    for means in [Means::Exchange, Means::Rename] {
        let directory = directory();
        let registry = directory.path().join("sessions.json");
        let store = locked(&registry).with_means(means);
        let snapshot = store.registry().unwrap();
        replace_by_rename(&registry, FOREIGN);
        assert_eq!(store.replace(&snapshot, &edits(&snapshot), &[]).unwrap(), None);
        assert_eq!(fs::read_to_string(&registry).unwrap(), FOREIGN);
        assert_eq!(store.ledger().unwrap().exchange, None);
    }
}

#[test]
fn on_a_debt_that_a_launch_has_struck_nothing_is_replaced() {
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let store = locked(&registry);
    let snapshot = store.registry().unwrap();
    let now = jiff::Timestamp::UNIX_EPOCH;
    store.amend(&mut |ledger| ledger.owe("a", None, now)).unwrap();
    // Of a session that is started on what the registry says so far.
    let launched = Store::open_or_new(&registry, "sessions.json").unwrap();
    let paid = |_: &_| Ok(Registration { chat: "a".to_owned(), splices: Vec::new(), value: () });
    assert!(!launched.register(Duration::ZERO, now, paid).unwrap().changed);
    assert_eq!(store.replace(&snapshot, &edits(&snapshot), &["a"]).unwrap(), None);
    assert!(store.replace(&snapshot, &edits(&snapshot), &[]).unwrap().is_some());
}

#[test]
fn what_somebody_else_wrote_in_place_is_not_replaced() {
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let store = locked(&registry);
    let snapshot = store.registry().unwrap();
    fs::write(&registry, FOREIGN).unwrap();
    assert_eq!(store.replace(&snapshot, &edits(&snapshot), &[]).unwrap(), None);
    assert_eq!(fs::read_to_string(&registry).unwrap(), FOREIGN);
}

/// The files of a run that died during an exchange: what the registry and the displaced file hold, and which of them
/// are the ledger's "seen" and "new".
fn after_a_death(registry: &Path, displaced: &str, note: &Exchange) {
    let state = registry.with_file_name("sessions.json.reconcile");
    assert_eq!(fs::read_to_string(state.join("registry.new")).unwrap(), displaced);
    let ledger = serde_json::json!({"version": 1, "owed": {}, "corrected": {}, "exchange": note});
    fs::write(state.join("owed.json"), ledger.to_string()).unwrap();
    fs::set_permissions(state.join("owed.json"), fs::Permissions::from_mode(0o600)).unwrap();
}

/// Writes the file that an exchange displaced, and returns what it is.
fn displace(registry: &Path, text: &str) -> Stamp {
    let state = registry.with_file_name("sessions.json.reconcile");
    if !state.exists() {
        fs::DirBuilder::new().mode(0o700).create(&state).unwrap();
    }
    fs::write(state.join("registry.new"), text).unwrap();
    stamp(&state.join("registry.new"))
}

#[test]
fn a_death_before_the_exchange_leaves_the_old_registry() {
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let new = displace(&registry, NEW);
    after_a_death(&registry, NEW, &Exchange { seen: stamp(&registry), new });
    let store = locked(&registry);
    assert_eq!(fs::read_to_string(&registry).unwrap(), OLD);
    assert_eq!(store.ledger().unwrap().exchange, None);
    assert_eq!(state(&registry), ["owed.json"]);
}

#[test]
fn a_death_after_the_exchange_leaves_the_new_registry() {
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let old = displace(&registry, OLD);
    fs::write(&registry, NEW).unwrap();
    after_a_death(&registry, OLD, &Exchange { seen: old, new: stamp(&registry) });
    let store = locked(&registry);
    assert_eq!(fs::read_to_string(&registry).unwrap(), NEW);
    assert_eq!(store.ledger().unwrap().exchange, None);
    assert_eq!(state(&registry), ["owed.json"]);
}

#[test]
fn an_update_that_a_dying_run_displaced_is_put_back() {
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let seen = stamp(&registry);
    replace_by_rename(&registry, NEW);
    displace(&registry, FOREIGN);
    after_a_death(&registry, FOREIGN, &Exchange { seen, new: stamp(&registry) });
    let _store = locked(&registry);
    assert_eq!(fs::read_to_string(&registry).unwrap(), FOREIGN);
    assert_eq!(state(&registry), ["owed.json"]);
}

#[test]
fn a_registry_that_was_removed_after_a_death_is_missing_and_no_more() {
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let old = displace(&registry, OLD);
    fs::write(&registry, NEW).unwrap();
    after_a_death(&registry, OLD, &Exchange { seen: old, new: stamp(&registry) });
    fs::remove_file(&registry).unwrap();
    let register = |store: Store| {
        let paid = |_: &_| Ok(Registration { chat: "a".to_owned(), splices: Vec::new(), value: () });
        store.register(Duration::ZERO, jiff::Timestamp::UNIX_EPOCH, paid)
    };
    assert!(register(Store::open_or_new(&registry, "sessions.json").unwrap()).is_err(), "nothing was to be written");
    assert!(!registry.exists());
    assert_eq!(state(&registry), ["owed.json"]);

    // What somebody else had put there before is not lost with it.
    let seen = displace(&registry, FOREIGN);
    after_a_death(&registry, FOREIGN, &Exchange { seen: Stamp { inode: 0, ..seen }, new: Stamp::default() });
    drop(register(Store::open_or_new(&registry, "sessions.json").unwrap()));
    assert_eq!(fs::read_to_string(&registry).unwrap(), FOREIGN);
}

#[test]
fn of_two_updates_around_a_dying_run_the_later_stays() {
    // The earlier update was displaced; then somebody replaced what the dying run had put there.
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let seen = stamp(&registry);
    displace(&registry, FOREIGN);
    after_a_death(&registry, FOREIGN, &Exchange { seen, new: Stamp::default() });
    age(&registry.with_file_name("sessions.json.reconcile").join("registry.new"));
    replace_by_rename(&registry, LATER);
    drop(locked(&registry));
    assert_eq!(fs::read_to_string(&registry).unwrap(), LATER);

    // The run died while it was putting the earlier one back, over the later.
    let directory = self::directory();
    let registry = directory.path().join("sessions.json");
    let seen = stamp(&registry);
    replace_by_rename(&registry, FOREIGN);
    age(&registry);
    displace(&registry, LATER);
    after_a_death(&registry, LATER, &Exchange { seen, new: Stamp::default() });
    drop(locked(&registry));
    assert_eq!(fs::read_to_string(&registry).unwrap(), LATER);
    assert_eq!(state(&registry), ["owed.json"]);
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
    let store = locked(&registry);
    let over = AtomicBool::new(false);
    let (mut done, mut refused) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let _over = Over(&over);
            for number in 1..=UPDATES {
                replace_by_rename(&registry, &format!(r#"{{"a": {{"model": "opus", "update": {number}}}}}"#));
                // It is the only one that writes updates, so its latest must be there, or come back at once.
                until(&format!("update {number} is there"), || {
                    let now: serde_json::Value = serde_json::from_str(&fs::read_to_string(&registry).unwrap()).unwrap();
                    now["a"]["update"] == number
                });
            }
        });
        while !over.load(Ordering::Acquire) {
            let snapshot = store.registry().unwrap();
            match store.replace(&snapshot, &edits(&snapshot), &[]).unwrap() {
                Some(_) => done += 1,
                None => refused += 1,
            }
        }
    });
    let last: serde_json::Value = serde_json::from_str(&fs::read_to_string(&registry).unwrap()).unwrap();
    assert_eq!(last["a"]["update"], UPDATES, "the last update is lost ({done} replaced, {refused} left)");
    assert_eq!(store.ledger().unwrap().exchange, None);
}

#[test]
fn a_lock_names_its_holder_and_goes_with_it() {
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let holder = locked(&registry);
    let other = Store::open(&registry, "sessions.json").unwrap();
    match other.lock(Duration::ZERO, jiff::Timestamp::UNIX_EPOCH, &|| false) {
        Err(Error::Locked { holder, .. }) => assert_eq!(holder, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    drop(holder);
    drop(locked(&registry));
}

#[test]
fn the_ledger_is_amended_on_what_the_file_holds_now() {
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let store = locked(&registry);
    store.amend(&mut |ledger| ledger.owe("a", None, jiff::Timestamp::UNIX_EPOCH)).unwrap();
    // Somebody who takes the data lock strikes the debt meanwhile.
    let file = registry.with_file_name("sessions.json.reconcile").join("owed.json");
    let struck = fs::read_to_string(&file).unwrap().replace("\"a\"", "\"b\"");
    fs::write(&file, struck).unwrap();
    let ledger = store.amend(&mut |ledger| ledger.owe("c", None, jiff::Timestamp::UNIX_EPOCH)).unwrap();
    assert_eq!(ledger.owed.keys().collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(store.ledger().unwrap(), ledger);
}

#[test]
fn the_history_is_bounded() {
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let store = locked(&registry);
    let world = crate::world::World::new(OLD.to_owned());
    let applied = world.run(&crate::world::policy(&[]), 0, None).unwrap();
    let state_directory = registry.with_file_name("sessions.json.reconcile");
    for part in 1..=6 {
        store.record(&applied.planned.plan).unwrap();
        // As if a hundred thousand runs had been recorded.
        let file = fs::File::options().write(true).open(state_directory.join("history.jsonl")).unwrap();
        file.set_len(1 << 21).unwrap();
        assert!(state(&registry).len() <= part.min(5), "{:?}", state(&registry));
    }
    store.record(&applied.planned.plan).unwrap();
    let parts = ["history.1.jsonl", "history.2.jsonl", "history.3.jsonl", "history.4.jsonl", "history.jsonl"];
    assert_eq!(state(&registry), parts);
    let last = fs::read_to_string(state_directory.join("history.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(last.trim()).unwrap();
    assert_eq!(line["summary"]["changed"], 2);
    assert_eq!(line["changes"][0]["detail"], serde_json::Value::Null);
}

#[test]
fn half_a_line_in_the_history_does_not_spoil_the_next() {
    let directory = directory();
    let registry = directory.path().join("sessions.json");
    let store = locked(&registry);
    let world = crate::world::World::new(OLD.to_owned());
    let applied = world.run(&crate::world::policy(&[]), 0, None).unwrap();
    store.record(&applied.planned.plan).unwrap();
    let file = registry.with_file_name("sessions.json.reconcile").join("history.jsonl");
    let whole = fs::read_to_string(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    store.record(&applied.planned.plan).unwrap();
    let lines = fs::read_to_string(&file).unwrap();
    let last = lines.lines().last().unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(last).is_ok(), "{last}");
}
