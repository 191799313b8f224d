//! What a run tells of names that policy and registry do not share: one line of each kind. `reconcile check` has the rest.

use crate::cli::terminal::Terminal;
use crate::cli::workspace::Opened;
use crate::foreign::{Foreign, Sentence, counted, sentence};
use crate::names::{Alike, Kind, Unshared};
use crate::policy::At;
use crate::registry::Snapshot;
use crate::report::shown::Naming;

pub(crate) fn tell(terminal: &Terminal, opened: &Opened, snapshot: &dyn Snapshot, unshared: &[Unshared]) {
    for found in unshared {
        let line = match terminal.naming() {
            Naming::Hidden => count(found),
            Naming::Plain => line(found, &near(found, opened, snapshot)),
        };
        match found.kind {
            Kind::Override => terminal.warning(line),
            Kind::Rule | Kind::Glob | Kind::Member | Kind::Tier | Kind::GlobInKey => terminal.note(line),
        }
    }
    if !unshared.is_empty() {
        let registry = Foreign::from(opened.home.argument(snapshot.name()));
        terminal.hint(sentence!("for details, run: reconcile check {}", registry));
    }
}

/// What may be meant instead, where something is near. Of a chat that takes another pass over the registry.
fn near(found: &Unshared, opened: &Opened, snapshot: &dyn Snapshot) -> Sentence {
    if found.kind != Kind::Override {
        let near = found.near.as_ref().map(|near| sentence!(": did you mean {}?", quoted(near)));
        return near.unwrap_or_default();
    }
    if opened.names.is_snapshot() {
        return Sentence::default();
    }
    let contact = found.at.as_ref().and_then(|at| at.comment(&opened.files.sources));
    let mut alike = Alike::to(&found.first, contact);
    // The run has read it already. What goes wrong by now is not worth an error.
    let read = snapshot.each(&mut |entry| alike.look_at(&entry.chat));
    let near = read.ok().and_then(|_| alike.found());
    let near = near.map(|meant| sentence!(": {}", Foreign::from(meant.likeness.advice(&meant.id))));
    near.unwrap_or_default()
}

fn line(found: &Unshared, near: &Sentence) -> Sentence {
    let Unshared { kind, count, first, at, .. } = found;
    let (first, quoted) = (Foreign::from(first.as_str()), quoted(first));
    let at = at.as_ref().map(|At { file, line, .. }| sentence!(" ({}:{})", file.shown(), *line)).unwrap_or_default();
    match (kind, count) {
        (Kind::Override, 1) => {
            sentence!("the override for {}{} is for a chat that is not registered{}", quoted, at, near)
        }
        (Kind::Rule, 1) => sentence!("the rule {}{} matches no chat", first, at),
        (Kind::Glob, 1) => sentence!("the glob {} of a rule{} matches no chat", quoted, at),
        (Kind::Member, 1) => sentence!("a chat or contact of {}{} is not registered", first, at),
        (Kind::Tier, 1) => sentence!("the policy does not list the tier {} of the registry{}", quoted, near),
        (Kind::GlobInKey, 1) => sentence!("{}{} looks like a glob, but matches only that exact name", first, at),
        (Kind::Override, _) => sentence!("{}, the first for {}{}{}", self::count(found), quoted, at, near),
        (Kind::Rule | Kind::Member | Kind::GlobInKey, _) => {
            sentence!("{}, the first is {}{}", self::count(found), first, at)
        }
        (Kind::Glob | Kind::Tier, _) => sentence!("{}, the first is {}{}{}", self::count(found), quoted, at, near),
    }
}

/// How many there are, without a name.
fn count(found: &Unshared) -> Sentence {
    let (is, matches, looks) = if found.count == 1 { ("is", "matches", "looks") } else { ("are", "match", "look") };
    let counted = |thing| counted(found.count, thing);
    match found.kind {
        Kind::Override => sentence!("{} {} for chats that are not registered", counted("override"), is),
        Kind::Rule => sentence!("{} {} no chat", counted("rule"), matches),
        Kind::Glob => sentence!("{} of rules {} no chat", counted("glob"), matches),
        Kind::Member => sentence!("{} of assignments {} no chat", counted("member"), matches),
        Kind::Tier => sentence!("{} of the registry {} not listed in the policy", counted("tier"), is),
        Kind::GlobInKey => {
            sentence!("{} {} like a glob, but {} only one exact name", counted("key"), looks, matches)
        }
    }
}

fn quoted(name: &str) -> Foreign {
    Foreign::from(format!("{name:?}"))
}
