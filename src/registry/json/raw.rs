//! Walks the members of a JSON object without parsing their values, and decodes strings.

use std::borrow::Cow;
use std::ops::Range;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Calls `each` with the raw key and the raw value of every member of a JSON object, until it returns `false`.
///
/// # Errors
/// Where the text is not one JSON object, or `each` has returned `false`.
pub(crate) fn members<'a>(object: &'a str, each: impl FnMut(&'a str, &'a str) -> bool) -> serde_json::Result<()> {
    struct Walk<F>(F);
    impl<'a, F: FnMut(&'a str, &'a str) -> bool> Visitor<'a> for Walk<F> {
        type Value = ();
        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("an object of sessions")
        }
        fn visit_map<M: MapAccess<'a>>(mut self, mut map: M) -> Result<(), M::Error> {
            while let Some(key) = map.next_key::<&'a RawValue>()? {
                let value = map.next_value::<&'a RawValue>()?;
                if !(self.0)(key.get(), value.get()) {
                    return Err(M::Error::custom("stopped"));
                }
            }
            Ok(())
        }
    }
    let mut parser = serde_json::Deserializer::from_str(object);
    parser.deserialize_map(Walk(each))?;
    parser.end()
}

/// The range of `part` in `text`, of which it must be a slice.
pub(crate) fn range_in(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - text.as_ptr().addr();
    start..start + part.len()
}

/// The text of a raw JSON value, if the value is a string.
pub(crate) fn string(raw: &str) -> Option<Cow<'_, str>> {
    raw.starts_with('"').then(|| decoded(raw))
}

/// A string of JSON that Python wrote. A lone surrogate, which no text can hold, becomes U+FFFD.
#[derive(Clone, Debug)]
pub(crate) struct Lossy(pub(crate) String);

impl<'de> Deserialize<'de> for Lossy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Lossy;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a string")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Lossy, E> {
                Ok(Lossy(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
        // As bytes, because only then does `serde_json` let lone surrogates pass.
        deserializer.deserialize_bytes(Bytes)
    }
}

/// The text of a raw JSON string, which must be well-formed.
pub(crate) fn decoded(raw: &str) -> Cow<'_, str> {
    let inner = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).unwrap_or(raw);
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    serde_json::from_str(raw).map_or(Cow::Borrowed(inner), |Lossy(text)| Cow::Owned(text))
}
