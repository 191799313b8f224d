//! Reads the commands of a policy. All keys that are commands are read here, so that one rule applies to all of them.

use std::ops::Range;

use crate::diagnostic::{Diagnostic, Place};
use crate::policy::fields::Item;
use crate::policy::placeholder::Placeholder;
use crate::policy::read::Reader;
use crate::policy::scope::{Complaint, Misplaced, Scope};
use crate::policy::template::{CommandLine, Fault, Mistake};

impl<'r> Reader<'r> {
    /// The command that is the value of a key.
    pub(super) fn command(&self, item: &Item<'r>, scope: Scope, example: &str) -> Option<CommandLine> {
        let items = item.list(self.mistakes, example)?;
        let words: Option<Vec<&str>> = items.iter().map(|item| item.string(self.mistakes, example)).collect();
        let words = words?;
        if let (Some(program), true) = (items.first(), words.first().is_some_and(|word| word.is_empty())) {
            self.mistakes.add(|| program.mistake("empty", "the program's name is empty", format!("write {example}")));
            return None;
        }
        match CommandLine::parse(&words, scope) {
            Ok(command) => {
                if command.holds(Placeholder::Model) {
                    self.refuse_special_models(item);
                }
                Some(command)
            }
            Err(mistakes) => {
                for mistake in mistakes {
                    let Some(item) = items.get(mistake.argument) else { continue };
                    self.mistakes.add(|| diagnostic(item, mistake, scope));
                }
                None
            }
        }
    }

    /// Reports allowed models that cannot be an argument, for a command that has `{model}` in one.
    fn refuse_special_models(&self, command: &Item<'r>) {
        for model in &self.special_models {
            self.mistakes.add(|| {
                let name = model.value.as_str().unwrap_or_default();
                let message = format!("the model `{name}` cannot be used in an argument of a command");
                let help = "use only A-Z a-z 0-9 . _ : / @ + -, without - at the beginning, or let the command read \
                            RECONCILE_MODEL from its environment";
                model
                    .mistake("model-in-argument", message, help)
                    .and(command.place(), "this command has {model} in an argument")
            });
        }
    }

    /// Which placeholders the commands of a policy may have. `names_in_arguments = true` allows all, for all commands.
    pub(super) fn scope(&self, names_in_arguments: Option<&Item<'r>>) -> Scope {
        let is_true = |item: &&Item<'r>| item.boolean(self.mistakes, "names_in_arguments = false") == Some(true);
        let Some(item) = names_in_arguments.filter(is_true) else { return Scope::Plain };
        self.mistakes.add(|| {
            let message = "with names in arguments, a command may run text that people in a chat wrote";
            let label = "anyone who can choose a contact's or group's name can choose part of an argument";
            let help = "if no program runs or interprets its arguments, ignore this warning; otherwise remove the key, and let commands read names from their environment, such as RECONCILE_CONTACT_NAME";
            Diagnostic::warning("names-in-arguments", message, item.place(), label).help(help)
        });
        Scope::Names
    }
}

fn diagnostic(item: &Item, mistake: Mistake, scope: Scope) -> Diagnostic {
    let Mistake { range, fault, .. } = mistake;
    let Complaint { message, help } = fault.complaint(scope);
    let mistake = |code| Diagnostic::error(code, message, inside(item, range), "").help(help);
    match fault {
        Fault::Unknown(_) => mistake("unknown-placeholder"),
        Fault::Misplaced(_, Misplaced::Program) => mistake("placeholder-in-program"),
        Fault::Misplaced(_, Misplaced::Argument | Misplaced::BesideText) => mistake("name-in-argument"),
        Fault::Misplaced(_, Misplaced::BesideSpecial) => mistake("placeholder-beside-text"),
    }
}

/// The place of a range within a string, in bytes of its value. Where the string has escapes, so that the range cannot be found in
/// the file, it is the place of the whole string.
pub(super) fn inside(item: &Item, range: Range<usize>) -> Place {
    let literal = item.source.text.get(item.span.clone()).unwrap_or_default();
    let plain = item.value.as_str().is_some_and(|text| literal.len() == text.len() + 2);
    if plain {
        item.source.place(item.span.start + 1 + range.start..item.span.start + 1 + range.end)
    } else {
        item.place()
    }
}
