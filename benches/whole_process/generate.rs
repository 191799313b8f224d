//! Registries as the daemon writes them: `json.dumps(indent=2)`, about 670 bytes an entry. The same every time.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Tiers, and the model that the policy wants for each.
pub const TIERS: [(&str, &str); 6] = [
    ("admin", "opus"),
    ("wife", "opus"),
    ("family", "sonnet"),
    ("favorite", "sonnet"),
    ("bots", "haiku"),
    ("unknown", "haiku"),
];

/// Writes a registry of which each `drift`th session runs on another model than it should; none where it is 0.
pub fn registry(path: &Path, sessions: usize, drift: usize) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    write!(out, "{{")?;
    for number in 0..sessions {
        entry(&mut out, number, drift > 0 && number.is_multiple_of(drift))?;
    }
    write!(out, "\n}}")?;
    out.into_inner()?.sync_all()
}

fn entry(out: &mut impl Write, number: usize, drifts: bool) -> io::Result<()> {
    let (source, prefix) = [("imessage", "+1617"), ("signal", "signal:+1617"), ("discord", "discord:428")][number % 3];
    let (tier, model) = TIERS[number % TIERS.len()];
    let wrong = if model == "haiku" { "opus" } else { "haiku" };
    let group = number % 20 == 19;
    let (hour, minute, second) = (number / 3600 % 24, number / 60 % 60, number % 60);
    let clock = format!("{hour:02}:{minute:02}:{second:02}.{:06}", number % 999_983);
    let comma = if number == 0 { "" } else { "," };
    let id = format!("{prefix}{number:07}");
    write!(
        out,
        "{comma}\n  \"{id}\": {{\n    \"chat_id\": \"{id}\",\n    \"session_name\": \"{source}/_1617{number:07}\","
    )?;
    write!(out, "\n    \"created_at\": \"2026-02-11T{clock}\",\n    \"updated_at\": \"2026-03-02T{clock}\",")?;
    write!(out, "\n    \"transcript_dir\": \"/Users/assistant/Library/Application Support/assistant/transcripts/")?;
    write!(out, "{source}/_1617{number:07}\",\n    \"type\": \"{}\",", if group { "group" } else { "individual" })?;
    if group {
        write!(out, "\n    \"display_name\": \"Saturday \\u2615 walk {number}\",\n    \"participants\": [")?;
        write!(out, "\n      \"Ada Quinn\",\n      \"Cal Ortiz\"\n    ],")?;
    } else {
        write!(out, "\n    \"contact_name\": \"Ada Quinn the {number}th\",")?;
    }
    write!(out, "\n    \"tier\": \"{tier}\",\n    \"source\": \"{source}\",")?;
    write!(out, "\n    \"session_id\": \"0c7e6a52-3d0f-4a57-9f42-{number:012x}\",")?;
    write!(out, "\n    \"resume_id\": \"9b1f1d2c-6a52-4d0f-8a57-{number:012x}\",")?;
    write!(
        out,
        "\n    \"last_message_time\": \"2026-03-02T{clock}\",\n    \"was_active\": {},",
        number.is_multiple_of(7)
    )?;
    write!(out, "\n    \"model\": \"{}\"\n  }}", if drifts { wrong } else { model })
}

/// The policy, with what else it says.
pub fn policy(path: &Path, more: &str) -> io::Result<()> {
    let tiers: String = TIERS.iter().map(|(tier, model)| format!("{tier} = \"{model}\"\n")).collect();
    let models = "[models]\nallowed = [\"opus\", \"sonnet\", \"haiku\"]\nfallback = \"sonnet\"\n";
    std::fs::write(path, format!("{models}[tiers]\n{tiers}[limits]\nmax_changes = 1000000\n{more}"))
}
