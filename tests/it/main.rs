//! All tests of behaviour, in one binary.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests set the scene with files, processes and the environment, and fail by panicking"
)]

mod adopt;
mod after_effects;
mod arguments;
mod assess;
#[cfg(target_os = "linux")]
mod attributes;
mod backends;
mod bad_input;
mod bad_state;
mod between;
mod cases;
mod ci_flow;
mod civil_time;
mod commands;
mod commands_as_root;
mod cron;
mod dangling;
mod dispatch;
mod dispatch_debts;
mod dispatch_down;
mod dispatch_socket;
mod double;
mod exits;
mod explain;
mod faults;
mod files;
#[path = "../double/handle.rs"]
mod handle;
mod history;
mod hostile;
mod imports;
mod injected;
mod interrupted;
mod invalid;
mod journal;
mod journal_text;
mod kit_arguments;
mod kits;
mod launch;
mod launch_faults;
mod launch_process;
mod launch_registry;
mod laws;
mod ledger;
mod lints;
mod lossless;
mod lossless_laws;
mod manual;
mod markdown;
mod misleading;
mod names;
mod nightly;
mod old_state;
mod patience;
mod placeholders;
mod policy_edit;
mod policy_edit_laws;
mod preflight;
mod readers;
mod readme;
mod redaction;
mod registry_form;
mod reports;
mod retired;
mod rollout_laws;
mod scarce;
mod schema;
mod selectors;
mod set_model;
mod set_model_races;
mod sizes;
mod slow;
mod spec;
mod suggestions;
mod supervisors;
mod support;
mod terminal;
mod tidy;
mod vanished;
mod verify;
mod world;
mod writers;
