//! What a launch says of the session that it is about to start.

use crate::cli::terminal::Terminal;
use crate::launch::{Kept, Remark, Start};
use crate::policy::placeholder::{Conversation, shortened};

pub(super) fn tell(terminal: &Terminal, start: &Start, is_new: &str) {
    let chat = &start.chat.id;
    if start.is_new {
        terminal.note(&format!("{chat} {is_new}"));
    }
    match (&start.model, &start.kept) {
        (Some(model), Some(Kept { wanted, why })) => {
            terminal.note(&format!("{chat} starts on {model}, not on {wanted}: {why}"));
        }
        (Some(_), None) => {}
        (None, _) => terminal.warning(&format!(
            "no model is known for {chat}: it starts without {{model}}, on what its program chooses"
        )),
    }
    if let Some(remark) = &start.remark {
        tell_of_conversation(terminal, start, remark);
    }
    if let Some(other) = &start.contact_of {
        terminal.warning(&format!("the contact of {other} has that name, too: a launch goes by ids and session names"));
    }
    if let Some(other) = &start.same_slug {
        terminal.warning(&format!(
            "the session of {other} has the same slug: a restart command with {{session_slug}} is refused for both"
        ));
    }
    if start.is_shortened {
        terminal.warning(&shortened(chat));
    }
    for field in &start.left_empty {
        terminal.warning(&format!(
            "the entry of {chat} has `{}` without a value: that is left as it is, and the option does not count",
            field.name()
        ));
    }
}

/// Says why a recorded conversation is not simply resumed.
fn tell_of_conversation(terminal: &Terminal, start: &Start, remark: &Remark) {
    let chat = &start.chat.id;
    let begins = match &start.conversation {
        Conversation::New(id) => format!("a new conversation begins as {id}"),
        Conversation::Unknown | Conversation::Resumed(_) => "a new conversation begins".to_owned(),
    };
    match remark {
        Remark::NoId(id) => terminal.warning(&format!(
            "the session id of {chat} does not count, because it has other characters than A-Z a-z 0-9 _ - or more than \
             128: {id:?}"
        )),
        Remark::Missing(file) => {
            terminal.note(&format!("the conversation of {chat} is not there, so {begins}: {}", file.display()));
        }
        Remark::Empty(file) => {
            terminal.note(&format!("the conversation of {chat} is an empty file, so {begins}: {}", file.display()));
        }
        Remark::NotSeen(why) => {
            terminal.warning(&format!("whether the conversation of {chat} is there cannot be told: {why}"));
        }
    }
}
