//! What the pages of all commands say.

use clap_mangen::roff::{Roff, bold, roman};

/// Variables, and what they do.
pub(super) const ENVIRONMENT: [(&str, &str); 8] = [
    ("RECONCILE_POLICY", "The policy, where --policy is not given."),
    ("RECONCILE_REGISTRY", "The registry, where --registry is not given. It wins over registry.path of the policy."),
    (
        "RECONCILE_GATEWAY_URL",
        "The OpenClaw gateway, where --connect is not given. It wins over sessions.url of the policy.",
    ),
    (
        "RECONCILE_GATEWAY_FINGERPRINT",
        "The SHA-256 of the only certificate that the gateway may present. It wins over sessions.fingerprint of the policy.",
    ),
    ("RECONCILE_POSTGRES", "The database, where --connect is not given. It wins over registry.postgres of the policy."),
    ("NO_COLOR, FORCE_COLOR, CLICOLOR_FORCE, CLICOLOR", "Whether the output has colours, where --color is not given."),
    ("TZ", "The time zone of dates and times without an offset, where models.time_zone of the policy is not set."),
    ("PATH", "Where the programs of the policy's commands are looked for."),
];

/// Files that are read or written.
pub(super) const FILES: [(&str, &str); 5] = [
    ("policy.toml", "The policy, where neither --policy nor RECONCILE_POLICY is given. See reconcile.toml(5)."),
    ("REGISTRY.reconcile/", "What runs remember of a registry, beside it. It goes with the registry."),
    ("REGISTRY.reconcile/ledger.journal", "Restarts that are owed, and models that were tried."),
    ("REGISTRY.reconcile/history.jsonl", "What past runs did, a line of JSON each or several."),
    ("POLICY.reconcile-last", "What a launch goes by where the policy cannot be read."),
];

/// Calls of a command, with what they are for.
pub(super) fn examples(command: &str) -> &'static str {
    match command {
        "plan" => "reconcile plan\nreconcile plan --chat \"Cal Ortiz\"\nreconcile plan --output json=plan.json",
        "apply" => {
            "reconcile apply --confirm\nreconcile apply --plan plan.json\nreconcile apply --quiet --lock-timeout 4m"
        }
        "check" => "reconcile check --policy policies/\nreconcile check --registry sessions.json --deny warnings",
        "doctor" => "reconcile doctor\nreconcile doctor --format json",
        "list" => "reconcile list --tier family\nreconcile list --format json",
        "explain" => "reconcile explain \"Cal Ortiz\"\nreconcile explain discord:1 --source discord --tier family",
        "diff" => "reconcile diff --from git:main\nreconcile diff --from old.toml --output markdown=comment.md",
        "set-model" => {
            "reconcile set-model \"Cal Ortiz\" opus --until 7d --reason \"thesis season\"\n\
             reconcile set-model +16175550103 opus --dry-run"
        }
        "unset-model" => "reconcile unset-model \"Cal Ortiz\"",
        "undo" => "reconcile undo last --dry-run",
        "launch" => {
            "reconcile launch +16175550103 --session-name imessage/_16175550103 --tier family -- \\\n    \
             claude --model {model} --session-id {new_session_id} --resume {resume_id}"
        }
        "record-session" => "reconcile record-session +16175550103 0c7e6a52-3d0f-4a57-9f42-8b1f1d2c9a02",
        "init" => "reconcile init\nreconcile init --registry sessions.json",
        "adopt" => "reconcile adopt --registry sessions.json --write policy.toml",
        "history" => "reconcile history --limit 5\nreconcile history \"Cal Ortiz\" --format json",
        "owed" => "reconcile owed\nreconcile owed --forget \"Cal Ortiz\"",
        "snapshot" => "reconcile snapshot --redact > registry.redacted.json",
        "completions" => {
            "source <(reconcile completions bash)\nsource <(reconcile completions zsh)\nreconcile completions fish | source"
        }
        "man" => {
            "reconcile man | man -l -\n\
             reconcile man check > /usr/local/share/man/man1/reconcile-check.1\n\
             reconcile man reconcile.toml > /usr/local/share/man/man5/reconcile.toml.5"
        }
        _ => "",
    }
}

/// A section whose lines stay as they are.
pub(super) fn verbatim(roff: &mut Roff, heading: &str, text: &str) {
    roff.control("SH", [heading.to_uppercase().as_str()]).control("nf", []);
    for line in text.lines() {
        roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
    }
    roff.control("fi", []);
}

/// A section of words, each with what it is.
pub(super) fn list(roff: &mut Roff, heading: &str, entries: &[(&str, &str)]) {
    roff.control("SH", [heading]);
    for (word, text) in entries {
        roff.control("TP", []).text([bold(*word)]).text([roman(*text)]);
    }
}
