//! The registry as JSON: one object, chat id → entry. Read in one pass, edited without loss.

pub mod edit;
mod fast;
mod fields;
pub(crate) mod raw;
pub mod scan;
mod text;

use crate::chat::Model;
use crate::error::Result;
use crate::registry::{Counts, Entry, Make, Position, Snapshot};
use crate::splice::{Hunks, Splice};

pub(crate) use text::changes_while_read;
pub use text::{JsonText, Text};

impl Snapshot for JsonText {
    fn name(&self) -> &str {
        &self.name
    }

    fn each<'a>(&'a self, take: &mut dyn FnMut(Entry<'a>)) -> Result<Counts> {
        let sessions = self.unless_changed(scan::scan(self, take))?;
        Ok(Counts { sessions, selected: None })
    }

    fn in_parts<'a>(&'a self, make: Make<'_, 'a>) -> Result<Counts> {
        let sessions = self.unless_changed(scan::scan_parts(self, self.threads, make))?;
        Ok(Counts { sessions, selected: None })
    }

    fn preview(&self, edits: &[(Position, &Model)]) -> Option<Hunks<'_>> {
        let text = self.text();
        let set = |(at, model): &(Position, &Model)| edit::set_model(text, *at, Some(model));
        let mut splices: Vec<Splice> = edits.iter().filter_map(set).collect();
        // Edits come in the order of chat ids.
        splices.sort_by_key(|splice| splice.range.start);
        Some(Hunks::new(text, splices))
    }
}
