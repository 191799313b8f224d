//! Which conversation a session that is about to be started goes on with, or under which id it begins one.

use std::io::ErrorKind;
use std::path::PathBuf;

use crate::chat::is_session_id;
use crate::foreign::reason;
use crate::os;
use crate::policy::conversation::ConversationPath;
use crate::policy::placeholder::Conversation;
use crate::policy::tilde::below_home;

/// Where the program of a session keeps its conversations.
#[derive(Clone, Debug)]
pub struct Conversations {
    /// The path of a conversation's file, as the user wrote it.
    pub path: ConversationPath,
    /// The directory that a relative path is relative to.
    pub base: PathBuf,
    /// The home directory, which `~` stands for; `None` where it is not known.
    pub home: Option<PathBuf>,
    /// The slug of the directory in which the program is started.
    pub cwd_slug: String,
}

/// Why a recorded id is not simply resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// The recorded text has not the form of an id.
    NoId(String),
    /// The conversation's file does not exist.
    Missing(PathBuf),
    /// The conversation's file is empty. The program that created it takes the id for used, so the id cannot be used for a new
    /// conversation.
    Empty(PathBuf),
    /// Why it cannot be found out whether the file exists. The conversation is resumed.
    NotSeen(String),
}

/// What the look for a recorded conversation's file has found.
enum Found {
    There,
    NotThere(Remark),
    Unknown(Remark),
}

impl Conversations {
    /// The path of the file for the conversation with this id; `None` where the path begins with `~` and the home directory is not
    /// known.
    fn file(&self, id: &str) -> Option<PathBuf> {
        let path = self.path.fill(id, &self.cwd_slug);
        match below_home(&path) {
            Some(rest) => Some(self.home.as_ref()?.join(rest)),
            None => Some(self.base.join(path)),
        }
    }

    fn look(&self, id: &str) -> Found {
        let Some(file) = self.file(id) else {
            let why = format!("{} begins with the home directory, and HOME is not set", self.path.as_str());
            return Found::Unknown(Remark::NotSeen(why));
        };
        match os::length(&file) {
            Ok(0) => Found::NotThere(Remark::Empty(file)),
            Ok(_) => Found::There,
            Err(error) if error.kind() == ErrorKind::NotFound => Found::NotThere(Remark::Missing(file)),
            Err(error) => {
                let why = format!("cannot access {}: {}", file.display(), reason(&error));
                Found::Unknown(Remark::NotSeen(why))
            }
        }
    }
}

/// The conversation of a session whose entry has recorded this id. Where the recorded conversation cannot be resumed and `new` is
/// given, a new conversation begins under a known id: the recorded id where its file is missing, because that id is not used yet,
/// else `new`.
pub(super) fn choose(
    recorded: Option<&str>,
    conversations: Option<&Conversations>,
    new: Option<&str>,
) -> (Conversation, Option<Remark>) {
    let begins = |id: Option<&str>| id.map_or(Conversation::Unknown, |id| Conversation::New(id.to_owned()));
    let Some(id) = recorded else { return (begins(new), None) };
    if !is_session_id(id) {
        return (begins(new), Some(Remark::NoId(id.to_owned())));
    }
    let resumed = || Conversation::Resumed(id.to_owned());
    match conversations.map_or(Found::There, |conversations| conversations.look(id)) {
        Found::There => (resumed(), None),
        Found::Unknown(remark) => (resumed(), Some(remark)),
        Found::NotThere(remark @ Remark::Missing(_)) => (begins(new.map(|_| id)), Some(remark)),
        Found::NotThere(remark) => (begins(new), Some(remark)),
    }
}
