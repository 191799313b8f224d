//! The report as a comment on a pull request: what others wrote arrives in it as text in code, and it is short.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use pulldown_cmark::{Event, Options, Parser};
use reconcile::backend::capabilities;
use reconcile::plan::ledger::Ledger;
use reconcile::plan::observed::{Observed, Void};
use reconcile::plan::select::Selector;
use reconcile::plan::{Limits, Outcome, PlanInput, Reading, Refusal, Verdict, drift, predict};
use reconcile::policy::{Source, read};
use reconcile::redact::Shown;
use reconcile::registry::json::JsonText;
use reconcile::report::escape::escape;
use reconcile::report::{Format, Mode, Page, Report, Width};
use serde_json::json;
use snapbox::{Data, assert_data_eq};

use crate::support::{POLICY, Sandbox, registry};
use crate::world::at;

/// A policy that decides on opus for everybody.
const OPUS: &str = "[models]\nallowed = [\"opus\"]\nfallback = \"opus\"\n[sessions]\nrestart = [\"true\"]\n";

/// The report of a dry run, with every word of it that others may have written. It is refused, or voids a debt.
fn report(words: &[String; 8], refused: bool) -> String {
    let [chat, name, tier, model, policy, registry, detail, difference] = words;
    let entries = json!({ chat: { "session_name": name, "tier": tier, "model": model }, "~other": {} });
    let snapshot = JsonText::new(registry.clone(), entries.to_string().into_bytes()).unwrap();
    let (wanted, _) = read(&[Source::new("policy.toml", OPUS.to_owned())]).unwrap();
    let (now, selector, capabilities) = (at(0), Selector::default(), capabilities(&wanted));
    let (capabilities, limits) = (capabilities.as_ref(), Limits::default());
    let input = PlanInput { policy: &wanted, capabilities, now: &now, selector: &selector, limits };
    let (ledger, doubtful) = (Ledger::default(), BTreeSet::new());
    let reading = Reading { snapshot: Box::new(snapshot.clone()), ledger, doubtful, imposed: None };
    let drift = drift(&input, &reading).unwrap();
    let mut plan = predict(&input, &reading, drift, Observed::default());
    plan.rows[0].outcome = Outcome::because(Verdict::Failed, detail.as_str());
    plan.void.insert(chat.clone(), Void::Gone);
    let differences = vec![difference.clone()];
    plan.refused = refused.then(|| Refusal::OtherPlan {
        expected: "7f3c9e2104ab55d07f3c9e2104ab55d0".to_owned(),
        differences,
        is_of_some: false,
    });
    let mut out = Vec::new();
    let report = Report {
        policy,
        snapshot: &snapshot,
        registry,
        plan: &Shown::under(None, plan),
        mode: Mode::DryRun,
        now: &now,
        width: Width::Any,
    };
    report.write(Format::Markdown, &mut Page::onto(&mut out)).unwrap();
    String::from_utf8(out).unwrap()
}

/// What a reader of the comment gets: its elements, its text outside of code, and each code.
#[derive(Debug, Default, PartialEq)]
struct Rendered {
    elements: Vec<String>,
    text: String,
    codes: Vec<String>,
}

fn rendered(markdown: &str) -> Rendered {
    let mut rendered = Rendered::default();
    let mut code: Option<String> = None;
    // GitHub makes no other quotes and dashes of those that were written.
    for event in Parser::new_ext(markdown, Options::all() - Options::ENABLE_SMART_PUNCTUATION) {
        match (event, &mut code) {
            (Event::InlineHtml(html), None) if html.as_ref() == "<code>" => code = Some(String::new()),
            (Event::InlineHtml(html), Some(_)) if html.as_ref() == "<wbr>" => {}
            (Event::InlineHtml(html), Some(_)) if html.as_ref() == "</code>" => rendered.codes.extend(code.take()),
            (Event::Text(text), Some(code)) => code.push_str(&text),
            (Event::Text(text), None) => rendered.text.push_str(&text),
            (element, _) => rendered.elements.push(format!("{element:?}")),
        }
    }
    rendered
}

