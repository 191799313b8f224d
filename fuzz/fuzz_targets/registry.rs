//! The registry readers against `serde_json` as oracle and against each other, and edits against the reader.

#![no_main]

use libfuzzer_sys::fuzz_target;
use reconcile::chat::Model;
use reconcile::error::Error;
use reconcile::form::Form;
use reconcile::registry::{Snapshot, collect};
use reconcile::registry::json::JsonText;
use reconcile::registry::json::edit::{set_member, set_model};
use reconcile::registry::json::scan::{scan, scan_fast, scan_slowly};
use reconcile::report::diagnostics::render;
use reconcile::report::shown::Naming;
use reconcile::splice::{Splice, spliced};
use serde_json::Value;

fn json(text: &str) -> JsonText {
    JsonText::new("registry".to_owned(), text.as_bytes().to_vec()).expect("a string is UTF-8")
}

/// What the fast reader accepts, the slow one accepts, and finds the same; in parts or not.
fn readers_agree(json: &JsonText) {
    let (mut fast, mut slow, mut either) = (Vec::new(), Vec::new(), Vec::new());
    let accepted = scan_fast(json, |entry| fast.push(entry));
    let wanted = scan_slowly(json, |entry| slow.push(entry));
    if accepted.is_some() {
        assert_eq!(accepted, wanted.as_ref().ok().copied());
        assert_eq!(fast, slow);
    }
    assert_eq!(scan(json, |entry| either.push(entry)), wanted);
    match collect(|make| json.in_parts(make), Vec::new, |entries, entry| entries.push(entry.into_owned())) {
        Ok((counts, parts)) => {
            assert_eq!(Ok(counts.sessions), wanted);
            assert_eq!(either, slow);
            assert_eq!(parts.concat(), slow);
        }
        Err(Error::Invalid(mistakes)) => assert_eq!(Err(mistakes), wanted),
        Err(other) => panic!("{other}"),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(read) = JsonText::new("registry".to_owned(), bytes.to_vec()) else {
        assert!(std::str::from_utf8(bytes).is_err());
        return;
    };
    readers_agree(&read.clone().read_by(3));
    let text = read.text();
    let oracle: Option<Value> = serde_json::from_str(text).ok();
    let haiku = Model::new("haiku").expect("a name");
    let mut models = Vec::new();
    let mut places = Vec::new();
    let scanned = scan(&read, |entry| {
        places.push(entry.at);
        models.push((entry.chat.id.into_owned(), entry.model.map(|model| model.into_owned())));
    });
    match scanned {
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            let _ = render(&mistakes, Naming::Plain);
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
            let set = |at| set_model(text, &Form::ANY, at, Some(&haiku)).expect("the entry is where it was read");
            let splices: Vec<Splice> = places.iter().copied().map(set).collect();
            let edited: String = spliced(text, &splices).collect();
            let again = json(&edited);
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
                undo.push(Splice {
                    range: start..start + splice.text.len(),
                    text: text[splice.range.clone()].to_owned(),
                });
                shift += splice.text.len() as isize - splice.range.len() as isize;
            }
            assert_eq!(spliced(&edited, &undo).collect::<String>(), text);
            // Taking an added model away again restores the text, but for an entry `{}` at the beginning of a line.
            for at in places
                .into_iter()
                .filter(|at| set_member(text, *at, "model", "").is_none() && !text[..at.0].ends_with('\n'))
            {
                let added: String = spliced(text, &[set(at)]).collect();
                let removal = set_model(&added, &Form::ANY, at, None).expect("it was added");
                assert_eq!(spliced(&added, &[removal]).collect::<String>(), text);
            }
        }
    }
});
