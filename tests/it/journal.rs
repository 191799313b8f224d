//! The ledger's journal: what a death or a full disk leaves of it reads as before the last append or as after it, and
//! anything else is damage, never "no debts".

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use reconcile::apply::{Batch, Change, Committed, Owes, PlannedOn};
use reconcile::backend::file::{Proceed, RegistryFile};
use reconcile::chat::Model;
use reconcile::plan::ledger::{Begin, Note};
use reconcile::state::kept::Kept;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bad_input::drifted;
use crate::files::{locked, reading};
use crate::support::{Sandbox, framed, ledger_in, write_ledger, write_state};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const JOURNAL: &str = "ledger.journal";
const NEW: &str = "ledger.journal.new";
/// In bytes. A journal that is longer than this, and than a few times its first record, is compacted.
const LONG: usize = 256 << 10;

/// A registry, and the state directory beside it.
struct Scene {
    directory: TempDir,
}

impl Scene {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("sessions.json"), "{}").unwrap();
        Self { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("sessions.json")
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("sessions.json.reconcile")
    }

    fn registry(&self) -> RegistryFile {
        RegistryFile::open(&self.path()).unwrap()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        write_state(&self.state(), name, text);
    }

    fn journal(&self) -> Vec<u8> {
        fs::read(self.state().join(JOURNAL)).unwrap()
    }

    fn kept(&self) -> Kept {
        self.registry().kept().unwrap()
    }

    fn owe(&self, chat: &str) {
        self.registry().owe(chat, NOW).unwrap();
    }

    /// The chats that a restart is owed to.
    fn owed(&self) -> Vec<String> {
        self.kept().ledger.owed.into_keys().collect()
    }

    /// What is there reads as `wanted`, and the next append is an append to that.
    #[track_caller]
    fn reads_as(&self, wanted: &Kept, story: &str) {
        assert_eq!(self.kept(), *wanted, "{story}");
        self.owe("next");
        let mut kept = self.kept();
        assert!(kept.ledger.owed.remove("next").is_some(), "{story}");
        assert_eq!(kept, *wanted, "{story}");
        assert!(!self.state().join(NEW).exists(), "{story}: debris stays behind");
    }
}

/// A record that owes a restart to each of these chats.
fn owes<'c>(chats: impl IntoIterator<Item = &'c str>) -> Value {
    let debt = json!({ "since": "1970-01-01T00:00:00Z", "began": false, "attempts": 0 });
    json!({ "owed": chats.into_iter().map(|chat| (chat.to_owned(), debt.clone())).collect::<serde_json::Map<_, _>>() })
}

/// A journal in which a restart is owed to chat a, and which the next append compacts.
fn long_journal() -> String {
    let mut first = owes(["a"]);
    first["version"] = 2.into();
    let mut long = owes(["b"]);
    long["owed"]["b"]["run"] = "x".repeat(LONG).into();
    [first, long, json!({ "owed": { "b": null } })].iter().map(framed).collect()
}

#[test]
fn a_last_line_of_which_a_page_never_reached_the_disk_was_never_acknowledged() {
    let scene = Scene::new();
    scene.owe("a");
    let (before, earlier) = (scene.journal(), scene.kept());
    scene.owe("b");
    let after = scene.journal();
    for hole in [before.len()..after.len() - 1, before.len()..before.len() + 9, after.len() - 9..after.len() - 1] {
        let mut torn = after.clone();
        torn[hole.clone()].fill(0);
        let scene = Scene::new();
        scene.write(JOURNAL, &torn);
        scene.reads_as(&earlier, &format!("zeros at {hole:?}"));
        // What another line follows was acknowledged.
        let scene = Scene::new();
        scene.write(JOURNAL, [&torn[..], framed(&owes(["c"])).as_bytes()].concat());
        assert!(scene.registry().kept().unwrap_err().text().contains("is damaged"), "zeros at {hole:?}");
    }
}

#[test]
fn an_append_that_ended_anywhere_reads_as_before_it_or_as_after_it() {
    let scene = Scene::new();
    scene.owe("a");
    let (before, earlier) = (scene.journal(), scene.kept());
    scene.owe("b");
    let (after, later) = (scene.journal(), scene.kept());
    assert!(after.starts_with(&before) && earlier != later);
    for cut in before.len()..=after.len() {
        let scene = Scene::new();
        scene.write(JOURNAL, &after[..cut]);
        let wanted = if cut == after.len() { &later } else { &earlier };
        scene.reads_as(wanted, &format!("cut at {cut} of {}", after.len()));
        let whole = if cut == after.len() { &after } else { &before };
        assert!(scene.journal().starts_with(whole), "what was whole is still there");
        assert_eq!(String::from_utf8(scene.journal()[whole.len()..].to_vec()).unwrap().lines().count(), 1, "at {cut}");
    }
}

