//! What a run tells of names that policy and registry do not share: one line of each kind. `reconcile check` has the rest.

use crate::cli::terminal::Terminal;
use crate::cli::workspace::Opened;
use crate::foreign::{Foreign, Public, sentence};
use crate::names::{Alike, Kind, Unshared};
use crate::policy::At;
use crate::registry::Snapshot;
use crate::report::counted;
use crate::report::shown::Naming;

pub(crate) fn tell(terminal: &Terminal, opened: &Opened, snapshot: &dyn Snapshot, unshared: &[Unshared]) {
    for found in unshared {
        // Where names are hidden, only how many there are.
        let line = Public::new(match terminal.naming() {
            Naming::Hidden => count(found),
            Naming::Plain => line(found, &near(found, opened, snapshot)),
        });
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
fn near(found: &Unshared, opened: &Opened, snapshot: &dyn Snapshot) -> String {
    if found.kind != Kind::Override {
        return found.near.as_ref().map_or_else(String::new, |near| format!(": did you mean {near:?}?"));
    }
    if opened.names.is_snapshot() {
        return String::new();
    }
    let contact = found.at.as_ref().and_then(|at| at.comment(&opened.files.sources));
    let mut alike = Alike::to(&found.first, contact);
    // The run has read it already. What goes wrong by now is not worth an error.
    let read = snapshot.each(&mut |entry| alike.look_at(&entry.chat));
    let near = read.ok().and_then(|_| alike.found());
    near.map_or_else(String::new, |meant| format!(": {}", meant.likeness.advice(&meant.id)))
}

fn line(found: &Unshared, near: &str) -> String {
    let Unshared { kind, count, first, at, .. } = found;
    let at = at.as_ref().map_or_else(String::new, |At { file, line, .. }| format!(" ({}:{line})", file.shown().raw()));
    match (kind, count) {
        (Kind::Override, 1) => format!("the override for {first:?}{at} is for a chat that is not registered{near}"),
        (Kind::Rule, 1) => format!("the rule {first}{at} matches no chat"),
        (Kind::Glob, 1) => format!("the glob {first:?} of a rule{at} matches no chat"),
        (Kind::Member, 1) => format!("a chat or contact of {first}{at} is not registered"),
        (Kind::Tier, 1) => format!("the policy does not list the tier {first:?} of the registry{near}"),
        (Kind::GlobInKey, 1) => format!("{first}{at} looks like a glob, but matches only that exact name"),
        (Kind::Override, _) => format!("{}, the first for {first:?}{at}{near}", self::count(found)),
        (Kind::Rule | Kind::Member | Kind::GlobInKey, _) => format!("{}, the first is {first}{at}", self::count(found)),
        (Kind::Glob | Kind::Tier, _) => format!("{}, the first is {first:?}{at}{near}", self::count(found)),
    }
}

/// How many there are, without a name.
fn count(found: &Unshared) -> String {
    let (is, matches, looks) = if found.count == 1 { ("is", "matches", "looks") } else { ("are", "match", "look") };
    let counted = |thing| counted(found.count, thing);
    match found.kind {
        Kind::Override => format!("{} {is} for chats that are not registered", counted("override")),
        Kind::Rule => format!("{} {matches} no chat", counted("rule")),
        Kind::Glob => format!("{} of rules {matches} no chat", counted("glob")),
        Kind::Member => format!("{} of assignments {matches} no chat", counted("member")),
        Kind::Tier => format!("{} of the registry {is} not listed in the policy", counted("tier")),
        Kind::GlobInKey => format!("{} {looks} like a glob, but {matches} only one exact name", counted("key")),
    }
}