/// What workflow runners, markdown, HTML and GitHub could take for more than text.
const PIECES: [&str; 39] = [
    "@octocat",
    "#1",
    "GH-1",
    "octo/repo#1",
    "https://evil.example",
    "www.evil.example",
    "a@evil.example",
    "](x)",
    "![x](y)",
    "`",
    "``",
    "**b**",
    "_i_",
    "~~s~~",
    "|",
    "\n\n",
    "\n# h",
    "\n- x",
    "\n    x",
    "\n```\n",
    "<script>",
    "</code>",
    "</details>",
    "<!--",
    "-->",
    "&amp;",
    "&#60;b&#62;",
    "\n::error::x",
    "##[error]",
    "<b",
    "\\",
    "\\|",
    "\\\\|",
    "` ",
    ":tada:",
    "$x$",
    "\u{202e}",
    "\u{1b}[31m",
    "\0",
];

/// Text made of such pieces, and of anything.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![proptest::sample::select(&PIECES[..]).prop_map(str::to_owned), ".{0,3}"];
    proptest::collection::vec(piece, 1..5).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_others_wrote_arrives_as_text_in_code(words in proptest::array::uniform8(hostile()), refused: bool) {
        let [chat, name, tier, model, policy, registry, detail, difference] = words;
        let [name, policy, difference] = [name, policy, difference].map(|word| word + "w");
        let [chat, tier, model, registry, detail] = [chat, tier, model, registry, detail].map(|word| format!("w{word}"));
        let words = [chat, name, tier, model, policy, registry, detail, difference];
        let page = report(&words, refused);
        prop_assert!(!page.lines().any(|line| line.trim_start().starts_with("::") || line.contains("##[")));
        let shown = rendered(&page);
        let benign = ["w"; 8].map(str::to_owned);
        let benign = rendered(&report(&benign, refused));
        prop_assert_eq!(&shown.text, &benign.text);
        prop_assert_eq!(&shown.elements, &benign.elements);
        let [chat, name, tier, model, policy, registry, detail, difference] = &words;
        let change = format!("{} → opus", escape(model));
        let void = format!("the restart owed to {} is no longer needed: its entry is gone", escape(chat));
        let whole = [name, tier, policy, registry].map(|word| escape(word).into_owned());
        let more = if refused { escape(difference).into_owned() } else { void };
        // What a command said stands on the lines behind it.
        let details = detail.lines().take(1).map(|line| escape(line.trim_end_matches(':')).into_owned());
        for expected in whole.into_iter().chain([change, more]).chain(details) {
            prop_assert!(shown.codes.contains(&expected), "{:?} is not in {:#?}", expected, shown.codes);
        }
    }
}

/// The rows of its tables.
fn rows(page: &str) -> usize {
    page.lines().filter(|line| line.starts_with("| <code>")).count()
}

/// A comment is short, and each of its lines is what its beginning says.
#[track_caller]
fn assert_well_formed(page: &str) {
    assert!(page.chars().count() < 60_000, "{} characters", page.chars().count());
    let elements = rendered(page).elements;
    let count = |element: &str| elements.iter().filter(|one| one.starts_with(element)).count();
    assert_eq!(count("Start(TableRow)"), rows(page), "{page}");
    assert_eq!(count("Html(Borrowed(\"<details>"), count("Html(Borrowed(\"</details>"), "{elements:#?}");
    assert!(count("Html(Borrowed(\"<details>") > 0 && count("InlineHtml") == 0, "{elements:#?}");
}

#[test]
fn a_long_report_is_cut_by_whole_rows_and_says_so() {
    for id in ["+1617555", &"@".repeat(300), &"é…\u{202e}".repeat(40)] {
        let chats: Vec<String> = (0..5_000).map(|number| format!("{number:04}{id}")).collect();
        let chats: Vec<_> = chats.iter().map(|chat| (chat.as_str(), "family", "opus")).collect();
        let sandbox = Sandbox::new(POLICY, &registry(&chats));
        let page = sandbox.run(&["--dry-run", "--format", "markdown", "--allow-changes", "5000"]).expect(0).stdout;
        assert_well_formed(&page);
        assert!(page.contains("<summary>5000 rows</summary>"), "{page}");
        let shown = rows(&page);
        assert!(shown > 10, "{page}");
        let left = format!("**{} of 5000 rows not shown: there is no room in a comment.**", 5_000 - shown);
        assert!(page.contains(&left), "{shown} are shown, and not: {left}");
    }
}