#[test]
fn a_compaction_that_ended_anywhere_reads_as_before_it_or_as_after_it() {
    let old = long_journal();
    let scene = Scene::new();
    scene.write(JOURNAL, &old);
    let before = scene.kept();
    assert_eq!(scene.owed(), ["a"]);
    scene.owe("c");
    let (new, after) = (scene.journal(), scene.kept());
    assert!(new.len() < old.len() / 100, "{} bytes of {} are left", new.len(), old.len());
    assert_eq!(scene.owed(), ["a", "c"]);
    for cut in 0..=new.len() {
        let scene = Scene::new();
        scene.write(JOURNAL, &old);
        scene.write(NEW, &new[..cut]);
        scene.reads_as(&before, &format!("the new journal is cut at {cut} of {}", new.len()));
    }
    let renamed = Scene::new();
    renamed.write(JOURNAL, &new);
    renamed.reads_as(&after, "renamed");
}

#[test]
fn a_move_from_version_0_1_that_ended_anywhere_reads_as_what_0_1_left() {
    let mut ledger = owes(["a", "b"]);
    ledger["version"] = 1.into();
    let old = ledger.to_string();
    let scene = Scene::new();
    scene.write("owed.json", &old);
    let left = scene.kept();
    assert_eq!(scene.owed(), ["a", "b"]);
    drop(locked(&scene.path()));
    let (journal, closed) = (scene.journal(), fs::read(scene.state().join("owed.json")).unwrap());
    assert_eq!(scene.kept(), left);

    for cut in 0..=journal.len() {
        let scene = Scene::new();
        scene.write("owed.json", &old);
        scene.write(NEW, &journal[..cut]);
        scene.reads_as(&left, &format!("the journal is cut at {cut} of {}", journal.len()));
    }
    for cut in 0..=closed.len() {
        let scene = Scene::new();
        scene.write("owed.json", &old);
        scene.write(JOURNAL, &journal);
        scene.write("owed.json.new", &closed[..cut]);
        scene.reads_as(&left, &format!("the note of the move is cut at {cut} of {}", closed.len()));
        assert_eq!(fs::read(scene.state().join("owed.json")).unwrap(), closed);
        assert!(!scene.state().join("owed.json.new").exists());
    }
}

/// A sandbox whose journal has a few records: a run whose restart failed, and one that tried again.
fn with_journal() -> Sandbox {
    let sandbox = drifted();
    sandbox.script("restart", "exit 1");
    sandbox.run(&[]).expect(4);
    sandbox.run(&["--retry", "+1"]).expect(4);
    sandbox.script("restart", "echo \"$1\" >> calls");
    sandbox
}

#[test]
fn a_byte_that_differs_anywhere_but_in_an_unfinished_line_is_damage() {
    let sandbox = with_journal();
    let state = sandbox.path("sessions.json.reconcile");
    let whole = fs::read(state.join(JOURNAL)).unwrap();
    let last = whole.iter().rposition(|byte| *byte == b'\n').unwrap();
    assert!(last == whole.len() - 1 && whole.split(|byte| *byte == b'\n').count() > 5);
    let registry = RegistryFile::open(&sandbox.path("sessions.json")).unwrap();
    for at in 0..last {
        for bit in [0x01, 0x20, 0x80] {
            let mut damaged = whole.clone();
            damaged[at] ^= bit;
            fs::write(state.join(JOURNAL), &damaged).unwrap();
            let error = registry.kept().expect_err(&format!("bit {bit:#x} of byte {at}")).text();
            assert!(error.contains("ledger.journal is damaged"), "byte {at}: {error}");
        }
        if at % 61 == 0 {
            for arguments in [&["--dry-run"][..], &[], &["owed"], &["owed", "--forget", "+1"], &["explain", "+1"]] {
                let run = sandbox.run(arguments).expect(1);
                assert!(run.stderr.contains("ledger.journal is damaged"), "byte {at}: {run:#?}");
            }
            assert_eq!(sandbox.calls(), [""; 0], "byte {at}");
        }
    }
    fs::write(state.join(JOURNAL), &whole).unwrap();
    let before = ledger_in(&state);
    fs::write(state.join(JOURNAL), [&whole[..], &whole[..40]].concat()).unwrap();
    assert!(sandbox.run(&["owed"]).expect(0).stdout.contains("+1"), "half a line is no damage");
    assert_eq!(ledger_in(&state), before);
    sandbox.run(&["--retry", "+1"]).expect(0);
    assert_eq!((sandbox.calls(), &sandbox.ledger()["owed"]), (vec!["imessage-_1".to_owned()], &json!({})));
}

