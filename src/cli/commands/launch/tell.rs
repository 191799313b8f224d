//! The messages of a launch about the session that it starts.

use crate::cli::terminal::Terminal;
use crate::foreign::{Foreign, Sentence, sentence};
use crate::launch::{Kept, Remark, Start};
use crate::policy::placeholder::{Conversation, shortened};

pub(super) fn tell(terminal: &Terminal, start: &Start, is_new: &Sentence) {
    let chat = Foreign::from(start.chat.id.as_ref());
    if start.is_new {
        terminal.note(sentence!("{} {}", &chat, is_new));
    }
    match (&start.model, &start.kept) {
        (Some(model), Some(Kept { wanted, why })) => {
            let [model, wanted] = [model, wanted].map(|model| Foreign::from(model.as_str()));
            let why = Foreign::from(why.as_str());
            terminal.note(sentence!("{} starts on {}, not on {}: {}", &chat, model, wanted, why));
        }
        (Some(_), None) => {}
        (None, _) => terminal.warning(sentence!(
            "no model is known for {}: it starts without {model}, on the model that its program chooses",
            &chat
        )),
    }
    if let Some(remark) = &start.remark {
        tell_of_conversation(terminal, start, remark);
    }
    if let Some(other) = &start.contact_of {
        terminal.warning(sentence!(
            "the contact of {} also has that name: a launch uses only ids and session names",
            Foreign::from(other.as_str())
        ));
    }
    if let Some(other) = &start.same_slug {
        terminal.warning(sentence!(
            "the session of {} has the same slug: a restart command with {session_slug} is refused for both",
            Foreign::from(other.as_str())
        ));
    }
    if start.is_shortened {
        terminal.warning(Foreign::from(shortened(chat.raw())));
    }
    for field in &start.left_empty {
        terminal.warning(sentence!(
            "the entry of {} has `{}` without a value: it is left as it is, and the option is ignored",
            &chat,
            field.name()
        ));
    }
}

/// The message why a recorded conversation is not resumed, or is resumed without having been seen.
fn tell_of_conversation(terminal: &Terminal, start: &Start, remark: &Remark) {
    let chat = Foreign::from(start.chat.id.as_ref());
    let begins = match &start.conversation {
        Conversation::New(id) => sentence!("a new conversation begins as {}", Foreign::from(id.as_str())),
        Conversation::Unknown | Conversation::Resumed(_) => "a new conversation begins".into(),
    };
    match remark {
        Remark::NoId(id) => terminal.warning(sentence!(
            "the session id of {} is ignored, because it is not 1 to 128 characters of A-Z a-z 0-9 _ -: {}",
            chat,
            Foreign::from(format!("{id:?}"))
        )),
        Remark::Missing(file) => {
            terminal.note(sentence!("the conversation of {} was not found, so {}: {}", chat, begins, file));
        }
        Remark::Empty(file) => {
            terminal.note(sentence!("the conversation of {} is an empty file, so {}: {}", chat, begins, file));
        }
        Remark::NotSeen(why) => {
            let why = Foreign::from(why.as_str());
            terminal.warning(sentence!("it is not known whether the conversation of {} exists: {}", chat, why));
        }
    }
}
