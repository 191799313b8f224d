//! Edits of overrides, byte by byte: in all ways to write a policy, only the override changes.

use reconcile::chat::Model;
use reconcile::policy::edit::{Wanted, set, unset};
use reconcile::policy::{Policy, Setting, Source, Until, read};

const CHAT: &str = "+1";

/// What every policy needs, in a form that a table of any kind can follow.
const MODELS: &str = "models.allowed = [\"opus\", \"sonnet\", \"haiku\"]\nmodels.fallback = \"sonnet\"\n";

fn policy(text: &str) -> Policy {
    read(&[Source::new("policy.toml", text.to_owned())]).unwrap_or_else(|mistakes| panic!("{mistakes:#?}\n{text}")).0
}

fn until() -> Until {
    Until::Date("2026-12-31".parse().unwrap())
}

/// The edit that sets a chat's override to opus, on text that stands below what every policy needs.
fn with(text: &str, chat: &str, until: Option<&Until>, reason: Option<&str>) -> String {
    let model = Model::new("opus").unwrap();
    let whole = format!("{MODELS}{text}");
    let new = set(&whole, chat, &Wanted { model: &model, until, then: None, reason })
        .unwrap_or_else(|| panic!("refused: {whole}"));
    let entry = &policy(&new).chats[chat];
    assert_eq!(
        (&entry.setting, entry.until.as_ref(), entry.reason.as_deref()),
        (&Setting::Model(model), until, reason)
    );
    new.strip_prefix(MODELS).unwrap().to_owned()
}

fn opus(text: &str) -> String {
    with(text, CHAT, None, None)
}

fn opus_until(text: &str) -> String {
    with(text, CHAT, Some(&until()), None)
}

fn opus_because(text: &str) -> String {
    with(text, CHAT, None, Some("thesis"))
}

fn without(text: &str) -> String {
    let whole = format!("{MODELS}{text}");
    let new = unset(&whole, CHAT).unwrap_or_else(|| panic!("refused: {whole}"));
    assert!(!policy(&new).chats.contains_key(CHAT), "{new}");
    new.strip_prefix(MODELS).unwrap().to_owned()
}

#[test]
fn a_model_alone_is_replaced_and_its_comment_stays() {
    let before = "[chats]\n# the boss\n\"+1\"   =   \"haiku\"   # for now\n\"+2\" = \"opus\"\n";
    assert_eq!(opus(before), "[chats]\n# the boss\n\"+1\"   =   \"opus\"   # for now\n\"+2\" = \"opus\"\n");
    assert_eq!(
        opus_until(before),
        "[chats]\n# the boss\n\"+1\"   =   { model = \"opus\", until = 2026-12-31 }   # for now\n\"+2\" = \"opus\"\n"
    );
    assert_eq!(without(before), "[chats]\n# the boss\n\"+2\" = \"opus\"\n");
}

#[test]
fn an_inline_table_is_replaced_as_a_whole() {
    let before = "[chats]\n\"+1\" = { model = \"haiku\", until = 2027-01-01, reason = \"old\" } # c\n";
    assert_eq!(opus(before), "[chats]\n\"+1\" = \"opus\" # c\n");
    assert_eq!(opus_because(before), "[chats]\n\"+1\" = { model = \"opus\", reason = \"thesis\" } # c\n");
    assert_eq!(
        with(before, CHAT, Some(&until()), Some("thesis")),
        "[chats]\n\"+1\" = { model = \"opus\", until = 2026-12-31, reason = \"thesis\" } # c\n"
    );
    assert_eq!(without(before), "[chats]\n");
}

#[test]
fn an_inline_table_on_several_lines_is_one_value() {
    let before = "[chats]\n\"+1\" = {\n  model = \"haiku\", # c\n  reason = \"old\",\n}\n\"+2\" = \"opus\"\n";
    assert_eq!(opus(before), "[chats]\n\"+1\" = \"opus\"\n\"+2\" = \"opus\"\n");
    assert_eq!(without(before), "[chats]\n\"+2\" = \"opus\"\n");
}

