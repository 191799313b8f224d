//! Command lines with placeholders, such as `["supervisorctl", "restart", "{session_slug}"]`.
//!
//! The command of a launch has one more, `{resume_id}`. Where there is nothing to resume, an argument with it is left out,
//! and so is the option right before an argument that is nothing else: of `claude --model {model} --resume {resume_id}`
//! remains `claude --model opus`.
//!
//! What fills a placeholder comes from a registry that anybody who can write to a chat may have a say in. So it never
//! meets a shell that the command line shows, never becomes an option, and carries no control characters into an argument.

use std::borrow::Cow;
use std::ops::Range;

use crate::chat::{Chat, Model};
use crate::policy::scripts::Scripts;

/// What can stand in braces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    ChatId,
    SessionName,
    SessionSlug,
    ContactName,
    Tier,
    Type,
    Source,
    Model,
}

/// Every placeholder, as a policy spells it and as the environment does.
const PLACEHOLDERS: [(&str, &str, Placeholder); 8] = [
    ("chat_id", "RECONCILE_CHAT_ID", Placeholder::ChatId),
    ("session_name", "RECONCILE_SESSION_NAME", Placeholder::SessionName),
    (SLUG, "RECONCILE_SESSION_SLUG", Placeholder::SessionSlug),
    ("contact_name", "RECONCILE_CONTACT_NAME", Placeholder::ContactName),
    ("tier", "RECONCILE_TIER", Placeholder::Tier),
    ("type", "RECONCILE_TYPE", Placeholder::Type),
    ("source", "RECONCILE_SOURCE", Placeholder::Source),
    ("model", "RECONCILE_MODEL", Placeholder::Model),
];

/// What only the command of a launch can have in braces, and its variable in the environment.
const RESUME: (&str, &str) = ("resume_id", "RECONCILE_RESUME_ID");

impl Placeholder {
    fn value(self, chat: &Chat, model: &Model) -> Option<String> {
        let text = |field: &Option<_>| field.as_deref().map(str::to_owned);
        match self {
            Self::ChatId => Some(chat.id.clone().into_owned()),
            Self::SessionName => text(&chat.session_name),
            Self::SessionSlug => chat.slug(),
            Self::ContactName => text(&chat.contact_name),
            Self::Tier => text(&chat.tier),
            Self::Type => text(&chat.kind),
            Self::Source => text(&chat.source),
            Self::Model => Some(model.as_str().to_owned()),
        }
    }
}

/// Part of an argument.
#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Fill(Placeholder),
    Resume,
}

/// A program and its arguments, with placeholders still open.
#[derive(Clone, Debug)]
pub struct CommandLine {
    arguments: Vec<Vec<Piece>>,
}

/// Why an argument is no template. The range is of bytes in the argument.
#[derive(Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A placeholder of that name does not exist.
    Unknown(String, Range<usize>),
    /// A placeholder stands where a chat's fields could run commands.
    Misplaced(Misplaced, Range<usize>),
}

/// Where no placeholder may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misplaced {
    /// In what a shell reads.
    Script,
    /// Where a terminal multiplexer would type it, or run what stands in it as `#(…)`.
    Multiplexer,
    /// In the program's name.
    Program,
}

impl Misplaced {
    /// What is wrong, and what to do about it.
    pub fn words(self) -> [&'static str; 2] {
        match self {
            Self::Script => [
                "a placeholder in a shell's script would let a chat's fields run commands",
                "give it to a program on this host as an argument of its own, or let the script read it from the environment, as in \"$RECONCILE_MODEL\"",
            ],
            Self::Multiplexer => [
                "tmux and screen run or type what they are given, so a placeholder there would let a chat's fields run commands",
                "name the window by {session_slug}, which holds nothing that they could run, or let a script of yours call them",
            ],
            Self::Program => [
                "a placeholder in the program's name would let a chat's fields choose what runs",
                "name the program, and give it the placeholder as an argument",
            ],
        }
    }
}

/// What can only be `[A-Za-z0-9_-]`.
const SLUG: &str = "session_slug";

/// The names that may stand in braces.
pub fn placeholder_names() -> impl Iterator<Item = &'static str> + Clone {
    PLACEHOLDERS.iter().map(|(name, ..)| *name)
}

/// What a command finds in its environment: `RECONCILE_CHAT_ID` and so on. Absent fields are empty.
pub fn environment(chat: &Chat, model: &Model) -> impl Iterator<Item = (&'static str, String)> {
    PLACEHOLDERS
        .iter()
        .map(|(_, variable, placeholder)| (*variable, placeholder.value(chat, model).unwrap_or_default()))
}

/// What the command of a launch finds in its environment besides.
pub fn resume_environment(resume: Option<&str>) -> (&'static str, String) {
    (RESUME.1, resume.unwrap_or_default().to_owned())
}

impl CommandLine {
    /// Parses the arguments of a policy's command; the first is the program.
    ///
    /// # Errors
    /// Every mistake, with the index of its argument.
    pub fn parse(arguments: &[&str]) -> Result<Self, Vec<(usize, Mistake)>> {
        Self::parse_with(arguments, false)
    }

    /// The same for the command of a launch.
    ///
    /// # Errors
    /// The same.
    pub fn parse_launch(arguments: &[&str]) -> Result<Self, Vec<(usize, Mistake)>> {
        Self::parse_with(arguments, true)
    }

