//! Arguments that several commands take, and how their values are read.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args};
use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;
use jiff::{RoundMode, SpanFieldwise, Timestamp, TimestampRound, Unit, Zoned};

use crate::chat::Chat;
use crate::cli::color::{COLORS, Color};
use crate::cli::paths::{POLICY, called, expanded};
use crate::cli::problem::OptionProblem;
use crate::cli::trace::{Detail, Trace};
use crate::error::Result;
use crate::file_name::Called;
use crate::length;
use crate::plan::ID_LENGTH;
use crate::plan::select::{Selector, TakeOver};
use crate::policy::Until;
use crate::redact::Redaction;
use crate::report::shown::Naming;
use crate::report::{Format, TextOrJson};
use crate::sources::{self, PolicyFiles};
use crate::state::key::redaction_key;

/// The heading of what every command takes. A command's own options stand before it.
const SHARED: &str = "Shared options";

#[derive(Clone, Debug, Args)]
pub(crate) struct PlaceArgs {
    /// The policy: a TOML file, or a directory of them (or `RECONCILE_POLICY`; default: policy.toml)
    #[arg(long = "policy", global = true, value_name = "PATH", help_heading = SHARED)]
    policy_path: Option<PathBuf>,

    /// The registry, instead of the policy's registry.path (or `RECONCILE_REGISTRY`)
    #[arg(long = "registry", global = true, value_name = "PATH", help_heading = SHARED)]
    registry_path: Option<PathBuf>,

    /// The gateway or server to connect to, instead of the policy's sessions.url or registry.postgres (or
    /// `RECONCILE_GATEWAY_URL`, `RECONCILE_POSTGRES`)
    #[arg(long = "connect", global = true, value_name = "ADDRESS", help_heading = SHARED)]
    connect_address: Option<String>,

    /// How long to wait for another run to finish
    #[arg(long, global = true, value_name = "TIME", default_value = "10s", value_parser = duration, help_heading = SHARED)]
    pub(crate) lock_timeout: Duration,

    /// When to use colours: auto, always or never (or `NO_COLOR`, `FORCE_COLOR`, `CLICOLOR_FORCE`)
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_default_value = true, value_parser = one_of(&COLORS), hide_possible_values = true, help_heading = SHARED)]
    pub(crate) color: Color,

    /// Log each step to stderr; given twice, also each command and request
    #[arg(long, short = 'v', global = true, action = ArgAction::Count, help_heading = SHARED)]
    verbose: u8,

    /// Show chats by pseudonyms, and nothing else that identifies them
    #[arg(long, global = true, help_heading = "Privacy")]
    pub(crate) redact: bool,

    /// The key for pseudonyms: of a redacted snapshot, or in place of the registry's own
    #[arg(long, global = true, value_name = "FILE", help_heading = "Privacy")]
    redact_key: Option<PathBuf>,
}

impl PlaceArgs {
    /// Whether the command line itself names a server, so that also what otherwise looks at files alone asks it.
    pub(crate) fn is_told_to_connect(&self) -> bool {
        self.connect_address.is_some()
    }

    pub(crate) fn policy(&self) -> PathBuf {
        let named = self.policy_path.clone().or_else(|| variable("RECONCILE_POLICY"));
        named.map_or_else(|| POLICY.into(), expanded)
    }

    /// The files of the policy.
    pub(crate) fn load(&self) -> Result<PolicyFiles> {
        sources::load(&self.policy(), self.called())
    }

    /// How the files of the policy are called.
    pub(crate) fn called(&self) -> Called {
        called(&self.policy(), self.naming())
    }

    /// What tells the user what the program does.
    pub(crate) fn trace(&self) -> Trace {
        let detail = match self.verbose {
            0 => Detail::Nothing,
            1 => Detail::Steps,
            _ => Detail::Exchanges,
        };
        Trace::new(detail, self.naming())
    }

    /// Whether names may be told.
    pub(crate) fn naming(&self) -> Naming {
        if self.redact { Naming::Hidden } else { Naming::Plain }
    }