#[test]
fn a_chat_that_was_not_managed_is_managed_again() {
    let before = "[chats]\n\"+1\" = { managed = false, reason = \"it votes\" }\n";
    assert_eq!(opus(before), "[chats]\n\"+1\" = \"opus\"\n");
    let section = "[chats.\"+1\"]\nmanaged = false # it votes\n";
    assert_eq!(opus(section), "[chats.\"+1\"]\nmodel = \"opus\"\n");
    assert_eq!(opus("[chats]\n\"+1\".managed = false\n"), "[chats]\n\"+1\".model = \"opus\"\n");
    assert_eq!(without(section), "");
}

#[test]
fn a_section_of_its_own_keeps_its_lines_and_comments() {
    let before = "# the boss\n[chats.\"+1\"] # head\n# which\nmodel = \"haiku\" # m\n# why\nreason = \"old\" # r\n# end\n\
                  [limits]\nmax_changes = 1\n";
    assert_eq!(
        opus_until(before),
        "# the boss\n[chats.\"+1\"] # head\n# which\nmodel = \"opus\" # m\n# why\nuntil = 2026-12-31\n# end\n\
         [limits]\nmax_changes = 1\n"
    );
    assert_eq!(
        opus_because(before),
        "# the boss\n[chats.\"+1\"] # head\n# which\nmodel = \"opus\" # m\n# why\nreason = \"thesis\" # r\n# end\n\
         [limits]\nmax_changes = 1\n"
    );
    assert_eq!(
        opus(before),
        "# the boss\n[chats.\"+1\"] # head\n# which\nmodel = \"opus\" # m\n# why\n# end\n[limits]\nmax_changes = 1\n"
    );
    assert_eq!(without(before), "# the boss\n# which\n# why\n# end\n[limits]\nmax_changes = 1\n");
}

#[test]
fn a_section_that_is_indented_gets_indented_lines() {
    let before = "[chats]\n\n  [chats.\"+1\"]\n    model = \"haiku\"\n\n  [chats.\"+2\"]\n    model = \"haiku\"\n";
    let after = "[chats]\n\n  [chats.\"+1\"]\n    model = \"opus\"\n    until = 2026-12-31\n\n  [chats.\"+2\"]\n    model = \"haiku\"\n";
    assert_eq!(opus_until(before), after);
}

#[test]
fn a_reason_on_several_lines_goes_with_its_key() {
    let before = "[chats.\"+1\"]\nreason = \"\"\"\nfirst\nsecond\n\"\"\" # r\nmodel = \"haiku\"\n";
    assert_eq!(opus(before), "[chats.\"+1\"]\nmodel = \"opus\"\n");
    assert_eq!(opus_because(before), "[chats.\"+1\"]\nreason = \"thesis\" # r\nmodel = \"opus\"\n");
    assert_eq!(without(before), "");
    let last = "[chats.\"+1\"]\nmodel = \"haiku\"\nreason = '''\nfirst\nsecond'''\n";
    assert_eq!(opus_until(last), "[chats.\"+1\"]\nmodel = \"opus\"\nuntil = 2026-12-31\n");
}

#[test]
fn dotted_keys_stay_dotted() {
    let before = "[chats]\n\"+1\".model = \"haiku\" # m\n\"+2\" = \"opus\"\n";
    assert_eq!(opus(before), "[chats]\n\"+1\".model = \"opus\" # m\n\"+2\" = \"opus\"\n");
    assert_eq!(
        opus_until(before),
        "[chats]\n\"+1\".model = \"opus\" # m\n\"+1\".until = 2026-12-31\n\"+2\" = \"opus\"\n"
    );
    assert_eq!(without(before), "[chats]\n\"+2\" = \"opus\"\n");
    let apart = "[chats]\n\"+1\".model = \"haiku\"\n\"+2\" = \"opus\"\n  \"+1\" . reason = \"old\"\n";
    assert_eq!(opus(apart), "[chats]\n\"+1\".model = \"opus\"\n\"+2\" = \"opus\"\n");
    assert_eq!(
        opus_until(apart),
        "[chats]\n\"+1\".model = \"opus\"\n\"+2\" = \"opus\"\n  \"+1\" . until = 2026-12-31\n"
    );
    assert_eq!(without(apart), "[chats]\n\"+2\" = \"opus\"\n");
}

