//! Dates and times without an offset: each becomes one instant, in the time zone of the policy or else of the host.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use reconcile::backend::capabilities;
use reconcile::plan::{Side, policy_diff};
use reconcile::policy::{Source, Until, read};
use reconcile::registry::json::JsonText;
use serde_json::Value;

use crate::support::{POLICY, Run, Sandbox, finish, registry};

const CHAT: &str = "+16175550142";

/// A family chat on sonnet, which an override sets to opus until then. `models`: more lines below [models].
fn sandbox(models: &str, until: &str) -> Sandbox {
    let policy = POLICY.replace("[tiers]", &format!("{models}\n[tiers]"));
    let chats = format!("[chats]\n\"{CHAT}\" = {{ model = \"opus\", until = {until} }}\n");
    Sandbox::new(&format!("{policy}{chats}"), &registry(&[(CHAT, "family", "haiku")]))
}

fn dry_run(sandbox: &Sandbox, zone: &str, at: &str) -> Run {
    finish(sandbox.command(&["--dry-run", "--at", at, "--format", "json"]).env("TZ", zone)).expect(0)
}

/// What the chat should run on at that time.
fn model(sandbox: &Sandbox, zone: &str, at: &str) -> String {
    let report: Value = serde_json::from_str(&dry_run(sandbox, zone, at).stdout).unwrap();
    report["changes"][0]["after"].as_str().unwrap().to_owned()
}

#[test]
fn an_override_ends_once_where_an_hour_repeats() {
    let sandbox = sandbox("", "2026-10-25T02:30:00");
    let at = |time: &str| model(&sandbox, "Europe/Berlin", &format!("2026-10-25T{time}:00Z"));
    assert_eq!(["00:20", "00:35", "01:05", "01:35"].map(at), ["opus", "sonnet", "sonnet", "sonnet"]);
}

#[test]
fn a_time_becomes_the_first_instant_at_which_a_clock_shows_it_or_a_later_one() {
    let end = |until: Until, zone: &str| {
        let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
        until.end(&zone).map(|end| end.to_string()).unwrap_or_default()
    };
    let local = |time: &str, zone: &str| end(Until::Local(time.parse().unwrap()), zone);
    let date = |date: &str, zone: &str| end(Until::Date(date.parse().unwrap()), zone);
    assert_eq!(local("2026-12-31T18:00", "Europe/Berlin"), "2026-12-31T17:00:00Z");
    assert_eq!(local("2026-10-25T02:30", "Europe/Berlin"), "2026-10-25T00:30:00Z", "the earlier of two");
    for skipped in ["2026-03-29T02:00", "2026-03-29T02:30", "2026-03-29T02:59:59.999"] {
        assert_eq!(local(skipped, "Europe/Berlin"), "2026-03-29T01:00:00Z", "when the clock is set forward");
    }
    assert_eq!(local("2026-03-29T03:00", "Europe/Berlin"), "2026-03-29T01:00:00Z");
    assert_eq!(local("2026-03-29T01:59", "Europe/Berlin"), "2026-03-29T00:59:00Z");

    assert_eq!(date("2026-12-31", "Europe/Berlin"), "2026-12-31T23:00:00Z");
    assert_eq!(date("2022-03-26", "Asia/Beirut"), "2022-03-26T22:00:00Z", "the next day begins at 01:00");
    assert_eq!(date("2025-11-01", "America/Havana"), "2025-11-02T04:00:00Z", "the next day begins twice");
    assert_eq!(date("2011-12-29", "Pacific/Apia"), "2011-12-30T10:00:00Z", "there was no next day");
    assert_eq!(date("2011-12-30", "Pacific/Apia"), "2011-12-30T10:00:00Z", "there was no such day");
    assert_eq!(date("9999-12-31", "UTC"), "", "after the last instant of the calendar");
    assert_eq!(local("9999-12-31T23:59:59", "Europe/Berlin"), "");
}

#[test]
fn what_has_ended_stays_so_in_every_zone() {
    let zones = TimeZoneDatabase::bundled();
    for name in ["Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Beirut", "UTC"] {
        let zone: TimeZone = zones.get(name).unwrap();
        let changes = zone.following("2025-12-31T00:00:00Z".parse().unwrap()).take(4);
        for change in changes.map(|change| change.timestamp()) {
            let minute = |minute: i64| (change + jiff::SignedDuration::from_mins(minute)).to_zoned(zone.clone());
            for until in (-90..=90).step_by(15).map(minute) {
                let ended = [Until::Local(until.datetime()), Until::Date(until.date())].map(|until| {
                    let over = (-120..=120).step_by(15).map(|now| until.is_past(&minute(now)));
                    over.collect::<Vec<bool>>()
                });
                assert!(ended.iter().all(|ended| ended.is_sorted()), "{name} {until}: {ended:?}");
            }
        }
    }
}

