//! Edits of the policy's files that a run begins with. They are made once it is clear that the run is not refused.

use std::cell::Cell;
use std::sync::Arc;

use crate::apply::{self, Backend, Planned};
use crate::cli::terminal::Terminal;
use crate::error::Result;
use crate::file_name::FileName;
use crate::foreign::{counted, sentence};
use crate::plan::PlanInput;
use crate::policy::Source;
use crate::sources::PolicyFile;

/// An edit of one file of the policy.
pub(crate) struct PolicyEdit {
    /// Where the file lies, and what it is called.
    pub(crate) name: Arc<FileName>,
    pub(crate) before: String,
    pub(crate) after: String,
    /// The locked file. `None` in a dry run.
    pub(crate) file: Option<PolicyFile>,
}

/// The edits that a run begins with, and how many of them it has made.
#[derive(Default)]
pub(crate) struct PolicyEdits {
    edits: Vec<PolicyEdit>,
    /// Counts only those that change anything.
    made: Cell<usize>,
}

impl PolicyEdits {
    pub(crate) fn new(edits: Vec<PolicyEdit>) -> Self {
        Self { edits, made: Cell::new(0) }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &PolicyEdit> {
        self.edits.iter()
    }

    /// Whether the policy that was edited in memory is no longer what the files hold.
    pub(crate) fn are_outdated(&self, edited: &[Source], now: &[Source]) -> bool {
        let edit = |source: &Source| self.edits.iter().find(|edit| edit.name == source.name);
        let before = |source| edit(source).map_or(source.text.as_str(), |edit| edit.before.as_str());
        let same = edited.iter().map(|source| (&source.name, before(source)));
        !self.edits.is_empty() && !same.eq(now.iter().map(|source| (&source.name, source.text.as_str())))
    }

    /// Edits the policy, unless a run with it would be refused: then it returns that run's plan. Where the run could not
    /// restart its sessions, that is an error before the edit.
    pub(crate) fn make(&self, input: &PlanInput, backend: &dyn Backend) -> Result<Option<Planned>> {
        if self.changes().next().is_none() {
            return Ok(None);
        }
        let planned = apply::plan(input, backend)?;
        if planned.plan.refused.is_some() {
            return Ok(Some(planned));
        }
        apply::preflight(&planned.plan, backend)?;
        self.check()?;
        for edit in self.changes() {
            let Some(file) = &edit.file else { continue };
            let went_wrong = file.replace(&edit.before, &edit.after)?;
            self.made.set(self.made.get() + 1);
            went_wrong.map_or(Ok(()), Err)?;
        }
        Ok(None)
    }

    /// Looks whether the files can be edited.
    ///
    /// # Errors
    /// Why one of them cannot.
    pub(crate) fn check(&self) -> Result<()> {
        self.changes().try_for_each(|edit| PolicyFile::check_replaceable(edit.name.path()))
    }

    /// Whether a file of the policy was edited.
    pub(crate) fn any_made(&self) -> bool {
        self.made.get() > 0
    }

    /// The files of the policy that were edited.
    pub(crate) fn edited_files(&self) -> impl Iterator<Item = &FileName> {
        self.changes().take(self.made.get()).map(|edit| edit.name.as_ref())
    }

    /// Says that the policy was edited and the run then came to nothing.
    pub(crate) fn tell_alone(&self, terminal: &Terminal) {
        let files = counted(self.made.get(), "file");
        terminal.note(sentence!("{} of the policy edited, nothing else was changed: run reconcile again", files));
    }

    /// The edits that change anything.
    fn changes(&self) -> impl Iterator<Item = &PolicyEdit> {
        self.edits.iter().filter(|edit| edit.before != edit.after)
    }
}