#[test]
fn dotted_keys_at_the_root_stay_there() {
    let before = "chats.\"+1\" = \"haiku\" # c\nchats.\"+2\" = \"haiku\"\nlimits.max_changes = 1\n";
    assert_eq!(opus(before), "chats.\"+1\" = \"opus\" # c\nchats.\"+2\" = \"haiku\"\nlimits.max_changes = 1\n");
    assert_eq!(without(before), "chats.\"+2\" = \"haiku\"\nlimits.max_changes = 1\n");
    let other = "chats.\"+2\" = \"haiku\"\nlimits.max_changes = 1\n";
    assert_eq!(opus(other), "chats.\"+2\" = \"haiku\"\nchats.\"+1\" = \"opus\"\nlimits.max_changes = 1\n");
    let deep = "chats.\"+2\".model = \"haiku\"\n[limits]\nmax_changes = 1\n";
    assert_eq!(opus(deep), "chats.\"+2\".model = \"haiku\"\nchats.\"+1\" = \"opus\"\n[limits]\nmax_changes = 1\n");
    let own = "chats.\"+1\".model = \"haiku\"\n";
    assert_eq!(opus_until(own), "chats.\"+1\".model = \"opus\"\nchats.\"+1\".until = 2026-12-31\n");
    assert_eq!(without(own), "");
}

#[test]
fn dotted_keys_at_the_root_and_sections_go_together() {
    let before = "chats.\"+2\" = \"haiku\"\n[chats.\"+3\"]\nmodel = \"haiku\"\n";
    assert_eq!(opus(before), "chats.\"+2\" = \"haiku\"\nchats.\"+1\" = \"opus\"\n[chats.\"+3\"]\nmodel = \"haiku\"\n");
}

#[test]
fn a_table_on_one_line_stays_on_it() {
    let before = "chats = { \"+1\" = \"haiku\", \"+2\" = { model = \"opus\" } } # c\n";
    assert_eq!(opus(before), "chats = { \"+1\" = \"opus\", \"+2\" = { model = \"opus\" } } # c\n");
    assert_eq!(
        opus_because("chats = { \"+2\" = \"opus\" } # c\n"),
        "chats = { \"+2\" = \"opus\", \"+1\" = { model = \"opus\", reason = \"thesis\" } } # c\n"
    );
    assert_eq!(opus("chats = {}\n"), "chats = { \"+1\" = \"opus\" }\n");
    assert_eq!(opus("chats = { # why\n}\n"), "chats = { # why\n  \"+1\" = \"opus\"\n}\n");
    assert_eq!(opus("chats = {\n  # why\n} # c\n"), "chats = {\n  # why\n  \"+1\" = \"opus\"\n} # c\n");
    assert_eq!(opus("chats = {\"+1\"=\"haiku\",\"+2\"=\"opus\"}\n"), "chats = {\"+1\"=\"opus\",\"+2\"=\"opus\"}\n");
    assert_eq!(opus("chats = { \"+1\".model = \"haiku\" }\n"), "chats = { \"+1\" = \"opus\" }\n");
    assert_eq!(without(before), "chats = { \"+2\" = { model = \"opus\" } } # c\n");
    assert_eq!(without("chats = { \"+2\" = \"opus\", \"+1\" = \"haiku\" }\n"), "chats = { \"+2\" = \"opus\" }\n");
    assert_eq!(without("chats = { \"+1\" = \"haiku\" }\n"), "chats = { }\n");
    assert_eq!(without("chats = {\"+1\"=\"haiku\",\"+2\"=\"opus\"}\n"), "chats = {\"+2\"=\"opus\"}\n");
    assert_eq!(without("chats = { \"+1\".model = \"haiku\" }\n"), "chats = {}\n");
}

