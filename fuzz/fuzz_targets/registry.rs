//! The registry readers against `serde_json` as oracle and against each other, and edits against the reader.

#![no_main]

use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use reconcile::chat::Model;
use reconcile::registry::json::edit::{Splice, splice, spliced};
use reconcile::registry::{Snapshot, Stamp, scan, scan_fast, scan_into, scan_slowly};
use reconcile::report::diagnostics::render;
use serde_json::Value;

fn snapshot(text: &str) -> Snapshot {
    Snapshot::new("registry".to_owned(), PathBuf::new(), Stamp::default(), text.as_bytes().to_vec())
        .expect("a string is UTF-8")
}

/// What the fast reader accepts, the slow one accepts, and finds the same; in parts or not.
fn readers_agree(snapshot: Snapshot) {
    let (mut fast, mut slow, mut either) = (Vec::new(), Vec::new(), Vec::new());
    let accepted = scan_fast(&snapshot, |entry| fast.push(entry));
    let wanted = scan_slowly(&snapshot, |entry| slow.push(entry));
    if accepted.is_some() {
        assert_eq!(accepted, wanted.as_ref().ok().copied());
        assert_eq!(fast, slow);
    }
    assert_eq!(scan(&snapshot, |entry| either.push(entry)), wanted);
    let parts = scan_into(&snapshot, Vec::new, Vec::push);
    assert_eq!(parts.as_ref().map(|(sessions, _)| *sessions), wanted.as_ref().copied());
    if let Ok((_, parts)) = parts {
        assert_eq!(either, slow);
        assert_eq!(parts.concat(), slow);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let read = Snapshot::new("registry".to_owned(), PathBuf::new(), Stamp::default(), bytes.to_vec());
    let Ok(snapshot_read) = read else {
        assert!(std::str::from_utf8(bytes).is_err());
        return;
    };
    readers_agree(snapshot_read.clone().read_by(3));
    let text = snapshot_read.text();
    let oracle: Option<Value> = serde_json::from_str(text).ok();
    let haiku = Model::new("haiku").expect("a name");
    let mut splices: Vec<Splice> = Vec::new();
    let mut models = Vec::new();
    let scanned = scan(&snapshot_read, |entry| {
        splices.push(splice(&snapshot_read, &entry.site, &haiku));
        models.push((entry.chat.id.into_owned(), entry.model.map(|model| model.into_owned())));
    });
    match scanned {
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            let _ = render(&mistakes);
            let malformed = mistakes.iter().any(|found| matches!(found.code, "malformed" | "registry-empty"));
            // Where JSON itself is fine, something must be wrong with what it says.
            assert!(!(malformed && oracle.as_ref().is_some_and(Value::is_object)), "{mistakes:?}");
        }
        Ok(sessions) => {
            assert_eq!(sessions, models.len());
            if let Some(Value::Object(entries)) = &oracle {
                assert_eq!(entries.len(), sessions);
                for (chat, model) in &models {
                    let expected = entries[chat]["model"].as_str().filter(|model| !model.is_empty());
                    assert_eq!(expected, model.as_deref());
                }
            }
            // An edit says what it should, and undone it is what was there.
            let edited: String = spliced(text, &splices).collect();
            let again = snapshot(&edited);
            let mut count = 0;
            scan(&again, |entry| {
                assert_eq!(entry.model.as_deref(), Some("haiku"));
                count += 1;
            })
            .expect("an edit keeps the registry valid");
            assert_eq!(count, sessions);
            let mut shift = 0_isize;
            let mut undo = Vec::new();
            for splice in &splices {
                let start = splice.range.start.checked_add_signed(shift).expect("in the text");
                undo.push(Splice { range: start..start + splice.text.len(), text: text[splice.range.clone()].to_owned() });
                shift += splice.text.len() as isize - splice.range.len() as isize;
            }
            assert_eq!(spliced(&edited, &undo).collect::<String>(), text);
        }
    }
});
