//! Pseudonyms for what reveals who a chat is with, such as a chat id, which is often a phone number. One key always
//! gives one name the same pseudonym. Without the key, a pseudonym cannot be traced to its name, not even by trying all
//! phone numbers. The pseudonym of a pseudonym is itself, so that data may be redacted twice.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The length of a key, in bytes.
pub const KEY_LENGTH: usize = 32;

/// A value with names of chats in it, which has a form with pseudonyms.
pub trait Redact: Sized {
    /// The value with pseudonyms, sorted by them, and without what other programs and people wrote.
    #[must_use]
    fn redacted(self, redaction: &Redaction) -> Self;
}

/// A value that may be shown. Reports take only such values, and only [`Shown::under`] makes them, which asks for the key of the
/// pseudonyms. So a command that forgets to hide names does not compile.
///
/// ```compile_fail,E0423
/// let chat = reconcile::chat::Chat::default();
/// let shown = reconcile::redact::Shown(chat);
/// ```
#[derive(Clone, Debug)]
pub struct Shown<T>(T);

impl<T: Redact> Shown<T> {
    /// The value with the pseudonyms of this key, or unchanged where names may be shown.
    pub fn under(redaction: Option<&Redaction>, value: T) -> Self {
        Self(match redaction {
            Some(redaction) => value.redacted(redaction),
            None => value,
        })
    }
}

impl<T> Deref for Shown<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A key that makes pseudonyms of names.
#[derive(Clone)]
pub struct Redaction {
    key: [u8; KEY_LENGTH],
    /// The tiers that are shown under their own names.
    tiers: Arc<BTreeSet<String>>,
}

impl std::fmt::Debug for Redaction {
    /// Leaves out the key, which must not get into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redaction").finish_non_exhaustive()
    }
}

impl Redaction {
    /// Makes pseudonyms with this key, also for all tiers.
    pub fn new(key: [u8; KEY_LENGTH]) -> Self {
        Self { key, tiers: Arc::default() }
    }

    /// Reads the text of a key file: 64 hexadecimal digits and, optionally, a line end. `None` for any other text.
    pub fn from_text(text: &str) -> Option<Self> {
        let digits = text.trim_ascii_end().as_bytes();
        let mut key = [0; KEY_LENGTH];
        if digits.len() != 2 * KEY_LENGTH {
            return None;
        }
        for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
            let pair =
                std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()));
            *byte = u8::from_str_radix(pair?, 16).ok()?;
        }
        Some(Self::new(key))
    }

    /// Shows these tiers, which a policy declares, under their own names. Any other tier may be called after a person.
    #[must_use]
    pub fn telling(self, tiers: BTreeSet<String>) -> Self {
        Self { tiers: Arc::new(tiers), ..self }
    }

    /// The text of a key file.
    pub fn to_text(&self) -> String {
        hex(&self.key) + "\n"
    }

    /// The pseudonym of a chat id, such as `chat-0123456789abcdef`.
    pub fn chat(&self, id: &str) -> String {
        self.pseudonym("chat", id)
    }

    /// Whether this has the form of the pseudonym of a chat id.
    pub fn is_chat(id: &str) -> bool {
        is_pseudonym("chat", id)
    }

    /// The pseudonym of a session's name, given its slug. So sessions that supervisors cannot tell apart have one pseudonym.
    pub fn session(&self, slug: &str) -> String {
        self.pseudonym("session", slug)
    }

    /// The pseudonym of a tier, or its own name where the policy declares it.
    pub fn tier(&self, tier: &str) -> String {
        if self.tiers.contains(tier) { tier.to_owned() } else { self.pseudonym("tier", tier) }
    }

    /// The pseudonym of the path or the address of a registry.
    pub fn registry(&self, name: &str) -> String {
        self.pseudonym("registry", name)
    }

    /// The name of the rule that decided on a chat, with pseudonyms. The name of an override has the chat's id in it,
    /// and the name of a tier may be a person's.
    pub fn rule(&self, rule: &str, chat: &str) -> String {
        if rule.starts_with("chats.") {
            return format!("chats.{:?}", self.chat(chat));
        }
        rule.strip_prefix("tiers.").map_or_else(|| rule.to_owned(), |tier| format!("tiers.{}", self.tier(tier)))
    }

    /// The pseudonym of a plan's id, from which the phone numbers of a small plan could be found by trying all. It is
    /// as long as the id, which has 16 digits in version 0.1 and 32 since.
    pub fn plan(&self, id: &str) -> String {
        let bytes = if id.len() <= 16 { 8 } else { 16 };
        hex(&self.mac("plan", id)[..bytes])
    }

    /// A text that identifies the key and reveals nothing about it.
    pub fn fingerprint(&self) -> String {
        self.hash("key", "")
    }

    fn pseudonym(&self, kind: &str, name: &str) -> String {
        if is_pseudonym(kind, name) { name.to_owned() } else { format!("{kind}-{}", self.hash(kind, name)) }
    }

    /// 64 bits of the MAC, as 16 hexadecimal digits. Among a million chats, the probability that two get one pseudonym is about
    /// 1 in 37 million.
    fn hash(&self, kind: &str, text: &str) -> String {
        hex(&self.mac(kind, text)[..8])
    }

    fn mac(&self, kind: &str, text: &str) -> [u8; 32] {
        // A key of any length will do, so this cannot fail.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else { return [0; 32] };
        mac.update(kind.as_bytes());
        mac.update(b"\0");
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// Whether this has the form of the pseudonym of a name of this kind.
fn is_pseudonym(kind: &str, name: &str) -> bool {
    let digits = name.strip_prefix(kind).and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
    digits.len() == 16 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// Bytes as lower-case hexadecimal digits, two for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
