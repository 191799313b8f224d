//! A first policy, for a registry that is not there yet. What a user may want next stands there as a comment.

/// The policy. Its registry is beside it.
pub(crate) const FIRST_POLICY: &str = r#"# Which model each chat's session runs on. `reconcile check` looks for mistakes in this file, and `reconcile --dry-run`
# shows what a run would change.

[models]
allowed  = ["opus", "sonnet", "haiku"]       # what this policy may name
fallback = "sonnet"                          # no tier, or a tier that is not listed

[tiers]                                      # who a chat is with
admin    = "opus"
family   = "sonnet"
favorite = "sonnet"
bots     = "haiku"
unknown  = "haiku"

# [[rules]]                                  # before tiers; the first that matches decides
# source = "discord"
# model  = "haiku"

# [chats]                                    # before everything, by chat id; `reconcile set-model` writes here
# "+16175550112" = { model = "opus", until = 2099-12-31, reason = "thesis season" }

[registry]
path = "sessions.json"                       # the first `reconcile launch` creates it

[sessions]                                   # without a restart command, only the registry is changed
# restart  = ["supervisorctl", "restart", "{session_slug}"]
# running  = ["supervisorctl", "status", "{session_slug}"]
# identity = ["supervisorctl", "pid", "{session_slug}"]
# conversation = "~/.claude/projects/{cwd_slug}/{session_id}.jsonl"    # where Claude Code keeps conversations
"#;
