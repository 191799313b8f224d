//! Which placeholders may stand where in a command: the one rule for every command there is.
//!
//! What fills a placeholder comes from a registry, and people in a chat have a say in that. No list of programs tells where
//! such text would be run as code: shells, interpreters, editors, databases and supervisors all do that. So an argument
//! holds only what consists of harmless characters, the slug and the model. All else is in the environment, which no
//! program runs.

use crate::policy::placeholder::Placeholder;
use crate::suggest;

/// Which placeholders the arguments of a command may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The slug and the model, as whole arguments or beside plain text: a command of a policy.
    Plain,
    /// Everything, anywhere: a command of a policy with `names_in_arguments`.
    Names,
    /// What [`Scope::Plain`] allows, and ids as whole arguments: the command of a launch, which the host's operator types.
    Launch,
}

/// What stands beside a placeholder in its argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    Nothing,
    /// `A-Z a-z 0-9 @ . _ / : = -`.
    Plain,
    Special,
}

impl Beside {
    /// What stands around all placeholders of an argument that is more than one placeholder.
    pub(super) fn of<'t>(mut texts: impl Iterator<Item = &'t str>) -> Self {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@._/:=-".contains(&byte);
        if texts.all(|text| text.bytes().all(is_plain)) { Self::Plain } else { Self::Special }
    }
}

/// Why a placeholder must not stand where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misplaced {
    /// It is in the program's name.
    Program,
    /// It is in an argument, and holds text that others choose.
    Argument,
    /// It has other text beside it, and may only be a whole argument.
    BesideText,
    /// The text beside it is not plain.
    BesideSpecial,
}

impl Scope {
    /// What is wrong with a placeholder in an argument, if anything.
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

    /// Everything that its commands are told of a session, in an argument or in the environment.
    pub(super) fn placeholders(self) -> impl Iterator<Item = Placeholder> + Clone {
        let ids = [Placeholder::ResumeId, Placeholder::NewSessionId, Placeholder::SessionId];
        let ids = ids.into_iter().filter(move |_| self == Self::Launch);
        Placeholder::COMMON.into_iter().chain(ids)
    }

    /// The placeholder of this name.
    pub(super) fn placeholder(self, name: &str) -> Option<Placeholder> {
        self.placeholders().find(|placeholder| placeholder.name() == name)
    }

    /// Advice on a word in braces that is no placeholder.
    pub(super) fn advice(self, word: &str) -> String {
        let is_allowed = |placeholder: &Placeholder| self.refuses(*placeholder, Beside::Nothing).is_none();
        let nearest = suggest::nearest(word, self.placeholders().map(Placeholder::name));
        match nearest.and_then(|near| self.placeholder(&near)) {
            Some(near) if !is_allowed(&near) => format!("did you mean `{}`? {}", near.name(), read_instead(near)),
            _ => suggest::advice(word, self.placeholders().filter(is_allowed).map(Placeholder::name)),
        }
    }
}

/// What is told of a placeholder that cannot be used.
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

fn read_instead(placeholder: Placeholder) -> String {
    format!("let the command read {} from its environment", placeholder.variable())
}