#[test]
fn a_table_in_braces_on_several_lines_keeps_the_comments_of_the_others() {
    let [one, two, three] = [
        "  \"+1\" = \"opus\", # first, of course\n",
        "  # of the south\n  \"+2\" = \"opus\",\n",
        "  \"+3\" = { model = \"opus\" } # last\n",
    ];
    let table = |members: &[&str]| format!("chats = {{ # people\n{}}} # end\n", members.concat());
    assert_eq!(without(&table(&[one, two, three])), table(&[two, three]));
    assert_eq!(without(&table(&[two, one, three])), table(&[two, three]));
    let last = "  # of the north\n  \"+1\" = \"haiku\" # it goes\n";
    let unended = "  # of the south\n  \"+2\" = \"opus\"\n";
    assert_eq!(without(&table(&[two, last])), table(&[unended, "  # of the north\n"]));
    assert_eq!(without(&table(&[last])), table(&["  # of the north\n"]));
    assert_eq!(
        without("chats = {\n  \"+2\" = \"opus\", # two\n  \"+1\" = \"opus\" }\n"),
        "chats = {\n  \"+2\" = \"opus\" # two\n  }\n"
    );
    assert_eq!(
        without("chats = { \"+1\" = \"opus\" # one\n  , \"+2\" = \"opus\" }\n"),
        "chats = { \"+2\" = \"opus\" }\n"
    );
    // Written anew it would lose its comments.
    assert_eq!(unset("chats = {\n  \"+1\".model = \"opus\", # one\n  \"+2\" = \"opus\" # two\n}\n", "+1"), None);
}

#[test]
fn a_policy_without_overrides_gets_a_section_at_its_end() {
    assert_eq!(opus(""), "\n[chats]\n\"+1\" = \"opus\"\n");
    assert_eq!(
        opus("[limits]\nmax_changes = 1\n# end\n"),
        "[limits]\nmax_changes = 1\n# end\n\n[chats]\n\"+1\" = \"opus\"\n"
    );
    assert_eq!(opus("[limits]\nmax_changes = 1"), "[limits]\nmax_changes = 1\n\n[chats]\n\"+1\" = \"opus\"\n");
    // A file of its own, in a directory.
    let model = Model::new("opus").unwrap();
    let wanted = Wanted { model: &model, until: None, then: None, reason: None };
    assert_eq!(set("", CHAT, &wanted).unwrap(), "[chats]\n\"+1\" = \"opus\"\n");
}

#[test]
fn an_empty_section_gets_its_first_line() {
    assert_eq!(
        opus("[chats]\n\n[limits]\nmax_changes = 1\n"),
        "[chats]\n\"+1\" = \"opus\"\n\n[limits]\nmax_changes = 1\n"
    );
    assert_eq!(opus("[chats] # by hand\n# none yet\n"), "[chats] # by hand\n\"+1\" = \"opus\"\n# none yet\n");
    assert_eq!(opus("[chats]"), "[chats]\n\"+1\" = \"opus\"\n");
    assert_eq!(opus("[chats] # by hand"), "[chats] # by hand\n\"+1\" = \"opus\"\n");
    assert_eq!(opus("[ 'chats' ]\n"), "[ 'chats' ]\n\"+1\" = \"opus\"\n");
}

#[test]
fn a_section_in_the_middle_gets_the_line_at_its_own_end() {
    let before = "[chats]\n\"+2\" = \"opus\" # two\n# and so on\n\n[[rules]]\ntier = \"bots\"\nmodel = \"haiku\"\n\n[[rules]]\n\
                  tier = \"family\"\nmodel = \"haiku\"\n";
    let after = before.replace("# two\n", "# two\n\"+1\" = \"opus\"\n");
    assert_eq!(opus(before), after);
    assert_eq!(without(&after), before);
}

#[test]
fn a_new_line_is_indented_like_the_last() {
    assert_eq!(opus("[chats]\n  \"+2\" = \"haiku\"\n"), "[chats]\n  \"+2\" = \"haiku\"\n  \"+1\" = \"opus\"\n");
    assert_eq!(
        opus("[chats]\n\t\"+2\".model = \"haiku\"\n"),
        "[chats]\n\t\"+2\".model = \"haiku\"\n\t\"+1\" = \"opus\"\n"
    );
}