#[test]
fn what_a_change_does_and_the_whole_plan_fit_in_one_comment() {
    let chats: Vec<String> = (0..2_000).map(|number| format!("{number:04}{}", "@".repeat(300))).collect();
    let chats: Vec<_> = chats.iter().map(|chat| (chat.as_str(), "family", "opus")).collect();
    let sandbox = Sandbox::new(POLICY, &registry(&chats));
    sandbox.write("old.toml", POLICY.replace("family = \"sonnet\"", "family = \"haiku\""));
    let page = |arguments: &[&str]| sandbox.run(&[arguments, &["--format", "markdown"]].concat()).stdout;
    let (change, plan) = (page(&["diff", "--from", "old.toml"]), page(&["--dry-run"]));
    for page in [&change, &plan] {
        assert!(rows(page) > 10 && page.contains(" of 2000 rows not shown"), "{page}");
    }
    assert_well_formed(&format!("{change}\n### The whole plan\n\n{plan}"));
}

#[test]
fn neither_one_long_value_nor_many_of_them_are_too_long() {
    let long = "\u{1}@\n".repeat(30_000);
    for words in [[(); 8].map(|()| long.clone()), [(); 8].map(|()| "\n".repeat(70_000) + "@")] {
        assert_well_formed(&report(&words, true));
        assert_well_formed(&report(&words, false));
    }
    // A plan that was named and differs in everything.
    let chats: Vec<String> = (0..2_000).map(|number| format!("+1617555{number:04}")).collect();
    let chats: Vec<_> = chats.iter().map(|chat| (chat.as_str(), "family", "opus")).collect();
    let sandbox = Sandbox::new(POLICY, &registry(&chats));
    sandbox.run(&["--dry-run", "--output", "json=plan.json"]).expect(3);
    sandbox.write("sessions.json", registry(&chats).replace("opus", "haiku"));
    let page = sandbox.run(&["--dry-run", "--format", "markdown", "--plan", "plan.json"]).expect(3).stdout;
    assert_well_formed(&page);
    assert!(page.contains(" of 2000 differences not shown") && page.contains(" of 2000 rows not shown"), "{page}");
    assert!(page.contains("haiku &#8594; sonnet&#44; was opus"), "{page}");
}

#[track_caller]
fn shows(name: &str, page: String) {
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/markdown/{name}.md"));
    assert_data_eq!(page, Data::read_from(&expected, None).raw());
}

#[test]
fn a_comment_has_a_marker_the_summary_and_every_row() {
    let sandbox = Sandbox::new(
        &format!(
            "{POLICY}\n[sessions]\nrestart = [\"./restart\", \"{{session_slug}}\"]\n\
             [chats]\n\"+3\" = {{ managed = false, reason = \"see #12, @octocat\" }}\n"
        ),
        &registry(&[("+1", "family", "opus"), ("+2", "bots", ""), ("+3", "admin", ""), ("+4", "admin", "haiku")]),
    );
    sandbox.has_seen(&["opus", "sonnet", "haiku"]);
    sandbox.script("restart", "test $1 != imessage-_1 || { echo 'no such unit' >&2; exit 1; }");
    let page =
        |arguments: &[&str], code| sandbox.run(&[arguments, &["--format", "markdown"]].concat()).expect(code).stdout;
    let old = sandbox.read("policy.toml").replace("family = \"sonnet\"", "family = \"opus\"");
    sandbox.write("old.toml", old);
    shows("policy-diff", page(&["diff", "--from", "old.toml"], 0));
    shows("partial", page(&["--dry-run", "--chat", "+1", "--chat", "+3"], 0));
    shows("refused", page(&["--dry-run", "--allow-changes", "1"], 3));
    shows("applied", page(&[], 4));
    let owed = page(&["--dry-run"], 4);
    assert!(owed.contains("<code>deferred&#44; restart owed since "), "{owed}");
    sandbox.write("sessions.json", registry(&[("+2", "bots", "haiku")]));
    shows("void", page(&["--dry-run"], 0));
    shows("other-plan", page(&["--dry-run", "--plan", "0123456789abcdef0123456789abcdef"], 3));
    sandbox.run(&["--output", "markdown=comment.md"]).expect(0);
    assert!(sandbox.read("comment.md").starts_with("<!-- reconcile -->\n**No changes. 1 in sync.**\n"));
}