    /// Whether the command line names the policy.
    pub(crate) fn names_policy(&self) -> bool {
        self.policy_path.is_some()
    }

    /// This place with another policy, where a command takes one of its own.
    pub(crate) fn with_policy(self, path: Option<PathBuf>) -> Self {
        Self { policy_path: path.or(self.policy_path), ..self }
    }

    /// The file with the key that the user names, if any.
    pub(crate) fn redact_key(&self) -> Option<PathBuf> {
        self.redact_key.clone().map(expanded)
    }

    /// The key that the user names, if any.
    pub(crate) fn redaction_key(&self) -> Result<Option<Redaction>> {
        self.redact_key().as_deref().map(redaction_key).transpose()
    }

    pub(crate) fn registry(&self) -> Option<PathBuf> {
        self.registry_path.clone().or_else(|| variable("RECONCILE_REGISTRY")).map(expanded)
    }

    /// The address of a server to which the user consents, if the user names one: here, or in this variable of the
    /// environment.
    pub(crate) fn connect(&self, variable: &str) -> Option<String> {
        let of_environment = || std::env::var(variable).ok().filter(|address| !address.is_empty());
        self.connect_address.clone().or_else(of_environment)
    }
}

/// A path in the environment. An empty one is none: service managers write them so.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// What a run takes, which is planned alone or applied.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(mut_group("PreviewArgs", |group| group.requires("dry_run")))]
pub(crate) struct RunArgs {
    /// Print the plan; write nothing, and run nothing that the policy names
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,

    /// Show the plan on the terminal, and ask before it is applied
    #[arg(long, conflicts_with_all = ["dry_run", "quiet"])]
    pub(crate) confirm: bool,

    #[command(flatten)]
    pub(crate) preview: PreviewArgs,

    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// What `reconcile plan` takes: a dry run by another name.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    preview: PreviewArgs,

    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

impl From<PlanArgs> for RunArgs {
    fn from(PlanArgs { preview, common }: PlanArgs) -> Self {
        Self { dry_run: true, confirm: false, preview, common }
    }
}

/// What only a dry run takes.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub(crate) struct PreviewArgs {
    /// In a dry run, ask which sessions are running, with the policy's `running` command
    #[arg(long)]
    pub(crate) probe: bool,

    /// In a dry run, plan as of another time: 2026-12-31, 2026-12-31T18:00 (in the policy's time zone), with an offset,
    /// or a duration from now: 7d
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) at: Option<Moment>,

    /// In a dry run, exit with 2 if a run would do something
    #[arg(long)]
    pub(crate) detailed_exitcode: bool,
}

/// What a run takes, whether it is applied or not.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct CommonArgs {
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,

    /// Try this chat now, even if it waits for its next try or is held (repeatable)
    #[arg(long, value_name = "CHAT", help_heading = "Selection")]
    retry: Vec<String>,

    /// Try all failed chats now, without waiting for their next try
    #[arg(long, help_heading = "Selection")]
    retry_failed: bool,

    /// Let the policy decide on this chat again, whose model was set by hand and is kept (repeatable)
    #[arg(long, value_name = "CHAT", help_heading = "Selection")]
    take_over: Vec<String>,

    /// Let the policy decide again on all chats whose models were set by hand and are kept
    #[arg(long, conflicts_with = "take_over", help_heading = "Selection")]
    take_over_all: bool,

    /// Apply this plan or nothing: all 32 digits of a plan id, or the JSON report of a dry run
    #[arg(long, value_name = "ID|FILE", value_parser = named_plan, help_heading = "Limits")]
    pub(crate) plan: Option<NamedPlan>,

    /// Allow up to N changes, instead of the policy's limit
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(crate) allow_changes: Option<usize>,

    #[command(flatten)]
    pub(crate) report: ReportArgs,

    /// Print nothing if there was nothing to do and nothing went wrong; a lasting problem is reported when it begins,
    /// changes and ends, and once a day; an error that prevents a plan is reported by every run
    #[arg(long, short = 'q', help_heading = "Output")]
    pub(crate) quiet: bool,

    /// Write the outcome of a run on the whole registry as metrics for Prometheus's node exporter
    #[arg(long, value_name = "FILE", conflicts_with_all = ["chat", "tier", "exclude"], help_heading = "Output")]
    pub(crate) metrics: Option<PathBuf>,
}

