//! What became of a row, in a word.

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A run would do it.
    Planned,
    /// It was done.
    Done,
    /// Not now; a later run does it.
    Deferred,
    /// It must not be done.
    Refused,
    /// It was tried, and did not work.
    Failed,
    /// It was tried, and whether it worked cannot be told.
    Unknown,
    /// It does not converge: something else changes it back again and again.
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
