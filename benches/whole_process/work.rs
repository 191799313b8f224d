//! The jobs, and who does them.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use crate::generate;
use crate::measure::Contender;

/// What is done to a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// A dry run that finds nothing to do.
    InSync,
    /// One that finds 1 % to do.
    Drift,
    /// That 1 % done.
    Apply,
}

/// A job with its files.
pub struct Work {
    contenders: Vec<Contender>,
    /// What every run must find at this path, if it changes it.
    fresh: Option<(PathBuf, PathBuf)>,
}

impl Work {
    pub fn contenders(&self) -> &[Contender] {
        &self.contenders
    }

    /// Makes everything as it was, and on disk.
    pub fn again(&self) -> Result<()> {
        let Some((from, to)) = &self.fresh else { return Ok(()) };
        let beside = |ending: &str| PathBuf::from(format!("{}{ending}", to.display()));
        for gone in [fs::remove_dir_all(beside(".reconcile")), fs::remove_file(beside(".new"))] {
            match gone {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        fs::copy(from, to)?;
        File::open(to)?.sync_all()?;
        Ok(())
    }
}

impl Job {
    pub fn name(self) -> &'static str {
        match self {
            Self::InSync => "dry run, nothing to do",
            Self::Drift => "dry run, 1 % to do",
            Self::Apply => "apply, 1 % to do",
        }
    }

    /// Generates what it needs.
    pub fn prepare(self, directory: &Path, sessions: usize) -> Result<Work> {
        let (policy, registry) = (directory.join("policy.toml"), directory.join("generated.json"));
        generate::policy(&policy, "")?;
        generate::registry(&registry, sessions, if self == Self::InSync { 0 } else { 100 })?;
        let used = if self == Self::Apply { directory.join("sessions.json") } else { registry.clone() };
        let (policy, path) = (text(&policy), text(&used));
        let apply = self == Self::Apply;
        let mut ours = argv(&[env!("CARGO_BIN_EXE_reconcile"), "--policy", &policy, "--registry", &path]);
        ours.extend((!apply).then(|| "--dry-run".to_owned()));
        let mut contenders = vec![Contender { name: "reconcile", argv: ours }];
        if self == Self::InSync {
            contenders.push(Contender { name: "reconcile, keep-manual", argv: keeping_manual(directory, &path)? });
        }
        for (name, library) in [("Python, json", "json"), ("Python, orjson", "orjson")] {
            let mut argv = argv(&[&python(library), &script("plain.py"), library, &path]);
            argv.extend(apply.then(|| "--apply".to_owned()));
            contenders.push(Contender { name, argv });
        }
        let jq = script("plain.jq");
        if apply {
            let run = "jq --indent 2 --argjson apply true -f \"$2\" \"$1\" > \"$1.new\" && sync \"$1.new\"";
            let jq = if installed("jq", &["--version"]) { shell(run, &[&path, &jq]) } else { argv(&["jq"]) };
            contenders.push(Contender { name: "jq", argv: jq });
            let copy = shell("cp \"$1\" \"$1.new\" && sync \"$1.new\"", &[&path]);
            contenders.push(Contender { name: "cp, fsync", argv: copy });
        } else {
            contenders.push(Contender {
                name: "jq",
                argv: argv(&["jq", "-r", "--argjson", "apply", "false", "-f", &jq, &path]),
            });
            contenders.push(Contender { name: "wc -l", argv: argv(&["wc", "-l", &path]) });
            contenders.push(Contender { name: "/bin/true", argv: argv(&["/bin/true"]) });
        }
        Ok(Work { contenders, fresh: apply.then_some((registry, used)) })
    }
}

/// A dry run that looks up what each chat was last given, which a run has remembered before.
fn keeping_manual(directory: &Path, registry: &str) -> Result<Vec<String>> {
    let policy = directory.join("keep-manual.toml");
    generate::policy(&policy, "[registry]\nexisting = \"keep-manual\"\n")?;
    let run = argv(&[env!("CARGO_BIN_EXE_reconcile"), "--policy", &text(&policy), "--registry", registry]);
    ensure!(Command::new(&run[0]).args(&run[1..]).stdout(Stdio::null()).status()?.success(), "the first run failed");
    Ok([run, argv(&["--dry-run"])].concat())
}

/// Restarts of so many sessions, so many at once.
pub fn restarts(directory: &Path, sessions: usize, parallel: usize) -> Result<Work> {
    let (policy, registry) = (directory.join("policy.toml"), directory.join("generated.json"));
    let used = directory.join("sessions.json");
    generate::policy(&policy, &format!("[sessions]\nrestart = [\"sleep\", \"0.02\"]\nparallel = {parallel}\n"))?;
    generate::registry(&registry, sessions, 1)?;
    let (count, parallel) = (sessions.to_string(), parallel.to_string());
    let ours = [env!("CARGO_BIN_EXE_reconcile"), "--policy", &text(&policy), "--registry", &text(&used)];
    let interpreter = python("json");
    let python = [&interpreter, &script("restarts.py"), &count, &parallel, "sleep", "0.02"];
    let contenders = vec![
        Contender { name: "reconcile", argv: argv(&ours) },
        Contender { name: "Python, subprocess", argv: argv(&python) },
        Contender { name: "xargs", argv: shell("seq \"$1\" | xargs -P \"$2\" -I _ sleep 0.02", &[&count, &parallel]) },
    ];
    Ok(Work { contenders, fresh: Some((registry, used)) })
}

fn argv(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn shell(script: &str, arguments: &[&str]) -> Vec<String> {
    argv(&[&["sh", "-c", script, "sh"], arguments].concat())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn script(name: &str) -> String {
    format!("{}/benches/whole_process/contenders/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn installed(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// Python itself, where `python3` may be a script that looks for it, if it has that library; else no program's name.
fn python(library: &str) -> String {
    let which = format!("import sys, {library}; print(sys.executable)");
    let found = Command::new("python3").args(["-c", &which]).output().ok().filter(|output| output.status.success());
    found.map_or("python3-without-library".to_owned(), |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}
