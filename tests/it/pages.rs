//! The pages that people read: their commands print what is shown, their policies are valid, their links lead somewhere, and
//! the references leave nothing out.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use reconcile::policy::{Source, read};
use serde_json::Value;
use snapbox::data::DataFormat;
use snapbox::{Assert, Data, IntoData};

use crate::support::{POLICY, Run, Sandbox, codes_of, codes_of_errors, file, finish, registry, root, rust_below};

/// The README and the pages of `docs/`, as paths below the root.
fn pages() -> Vec<String> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let docs = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let name = |path: PathBuf| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    let mut docs: Vec<String> = docs.map(name).collect();
    docs.sort();
    assert!(docs.len() > 10, "where are the pages?");
    [vec!["README.md".to_owned()], docs].concat()
}

fn events(page: &str) -> impl Iterator<Item = (Event<'_>, Range<usize>)> {
    Parser::new_ext(page, Options::ENABLE_TABLES).into_offset_iter()
}

/// A fenced block of a page.
struct Block {
    language: String,
    text: String,
    /// Where its text stands in the page.
    range: Range<usize>,
    /// What the comment on the line before it says.
    note: Option<String>,
}

impl Block {
    /// The reason why a block is left alone.
    fn not_run(&self) -> Option<&str> {
        self.note.as_deref()?.strip_prefix("not run: ")
    }

    /// The file that it is in the directory in which the commands of its page run.
    fn file(&self) -> Option<&str> {
        self.note.as_deref()?.strip_prefix("file: ")
    }
}

fn blocks(page: &str) -> Vec<Block> {
    let fences = events(page).filter_map(|(event, range)| match event {
        Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) => Some((language.into_string(), range)),
        _ => None,
    });
    let blocks = fences.map(|(language, range)| {
        let fence = &page[range.clone()];
        let start = range.start + fence.find('\n').unwrap() + 1;
        let end = range.start + fence.trim_end().rfind('\n').unwrap() + 1;
        let before = page[..range.start].lines().last().unwrap_or_default();
        let note = before.strip_prefix("<!-- ").and_then(|note| note.strip_suffix(" -->"));
        Block { language, text: page[start..end].to_owned(), range: start..end, note: note.map(str::to_owned) }
    });
    blocks.collect()
}

/// Runs a line of a shell as a reader of the page would, in the directory of the page.
fn shell(sandbox: &Sandbox, line: &str) -> Run {
    let program = Path::new(env!("CARGO_BIN_EXE_reconcile")).parent().unwrap().display();
    let mut shell = Command::new("sh");
    shell.args(["-euc", line]).current_dir(sandbox.path(""));
    shell.env("PATH", format!("{program}:/usr/bin:/bin")).env("TZ", "UTC").env("HOME", sandbox.path(""));
    for name in ["RECONCILE_POLICY", "RECONCILE_REGISTRY", "CLICOLOR_FORCE", "FORCE_COLOR"] {
        shell.env_remove(name);
    }
    finish(&mut shell)
}

/// A transcript with what its commands print today.
fn replayed(sandbox: &Sandbox, transcript: &str) -> String {
    let commands = transcript.strip_prefix("$ ").expect("a transcript begins with a command").split("\n$ ");
    let printed = commands.map(|command| {
        let line = command.lines().next().unwrap();
        let Run { stdout, stderr, .. } = shell(sandbox, line);
        format!("$ {line}\n{stdout}{stderr}")
    });
    printed.collect()
}

/// A page with what its commands print today. Its commands run one after the other in a directory of their own, with the
/// example of this repository and the files that the page shows.
fn rewritten(name: &str) -> String {
    let page = file(name);
    let sandbox = Sandbox::new(&file("policy.toml"), "");
    fs::remove_file(sandbox.path("sessions.json")).unwrap();
    fs::create_dir(sandbox.path("examples")).unwrap();
    sandbox.write("examples/sessions.json", file("examples/sessions.json"));
    let mut rewritten = String::new();
    let mut done = 0;
    for block in blocks(&page) {
        rewritten.push_str(&page[done..block.range.start]);
        done = block.range.end;
        match block.language.as_str() {
            _ if block.not_run().is_some() => rewritten.push_str(&block.text),
            "console" => rewritten.push_str(&replayed(&sandbox, &block.text)),
            "sh" => {
                let run = shell(&sandbox, &block.text);
                assert_eq!(run.code, 0, "{name}: {}{run:#?}", block.text);
                rewritten.push_str(&block.text);
            }
            _ => {
                if let Some(path) = block.file() {
                    sandbox.write(path, &block.text);
                }
                rewritten.push_str(&block.text);
            }
        }
    }
    rewritten + &page[done..]
}