#[test]
fn the_policy_can_name_the_zone_of_its_dates() {
    let berlin = "time_zone = \"Europe/Berlin\"";
    for zone in ["UTC", "America/New_York", "Pacific/Aukland"] {
        let day = sandbox(berlin, "2026-12-30");
        let at = |time: &str| model(&day, zone, time);
        assert_eq!(["2026-12-30T22:59:59Z", "2026-12-30T23:00:00Z"].map(at), ["opus", "sonnet"], "{zone}");
        assert_eq!(["2026-12-30T23:59:59", "2026-12-31"].map(at), ["opus", "sonnet"], "--at is in that zone, too");
        let hour = sandbox(berlin, "2026-12-30T18:00:00");
        let at = |time: &str| model(&hour, zone, time);
        assert_eq!(["2026-12-30T16:59:59Z", "2026-12-30T17:00:00Z"].map(at), ["opus", "sonnet"], "{zone}");
        assert_eq!(dry_run(&hour, zone, "2026-12-30T16:00:00Z").stderr, "", "{zone}");
    }
}

#[test]
fn a_tz_that_is_no_zone_is_told_where_it_decides() {
    let unknown = "Pacific/Aukland";
    let hint = "did you mean `Pacific/Auckland`?";
    for until in ["2099-12-30", "2099-12-30T18:00:00"] {
        let sandbox = sandbox("", until);
        for arguments in [&["--dry-run"][..], &["explain", CHAT], &["launch", CHAT, "--", "true"]] {
            let run = finish(sandbox.command(arguments).env("TZ", unknown)).expect(0);
            let told =
                "warning[unknown-time-zone]: TZ is `Pacific/Aukland`, which is not a known time zone, so UTC is used";
            assert!(run.stderr.contains(told) && run.stderr.contains(hint), "{arguments:?}: {run:#?}");
            let known = finish(sandbox.command(arguments).env("TZ", "Pacific/Auckland"));
            assert!(!known.stderr.contains("time zone"), "{arguments:?}: {known:#?}");
        }
        let checked = finish(sandbox.command(&["check", "--deny", "warnings"]).env("TZ", unknown)).expect(1);
        assert!(checked.stdout.contains("warning[unknown-time-zone]"), "{checked:#?}");
    }
    // Nothing depends on it: the override has ended in every zone, or in none does a zone decide.
    let over = sandbox("", "2020-12-30");
    let run = finish(over.command(&["--dry-run"]).env("TZ", unknown)).expect(0);
    assert!(!run.stderr.contains("time zone"), "{run:#?}");
    for policy in
        [sandbox("", "2099-12-30T18:00:00Z"), sandbox("time_zone = \"UTC\"", "2099-12-30"), Sandbox::new(POLICY, "{}")]
    {
        let run = finish(policy.command(&["--dry-run"]).env("TZ", unknown)).expect(0);
        assert!(!run.stderr.contains("time zone"), "{run:#?}");
    }
    // Rules in the form of POSIX are a zone, and an empty TZ is UTC.
    for zone in ["CET-1CEST,M3.5.0,M10.5.0/3", ""] {
        let run = dry_run(&sandbox("", "2099-12-30"), zone, "2099-12-01");
        assert_eq!(run.stderr, "", "{zone}");
    }
}

#[test]
fn a_check_suggests_a_zone_and_never_fails_for_that() {
    let checked = |sandbox: &Sandbox, format: &str| {
        let arguments = ["check", "--deny", "warnings", "--within", "0", "--format", format];
        sandbox.run(&arguments).expect(0).stdout
    };
    let without = sandbox("", "2099-12-30");
    let text = checked(&without, "text");
    assert!(text.contains("note[no-time-zone]: ") && text.ends_with("no mistakes, 1 note\n"), "{text}");
    let json: Value = serde_json::from_str(&checked(&without, "json")).unwrap();
    assert_eq!(
        (&json["diagnostics"][0]["level"], &json["notes"], &json["warnings"]),
        (&"note".into(), &1.into(), &0.into())
    );
    assert!(checked(&without, "github").starts_with("::notice file=policy.toml,"), "{}", checked(&without, "github"));
    for quiet in [sandbox("time_zone = \"Europe/Berlin\"", "2099-12-30"), sandbox("", "2099-12-30T00:00:00Z")] {
        assert_eq!(checked(&quiet, "github"), "");
    }
}

#[test]
fn a_change_of_policy_is_shown_with_the_zone_of_each() {
    let registry = registry(&[(CHAT, "family", "opus")]);
    let snapshot = JsonText::new("sessions.json".to_owned(), registry.into_bytes()).unwrap();
    let policy = sandbox("", "2026-12-30").read("policy.toml");
    let (policy, _) = read(&[Source::new("policy.toml", policy)]).unwrap();
    let capabilities = capabilities(&policy);
    // The override has ended in the east, and not in the west.
    let now: Timestamp = "2026-12-30T12:00:00Z".parse().unwrap();
    let [east, west] = [14, -12].map(|hours| now.to_zoned(TimeZone::fixed(Offset::constant(hours))));
    let side = |now| Side { policy: &policy, capabilities: capabilities.as_ref(), now };
    let changes = |old, new| {
        policy_diff(side(old), side(new), &snapshot, &reconcile::plan::ledger::Ledger::default()).unwrap().rows.len()
    };
    assert_eq!(
        [changes(&west, &west), changes(&west, &east), changes(&east, &west), changes(&east, &east)],
        [0, 1, 1, 0]
    );
}
