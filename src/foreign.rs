//! Text that this program did not write itself, and the sentences that quote it.
//!
//! People in a chat choose names. Commands, servers and files answer what they like. Shown as it is, such a text could move the
//! cursor, pass for a message of this program, or tell who a chat is with where that was to stay hidden. So it has a type of
//! its own that cannot be printed, and a sentence keeps it apart from the program's own words until `report::shown` writes both.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};

pub use crate::sentence;

/// A name, an id, a path, an answer, an argument that the user typed.
///
/// It is no text that could be printed:
///
/// ```compile_fail,E0277
/// println!("{}", reconcile::foreign::Foreign::from("+16175550103"));
/// ```
///
/// What looks into a value of this program does not tell it either:
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
    /// The text as it came. It must not be shown like that.
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

/// Foreign text that every reader may see: a pseudonym where names are hidden, or what speaks of pseudonyms alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Public(String);

impl Public {
    /// Made where it is decided whether names are hidden.
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The text as it came, which must be escaped before it is shown.
    pub fn raw(&self) -> &str {
        &self.0
    }
}

/// A part of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Words of this program, and numbers.
    Own(Cow<'static, str>),
    /// What they are about.
    Foreign(Foreign),
    /// What they are about, told also where names are hidden.
    Public(Public),
}

/// What this program says. [`sentence!`](crate::sentence) makes one of a text and what goes into its holes.
///
/// No `String` becomes a sentence by itself: where it was written can no longer be told. It is made [`Foreign`], or written as
/// a sentence in the first place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sentence(Vec<Piece>);

impl Sentence {
    /// Its parts, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// The text with each `{}` replaced. [`sentence!`](crate::sentence) sees to it that there are as many as `parts`.
    #[doc(hidden)]
    pub fn filled(text: &'static str, parts: impl IntoIterator<Item = Self>) -> Self {
        let mut parts = parts.into_iter();
        let mut pieces = Vec::new();
        for (index, own) in text.split(HOLE).enumerate() {
            if index > 0 {
                pieces.extend(parts.next().unwrap_or_default().0);
            }
            pieces.push(Piece::Own(Cow::Borrowed(own)));
        }
        Self(pieces)
    }

    /// These sentences, with `between` each two of them.
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

    /// All of it as one text that is foreign from then on: for a row of a plan, and for a file.
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
    /// What the system says is known text. What a library says may quote what it read.
    fn from(error: &io::Error) -> Self {
        let is_known = error.raw_os_error().is_some() || error.get_ref().is_none();
        let reason = reason(error);
        if is_known { Self(vec![Piece::Own(Cow::Owned(reason))]) } else { Foreign(reason).into() }
    }
}

/// The system's words without Rust's "(os error 13)".
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    let mut words = text[..end].chars();
    words.next().map_or_else(String::new, |first| first.to_lowercase().chain(words).collect())
}

/// A number or a time names no person.
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

/// A number of things, in words.
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

/// Stands in a text for what goes there.
const HOLE: &str = "{}";

/// How many holes a text has.
#[doc(hidden)]
pub const fn holes(text: &str) -> usize {
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

/// A [`Sentence`](crate::foreign::Sentence): a text, and what goes into each `{}` of it.
///
/// ```
/// use reconcile::foreign::Foreign;
/// use reconcile::sentence;
///
/// sentence!("no such run: {}", Foreign::from("+16175550103"));
/// ```
///
/// A `String` is no part of one, because it cannot be told who wrote it:
///
/// ```compile_fail
/// reconcile::sentence!("no such run: {}", String::from("+16175550103"));
/// ```
///
/// A hole without a part does not compile:
///
/// ```compile_fail
/// reconcile::sentence!("no such run: {}");
/// ```
#[macro_export]
macro_rules! sentence {
    ($text:literal $(, $part:expr)* $(,)?) => {{
        const _: () = assert!($crate::foreign::holes($text) == 0 $(+ { _ = stringify!($part); 1 })*, "as many parts as holes");
        $crate::foreign::Sentence::filled($text, [$($crate::foreign::Sentence::from($part)),*])
    }};
}