/// After an intended change, `SNAPSHOTS=overwrite cargo test --test it pages::` writes what the commands print now.
#[test]
fn what_a_page_shows_is_what_its_commands_print() {
    for name in pages() {
        let expected = Data::read_from(&root().join(&name), Some(DataFormat::Text)).raw();
        Assert::new().action_env("SNAPSHOTS").eq(rewritten(&name).into_data().raw(), expected);
    }
}

#[test]
fn every_block_is_of_a_kind_that_is_tested_or_says_why_it_is_not() {
    let (run, data) = (["console", "sh"], ["toml", "json", "ini", "xml", "yaml", "text"]);
    for name in pages() {
        for Block { language, note, .. } in blocks(&file(&name)) {
            assert!(run.contains(&language.as_str()) || data.contains(&language.as_str()), "{name}: {language:?}");
            let note = note.unwrap_or_default();
            let known = ["", "not run: ", "file: "]
                .iter()
                .any(|kind| note.strip_prefix(kind).is_some_and(|why| kind.is_empty() == why.is_empty()));
            assert!(known, "{name}: {note:?}");
        }
    }
}

/// The policies of the pages. A part of one goes with what every policy needs.
pub fn policies() -> Vec<(String, String)> {
    const NEEDED: &str = "[models]\nallowed = [\"opus\", \"sonnet\", \"haiku\"]\nfallback = \"sonnet\"\n";
    let whole = |text: String| if text.contains("[models]") { text } else { format!("{NEEDED}{text}") };
    let of_page = |name: String| {
        let policies =
            blocks(&file(&name)).into_iter().filter(|block| block.language == "toml" && block.not_run().is_none());
        policies.map(|block| (name.clone(), whole(block.text))).collect::<Vec<_>>()
    };
    pages().into_iter().flat_map(of_page).collect()
}

#[test]
fn every_policy_is_valid() {
    let examples =
        ["policy.toml", "examples/dispatch.toml", "examples/openclaw/policy.toml", "examples/postgres/policy.toml"]
            .map(|name| (name.to_owned(), file(name)));
    for (name, policy) in policies().into_iter().chain(examples) {
        let (_, warnings) =
            read(&[Source::new(&name, policy.clone())]).unwrap_or_else(|found| panic!("{name}: {found:#?}\n{policy}"));
        assert_eq!(warnings, [], "{name}");
    }
}

/// The headings of a page, with their levels.
fn headings(page: &str) -> Vec<(HeadingLevel, String)> {
    let mut headings: Vec<(HeadingLevel, String)> = Vec::new();
    let mut inside = false;
    for (event, _) in events(page) {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                inside = true;
                headings.push((level, String::new()));
            }
            Event::End(TagEnd::Heading(_)) => inside = false,
            Event::Text(text) | Event::Code(text) if inside => headings.last_mut().unwrap().1.push_str(&text),
            _ => {}
        }
    }
    headings
}

/// The anchors of a page, as GitHub and mdbook make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let anchor = |heading: &str| -> String {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings(page).iter().map(|(_, heading)| anchor(heading)).collect()
}