impl CommonArgs {
    /// The chats that the run is about, and how it treats them.
    pub(crate) fn selector(&self) -> Selector {
        let take_over = if self.take_over_all { TakeOver::All } else { TakeOver::Chats(self.take_over.clone()) };
        let (retry, retry_failed) = (self.retry.clone(), self.retry_failed);
        Selector { retry, retry_failed, take_over, ..self.selection.selector() }
    }
}

/// The chats that a command is about.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub(crate) struct SelectionArgs {
    /// Only this chat: its id, session name or contact's name (repeatable)
    #[arg(long, value_name = "CHAT", help_heading = "Selection")]
    pub(crate) chat: Vec<String>,

    /// Only chats of this tier, besides those of --chat (repeatable)
    #[arg(long, value_name = "TIER", help_heading = "Selection")]
    pub(crate) tier: Vec<String>,

    /// Not this chat (repeatable)
    #[arg(long, value_name = "CHAT", help_heading = "Selection")]
    pub(crate) exclude: Vec<String>,
}

impl SelectionArgs {
    pub(crate) fn selector(&self) -> Selector {
        let Self { chat, tier, exclude } = self.clone();
        Selector { chats: chat, tiers: tier, exclude, ..Selector::default() }
    }
}

/// Where a plan is shown, for every command that makes one.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub(crate) struct ReportArgs {
    /// Output format: text, json, markdown, or diff of the registry
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_default_value = true, value_parser = one_of(&Format::ALL), hide_possible_values = true, help_heading = "Output")]
    pub(crate) format: Format,

    /// Also write the report to a file, in any format (repeatable)
    #[arg(long, value_name = "FORMAT=FILE", value_parser = file_of(&Format::ALL), help_heading = "Output")]
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

    /// Allow up to N changes, instead of the policy's limit
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(crate) allow_changes: Option<usize>,

    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

/// What the registry may not say of a chat. Its own fields win.
#[derive(Clone, Debug, Args)]
pub(crate) struct FieldArgs {
    /// Its tier, if the registry has none
    #[arg(long, value_name = "TIER")]
    pub(crate) tier: Option<String>,

    /// Its session name, if the registry has none
    #[arg(long, value_name = "NAME")]
    pub(crate) session_name: Option<String>,

    /// Its contact's name, if the registry has none
    #[arg(long, value_name = "NAME")]
    pub(crate) contact_name: Option<String>,

    /// Its type, such as individual or group, if the registry has none
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,

    /// Its source, such as imessage, if the registry has none
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
            agent: None,
            account: None,
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
            "a plan id has {ID_LENGTH} lowercase hex digits, and this has {digits} digits; a dry run prints the id on \
             stderr; pass a file with such a name as ./NAME"
        )
    })
}

/// A time as the user wrote it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Moment {
    Local(DateTime),
    Instant(Timestamp),
    /// A length of time from now.
    In(SpanFieldwise),
}

impl Moment {
    /// That time, where it is `now`.
    pub(crate) fn from(self, now: &Zoned) -> Result<Zoned, jiff::Error> {
        match self {
            Self::Local(time) => time.to_zoned(now.time_zone().clone()),
            Self::Instant(instant) => Ok(instant.to_zoned(now.time_zone().clone())),
            Self::In(length) => now.checked_add(length.0),
        }
    }

    /// That time, where it is `now` and a length of time is one that is over.
    pub(crate) fn before(self, now: &Zoned) -> Result<Zoned, jiff::Error> {
        match self {
            Self::In(length) => now.checked_sub(length.0),
            Self::Local(_) | Self::Instant(_) => self.from(now),
        }
    }
}

