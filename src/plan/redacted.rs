//! A plan whose chats have pseudonyms, for eyes that may see what changes and not whose chats they are.

use crate::plan::{Outcome, Plan, Row, id};
use crate::redact::Redaction;

impl Plan {
    /// The same plan under pseudonyms, sorted and identified by them: what a plan made for a redacted registry shows.
    /// What others wrote, such as reasons and complaints of commands, is left out.
    #[must_use]
    pub fn redacted(&self, redaction: &Redaction) -> Self {
        let mut rows: Vec<Row> = self.rows.iter().map(|row| redacted(row, redaction)).collect();
        rows.sort_by(|a, b| a.chat.id.cmp(&b.chat.id));
        let cancelled = self.cancelled.iter().map(|(chat, why)| (redaction.chat(chat), *why));
        Self { id: id(&rows), rows, cancelled: cancelled.collect(), ..self.clone() }
    }
}

fn redacted(row: &Row, redaction: &Redaction) -> Row {
    let mut row = row.clone();
    if row.because.rule.starts_with("chats.") {
        row.because.rule = format!("chats.{:?}", redaction.chat(&row.chat.id));
    }
    row.outcome = Outcome::plain(row.outcome.verdict);
    row.chat = row.chat.redacted(redaction);
    row
}