fn links(page: &str) -> Vec<String> {
    let links = events(page).filter_map(|(event, _)| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => Some(dest_url.into_string()),
        _ => None,
    });
    links.collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let others = ["ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(str::to_owned);
    for name in pages().into_iter().chain(others) {
        let page = file(&name);
        for link in links(&page).iter().filter(|link| !link.starts_with("https://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path =
                if path.is_empty() { PathBuf::from(&name) } else { Path::new(&name).parent().unwrap().join(path) };
            assert!(root().join(&path).exists(), "{name}: {link} leads nowhere");
            // A page of the book that leads out of it would lead nowhere there.
            let stays = !name.starts_with("docs/") || !link.starts_with("../");
            assert!(stays, "{name}: {link} leads out of docs/: name the file instead");
            let known = anchor.is_empty() || anchors(&file(path.to_str().unwrap())).contains(anchor);
            assert!(known, "{name}: {link} names no heading of {}", path.display());
        }
    }
}

#[test]
fn the_index_has_every_page() {
    let listed: BTreeSet<String> =
        links(&file("docs/SUMMARY.md")).into_iter().map(|link| format!("docs/{link}")).collect();
    let pages = pages().into_iter().filter(|name| name.starts_with("docs/") && !name.ends_with("SUMMARY.md"));
    assert_eq!(listed, pages.collect());
}

/// The words that a page shows as code.
fn code(page: &str) -> Vec<String> {
    let code = events(page).filter_map(|(event, _)| match event {
        Event::Code(text) => Some(text.into_string()),
        _ => None,
    });
    code.collect()
}

/// The file below the root or `src/` that a word names: its first part is a folder there.
fn named_file(word: &str) -> Option<&str> {
    let (folder, _) = word.split_once('/').filter(|_| !word.contains([' ', '*']))?;
    let folders = ["", "src"].map(|above| root().join(above).join(folder));
    folders.iter().any(|folder| folder.is_dir()).then_some(word)
}

/// The test, or the beginning of the names of tests, that a word names: `module::test`, or what `cargo test` is given.
fn named_test(word: &str) -> Option<&str> {
    let given = word.strip_prefix("cargo test ").map(|given| given.split(' ').collect::<Vec<_>>());
    let name = match given.as_deref() {
        None => Some(word).filter(|word| word.contains("::")),
        Some([.., "--test", _]) => None,
        Some(words) => words.last().copied(),
    };
    name.filter(|name| {
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_:".contains(&byte))
    })
}

#[test]
fn every_file_and_every_test_that_a_page_names_exists() {
    let tests = rust_below("tests");
    let has = |part: &str| ["mod", "fn"].iter().any(|kind| tests.contains(&format!("{kind} {part}")));
    for name in pages().into_iter().chain(["ARCHITECTURE.md", "CONTRIBUTING.md"].map(str::to_owned)) {
        for word in code(&file(&name)) {
            let exists = |path: &str| ["", "src"].iter().any(|above| root().join(above).join(path).exists());
            assert!(named_file(&word).is_none_or(exists), "{name} names the file {word}");
            assert!(named_test(&word).is_none_or(|test| test.split("::").all(has)), "{name} names the test of {word}");
        }
    }
}

/// The first cell of each row of the tables of a page, as far as it is code: what a reference explains.
fn explained(page: &str) -> BTreeSet<String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    rows.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn the_readme_is_short_and_its_first_commands_are_all_the_set_up() {
    let readme = file("README.md");
    let words = readme.split_whitespace().count();
    assert!(words <= 1_500, "{words} words");
    let first = blocks(&readme).into_iter().find(|block| block.language == "sh").unwrap().text;
    let mut commands = first.lines().map(|line| line.split('#').next().unwrap().trim());
    assert_eq!(commands.next(), Some("cargo run --release -- --dry-run"));
    let test = commands.next().unwrap();
    assert!(file(".ci/run").lines().any(|line| line == format!("step {test}")), ".ci/run does not run {test:?}");
}

/// The exit codes that a page has in a table.
fn exit_codes(page: &str) -> Vec<u8> {
    page.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok()).collect()
}

#[test]
fn every_exit_code_is_explained() {
    let help = finish(Command::new(env!("CARGO_BIN_EXE_reconcile")).arg("--help")).stdout;
    let codes = help.split("Exit codes:\n").nth(1).unwrap().lines();
    let codes: Vec<u8> = codes.filter_map(|line| line.trim().split(' ').next()?.parse().ok()).collect();
    assert!(codes.len() > 5, "{help}");
    for page in ["README.md", "docs/troubleshooting.md"] {
        assert_eq!(exit_codes(&file(page)), codes, "{page}");
    }
}

/// The codes of mistakes, warnings and notes: the first argument of what makes one.
fn codes(source: &str) -> BTreeSet<String> {
    let makers = ["Diagnostic::error(", "Diagnostic::warning(", "Diagnostic::note(", "Self::error(", "mistake("];
    codes_of(&makers, source)
}

