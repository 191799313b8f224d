//! Errors of plans.

use crate::error::{Explain, Explanation};
use crate::foreign::{Foreign, Sentence, sentence};

const HOW_TO_NAME: &str = "pass a chat id, a session name or a contact's name";
const WRITE_A_PLAN: &str = "write one with: reconcile --dry-run --output json=FILE";

/// Why a selection or an expected plan cannot be used.
#[derive(Debug)]
pub(crate) enum PlanProblem {
    /// Neither the policy nor a session has the tier.
    UnknownTier { tier: Foreign, advice: Foreign },
    /// No chat has the id or the name.
    UnknownChat { word: Foreign, registry: Foreign, near: Option<Foreign> },
    /// Several chats have the name.
    AmbiguousChat { word: Foreign, chats: Vec<Foreign> },
    /// A file is no report.
    NotAReport { file: Foreign, why: Foreign },
    /// A report does not fit its plan id.
    ReportChanged { file: Foreign },
    /// The registry was asked which entries differ, and says something else of one than the policy.
    Disputed { registry: Foreign, chat: Foreign },
}

impl Explain for PlanProblem {
    fn explain(&self) -> Explanation {
        match self {
            Self::UnknownTier { tier, advice } => {
                Explanation::new("unknown-tier", sentence!("neither the registry nor the policy has the tier {}", tier))
                    .hint(advice)
                    .nameless_hint("run reconcile list: it shows the tier of every chat")
            }
            Self::UnknownChat { word, registry, near } => {
                let hint = match near {
                    Some(near) => sentence!("did you mean {}?", near),
                    None => HOW_TO_NAME.into(),
                };
                Explanation::new("unknown-chat", sentence!("no chat {} in {}", word, registry))
                    .hint(hint)
                    .nameless_hint(HOW_TO_NAME)
            }
            Self::AmbiguousChat { word, chats } => {
                let ids = Sentence::joined(chats.iter().map(Sentence::from), ", ");
                Explanation::new("ambiguous-chat", sentence!("{} is the name of {} chats", word, chats.len()))
                    .hint(sentence!("pass the chat id: {}", ids))
                    .nameless_hint("pass the chat id, which only one chat has")
            }
            Self::NotAReport { file, why } => {
                Explanation::new("not-a-report", sentence!("{} is not the report of a dry run: {}", file, why))
                    .hint(WRITE_A_PLAN)
            }
            Self::Disputed { registry, chat } => {
                let message = sentence!("{} and this program do not agree on whether chat {} differs", registry, chat);
                Explanation::new("disputed", message).hint(
                    "nothing was changed: look whether a function of a view gives another answer each time, and report \
                     this as a mistake of reconcile if none does",
                )
            }
            Self::ReportChanged { file } => {
                let message = sentence!("{} was edited: its rows do not match its plan id", file);
                Explanation::new("report-changed", message)
                    .hint(sentence!("a plan is applied as it is or not at all; {}", WRITE_A_PLAN))
            }
        }
    }
}