#[test]
fn overrides_in_sections_alone_get_a_section_for_the_others() {
    let before = "[chats.\"+2\"]\nmodel = \"opus\"\n\n[limits]\nmax_changes = 1\n";
    let after = format!("{before}\n[chats]\n\"+1\" = \"opus\"\n");
    assert_eq!(opus(before), after);
    // And the next goes there.
    assert_eq!(with(&after, "+3", None, None), format!("{after}\"+3\" = \"opus\"\n"));
}

#[test]
fn a_new_line_stands_before_the_sections_of_other_chats() {
    let before = "[chats]\n\"+3\" = \"haiku\"\n[chats.\"+2\"]\nmodel = \"opus\"\n";
    assert_eq!(opus(before), "[chats]\n\"+3\" = \"haiku\"\n\"+1\" = \"opus\"\n[chats.\"+2\"]\nmodel = \"opus\"\n");
    assert_eq!(
        opus("[chats]\n[chats.\"+2\"]\nmodel = \"opus\"\n"),
        "[chats]\n\"+1\" = \"opus\"\n[chats.\"+2\"]\nmodel = \"opus\"\n"
    );
}

/// What an edit does to a policy whose lines end in CRLF is what it does to one whose lines end in LF.
#[test]
fn line_ends_stay_what_they_are() {
    let layouts = [
        "[chats]\n\"+1\" = \"haiku\" # c\n",
        "[chats.\"+1\"]\nmodel = \"haiku\"\nreason = \"r\"\n",
        "[chats]\n\"+2\" = \"haiku\" # c\n",
        "[chats.\"+1\"]\nmanaged = false\n",
        "chats.\"+2\" = \"haiku\"\n",
        "[limits]\nmax_changes = 1\n",
        "",
    ];
    for layout in layouts {
        let crlf = format!("{MODELS}{layout}").replace('\n', "\r\n");
        let model = Model::new("opus").unwrap();
        let wanted = Wanted { model: &model, until: Some(&until()), then: None, reason: None };
        let expected = format!("{MODELS}{}", opus_until(layout)).replace('\n', "\r\n");
        assert_eq!(set(&crlf, CHAT, &wanted).unwrap(), expected);
        let removed = format!("{MODELS}{}", without(&opus_until(layout))).replace('\n', "\r\n");
        assert_eq!(unset(&expected, CHAT).unwrap(), removed);
    }
}

#[test]
fn a_last_line_without_an_end_is_ended_before_another_follows() {
    assert_eq!(opus("[chats]\n\"+2\" = \"haiku\""), "[chats]\n\"+2\" = \"haiku\"\n\"+1\" = \"opus\"\n");
    assert_eq!(opus("[chats]\n\"+1\" = \"haiku\""), "[chats]\n\"+1\" = \"opus\"");
    assert_eq!(
        opus_until("[chats.\"+1\"]\nmodel = \"haiku\""),
        "[chats.\"+1\"]\nmodel = \"opus\"\nuntil = 2026-12-31\n"
    );
    assert_eq!(opus("[chats.\"+1\"]\nmanaged = false"), "[chats.\"+1\"]\nmodel = \"opus\"\n");
    assert_eq!(without("[chats]\n\"+2\" = \"haiku\"\n\"+1\" = \"haiku\""), "[chats]\n\"+2\" = \"haiku\"\n");
}

#[test]
fn a_byte_order_mark_stays_at_the_start() {
    let model = Model::new("opus").unwrap();
    let wanted = Wanted { model: &model, until: None, then: None, reason: None };
    let marked = |text: &str| format!("\u{feff}{text}");
    for (before, after) in [
        ("chats.\"+2\" = \"haiku\"\n", "chats.\"+2\" = \"haiku\"\nchats.\"+1\" = \"opus\"\n"),
        ("[chats]\n\"+2\" = \"haiku\"\n", "[chats]\n\"+2\" = \"haiku\"\n\"+1\" = \"opus\"\n"),
        ("chats.\"+1\".managed = false\n", "chats.\"+1\".model = \"opus\"\n"),
        ("chats.\"+1\" = \"haiku\"\n", "chats.\"+1\" = \"opus\"\n"),
        ("", "[chats]\n\"+1\" = \"opus\"\n"),
    ] {
        assert_eq!(set(&marked(before), CHAT, &wanted), Some(marked(after)));
    }
    assert_eq!(unset(&marked("chats.\"+1\" = \"haiku\"\n"), CHAT), Some(marked("")));
    assert_eq!(unset(&marked("[chats.\"+1\"]\nmodel = \"haiku\"\n"), CHAT), Some(marked("")));
}

