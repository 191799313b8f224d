//! Finds the object of sessions in the text of a registry, and makes the diagnostics where there is none.

use crate::diagnostic::{Diagnostic, Place};
use crate::form::Shape;
use crate::registry::json::fields::Member;
use crate::registry::json::raw::{decoded, members, range_in};
use crate::registry::json::text::JsonText;
use crate::suggest;

/// The code of the diagnostic that the sessions are one level deeper.
pub(super) const DEEPER: &str = "sessions-deeper";

pub(super) const NOTHING_WRITTEN: &str = "fix or restore the file; nothing was written";

/// The object whose members are the entries.
///
/// # Errors
/// Where the text is not JSON, or `registry.key` is not the key of an object in it.
pub(super) fn find(json: &JsonText) -> Result<&str, Diagnostic> {
    let text = json.text();
    let Some(wanted) = json.form.key.as_deref() else { return Ok(text) };
    let (mut found, mut again) = (None, None);
    members(text, |key, value| {
        if decoded(key) == wanted {
            again = found.replace((key, value)).map(|(first, _): (&str, &str)| (first, key));
        }
        again.is_none()
    })
    .or_else(|error| again.map(drop).ok_or_else(|| malformed(json, &error)))?;
    let place = |part: &str| json.place(range_in(text, part));
    if let Some((first, key)) = again {
        let message = format!("the registry has {wanted:?} twice");
        return Err(Diagnostic::error("duplicate-field", message, place(key), "again here")
            .and(place(first), "first here")
            .help("only one of them can hold the sessions: remove the other; nothing was written"));
    }
    match found {
        Some((_, value)) if value.starts_with('{') => Ok(value),
        Some((_, value)) => {
            let message = format!("{wanted:?} is not an object");
            let label = "registry.key names the object that maps chat ids to entries";
            Err(Diagnostic::error("not-an-object", message, place(value), label).help(NOTHING_WRITTEN))
        }
        None => Err(missing(json, wanted)),
    }
}

fn missing(json: &JsonText, wanted: &str) -> Diagnostic {
    let text = json.text();
    let mut nearest = suggest::Nearest::to(wanted);
    // It parsed a moment ago.
    let _ = members(text, |key, _| {
        nearest.look_at(&decoded(key));
        true
    });
    let advice = nearest
        .found()
        .map_or("fix registry.key in the policy".to_owned(), |near| format!("did you mean registry.key = {near:?}?"));
    let message = format!("the registry has no {wanted:?}");
    let label = "registry.key names the object that maps chat ids to entries";
    Diagnostic::error("missing-key", message, json.first_brace(), label).help(format!("{advice}; nothing was written"))
}

/// The diagnostic for a registry in which no entry has a field of a session; `None` where such a registry is allowed.
/// `object` must be well-formed and have members.
pub(super) fn not_sessions(json: &JsonText, object: &str) -> Option<Diagnostic> {
    let text = json.text();
    if json.form.key.is_none()
        && let Some((key, name)) = one_level_deeper(text)
    {
        let message = format!("the sessions are one level deeper, in {name:?}");
        return Some(
            Diagnostic::error(DEEPER, message, json.place(range_in(text, key)), "")
                .help(format!("set registry.key = {name:?} in the policy; nothing was written")),
        );
    }
    let start = range_in(text, object.trim_ascii_start()).start;
    let message = "the file does not look like a registry of sessions";
    let label = "no entry has a field of a session besides `model`, such as tier, source or session_name";
    (json.form.shape == Shape::Sessions).then(|| {
        Diagnostic::error("not-a-registry", message, json.place(start..start + 1), label).help(
            "check registry.path; if these are sessions, set registry.shape = \"any\" in the policy; nothing was \
             written",
        )
    })
}

/// The key of the member that seems to have the sessions; `None` where the sessions are at the top, or there are none.
pub fn key_of_sessions(text: &str) -> Option<String> {
    let at_the_top = holds_sessions(text.trim_ascii());
    one_level_deeper(text).filter(|_| !at_the_top).map(|(_, key)| key)
}

/// The raw key and the decoded key of the first member that has only objects, one of them with a field of a session.
fn one_level_deeper(text: &str) -> Option<(&str, String)> {
    let mut found = None;
    // The walk ends with an error where it was stopped.
    let _ = members(text, |key, value| {
        if holds_sessions(value) {
            found = Some((key, decoded(key).into_owned()));
        }
        found.is_none()
    });
    found
}

fn holds_sessions(object: &str) -> bool {
    if !object.starts_with('{') {
        return false;
    }
    let mut has_session = false;
    let walked = members(object, |_, entry| {
        has_session |= is_session(entry);
        entry.starts_with('{')
    });
    walked.is_ok() && has_session
}

fn is_session(entry: &str) -> bool {
    let mut is_session = false;
    // The walk ends with an error where it was stopped, or the entry is no object.
    let _ = members(entry, |key, _| {
        is_session = Member::named(&decoded(key)).is_of_sessions();
        !is_session
    });
    is_session
}

/// The diagnostic for a text that is not one JSON object.
pub(super) fn malformed(json: &JsonText, error: &serde_json::Error) -> Diagnostic {
    let text = json.text();
    if text.trim_ascii().is_empty() {
        return Diagnostic::error("registry-empty", "the registry is empty", json.place(0..0), "")
            .help("a registry of no sessions is `{}`; an empty file is what a failed write leaves: restore it");
    }
    if error.is_data() {
        return Diagnostic::error(
            "malformed",
            "the registry is not a JSON object",
            json.first_brace(),
            "it maps chat ids to entries",
        )
        .help(NOTHING_WRITTEN);
    }
    let full = error.to_string();
    let message = full.find(" at line ").map_or(full.as_str(), |end| &full[..end]);
    let place = Place::at_line(&json.name, text, error.line(), error.column());
    let help = match text.as_bytes() {
        [0xEF, 0xBB, 0xBF, ..] => "the file begins with a byte order mark: remove it",
        _ if error.is_eof() => "the file ends too early: it may have been cut off; restore it; nothing was written",
        _ => NOTHING_WRITTEN,
    };
    Diagnostic::error("malformed", format!("the registry is malformed: {message}"), place, "").help(help)
}
