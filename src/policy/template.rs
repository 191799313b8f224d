//! Command lines with placeholders, such as `["supervisorctl", "restart", "{session_slug}"]`.
//!
//! An argument is left out where the session has no value for its placeholder, such as no conversation to resume. The option right
//! before it is left out, too: `claude --model {model} --resume {resume_id}` becomes `claude --model opus`.

use std::ops::Range;

use crate::policy::placeholder::{LONGEST, Placeholder, Session};
use crate::policy::scope::{Beside, Complaint, Misplaced, Scope};

/// A mistake in a command.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The index of the argument, counted from 0, which is the program.
    pub argument: usize,
    /// The range of the placeholder in that argument, in bytes, braces included.
    pub range: Range<usize>,
    /// What is wrong with the placeholder.
    pub fault: Fault,
}

/// What is wrong with a word in braces.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no placeholder of this name.
    Unknown(String),
    /// The placeholder is not allowed there, and why.
    Misplaced(Placeholder, Misplaced),
}

impl Fault {
    /// The message about it. `scope` is that of the command.
    pub fn complaint(&self, scope: Scope) -> Complaint {
        match self {
            Self::Unknown(name) => {
                Complaint { message: format!("unknown placeholder `{{{name}}}`"), help: scope.advice(name) }
            }
            Self::Misplaced(placeholder, why) => why.complaint(*placeholder),
        }
    }
}

/// Part of an argument.
#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Fill(Placeholder),
}

/// A program and its arguments, with placeholders.
#[derive(Clone, Debug)]
pub struct CommandLine {
    arguments: Vec<Vec<Piece>>,
    scope: Scope,
}

/// A command for one session, ready to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// Environment variables and their values, besides those of this process.
    pub environment: Vec<(&'static str, String)>,
}

impl CommandLine {
    /// Parses the arguments of a command; the first is the program.
    ///
    /// # Errors
    /// Every mistake, in the order of the arguments.
    pub fn parse(arguments: &[&str], scope: Scope) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let mut parsed = Vec::with_capacity(arguments.len());
        for (index, argument) in arguments.iter().enumerate() {
            let (pieces, found) = pieces(argument, index, scope);
            parsed.push(pieces);
            mistakes.extend(found);
        }
        if mistakes.is_empty() { Ok(Self { arguments: parsed, scope }) } else { Err(mistakes) }
    }

    /// The program's name, as written.
    pub fn program(&self) -> String {
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Fill(_) => "…".to_owned(),
        };
        self.arguments.first().into_iter().flatten().map(text).collect()
    }

    /// Whether an argument has this placeholder.
    pub fn holds(&self, sought: Placeholder) -> bool {
        self.arguments.iter().flatten().any(|piece| matches!(piece, Piece::Fill(placeholder) if *placeholder == sought))
    }

    /// The command for this session. A placeholder without a value is filled with an empty text.
    ///
    /// # Errors
    /// Why the command must not be run for this session, such as that it needs a name and the session has none.
    pub fn fill(&self, session: &Session) -> Result<Invocation, String> {
        let environment = self.scope.placeholders().map(|placeholder| placeholder.in_environment(session));
        let environment = environment.collect::<Result<_, _>>()?;
        let mut filler = Filler { session, room: LONGEST };
        let kept = self.arguments.iter().enumerate().filter(|(index, _)| !self.is_left_out(*index, session));
        let arguments = kept.map(|(_, pieces)| filler.argument(pieces)).collect::<Result<_, _>>()?;
        Ok(Invocation { arguments, environment })
    }

    /// Whether this argument is left out: it has an optional placeholder without a value, or it is the option right before such an
    /// argument.
    fn is_left_out(&self, index: usize, session: &Session) -> bool {
        let pieces = |index: usize| self.arguments.get(index).map(Vec::as_slice).unwrap_or_default();
        let is_lacking = |piece: &Piece| match piece {
            Piece::Fill(placeholder) => placeholder.is_optional() && placeholder.value(session).is_none(),
            Piece::Text(_) => false,
        };
        let is_option = matches!(pieces(index), [Piece::Text(text)] if text.starts_with('-'));
        let is_before_lacking = || matches!(pieces(index + 1), [piece] if is_lacking(piece));
        pieces(index).iter().any(is_lacking) || (is_option && is_before_lacking())
    }
}

