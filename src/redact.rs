//! Pseudonyms for what says who a chat is with: chat ids are phone numbers. The same key gives the same pseudonym, and
//! without the key it cannot be told whose it is, not even by trying all numbers. A pseudonym is its own, so that what is
//! under pseudonyms already can be shown like everything else.

use std::collections::BTreeSet;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Of a key, in bytes.
pub const KEY_LENGTH: usize = 32;

/// A key, and what it makes of names.
#[derive(Clone)]
pub struct Redaction {
    key: [u8; KEY_LENGTH],
    /// The tiers that may be told.
    tiers: Arc<BTreeSet<String>>,
}

impl std::fmt::Debug for Redaction {
    /// Without the key, which must not get into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redaction").finish_non_exhaustive()
    }
}

impl Redaction {
    /// With this key.
    pub fn new(key: [u8; KEY_LENGTH]) -> Self {
        Self { key, tiers: Arc::default() }
    }

    /// From a key file: 64 hexadecimal digits and a line end.
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

    /// With these tiers as they are: a policy declares them. Others may be called after a person.
    #[must_use]
    pub fn telling(self, tiers: BTreeSet<String>) -> Self {
        Self { tiers: Arc::new(tiers), ..self }
    }

    /// What a key file holds.
    pub fn to_text(&self) -> String {
        hex(&self.key) + "\n"
    }

    /// What stands for a chat id.
    pub fn chat(&self, id: &str) -> String {
        self.pseudonym("chat", id)
    }

    /// Whether that is what stands for a chat id.
    pub fn is_chat(id: &str) -> bool {
        is_pseudonym("chat", id)
    }

    /// What stands for a session's name. Names that supervisors cannot tell apart stay so.
    pub fn session(&self, slug: &str) -> String {
        self.pseudonym("session", slug)
    }

    /// What stands for a tier that the policy does not declare.
    pub fn tier(&self, tier: &str) -> String {
        if self.tiers.contains(tier) { tier.to_owned() } else { self.pseudonym("tier", tier) }
    }

    /// What stands for the path or the address of a registry, where several are told apart.
    pub fn registry(&self, name: &str) -> String {
        self.pseudonym("registry", name)
    }

    /// What decided on a chat: the name of an override holds the chat's id, and that of a tier may be called after a person.
    pub fn rule(&self, rule: &str, chat: &str) -> String {
        if rule.starts_with("chats.") {
            return format!("chats.{:?}", self.chat(chat));
        }
        rule.strip_prefix("tiers.").map_or_else(|| rule.to_owned(), |tier| format!("tiers.{}", self.tier(tier)))
    }

    /// What stands for the id of a plan, from which the numbers of a small one could be found by trying all. It is as long
    /// as that id: those of version 0.1 have 16 digits.
    pub fn plan(&self, id: &str) -> String {
        hex(&self.mac("plan", id)[..if id.len() <= 16 { 8 } else { 16 }])
    }

    /// What tells a key from others, and nothing about it.
    pub fn fingerprint(&self) -> String {
        self.hash("key", "")
    }

    fn pseudonym(&self, kind: &str, name: &str) -> String {
        if is_pseudonym(kind, name) { name.to_owned() } else { format!("{kind}-{}", self.hash(kind, name)) }
    }

    /// 64 bits: that two of a million chats get one pseudonym is about as likely as one in 37 million.
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

/// Whether that is what stands for a name of this kind.
fn is_pseudonym(kind: &str, name: &str) -> bool {
    let digits = name.strip_prefix(kind).and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
    digits.len() == 16 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