#[test]
fn a_ledger_of_a_later_version_is_refused_and_not_called_damaged() {
    let later = json!({ "version": 3, "owed": ["something else"], "more": {} });
    for (name, text) in [(JOURNAL, framed(&later)), ("owed.json", later.to_string())] {
        let sandbox = drifted();
        write_state(&sandbox.path("sessions.json.reconcile"), name, &text);
        let all = [&["--dry-run"][..], &[], &["owed"], &["owed", "--forget", "+1"], &["launch", "+1", "--", "true"]];
        for arguments in all {
            let run = sandbox.run(arguments).expect(1);
            let told = ["has the format 3", name, "a newer reconcile"].iter().all(|told| run.stderr.contains(told));
            assert!(told && !run.stderr.contains("damaged"), "{run:#?}");
        }
        assert_eq!(sandbox.read(&format!("sessions.json.reconcile/{name}")), text);
        assert_eq!((sandbox.model("+1").as_deref(), sandbox.calls().len()), (Some("haiku"), 0));
    }
}

#[test]
fn an_append_after_a_compaction_by_another_program_goes_to_the_new_journal() {
    let scene = Scene::new();
    let files = locked(&scene.path());
    files.note(&[Note::Owes { chat: "a", ran: None, identity: None }], NOW).unwrap();
    let journal = scene.state().join(JOURNAL);
    let inode = || fs::metadata(&journal).unwrap().ino();
    for round in 0..3 {
        // The run has the journal open. Something makes it long, and a launch compacts it.
        let long = long_journal();
        let (_, long) = long.split_once('\n').unwrap();
        fs::File::options().append(true).open(&journal).unwrap().write_all(long.as_bytes()).unwrap();
        let before = inode();
        scene.owe(&format!("launched-{round}"));
        assert_ne!(before, inode(), "it was compacted");
        files.note(&[Note::Owes { chat: &format!("noted-{round}"), ran: None, identity: None }], NOW).unwrap();
        // The same the other way round.
        scene.owe(&format!("again-{round}"));
        let owed = scene.owed();
        assert_eq!(owed.len(), 1 + 3 * (round + 1), "{owed:?}");
        let debts = files.note(&[Note::Unchanged { chat: &format!("again-{round}") }], NOW).unwrap();
        assert_eq!(debts.len(), 1, "a run reads what others have added");
    }
    files.note(&[Note::Settled { chat: "launched-0" }, Note::Settled { chat: "again-2" }], NOW).unwrap();
    assert_eq!(scene.owed(), ["a", "again-0", "again-1", "launched-1", "launched-2", "noted-0", "noted-1", "noted-2"]);
}

#[test]
fn a_launch_beside_a_run_that_compacts_is_not_lost() {
    let scene = Scene::new();
    scene.write(JOURNAL, long_journal());
    let files = locked(&scene.path());
    scene.owe("launched");
    let inode = fs::metadata(scene.state().join(JOURNAL)).unwrap().ino();
    for number in 0..50 {
        let chat = format!("c{number}");
        files.note(&[Note::Owes { chat: &chat, ran: None, identity: None }], NOW).unwrap();
        scene.owe(&format!("launched-{number}"));
        files.note(&[Note::Settled { chat: &chat }], NOW).unwrap();
    }
    assert_eq!(fs::metadata(scene.state().join(JOURNAL)).unwrap().ino(), inode, "a short journal is not rewritten");
    assert_eq!(scene.owed().len(), 52);
}

/// Counts what is written to a journal.
struct Counted<'s> {
    journal: &'s Path,
    last: (u64, u64),
    bytes: u64,
    compactions: usize,
}

impl Counted<'_> {
    fn look(&mut self) {
        let metadata = fs::metadata(self.journal).unwrap();
        let (inode, length) = (metadata.ino(), metadata.len());
        let (last_inode, last_length) = self.last;
        if inode == last_inode {
            self.bytes += length - last_length;
        } else {
            self.bytes += length;
            self.compactions += 1;
        }
        self.last = (inode, length);
    }
}

