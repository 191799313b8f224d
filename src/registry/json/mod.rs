//! Registries in the form of JSON: an object that maps chat ids to entries. They are read in one pass, and edited without loss.

pub mod edit;
mod fast;
mod fields;
mod object;
pub(crate) mod raw;
pub mod scan;
mod text;
mod windows;

use crate::chat::Model;
use crate::error::{Error, Result};
use crate::registry::{Counts, Entry, Make, Position, Snapshot};
use crate::splice::{Hunks, Splice};

pub use object::key_of_sessions;
pub use text::JsonText;
pub(crate) use windows::changes as changes_while_read;
pub use windows::{Bytes, JsonWindows};

impl Snapshot for JsonText {
    fn name(&self) -> &str {
        &self.name
    }

    fn each(&self, take: &mut dyn FnMut(Entry<'_>)) -> Result<Counts> {
        let sessions = scan::scan(self, take).map_err(Error::Invalid)?;
        Ok(Counts { sessions, selected: None })
    }

    fn in_parts(&self, make: Make<'_>) -> Result<Counts> {
        let sessions = scan::scan_parts(self, self.threads, make).map_err(Error::Invalid)?;
        Ok(Counts { sessions, selected: None })
    }

    fn preview(&self, edits: &[(Position, &Model)]) -> Result<Option<Hunks<'_>>> {
        let text = self.text();
        let set = |(at, model): &(Position, &Model)| edit::set_model(text, &self.form, *at, Some(model));
        let mut splices: Vec<Splice> = edits.iter().filter_map(set).collect();
        // Edits come in the order of chat ids.
        splices.sort_by_key(|splice| splice.range.start);
        Ok(Some(Hunks::new(text, splices)))
    }
}