    fn parse_with(arguments: &[&str], resumes: bool) -> Result<Self, Vec<(usize, Mistake)>> {
        let mut mistakes = Vec::new();
        let mut parsed = Vec::with_capacity(arguments.len());
        let mut scripts = Scripts::default();
        for (index, argument) in arguments.iter().enumerate() {
            let filled = || braces(argument);
            let in_script = scripts.pass(argument, filled().next().map(|(start, _)| start));
            let (pieces, unknown) = pieces(argument, resumes);
            mistakes.extend(unknown.into_iter().map(|mistake| (index, mistake)));
            let misplaced = if index == 0 {
                filled().next().map(|range| (Misplaced::Program, range))
            } else if in_script {
                filled().next().map(|range| (Misplaced::Script, range))
            } else if scripts.in_multiplexer() {
                let other = filled().find(|(start, end)| argument[start + 1..end - 1] != *SLUG);
                other.map(|range| (Misplaced::Multiplexer, range))
            } else {
                None
            };
            mistakes.extend(misplaced.map(|(why, (start, end))| (index, Mistake::Misplaced(why, start..end))));
            parsed.push(pieces);
        }
        if mistakes.is_empty() { Ok(Self { arguments: parsed }) } else { Err(mistakes) }
    }

    /// The program, as the policy writes it.
    pub fn program(&self) -> String {
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Fill(_) | Piece::Resume => "…".to_owned(),
        };
        self.arguments.first().into_iter().flatten().map(text).collect()
    }

    /// The arguments for this chat. Fields that the entry does not have fill in as nothing, the session's name excepted.
    ///
    /// # Errors
    /// Why this chat's fields must not stand in the command.
    pub fn fill(&self, chat: &Chat, model: &Model) -> Result<Vec<String>, String> {
        self.fill_launch(chat, model, None)
    }

    /// The same for a launch; `resume` is what there is to resume.
    ///
    /// # Errors
    /// The same.
    pub fn fill_launch(&self, chat: &Chat, model: &Model, resume: Option<&str>) -> Result<Vec<String>, String> {
        let mut fields = environment(chat, model).chain([resume_environment(resume)]);
        if fields.any(|(_, value)| value.contains('\0')) {
            return Err("a field holds a NUL byte, which no command can be given".to_owned());
        }
        let resumes =
            |index: usize| self.arguments.get(index).is_some_and(|pieces| matches!(pieces[..], [Piece::Resume]));
        let is_left_out = |index: usize, pieces: &[Piece]| {
            let option = matches!(pieces, [Piece::Text(text)] if text.starts_with('-'));
            pieces.iter().any(|piece| matches!(piece, Piece::Resume)) || (option && resumes(index + 1))
        };
        let arguments = self.arguments.iter().enumerate();
        let arguments = arguments.filter(|(index, pieces)| resume.is_some() || !is_left_out(*index, pieces));
        arguments.map(|(_, pieces)| fill_argument(pieces, chat, model, resume.unwrap_or_default())).collect()
    }
}

fn fill_argument(pieces: &[Piece], chat: &Chat, model: &Model, resume: &str) -> Result<String, String> {
    let mut argument = String::new();
    for piece in pieces {
        let value = match piece {
            Piece::Text(text) => {
                argument.push_str(text);
                continue;
            }
            Piece::Fill(placeholder @ (Placeholder::SessionName | Placeholder::SessionSlug)) => {
                let name = placeholder.value(chat, model).filter(|name| !name.is_empty());
                Cow::Owned(name.ok_or("the command needs a session name, and the entry has none")?)
            }
            Piece::Fill(placeholder) => Cow::Owned(placeholder.value(chat, model).unwrap_or_default()),
            Piece::Resume => Cow::Borrowed(resume),
        };
        if value.chars().any(char::is_control) {
            return Err("an argument of its command would hold a control character".to_owned());
        }
        argument.push_str(&value);
    }
    if matches!(pieces.first(), Some(Piece::Fill(_) | Piece::Resume)) && argument.starts_with('-') {
        return Err(format!("the argument {argument:?} of its command would be taken for an option"));
    }
    Ok(argument)
}

fn pieces(argument: &str, resumes: bool) -> (Vec<Piece>, Vec<Mistake>) {
    let mut pieces = Vec::new();
    let mut mistakes = Vec::new();
    let mut text_from = 0;
    for (start, end) in braces(argument) {
        let name = &argument[start + 1..end - 1];
        let known = PLACEHOLDERS.iter().find(|(known, ..)| *known == name);
        let piece = match known {
            Some((_, _, placeholder)) => Piece::Fill(*placeholder),
            None if resumes && name == RESUME.0 => Piece::Resume,
            None => {
                mistakes.push(Mistake::Unknown(name.to_owned(), start..end));
                continue;
            }
        };
        if start > text_from {
            pieces.push(Piece::Text(argument[text_from..start].to_owned()));
        }
        pieces.push(piece);
        text_from = end;
    }
    if text_from < argument.len() {
        pieces.push(Piece::Text(argument[text_from..].to_owned()));
    }
    (pieces, mistakes)
}

/// Where `{word}` stands. Other braces, as in JSON, are text.
fn braces(argument: &str) -> impl Iterator<Item = (usize, usize)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    argument.match_indices('{').filter_map(move |(start, _)| {
        let inside = &argument[start + 1..];
        let length = inside.find(|c| !is_word(c))?;
        (length > 0 && inside[length..].starts_with('}')).then_some((start, start + length + 2))
    })
}
