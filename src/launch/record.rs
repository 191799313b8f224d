//! What is to be written to the registry when a session reports the id of its conversation.

use crate::error::Result;
use crate::launch::choice::Register;
use crate::launch::problem::LaunchProblem;
use crate::launch::seen::look_for;
use crate::launch::{Registration, SESSION_ID, told};
use crate::policy::{At, Because};
use crate::registry::Snapshot;
use crate::resolve::Current;

/// The registration that makes a session resume the conversation with this id at its next start. `word` is the id of the session's chat
/// or the session's name.
///
/// # Errors
/// What is wrong with the registry; a word that no session has, or several.
pub(crate) fn record(snapshot: &dyn Snapshot, word: &str, id: &str) -> Result<Registration> {
    let Some(entry) = look_for(snapshot, word, None)?.entry else {
        return Err(LaunchProblem::NotRegistered { word: word.into(), registry: snapshot.name().into() }.into());
    };
    let is_recorded = entry.resume.as_deref() == Some(id);
    let fields = if is_recorded { Vec::new() } else { vec![(SESSION_ID, id.to_owned())] };
    // This row never gets into the history, because no model is changed and no restart is paid.
    let because = Because { rule: "record-session".to_owned(), at: At::elsewhere("command line") };
    let told = told(&because, &entry.chat, Current::default(), None, Register::Nothing);
    Ok(Registration { entry: Some(entry.at), chat: entry.chat, fields, model: None, remembers: None, told })
}
