//! The policy reader, and what is shown of its mistakes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use reconcile::diagnostic::Level;
use reconcile::policy::{Source, read};
use reconcile::report::diagnostics::render;
use reconcile::report::shown::Naming;

fuzz_target!(|text: &str| {
    // Two files, where a line says so.
    let (first, second) = text.split_once("\n#file\n").unwrap_or((text, ""));
    let sources = [Source::new("first.toml", first.to_owned()), Source::new("second.toml", second.to_owned())];
    match read(&sources) {
        Ok((policy, warnings)) => {
            assert!(policy.allowed.contains(&policy.fallback.model));
            assert!(warnings.iter().all(|found| found.level == Level::Warning));
            let _ = render(&warnings, Naming::Plain);
        }
        Err(mistakes) => {
            assert!(mistakes.iter().any(|found| found.level == Level::Error));
            assert!(mistakes.iter().all(|found| found.help.is_some()), "a mistake without advice: {mistakes:?}");
            let shown = render(&mistakes, Naming::Plain);
            assert!(shown.chars().all(|c| c == '\n' || c == '\u{1b}' || !c.is_control()), "shown raw: {shown:?}");
        }
    }
});