/// The codes that reviewed outputs of the program show: `error[CODE]` and so on.
fn shown_codes() -> BTreeSet<String> {
    let folders = ["invalid", "lints"].map(|folder| walkdir::WalkDir::new(root().join("tests").join(folder)));
    let files = folders.into_iter().flatten().map(|entry| entry.unwrap().into_path());
    let outputs = files.filter(|path| path.extension().is_some_and(|extension| extension == "txt"));
    let text: String = outputs.map(|path| fs::read_to_string(path).unwrap()).collect();
    let levels = ["error[", "warning[", "note["];
    let marks = levels.iter().flat_map(|level| text.split(level).skip(1)).filter_map(|rest| rest.split(']').next());
    marks
        .filter(|code| code.bytes().all(|byte| byte.is_ascii_lowercase() || b"-0123456789".contains(&byte)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_code_of_a_mistake_a_warning_or_a_note_is_explained() {
    let (page, source) = (file("docs/troubleshooting.md"), rust_below("src"));
    let known: BTreeSet<String> = codes(&source).union(&shown_codes()).cloned().collect();
    assert!(known.len() > 40, "{known:?}");
    let explained = explained(page.split("## Codes").nth(1).unwrap());
    let missing: Vec<&String> = known.difference(&explained).collect();
    assert!(missing.is_empty(), "docs/troubleshooting.md does not explain {missing:?}");
    let unknown: Vec<&String> = explained.iter().filter(|code| !source.contains(&format!("\"{code}\""))).collect();
    assert!(unknown.is_empty(), "docs/troubleshooting.md explains {unknown:?}, which the program does not say");
}

#[test]
fn every_code_of_an_error_is_explained_once() {
    let page = file("docs/troubleshooting.md");
    let (_, rest) = page.split_once("\n## Errors").unwrap();
    let (errors, others) = rest.split_once("\n## Codes").unwrap();
    let made = codes_of_errors();
    assert!(made.len() > 150 && made.contains("gateway-doubled") && made.contains("no-such-run"), "{made:?}");
    let rows: Vec<String> = errors.lines().filter(|line| line.starts_with("| `")).flat_map(explained).collect();
    let explained_here: BTreeSet<String> = rows.iter().cloned().collect();
    assert_eq!(rows.len(), explained_here.len(), "a code has two rows");
    let elsewhere = explained(others);
    let missing: Vec<&String> =
        made.iter().filter(|code| !explained_here.contains(*code) && !elsewhere.contains(*code)).collect();
    assert!(missing.is_empty(), "docs/troubleshooting.md does not explain {missing:?}");
    let unknown: Vec<&String> = explained_here.difference(&made).collect();
    assert!(unknown.is_empty(), "docs/troubleshooting.md explains {unknown:?}, which the program does not say");
}

#[test]
fn each_code_is_explained_once_and_where_it_belongs() {
    let (page, source) = (file("docs/troubleshooting.md"), rust_below("src"));
    let (_, codes) = page.split_once("## Codes").unwrap();
    let (mistakes, others) = codes.split_once("\nWarnings").unwrap();
    let (warnings, notes) = others.split_once("\nNotes").unwrap();
    let [mistakes, warnings, notes] = [mistakes, warnings, notes].map(explained);
    let rows = codes.lines().filter(|line| line.starts_with("| `")).flat_map(explained).count();
    let all: BTreeSet<&String> = [&mistakes, &warnings, &notes].into_iter().flatten().collect();
    assert_eq!(rows, all.len(), "a code has two rows");
    let errors = codes_of(&["Diagnostic::error(", "mistake("], &source);
    let made_as = |maker: &str| codes_of(&[&format!("Diagnostic::{maker}("), &format!("self.{maker}(")], &source);
    let misplaced = |made: BTreeSet<String>, explained: &BTreeSet<String>| -> Vec<String> {
        made.into_iter().filter(|code| !explained.contains(code) && !errors.contains(code)).collect()
    };
    assert_eq!(misplaced(made_as("warning"), &warnings), [""; 0], "these are warnings");
    assert_eq!(misplaced(made_as("note"), &(&warnings | &notes)), [""; 0], "these are notes");
}

/// The keys below a part of the schema, as `rules.source`, where a name that the user chooses is `*`.
fn keys(schema: &Value, part: &Value, path: &str) -> BTreeSet<String> {
    let name = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let definition =
        |target: &Value| Some(&schema["definitions"][target.as_str()?.trim_start_matches("#/definitions/")]);
    let item = definition(&part["items"]["$ref"]).filter(|item| item["properties"].is_object());
    let lists = ["allOf", "anyOf"].into_iter().filter_map(|list| part[list].as_array()).flatten();
    let here = lists.chain(definition(&part["$ref"])).chain(item).map(|part| (path.to_owned(), part));
    let properties = part["properties"].as_object().into_iter().flatten().map(|(key, part)| (name(key), part));
    let chosen = Some(&part["additionalProperties"]).filter(|part| part.is_object()).map(|part| (name("*"), part));
    let parts = here.chain(properties).chain(chosen);
    let found: BTreeSet<String> = parts.flat_map(|(path, part)| keys(schema, part, &path)).collect();
    // What is only said to be required is a key of its own elsewhere.
    let is_key = found.is_empty() && !path.is_empty() && part["required"].is_null();
    if is_key { BTreeSet::from([path.to_owned()]) } else { found }
}

/// The keys that a policy can have.
pub fn policy_keys() -> BTreeSet<String> {
    let schema: Value = serde_json::from_str(&file("policy.schema.json")).unwrap();
    keys(&schema, &schema, "")
}

#[test]
fn the_reference_has_every_key_of_a_policy() {
    let known = policy_keys();
    assert!(known.contains("models.retired.*.use") && known.contains("chats.*.until") && known.len() > 30, "{known:?}");
    // In the page, capitals stand for a name that the user chooses, and for any of several keys that take the same.
    let is_general = |part: &str| part.chars().all(|c| c.is_ascii_uppercase());
    let is_of = |row: &str, key: &str| {
        let (row, key): (Vec<&str>, Vec<&str>) = (row.split('.').collect(), key.split('.').collect());
        row.len() == key.len() && row.iter().zip(&key).all(|(row, key)| row == key || is_general(row))
    };
    let page = file("docs/policy.md");
    let section = page.split("\n## ").find(|part| part.starts_with("Keys\n")).unwrap();
    let rows = explained(section);
    let missing: Vec<&String> = known.iter().filter(|key| !rows.iter().any(|row| is_of(row, key))).collect();
    assert!(missing.is_empty(), "docs/policy.md does not explain {missing:?}");
    let unknown: Vec<&String> = rows.iter().filter(|row| !known.iter().any(|key| is_of(row, key))).collect();
    assert!(unknown.is_empty(), "docs/policy.md explains {unknown:?}, which are no keys");
}

#[test]
fn every_command_and_every_option_is_explained() {
    let help = |arguments: &[&str]| Sandbox::new("", "").run(arguments).expect(0).stdout;
    let page = file("docs/commands.md");
    let whole = help(&["--help"]);
    let commands = whole.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let commands: Vec<&str> = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    let commands = commands.into_iter().filter(|command| !["", "help"].contains(command));
    let words: BTreeSet<&str> = page.split(['`', ' ', '\n', ',', '=', '|']).collect();
    for command in commands {
        assert!(
            headings(&page).iter().any(|(_, heading)| heading.split([' ', ',']).any(|word| word == command)),
            "{command} has no heading"
        );
        let text = help(&[command, "--help"]);
        let lines = text
            .lines()
            .filter(|line| line.trim_start().starts_with('-'))
            .chain(whole.lines().filter(|line| line.trim_start().starts_with('-')));
        for option in
            lines.flat_map(|line| line.split([' ', ',', '.'])).filter(|word| word.starts_with("--") && *word != "--")
        {
            // One that can be given more than once ends with dots.
            let option = option.trim_end_matches("...");
            assert!(words.contains(option), "docs/commands.md does not explain {option} of {command}");
        }
    }
}

#[test]
fn every_metric_is_explained() {
    let sandbox = Sandbox::new(POLICY, &registry(&[("+1", "family", "sonnet")]));
    sandbox.run(&["--metrics", "reconcile.prom"]).expect(0);
    let written = sandbox.read("reconcile.prom");
    let names: BTreeSet<String> =
        written.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).map(str::to_owned).collect();
    assert!(names.len() > 10, "{written}");
    assert!(names.is_subset(&explained(&file("docs/cron.md"))), "{names:?}");
}