#[test]
fn any_way_of_quoting_a_chat_is_found() {
    for key in ["'+1'", "\"+1\"", "\"\\u002B1\"", "\"\\x2b1\""] {
        let before = format!("[chats]\n{key} = 'haiku'\n");
        assert_eq!(opus(&before), format!("[chats]\n{key} = \"opus\"\n"));
        assert_eq!(without(&before), "[chats]\n");
    }
    assert_eq!(with("[chats]\nplain-1 = \"haiku\"\n", "plain-1", None, None), "[chats]\nplain-1 = \"opus\"\n");
}

#[test]
fn any_chat_id_can_be_written() {
    for id in [
        "",
        " ",
        "a.b",
        "a\"b",
        "a'b",
        "a\\b",
        "😀",
        "e\u{301}",
        "a\nb",
        "a\r\nb",
        "\u{0}\u{1b}\u{7f}\u{85}",
        "\u{202e}",
        "#",
        "]",
        "=",
        "chats",
    ] {
        for layout in
            ["", "[chats]\n", "chats.\"+2\" = \"haiku\"\n", "chats = {}\n", "[chats.\"+2\"]\nmodel = \"haiku\"\n"]
        {
            let after = with(layout, id, Some(&until()), Some(id));
            // Found again, and replaced.
            let again = with(&after, id, Some(&until()), Some("x"));
            let whole = unset(&format!("{MODELS}{again}"), id).unwrap();
            assert!(!policy(&whole).chats.contains_key(id), "{whole}");
        }
    }
}

#[test]
fn a_reason_can_be_any_text() {
    for reason in ["\"", "it's", "\\", "a\nb\r\nc\td", "\u{0}\u{7f}\u{9b}", "👩‍💻", "\"\"\"", "# no comment", "}"]
    {
        for layout in
            ["[chats]\n", "[chats.\"+1\"]\nmodel = \"haiku\"\n", "[chats]\n\"+1\".model = \"haiku\"\n", "chats = {}\n"]
        {
            with(layout, CHAT, None, Some(reason));
        }
    }
}

#[test]
fn an_end_is_written_as_toml_says_it() {
    let ends = [
        (until(), "2026-12-31"),
        (Until::Local("2026-12-31T18:00:00".parse().unwrap()), "2026-12-31T18:00:00"),
        (Until::Local("2026-12-31T18:00:00.123456789".parse().unwrap()), "2026-12-31T18:00:00.123456789"),
        (Until::Instant("2026-12-31T18:00:00+02:00".parse().unwrap()), "2026-12-31T16:00:00Z"),
        (Until::Date("0001-01-01".parse().unwrap()), "0001-01-01"),
    ];
    for (end, written) in ends {
        assert_eq!(
            with("[chats]\n", CHAT, Some(&end), None),
            format!("[chats]\n\"+1\" = {{ model = \"opus\", until = {written} }}\n")
        );
    }
}

#[test]
fn what_is_no_policy_is_left_alone() {
    let model = Model::new("opus").unwrap();
    let wanted = Wanted { model: &model, until: None, then: None, reason: None };
    for text in [
        "chats = 1",
        "chats = []",
        "[[chats]]\n",
        "[chats",
        "[chats.\"+1\"]\n",
        "[[chats.\"+1\"]]\n",
        "[chats.\"+1\".model]\n",
    ] {
        assert_eq!(set(text, CHAT, &wanted), None, "{text}");
    }
    for text in [
        "",
        "chats = 1",
        "[chats",
        "[[chats.\"+1\"]]\n",
        "[chats]\n\"+2\" = \"opus\"\n",
        "chats = {}\n",
        "[chats.\"+2\"]\nmodel = \"opus\"\n",
    ] {
        assert_eq!(unset(text, CHAT), None, "there is none: {text}");
    }
}