/// The end of an override, as the user wrote it.
#[derive(Clone, Debug)]
pub(crate) enum End {
    At(Until),
    /// A length of time from now.
    In(SpanFieldwise),
}

impl End {
    /// The end as a policy says it, where it is `now`.
    ///
    /// # Errors
    /// If the calendar ends before that time.
    pub(crate) fn from(&self, now: &Zoned) -> Result<Until> {
        let length = match self {
            Self::At(until) => return Ok(until.clone()),
            Self::In(length) => length.0,
        };
        let to_seconds = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil);
        let end = now.checked_add(length).and_then(|end| end.timestamp().round(to_seconds));
        end.map(Until::Instant).map_err(|_| OptionProblem::UntilTooLate.into())
    }
}

pub(crate) fn moment(text: &str) -> Result<Moment, String> {
    let instant = || text.parse().map(Moment::Instant).ok();
    let civil = || day(text).map(Date::into).or_else(|| text.parse().ok());
    // A time zone in brackets is skipped in a local time; only beside an offset does that not matter. And near the ends of
    // the calendar a local time may be no instant in the policy's time zone, which is not known here.
    let exists = |time: &DateTime| [Offset::MIN, Offset::MAX].iter().all(|offset| offset.to_timestamp(*time).is_ok());
    let local = || civil().filter(|time| !text.contains('[') && exists(time)).map(Moment::Local);
    let from_now = || length::span(text.strip_prefix('+').unwrap_or(text)).map(|length| Moment::In(length.fieldwise()));
    instant().or_else(local).or_else(from_now).ok_or_else(|| {
        "a date, a date-time or a duration from now, as in 2026-12-31, 2026-12-31T18:00 or 7d".to_owned()
    })
}

/// A time that is over, where a length of time is so long ago.
pub(crate) fn past(text: &str) -> Result<Moment, String> {
    let past = Some(text).filter(|text| !text.starts_with('+')).and_then(|text| moment(text).ok());
    past.ok_or_else(|| {
        "a date, a date-time or a duration before now, as in 2026-12-31, 2026-12-31T18:00 or 7d".to_owned()
    })
}

/// The end of an override, as a policy would say it.
pub(crate) fn until(text: &str) -> Result<End, String> {
    if let Some(day) = day(text) {
        return Ok(End::At(Until::Date(day)));
    }
    Ok(match moment(text)? {
        Moment::Local(time) => End::At(Until::Local(time)),
        Moment::Instant(instant) => End::At(Until::Instant(instant)),
        Moment::In(length) => End::In(length),
    })
}

/// A date alone.
fn day(text: &str) -> Option<Date> {
    text.parse().ok().filter(|_| !text.contains(['T', 't', ' ', '[']))
}

fn duration(text: &str) -> Result<Duration, String> {
    length::duration(text).ok_or_else(|| format!("{} 10s", length::FORM))
}

/// The formats of what has only these.
pub(crate) const TEXT_OR_JSON: [(&str, TextOrJson); 2] = [("text", TextOrJson::Text), ("json", TextOrJson::Json)];

/// Reads the name of one of these formats.
pub(crate) fn one_of<F: Copy + Send + Sync>(known: &'static [(&'static str, F)]) -> impl TypedValueParser<Value = F> {
    PossibleValuesParser::new(known.iter().map(|(name, _)| *name)).try_map(|text: String| format(known, &text))
}

/// Reads one of these formats with a file, as in json=plan.json.
pub(crate) fn file_of<F: Copy>(known: &'static [(&str, F)]) -> impl Fn(&str) -> Result<(F, PathBuf), String> + Clone {
    |text: &str| {
        let (name, file) = text.split_once('=').ok_or("a format and a file, as in json=plan.json")?;
        if file.is_empty() {
            return Err("the file name is empty".to_owned());
        }
        if file == "-" {
            return Err("for stdout, use --format; for a file of that name, pass ./-".to_owned());
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
