//! What the text of a ledger's journal says.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The ledger in a state directory, or null where there is none: what its journal says, or what version 0.1 left.
pub fn ledger_in(state: &Path) -> Value {
    let Ok(journal) = fs::read_to_string(state.join("ledger.journal")) else {
        let text = fs::read_to_string(state.join("owed.json")).unwrap_or_default();
        return serde_json::from_str(&text).unwrap_or_default();
    };
    folded(&journal)
}

/// The records of a journal, put together: of each chat the last word counts.
pub fn folded(journal: &str) -> Value {
    let mut ledger = json!({ "owed": {}, "corrected": {}, "failed": {}, "trials": {}, "exchange": null });
    for line in journal.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let record: Value = serde_json::from_str(line.splitn(3, ' ').nth(2).unwrap()).unwrap();
        for part in ["owed", "corrected", "failed", "trials"] {
            for (chat, value) in record[part].as_object().into_iter().flatten() {
                match value {
                    Value::Null => _ = ledger[part].as_object_mut().unwrap().remove(chat),
                    value => ledger[part][chat] = value.clone(),
                }
            }
        }
        match &record["exchange"] {
            Value::Null => {}
            exchange => ledger["exchange"] = exchange["under_way"].clone(),
        }
    }
    ledger
}

/// A line of a journal, with its length and its checksum.
pub fn framed(record: &Value) -> String {
    let record = record.to_string();
    let sum: String = Sha256::digest(&record).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{} {sum} {record}\n", record.len())
}
