//! Arguments that several commands take, and how their values are read.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};

use crate::chat::Chat;
use crate::error::Result;
use crate::plan::ID_LENGTH;
use crate::policy::Until;
use crate::redact::Redaction;
use crate::report::Format;
use crate::state::key::redaction_key;

#[derive(Clone, Debug, Args)]
pub(crate) struct PlaceArgs {
    /// The policy: a TOML file, or a directory of them (or `RECONCILE_POLICY`; default: policy.toml)
    #[arg(long = "policy", global = true, value_name = "PATH")]
    policy_path: Option<PathBuf>,

    /// The registry, instead of the policy's registry.path (or `RECONCILE_REGISTRY`)
    #[arg(long = "registry", global = true, value_name = "PATH")]
    registry_path: Option<PathBuf>,

    /// How long to wait for another run to finish
    #[arg(long, global = true, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) lock_timeout: Duration,

    /// Show chats under pseudonyms, and nothing else that says whose they are
    #[arg(long, global = true, help_heading = "Privacy")]
    pub(crate) redact: bool,

    /// The key of the pseudonyms, to plan on a redacted snapshot, or to use another than the registry's own
    #[arg(long, global = true, value_name = "FILE", help_heading = "Privacy")]
    pub(crate) redact_key: Option<PathBuf>,
}

impl PlaceArgs {
    pub(crate) fn policy(&self) -> PathBuf {
        self.policy_path.clone().or_else(|| variable("RECONCILE_POLICY")).unwrap_or_else(|| "policy.toml".into())
    }

    /// The key that the user names, if any.
    pub(crate) fn redaction_key(&self) -> Result<Option<Redaction>> {
        self.redact_key.as_deref().map(redaction_key).transpose()
    }

    pub(crate) fn registry(&self) -> Option<PathBuf> {
        self.registry_path.clone().or_else(|| variable("RECONCILE_REGISTRY"))
    }
}

/// A path in the environment. An empty one is none: service managers write them so.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[derive(Clone, Debug, Default, PartialEq, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct RunArgs {
    /// Print the plan; write nothing, and run nothing that the policy names
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,

    /// In a dry run, ask which sessions are running, with the policy's `running` command
    #[arg(long, requires = "dry_run")]
    pub(crate) probe: bool,

    /// In a dry run, plan as of another time: 2026-12-31, 2026-12-31T18:00 (in the policy's time zone), or with an offset
    #[arg(long, requires = "dry_run", value_name = "TIME", value_parser = moment)]
    pub(crate) at: Option<Moment>,

    /// In a dry run, exit with 2 if a run would do something
    #[arg(long, requires = "dry_run")]
    pub(crate) detailed_exitcode: bool,

    /// Only this chat: its id, its session's name, or its contact's (repeatable)
    #[arg(long, value_name = "CHAT", help_heading = "Which chats")]
    pub(crate) chat: Vec<String>,

    /// Only chats of this tier (repeatable, adds to --chat)
    #[arg(long, value_name = "TIER", help_heading = "Which chats")]
    pub(crate) tier: Vec<String>,

    /// Not this chat (repeatable)
    #[arg(long, value_name = "CHAT", help_heading = "Which chats")]
    pub(crate) exclude: Vec<String>,

    /// Try this chat now, though it waits for its next try or is held (repeatable)
    #[arg(long, value_name = "CHAT", help_heading = "Which chats")]
    pub(crate) retry: Vec<String>,

    /// Apply this plan or nothing: all 32 digits of a plan id, or the JSON report of a dry run
    #[arg(long, value_name = "ID|FILE", value_parser = named_plan, help_heading = "Consent")]
    pub(crate) plan: Option<NamedPlan>,

    /// Consent to so many changes, instead of the policy's limit
    #[arg(long, value_name = "N", help_heading = "Consent")]
    pub(crate) allow_changes: Option<usize>,

    #[command(flatten)]
    pub(crate) report: ReportArgs,

    /// Print nothing where there was nothing to do and nothing went wrong; what stays wrong is told when it begins, changes
    /// and ends, and once a day
    #[arg(long, short = 'q', help_heading = "Output")]
    pub(crate) quiet: bool,

    /// Write what became of a run for the whole registry as metrics for Prometheus's node exporter
    #[arg(long, value_name = "FILE", conflicts_with_all = ["chat", "tier", "exclude"], help_heading = "Output")]
    pub(crate) metrics: Option<PathBuf>,
}

/// Where a plan is shown, for every command that makes one.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub(crate) struct ReportArgs {
    /// How the report is written to stdout: text, json, markdown or, of what happens to the registry, diff
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_default_value = true, value_parser = one_of(&FORMATS), hide_possible_values = true, help_heading = "Output")]
    pub(crate) format: Format,

    /// Write the report to a file as well, in a format of its own (repeatable)
    #[arg(long, value_name = "FORMAT=FILE", value_parser = file_of(&FORMATS), help_heading = "Output")]
    pub(crate) output: Vec<(Format, PathBuf)>,
}

impl ReportArgs {
    pub(crate) fn formats(&self) -> impl Iterator<Item = Format> {
        self.output.iter().map(|(format, _)| *format).chain([self.format])
    }
}

