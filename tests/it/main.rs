//! All tests of behaviour, in one binary.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests set the scene with files, processes and the environment, and fail by panicking"
)]

mod action;
mod adopt;
mod after_effects;
mod arguments;
mod assess;
mod assign;
#[cfg(target_os = "linux")]
mod attributes;
mod backends;
mod bad_input;
mod bad_state;
mod between;
mod cases;
mod ci_flow;
mod civil_time;
mod claude;
mod commands;
mod commands_as_root;
mod completion;
mod confirm;
mod cron;
mod daily;
mod dangling;
mod dispatch;
mod dispatch_conversations;
mod dispatch_debts;
mod dispatch_down;
mod dispatch_failed;
mod dispatch_laws;
mod dispatch_new_chats;
mod dispatch_socket;
mod doctor;
mod double;
mod errors;
mod exits;
mod explain;
mod faults;
mod files;
mod foreign;
mod foreign_state;
mod gateway;
mod globs;
#[path = "../double/handle.rs"]
mod handle;
mod help;
mod history;
mod history_whole;
mod hostile;
mod imports;
mod init;
mod injected;
mod interrupted;
mod invalid;
mod journal;
mod journal_text;
mod keep_manual;
mod keep_manual_laws;
mod kit_arguments;
mod kits;
mod last_applied;
mod launch;
mod launch_conversation;
mod launch_faults;
mod launch_process;
mod launch_registry;
mod launch_unreadable;
mod laws;
mod ledger;
mod lengths;
mod line_starts;
mod lints;
mod list;
mod lossless;
mod lossless_laws;
mod manual;
mod markdown;
mod misleading;
mod mounts;
mod names;
mod nightly;
mod odd_paths;
mod old_state;
mod openclaw;
mod openclaw_commands;
mod openclaw_consent;
mod openclaw_errors;
mod openclaw_faults;
mod openclaw_hangs;
mod openclaw_interrupted;
mod openclaw_meanings;
mod openclaw_names;
mod openclaw_real;
mod openclaw_recordings;
#[cfg(feature = "remote")]
mod openclaw_remote;
mod openclaw_thinking;
mod pages;
mod patience;
mod placeholders;
mod policy_edit;
mod policy_edit_laws;
mod pre_receive;
mod preflight;
mod quiet;
mod readers;
mod record_session;
mod redaction;
mod redaction_laws;
mod registry_form;
mod reports;
mod restart_laws;
mod retired;
mod rollout;
mod rollout_laws;
mod scarce;
mod schema;
mod selectors;
#[cfg(feature = "postgres")]
#[path = "../postgres/server.rs"]
#[allow(dead_code, reason = "these tests need a part of it")]
mod server;
mod set_model;
mod set_model_races;
mod sizes;
mod slow;
mod spec;
mod suggestions;
mod supervisors;
mod support;
mod terminal;
mod then;
mod tidy;
mod vanished;
mod verbose;
mod verify;
mod wide;
#[cfg(not(feature = "postgres"))]
mod without_postgres;
#[cfg(not(feature = "remote"))]
mod without_remote;
mod world;
mod writers;