#[test]
fn four_thousand_restarts_of_one_run_write_a_few_megabytes() {
    const CHATS: usize = 4_000;
    let scene = Scene::new();
    let chats: Vec<String> = (0..CHATS).map(|number| format!("+1617555{number:04}")).collect();
    let entries: Vec<String> = chats.iter().map(|chat| format!("\"{chat}\": {{\"model\": \"opus\"}}")).collect();
    fs::write(scene.path(), format!("{{{}}}", entries.join(",\n"))).unwrap();
    let files = locked(&scene.path());
    let reading = reading(&scene.path());
    let (opus, haiku) = (Model::new("opus").unwrap(), Model::new("haiku").unwrap());
    let owes = Some(Owes { ran: Some(&opus), identity: None, planned_on: PlannedOn::NoDebt });
    let mut places = Vec::new();
    reading.snapshot.each(&mut |entry| places.push(entry.at)).unwrap();
    let change = |(chat, at)| Change { chat, at, after: Some(&haiku), owes };
    let changes = chats.iter().map(String::as_str).zip(places).map(change).collect();
    let batch = Batch { changes, notes: Vec::new(), void: Vec::new(), now: NOW };
    let done = files.commit(&reading, &batch, &|_| Ok(Proceed::Yes)).unwrap();
    assert!(matches!(done, Committed::Done { error: None }), "{done:?}");
    assert_eq!(scene.owed().len(), CHATS);

    let journal = scene.state().join(JOURNAL);
    let mut counted = Counted { journal: &journal, last: (0, 0), bytes: 0, compactions: 0 };
    counted.look();
    for chat in &chats {
        files.note(&[Note::Begun { chat, begin: Begin::Owed }], NOW).unwrap();
        counted.look();
        files.note(&[Note::Settled { chat }], NOW).unwrap();
        counted.look();
    }
    let confirmed: Vec<Note> = chats.iter().map(|chat| Note::Confirmed { chat, model: &haiku }).collect();
    files.note(&confirmed, NOW).unwrap();
    counted.look();
    assert!(counted.bytes <= 4 << 20, "{} bytes in {} compactions", counted.bytes, counted.compactions);
    assert_eq!((scene.owed().len(), scene.kept().ledger.corrected.len()), (0, CHATS));
}

#[test]
fn where_a_journal_is_nothing_else_is_the_ledger() {
    for old in [&b"junk"[..], b"", b"\xff", br#"{"version": 1, "owed": {"+2": 7}}"#, br#"{"version": 9}"#] {
        let sandbox = with_journal();
        write_state(&sandbox.path("sessions.json.reconcile"), "owed.json", old);
        assert_eq!(sandbox.ledger()["owed"].as_object().unwrap().len(), 1);
        assert!(sandbox.run(&["owed"]).expect(0).stdout.contains("+1"));
        sandbox.run(&["--dry-run", "--retry", "+1"]).expect(0);
        sandbox.run(&["--retry", "+1"]).expect(0);
        assert_eq!(sandbox.calls(), ["imessage-_1"]);
        // The first run that takes the lock puts it right.
        let left: Value = serde_json::from_str(&sandbox.read("sessions.json.reconcile/owed.json")).unwrap();
        assert_eq!(left, json!({ "version": 2, "moved_to": JOURNAL }));
    }
}

#[test]
fn a_backend_looks_for_its_notes_in_the_old_file_only_where_there_is_no_journal() {
    for old in ["junk", "{\"version\": 2, \"moved_to\": \"ledger.journal\"}\n"] {
        let sandbox = crate::dispatch::sandbox();
        let state = sandbox.path("sessions.json.reconcile");
        write_ledger(&state, json!({}));
        write_state(&state, "owed.json", old);
        sandbox.run(&["--dry-run"]).expect(0);
        fs::remove_file(state.join(JOURNAL)).unwrap();
        sandbox.run(&["--dry-run"]).expect(1);
    }
}

#[test]
fn where_the_journal_is_gone_nothing_is_taken_for_no_debts() {
    let sandbox = with_journal();
    fs::remove_file(sandbox.path("sessions.json.reconcile").join(JOURNAL)).unwrap();
    let all = [&["--dry-run"][..], &[], &["owed"], &["explain", "+1"], &["launch", "+1", "--", "true"]];
    for arguments in all {
        let run = sandbox.run(arguments).expect(1);
        assert!(run.stderr.contains("ledger.journal is missing") && run.stderr.contains("hint: "), "{run:#?}");
    }
    assert_eq!(sandbox.calls(), [""; 0]);
}

#[test]
fn version_0_1_does_not_take_the_absence_of_its_file_for_no_debts() {
    // It knows the form 1 alone, and takes a missing file for a ledger without debts.
    let form = |sandbox: &Sandbox| -> Value {
        let text = sandbox.read("sessions.json.reconcile/owed.json");
        serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"))["version"].clone()
    };
    let sandbox = drifted();
    sandbox.run(&[]).expect(0);
    assert_eq!(form(&sandbox), 2, "a directory that this version has made");

    let sandbox = drifted();
    let mut old = owes(["+2"]);
    old["version"] = 1.into();
    write_state(&sandbox.path("sessions.json.reconcile"), "owed.json", old.to_string());
    for arguments in [&["--dry-run"][..], &["owed"], &["check"], &["explain", "+2"]] {
        sandbox.run(arguments).expect(0);
        assert_eq!(form(&sandbox), 1, "what only looks moves nothing");
    }
    sandbox.run(&["--chat", "+1"]).expect(0);
    assert_eq!(form(&sandbox), 2, "a directory that was moved");
    assert!(sandbox.run(&["owed"]).expect(0).stdout.contains("+2"));
}
