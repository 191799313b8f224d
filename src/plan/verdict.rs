//! The outcome of a row, in a word.

/// The outcome of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has yet to be done. In a dry run, an apply would do it.
    Planned,
    /// It was done.
    Done,
    /// It was left to a later run.
    Deferred,
    /// It must not be done.
    Refused,
    /// It was tried and did not work.
    Failed,
    /// It was tried with an unknown result.
    Unknown,
    /// It was left alone because something changes it back again and again.
    Held,
    /// The policy or the backend leaves this chat alone.
    Unmanaged,
}

impl Verdict {
    /// Whether something was done for the row, or tried.
    pub fn was_tried(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Unknown)
    }

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Done => "done",
            Self::Deferred => "deferred",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Held => "held",
            Self::Unmanaged => "unmanaged",
        }
    }
}
