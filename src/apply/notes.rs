//! The notes that a wave adds to the ledger together with its edits.

use crate::plan::ledger::{Begin, Note, Then};
use crate::plan::observed::Edits;
use crate::plan::{Plan, Row, Verdict};

/// The notes for a session that did not come up. It may owe nothing any more, because a launch has settled its debt.
/// The restart counts as begun, so that the session is restarted even if it is found stopped.
pub(super) fn owes_a_start(chat: &str) -> [Note<'_>; 2] {
    [Note::Owes { chat, ran: None, identity: None }, Note::Begun { chat, begin: Begin::Owed }]
}

/// The notes for a row, to be committed with its wave.
pub(super) fn notes_before(row: &Row, edits: Edits) -> Vec<Note<'_>> {
    let chat = row.chat.id.as_ref();
    let mut notes = Vec::new();
    if row.canary {
        notes.extend(row.after.as_ref().map(|model| Note::Trying { chat, model }));
    }
    if edits == Edits::Batch && !row.edit {
        match row.owed {
            None if row.restart => notes.extend(owes_a_start(chat)),
            Some(_) if !row.restart => notes.push(Note::Settled { chat }),
            _ => {}
        }
    }
    notes
}

/// The note that a row's model is about to be written; `None` for a row without an edit.
pub(super) fn wrote(row: &Row) -> Option<Note<'_>> {
    let model = row.after.as_ref().filter(|_| row.edit)?;
    Some(Note::Wrote { chat: row.chat.id.as_ref(), model, before: row.before.as_ref() })
}

/// The note that the registry has a row's model.
pub(super) fn confirmed(row: &Row) -> Option<Note<'_>> {
    row.after.as_ref().map(|model| Note::Confirmed { chat: row.chat.id.as_ref(), model })
}

/// Whether a plan resets the failed start of a row's session. It is not proven that the session runs, so it then owes a start.
pub(super) fn is_forgotten(edits: Edits, reset: &[String], row: &Row) -> bool {
    let is_reset = || reset.iter().any(|chat| *chat == row.chat.id);
    edits == Edits::Batch && row.did_not_come_up && row.owed.is_none() && is_reset()
}

/// The notes of a whole plan, which stay also where its edits fail.
pub(super) fn notes_beside_edits(plan: &Plan) -> Vec<Note<'_>> {
    let mut notes = Vec::new();
    for row in plan.rows.iter().filter(|row| !row.changed_back.is_empty()) {
        let then = if row.outcome.verdict == Verdict::Held { Then::Held } else { Then::Corrected };
        notes.push(Note::ChangedBack { chat: row.chat.id.as_ref(), then });
    }
    let forgotten = plan.rows.iter().filter(|row| is_forgotten(plan.edits, &plan.reset, row));
    notes.extend(forgotten.flat_map(|row| owes_a_start(&row.chat.id)));
    notes.extend(plan.reset.iter().map(|chat| Note::Reset { chat }));
    notes.extend(plan.working.iter().map(|(model, chat)| Note::Worked { chat, model }));
    notes
}
