//! Why what the command line asks for cannot be done, before any command does its own work.

use std::path::PathBuf;

use crate::error::{Explain, Explanation};
use crate::foreign::{Foreign, Public, Sentence, sentence};

/// Why the registry that a command is about cannot be found or used.
#[derive(Debug)]
pub(crate) enum PlaceProblem {
    /// The policy does not name one.
    NoRegistry { policy: Foreign },
    /// The policy is a link, and the path counts from the link's directory.
    BesideLink { beside: PathBuf, policy: Foreign, found: PathBuf },
    /// A path begins with the home directory, and there is none.
    NoHome,
    /// There is no directory for what runs remember of a gateway.
    NoStateHome,
    /// The address of a gateway is not one to which a token may go.
    Gateway { why: Foreign, named: NamedBy, hint: &'static str },
    /// The policy names a gateway on another host.
    GatewayElsewhere { address: Foreign, variable: &'static str },
    /// The policy pins the certificate of a gateway on another host.
    CertificateElsewhere { address: Foreign, variable: &'static str },
    /// A variable does not hold the fingerprint of a certificate.
    Fingerprint { variable: &'static str },
    /// What names the server is no connection.
    Server { variable: &'static str, why: Foreign, advice: Foreign },
    /// This build has no support for PostgreSQL.
    #[cfg(not(feature = "postgres"))]
    NoPostgres { table: Foreign },
    /// A key was given for a registry that needs none.
    NotRedacted { registry: Foreign },
    /// A snapshot needs its key.
    RedactedWithoutKey { registry: Foreign },
    /// A snapshot was made with another key.
    OtherKey { registry: Foreign },
    /// A rule of the policy asks for what a snapshot does not have.
    RuleOnNames { rule: Foreign, file: Public, line: usize },
    /// The policy has mistakes, and the registry that it names cannot be guessed.
    PolicyUnreadable { message: Sentence },
    /// A snapshot is not a registry.
    Snapshot { file: Foreign },
    /// `TZ` does not name a time zone.
    TimeZone { named: Foreign, advice: Foreign },
}

/// What names the address of a gateway.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NamedBy {
    /// The user of this host.
    Host,
    /// The policy.
    Policy,
}

impl Explain for PlaceProblem {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoRegistry { policy } => {
                Explanation::new("registry-not-named", sentence!("{} names no registry", policy))
                    .hint("add registry.path to it, or pass --registry PATH")
            }
            Self::BesideLink { beside, policy, found } => Explanation::new(
                "no-registry",
                sentence!("there is no registry {}", beside),
            )
            .hint(sentence!(
                "{} is a symbolic link, and its paths are relative to the directory of the link; {} is there: pass it \
                 with --registry, or write its absolute path in the policy",
                policy,
                found
            )),
            Self::NoHome => Explanation::new("no-home", "HOME is not set, and a path in the policy begins with ~")
                .hint("set HOME to the home directory of the user whose sessions these are, or write the whole path"),
            Self::NoStateHome => {
                let message = "neither XDG_STATE_HOME nor HOME is set, so there is no directory for the state of runs";
                Explanation::new("no-state-home", message).hint("set one of them, or sessions.state in the policy")
            }
            Self::Gateway { why, named, hint } => {
                let message = match named {
                    NamedBy::Host => why.into(),
                    NamedBy::Policy => sentence!("{}, and a policy cannot choose another host to send a token to", why),
                };
                Explanation::new("gateway-address", message).hint(*hint)
            }
            Self::GatewayElsewhere { address, variable } => {
                let message = sentence!(
                    "{} is not on this host, and a policy cannot choose another host to send a token to",
                    address
                );
                Explanation::new("gateway-elsewhere", message)
                    .hint(sentence!("if you trust it, pass it with --connect, or set {}", *variable))
            }
            Self::CertificateElsewhere { address, variable } => {
                let message = sentence!(
                    "{} is not on this host, and a policy cannot choose which certificate to trust for it",
                    address
                );
                Explanation::new("certificate-elsewhere", message)
                    .hint(sentence!("if you trust it, set {} to sessions.fingerprint of the policy", *variable))
            }
            Self::Fingerprint { variable } => {
                Explanation::new("not-a-fingerprint", sentence!("{} is not the SHA-256 of a certificate", *variable))
                    .hint("write it as sha256:…, with 64 hexadecimal digits")
            }
            Self::Server { variable, why, advice } => {
                let message = sentence!("--connect, or {}, names no server: {}", *variable, why);
                Explanation::new("server-address", message)
                    .hint(advice)
                    .nameless_hint("name it as in postgres://HOST/DATABASE, or as in host=HOST dbname=DATABASE")
            }
            #[cfg(not(feature = "postgres"))]
            Self::NoPostgres { table } => {
                let message =
                    sentence!("the registry is the table {}, and this build of reconcile reads only files", table);
                Explanation::new("no-postgres", message)
                    .hint("install a build with PostgreSQL: cargo install --path . --features postgres")
            }
            Self::NotRedacted { registry } => {
                let message =
                    sentence!("{} is not a redacted snapshot, so its chats would be shown as they are", registry);
                Explanation::new("not-redacted", message).hint("also pass --redact, or leave out --redact-key")
            }
            Self::RedactedWithoutKey { registry } => {
                Explanation::new("redacted-without-key", sentence!("{} is a redacted snapshot", registry))
                    .hint("pass the key that it was made with: --redact-key FILE")
            }
            Self::OtherKey { registry } => {
                Explanation::new("other-key", sentence!("{} was redacted with another key", registry))
                    .hint("the key is redact.key in the state directory of the registry that it was made from")
            }
            Self::RuleOnNames { rule, file, line } => {
                let message = sentence!(
                    "{} ({}:{}) selects chats by pattern or name, which pseudonyms do not have",
                    rule,
                    file,
                    *line
                );
                Explanation::new("rule-on-names", message)
                    .hint("select by source, tier or type, or by whole chat ids in [[assign]] or [chats]")
            }
            Self::PolicyUnreadable { message } => Explanation::new("policy-unreadable", message)
                .hint("fix it (reconcile check shows all mistakes), or pass --registry"),
            Self::Snapshot { file } => {
                Explanation::new("snapshot", sentence!("{} is a redacted snapshot, not a registry", file))
                    .hint("plan on it with --dry-run; apply the plan where the registry is, with --plan and --redact")
            }
            Self::TimeZone { named, advice } => {
                let message = sentence!("TZ is `{}`, which is not a known time zone, so UTC is used", named);
                Explanation::new("time-zone", message)
                    .hint(sentence!("{}; or set models.time_zone in the policy", advice))
            }
        }
    }
}

/// Why an option of a run cannot be used.
#[derive(Debug)]
pub(crate) enum OptionProblem {
    /// A date is out of the calendar.
    UntilTooLate,
    /// A length of time is out of the calendar.
    WithinTooLate,
    /// Two reports would be written to one file.
    TwoReports { path: PathBuf },
    /// A report would take the place of what the run needs.
    Needed { option: &'static str, path: PathBuf },
    /// A report would take the place of what is no file.
    NotReplaceable { path: PathBuf, kind: &'static str },
    /// Metrics cannot be written there.
    NoMetricsFile { path: PathBuf },
    /// Metrics would take the place of something else.
    NotMetrics { path: PathBuf },
    /// `--plan` names neither a plan id nor a report.
    Plan { path: PathBuf, why: Sentence, id_length: usize },
    /// There is no memory of what was set by hand.
    NothingToTakeOver,
    /// A user who is not root can change what root would run.
    Exposed { path: PathBuf },
    /// The policy was changed while the command waited.
    PolicyChanged { policy: Public },
}

impl Explain for OptionProblem {
    fn explain(&self) -> Explanation {
        match self {
            Self::UntilTooLate => {
                Explanation::new("until-too-late", "--until is too far away: the calendar ends in the year 9999")
                    .hint("name an earlier day, as in 2026-12-31")
            }
            Self::WithinTooLate => {
                Explanation::new("within-too-late", "--within is too long: the calendar ends in the year 9999")
                    .hint("name a shorter time, as in 14d or 36h")
            }
            Self::TwoReports { path } => {
                Explanation::new("two-reports", sentence!("--output {}: two reports would go into that file", path))
                    .hint("name another file")
            }
            Self::Needed { option, path } => {
                Explanation::new("file-needed", sentence!("{} {}: the run itself needs that file", *option, path))
                    .hint("name another file")
            }
            Self::NotReplaceable { path, kind } => {
                Explanation::new("not-replaceable", sentence!("cannot write {}: it is {}", path, *kind))
                    .hint("name a regular file, or a new one; for stdout or a pipe, use --format")
            }
            Self::NoMetricsFile { path } => {
                Explanation::new("no-metrics-file", sentence!("--metrics {}: no file can be created there", path))
                    .hint("name a file in a directory that exists")
            }
            Self::NotMetrics { path } => Explanation::new(
                "not-metrics",
                sentence!("--metrics {}: that file contains something other than metrics", path),
            )
            .hint("name another file, or remove this one"),
            Self::Plan { path, why, id_length } => {
                let message = sentence!("--plan {}: neither a plan id nor a readable file: {}", path, why);
                Explanation::new("no-such-plan", message)
                    .hint(sentence!("a plan id has {} hex digits, and a dry run prints it on stderr", *id_length))
            }
            Self::NothingToTakeOver => {
                let message = "there is nothing to take over: the policy does not say existing = \"keep-manual\"";
                Explanation::new("nothing-to-take-over", message).hint("leave out --take-over and --take-over-all")
            }
            Self::Exposed { path } => {
                let message = sentence!("others can write {}, and its commands would run as root", path);
                Explanation::new("policy-exposed", message)
                    .hint("chown it to root and chmod go-w it, or run as the sessions' own user")
            }
            Self::PolicyChanged { policy } => {
                Explanation::new("policy-changed", sentence!("{} was changed by another program meanwhile", policy))
                    .hint("that change was kept, and this command did nothing: run it again")
            }
        }
    }
}
