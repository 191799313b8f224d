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
    /// The path of one of them, as it was written.
    pub path: ConversationPath,
    /// What a relative path is relative to.
    pub base: PathBuf,
    /// What `~` stands for, if that is known.
    pub home: Option<PathBuf>,
    /// The slug of the directory in which the program is started.
    pub cwd_slug: String,
}

/// Why a recorded id is not simply resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// It cannot be an id.
    NoId(String),
    /// There is no such file.
    Missing(PathBuf),
    /// There is nothing in this file, and the program that left it takes the id for used.
    Empty(PathBuf),
    /// Whether there is a file cannot be told, and why. The conversation is resumed.
    NotSeen(String),
}

/// What is found of a recorded conversation.
enum Found {
    There,
    NotThere(Remark),
    Unknown(Remark),
}

impl Conversations {
    /// The file of the conversation of this id; `None` where it is below the home directory, and that is not known.
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

/// The conversation of a start whose entry has recorded this id. Where none is resumed and `new` is given, one begins
/// under a known id: the recorded one, where its file is missing, because it is not used yet; else `new`.
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
