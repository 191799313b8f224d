//! Which placeholders the arguments of a command may have. All commands follow this one rule.
//!
//! The values of placeholders come from a registry, where people in a chat choose some of them. It cannot be known which programs
//! would run such text as code: shells, interpreters, editors, databases and supervisors do. So an argument may have only the slug
//! and the model, which consist of harmless characters. All other values are in the environment, which no program runs.

use crate::policy::placeholder::Placeholder;
use crate::suggest;

/// Which placeholders the arguments of a command may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The slug and the model, as whole arguments or next to plain text: a command of a policy.
    Plain,
    /// All placeholders, in any argument: a command of a policy with `names_in_arguments = true`.
    Names,
    /// The slug and the model as in [`Scope::Plain`], and ids as whole arguments: the command of a launch, which the operator of the
    /// host writes.
    Launch,
}

/// The text next to the placeholders of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// None: the argument is one placeholder.
    Nothing,
    /// Only characters of `A-Z a-z 0-9 @ . _ / : = -`.
    Plain,
    /// Other characters, which a program may read as part of some code.
    Special,
}

impl Beside {
    /// Which kind of text this is, given the parts of an argument around its placeholders.
    pub(super) fn of<'t>(mut texts: impl Iterator<Item = &'t str>) -> Self {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@._/:=-".contains(&byte);
        if texts.all(|text| text.bytes().all(is_plain)) { Self::Plain } else { Self::Special }
    }
}

/// Why a placeholder is not allowed where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misplaced {
    /// It is in the program's name.
    Program,
    /// It is in an argument, and its value is text that people in a chat choose.
    Argument,
    /// It has text next to it, and is only allowed as a whole argument.
    BesideText,
    /// The text next to it is not plain.
    BesideSpecial,
}

impl Scope {
    /// Why a placeholder is not allowed in an argument with this text beside it; `None` where it is.
    pub(super) fn refuses(self, placeholder: Placeholder, beside: Beside) -> Option<Misplaced> {
        use Placeholder::{
            ChatId, ContactName, Model, NewSessionId, ResumeId, SessionId, SessionName, SessionSlug, Source, Tier, Type,
        };
        match (self, placeholder) {
            (Self::Names, _) => None,
            (_, SessionSlug | Model) => (beside == Beside::Special).then_some(Misplaced::BesideSpecial),
            (Self::Launch, ChatId | SessionName | ResumeId | NewSessionId | SessionId) => {
                (beside != Beside::Nothing).then_some(Misplaced::BesideText)
            }
            (_, ChatId | SessionName | ResumeId | NewSessionId | SessionId | ContactName | Tier | Type | Source) => {
                Some(Misplaced::Argument)
            }
        }
    }

    /// The placeholders that have a value for its commands, in arguments or in the environment.
    pub(super) fn placeholders(self) -> impl Iterator<Item = Placeholder> + Clone {
        let ids = [Placeholder::ResumeId, Placeholder::NewSessionId, Placeholder::SessionId];
        let ids = ids.into_iter().filter(move |_| self == Self::Launch);
        Placeholder::COMMON.into_iter().chain(ids)
    }

    /// The placeholder of this name.
    pub(super) fn placeholder(self, name: &str) -> Option<Placeholder> {
        self.placeholders().find(|placeholder| placeholder.name() == name)
    }

    /// A hint for a word in braces that is not a placeholder.
    pub(super) fn advice(self, word: &str) -> String {
        let is_allowed = |placeholder: &Placeholder| self.refuses(*placeholder, Beside::Nothing).is_none();
        let nearest = suggest::nearest(word, self.placeholders().map(Placeholder::name));
        match nearest.and_then(|near| self.placeholder(&near)) {
            Some(near) if !is_allowed(&near) => format!("did you mean `{}`? {}", near.name(), read_instead(near)),
            _ => suggest::advice(word, self.placeholders().filter(is_allowed).map(Placeholder::name)),
        }
    }
}

/// The message about a placeholder that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

impl Misplaced {
    pub(super) fn complaint(self, placeholder: Placeholder) -> Complaint {
        let (name, instead) = (placeholder.name(), read_instead(placeholder));
        match self {
            Self::Program => Complaint {
                message: "a placeholder in the program's name would let a chat's fields choose what runs".to_owned(),
                help: format!("name the program, and {instead}"),
            },
            Self::Argument => Complaint {
                message: format!("`{{{name}}}` is not allowed in an argument, where a program could run it as code"),
                help: instead,
            },
            Self::BesideText => Complaint {
                message: format!("`{{{name}}}` is allowed only as an argument of its own"),
                help: format!("make it a separate argument, or {instead}"),
            },
            Self::BesideSpecial => Complaint {
                message: format!("`{{{name}}}` is next to characters that a program could run as code"),
                help: format!(
                    "make it a separate argument, put only A-Z a-z 0-9 @ . _ / : = - next to it, or {instead}"
                ),
            },
        }
    }
}

/// The hint to read a value from the environment instead.
fn read_instead(placeholder: Placeholder) -> String {
    format!("let the command read {} from its environment", placeholder.variable())
}
