//! Text that this program did not write itself, and the sentences that quote it.
//!
//! People in a chat choose names, and commands, servers and files can return any text. Printed unchanged, such text could move the
//! cursor, look like a message of this program, or reveal who a chat is with although names are to be hidden. So it has a type
//! that cannot be printed, and a sentence keeps it apart from the program's own words until `report::shown` writes both.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};

pub use crate::sentence;

/// Text from outside: a name, an id, a path, the answer of a server, an argument that the user typed.
///
/// It cannot be printed:
///
/// ```compile_fail,E0277
/// println!("{}", reconcile::foreign::Foreign::from("+16175550103"));
/// ```
///
/// Nor does `{:?}` show it:
///
/// ```
/// assert_eq!(format!("{:?}", reconcile::foreign::Foreign::from("+16175550103")), "Foreign(…)");
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Foreign(String);

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Foreign(…)")
    }
}

impl Foreign {
    /// The text unchanged. It must not be shown in this form.
    pub fn raw(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Foreign {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Foreign {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<Cow<'_, str>> for Foreign {
    fn from(text: Cow<'_, str>) -> Self {
        Self(text.into_owned())
    }
}

impl From<&Path> for Foreign {
    fn from(path: &Path) -> Self {
        Self(path.display().to_string())
    }
}

impl From<PathBuf> for Foreign {
    fn from(path: PathBuf) -> Self {
        path.as_path().into()
    }
}

/// Foreign text that every reader may see: where names are hidden, a pseudonym, or text that has no names but pseudonyms.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Public(String);

impl Public {
    /// Declares a text public. Only code that knows whether names are hidden may call this.
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The text unchanged. It must be escaped before it is shown.
    pub fn raw(&self) -> &str {
        &self.0
    }
}

/// A part of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Words of this program, and numbers.
    Own(Cow<'static, str>),
    /// Quoted text that is left out where names are hidden.
    Foreign(Foreign),
    /// Quoted text that is shown also where names are hidden.
    Public(Public),
}

/// A message of this program. The macro [`sentence!`](crate::sentence) makes one of a text and the values for its `{}`.
///
/// There is no conversion from `String`, because the origin of a `String` is unknown: it must be made [`Foreign`], or be a
/// sentence from the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sentence(Vec<Piece>);

impl Sentence {
    /// Its parts, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// The text with each `{}` replaced by the next of `parts`. [`sentence!`](crate::sentence) ensures that there are as many parts
    /// as `{}`.
    #[doc(hidden)]
    pub fn filled(text: &'static str, parts: impl IntoIterator<Item = Self>) -> Self {
        let mut parts = parts.into_iter();
        let mut pieces = Vec::new();
        for (index, own) in text.split(PLACEHOLDER).enumerate() {
            if index > 0 {
                pieces.extend(parts.next().unwrap_or_default().0);
            }
            pieces.push(Piece::Own(Cow::Borrowed(own)));
        }
        Self(pieces)
    }

    /// These sentences as one, separated by `between`.
    pub fn joined(sentences: impl IntoIterator<Item = Self>, between: &'static str) -> Self {
        let mut pieces = Vec::new();
        for sentence in sentences {
            if !pieces.is_empty() {
                pieces.push(Piece::Own(Cow::Borrowed(between)));
            }
            pieces.extend(sentence.0);
        }
        Self(pieces)
    }

    /// The whole sentence as one foreign text: for a row of a plan, and for a file.
    pub fn into_foreign(self) -> Foreign {
        let texts = self.0.iter().map(|piece| match piece {
            Piece::Own(text) => text,
            Piece::Foreign(text) => text.raw(),
            Piece::Public(name) => name.raw(),
        });
        Foreign(texts.collect())
    }
}

impl From<&'static str> for Sentence {
    fn from(text: &'static str) -> Self {
        Self(vec![Piece::Own(Cow::Borrowed(text))])
    }
}

impl From<Foreign> for Sentence {
    fn from(text: Foreign) -> Self {
        Self(vec![Piece::Foreign(text)])
    }
}

impl From<&Foreign> for Sentence {
    fn from(text: &Foreign) -> Self {
        text.clone().into()
    }
}

impl From<Public> for Sentence {
    fn from(text: Public) -> Self {
        Self(vec![Piece::Public(text)])
    }
}

impl From<&Public> for Sentence {
    fn from(text: &Public) -> Self {
        text.clone().into()
    }
}

impl From<&Self> for Sentence {
    fn from(sentence: &Self) -> Self {
        sentence.clone()
    }
}

impl From<&Path> for Sentence {
    fn from(path: &Path) -> Self {
        Foreign::from(path).into()
    }
}

impl From<&PathBuf> for Sentence {
    fn from(path: &PathBuf) -> Self {
        path.as_path().into()
    }
}

impl From<&io::Error> for Sentence {
    /// The text of an error of the system is this program's own. The text of an error of a library is foreign, because it may
    /// quote what the library has read.
    fn from(error: &io::Error) -> Self {
        let is_known = error.raw_os_error().is_some() || error.get_ref().is_none();
        let reason = reason(error);
        if is_known { Self(vec![Piece::Own(Cow::Owned(reason))]) } else { Foreign(reason).into() }
    }
}

/// The text of an error in lower case, without Rust's "(os error 13)".
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    let mut words = text[..end].chars();
    words.next().map_or_else(String::new, |first| first.to_lowercase().chain(words).collect())
}

/// Makes values part of sentences as the program's own words: a number or a time names no person.
macro_rules! own_values {
    ($($kind:ty),*) => {
        $(
            impl From<$kind> for Sentence {
                fn from(value: $kind) -> Self {
                    Self(vec![Piece::Own(Cow::Owned(value.to_string()))])
                }
            }
        )*
    };
}

own_values!(u8, u16, u32, u64, u128, usize, i32, i64, Date, DateTime, Timestamp);

impl From<char> for Sentence {
    /// A single character names no person, and may still move the cursor.
    fn from(character: char) -> Self {
        Public::new(character.into()).into()
    }
}

/// A count with its noun: "1 chat", "2 chats".
pub(crate) fn counted(count: usize, thing: &'static str) -> Sentence {
    if count == 1 { sentence!("1 {}", thing) } else { sentence!("{} {}s", count, thing) }
}

impl From<Duration> for Sentence {
    fn from(length: Duration) -> Self {
        Self(vec![Piece::Own(Cow::Owned(format!("{length:?}")))])
    }
}

/// The mode of a file, as `ls` and `chmod` write it: `0600`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Octal(pub(crate) u32);

impl From<Octal> for Sentence {
    fn from(mode: Octal) -> Self {
        Self(vec![Piece::Own(Cow::Owned(format!("{:04o}", mode.0)))])
    }
}

/// Stands in the text of a sentence for a part of it.
const PLACEHOLDER: &str = "{}";

/// How many `{}` a text has.
#[doc(hidden)]
pub const fn placeholders(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut count) = (1, 0);
    while at < bytes.len() {
        if bytes[at - 1] == b'{' && bytes[at] == b'}' {
            count += 1;
        }
        at += 1;
    }
    count
}

/// Makes a [`Sentence`](crate::foreign::Sentence) of a text and a value for each `{}` in it.
///
/// ```
/// use reconcile::foreign::Foreign;
/// use reconcile::sentence;
///
/// sentence!("no such run: {}", Foreign::from("+16175550103"));
/// ```
///
/// A `String` cannot be a value, because its origin is unknown:
///
/// ```compile_fail
/// reconcile::sentence!("no such run: {}", String::from("+16175550103"));
/// ```
///
/// A `{}` without a value does not compile:
///
/// ```compile_fail
/// reconcile::sentence!("no such run: {}");
/// ```
#[macro_export]
macro_rules! sentence {
    ($text:literal $(, $part:expr)* $(,)?) => {{
        const _: () = assert!(
            $crate::foreign::placeholders($text) == 0 $(+ { _ = stringify!($part); 1 })*,
            "as many values as placeholders"
        );
        $crate::foreign::Sentence::filled($text, [$($crate::foreign::Sentence::from($part)),*])
    }};
}