/// How a command that edits the policy runs.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct EditArgs {
    /// Show the edit of the policy and the plan; write nothing, and run nothing that the policy names
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,

    /// Consent to so many changes, instead of the policy's limit
    #[arg(long, value_name = "N")]
    pub(crate) allow_changes: Option<usize>,

    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

/// What the registry may not say of a chat. Its own fields win.
#[derive(Clone, Debug, Args)]
pub(crate) struct FieldArgs {
    /// Its tier, where the registry does not say it
    #[arg(long, value_name = "TIER")]
    pub(crate) tier: Option<String>,

    /// Its session's name, where the registry does not say it
    #[arg(long, value_name = "NAME")]
    pub(crate) session_name: Option<String>,

    /// Its contact's name, where the registry does not say it
    #[arg(long, value_name = "NAME")]
    pub(crate) contact_name: Option<String>,

    /// Its type, such as individual or group, where the registry does not say it
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,

    /// Its source, such as imessage, where the registry does not say it
    #[arg(long, value_name = "SOURCE")]
    pub(crate) source: Option<String>,
}

impl FieldArgs {
    /// A chat of which only this is known.
    pub(crate) fn chat(&self) -> Chat<'static> {
        let own = |field: &Option<String>| field.clone().filter(|text| !text.is_empty()).map(Into::into);
        Chat {
            id: "".into(),
            session_name: own(&self.session_name),
            contact_name: own(&self.contact_name),
            tier: own(&self.tier),
            kind: own(&self.kind),
            source: own(&self.source),
        }
    }
}

/// The plan that `--plan` names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NamedPlan {
    Id(String),
    File(PathBuf),
}

/// What consists of hexadecimal digits alone is an id, also where a file has that name: a shortened id must never be taken for
/// something else.
fn named_plan(text: &str) -> Result<NamedPlan, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(NamedPlan::File(text.into()));
    }
    let is_id = text.len() == ID_LENGTH && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    is_id.then(|| NamedPlan::Id(text.to_owned())).ok_or_else(|| {
        let digits = text.len();
        format!(
            "a plan id has {ID_LENGTH} lowercase hex digits, and this has {digits} digits; \
             a dry run prints the id on stderr, and a file with such a name is given as ./NAME"
        )
    })
}

/// A time as the user wrote it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Moment {
    Local(DateTime),
    Instant(Timestamp),
}

impl Moment {
    /// That time in a time zone.
    pub(crate) fn in_zone(self, zone: TimeZone) -> Result<Zoned, jiff::Error> {
        match self {
            Self::Local(time) => time.to_zoned(zone),
            Self::Instant(instant) => Ok(instant.to_zoned(zone)),
        }
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    let instant = || text.parse().map(Moment::Instant).ok();
    let civil = || day(text).map(Date::into).or_else(|| text.parse().ok());
    // A time zone in brackets is skipped in a local time; only beside an offset does that not matter. And near the ends of
    // the calendar a local time may be no instant in the policy's time zone, which is not known here.
    let exists = |time: &DateTime| [Offset::MIN, Offset::MAX].iter().all(|offset| offset.to_timestamp(*time).is_ok());
    let local = || civil().filter(|time| !text.contains('[') && exists(time)).map(Moment::Local);
    instant().or_else(local).ok_or_else(|| "a date or a date-time, as in 2026-12-31 or 2026-12-31T18:00".to_owned())
}

/// The end of an override, as a policy would say it.
pub(crate) fn until(text: &str) -> Result<Until, String> {
    day(text).map(Until::Date).map_or_else(|| moment(text).map(Until::from), Ok)
}

/// A date alone.
fn day(text: &str) -> Option<Date> {
    text.parse().ok().filter(|_| !text.contains(['T', 't', ' ', '[']))
}

impl From<Moment> for Until {
    fn from(moment: Moment) -> Self {
        match moment {
            Moment::Local(time) => Self::Local(time),
            Moment::Instant(instant) => Self::Instant(instant),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    parsed.ok_or_else(|| "a number and a unit (ms, s, m or h), as in 10s".to_owned())
}

const FORMATS: [(&str, Format); 4] =
    [("text", Format::Text), ("json", Format::Json), ("markdown", Format::Markdown), ("diff", Format::Diff)];

/// Reads the name of one of these formats.
pub(crate) fn one_of<F: Copy + Send + Sync>(known: &'static [(&'static str, F)]) -> impl TypedValueParser<Value = F> {
    PossibleValuesParser::new(known.iter().map(|(name, _)| *name)).try_map(|text: String| format(known, &text))
}

/// Reads one of these formats with a file, as in json=plan.json.
pub(crate) fn file_of<F: Copy>(known: &'static [(&str, F)]) -> impl Fn(&str) -> Result<(F, PathBuf), String> + Clone {
    |text: &str| {
        let (name, file) = text.split_once('=').ok_or("a format and a file, as in json=plan.json")?;
        if file.is_empty() {
            return Err("the file's name is empty".to_owned());
        }
        if file == "-" {
            return Err("for stdout there is --format; a file of that name is ./-".to_owned());
        }
        Ok((format(known, name)?, PathBuf::from(file)))
    }
}

fn format<F: Copy>(known: &[(&str, F)], text: &str) -> Result<F, String> {
    let found = known.iter().find(|(name, _)| *name == text);
    found.map(|(_, format)| *format).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        format!("known formats: {}", names.join(", "))
    })
}