/// Fills the arguments of one command.
struct Filler<'a> {
    session: &'a Session<'a>,
    /// How many bytes may still be filled in. A long name that is used several times must not make the command too long for the
    /// system to start.
    room: usize,
}

impl Filler<'_> {
    fn argument(&mut self, pieces: &[Piece]) -> Result<String, String> {
        let mut argument = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => argument.push_str(text),
                Piece::Fill(placeholder) => argument.push_str(&self.value(*placeholder)?),
            }
        }
        if matches!(pieces.first(), Some(Piece::Fill(_))) && argument.starts_with('-') {
            return Err(format!("the argument {argument:?} of its command would be taken for an option"));
        }
        Ok(argument)
    }

    fn value(&mut self, placeholder: Placeholder) -> Result<String, String> {
        let value = placeholder.value(self.session).unwrap_or_default();
        let names_session = matches!(placeholder, Placeholder::SessionName | Placeholder::SessionSlug);
        if names_session && value.is_empty() {
            return Err("the command needs a session name, and the entry has none".to_owned());
        }
        if placeholder == Placeholder::Model && self.session.model.is_some_and(|model| !model.is_plain()) {
            return Err(format!("its model {value:?} cannot be an argument of its command"));
        }
        if value.chars().any(char::is_control) {
            return Err("an argument of its command would hold a control character".to_owned());
        }
        let room = self.room.checked_sub(value.len());
        self.room =
            room.ok_or_else(|| format!("the fields in its command would be longer than {LONGEST} bytes in all"))?;
        Ok(value)
    }
}

fn pieces(argument: &str, index: usize, scope: Scope) -> (Vec<Piece>, Vec<Mistake>) {
    let mut pieces = Vec::new();
    let mut mistakes = Vec::new();
    let mut text_from = 0;
    let beside = beside(argument);
    for range in braces(argument) {
        let name = &argument[range.start + 1..range.end - 1];
        let mistake = |fault| Mistake { argument: index, range: range.clone(), fault };
        let Some(placeholder) = scope.placeholder(name) else {
            mistakes.push(mistake(Fault::Unknown(name.to_owned())));
            continue;
        };
        let misplaced = if index == 0 { Some(Misplaced::Program) } else { scope.refuses(placeholder, beside) };
        mistakes.extend(misplaced.map(|why| mistake(Fault::Misplaced(placeholder, why))));
        if range.start > text_from {
            pieces.push(Piece::Text(argument[text_from..range.start].to_owned()));
        }
        pieces.push(Piece::Fill(placeholder));
        text_from = range.end;
    }
    if text_from < argument.len() {
        pieces.push(Piece::Text(argument[text_from..].to_owned()));
    }
    (pieces, mistakes)
}

/// The kind of text beside the placeholders of an argument.
fn beside(argument: &str) -> Beside {
    if braces(argument).next() == Some(0..argument.len()) {
        return Beside::Nothing;
    }
    let starts = [0].into_iter().chain(braces(argument).map(|range| range.end));
    let ends = braces(argument).map(|range| range.start).chain([argument.len()]);
    Beside::of(starts.zip(ends).map(|(start, end)| &argument[start..end]))
}

/// The ranges of all `{word}` in an argument. Other braces, as in JSON, are text.
pub(super) fn braces(argument: &str) -> impl Iterator<Item = Range<usize>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    argument.match_indices('{').filter_map(move |(start, _)| {
        let inside = &argument[start + 1..];
        let length = inside.find(|c| !is_word(c))?;
        (length > 0 && inside[length..].starts_with('}')).then_some(start..start + length + 2)
    })
}
