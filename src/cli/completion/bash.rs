//! Bash, which quotes nothing of what it is offered, and replaces less than a word: where it is in quotes, what stands behind
//! the quote, else what stands behind the last character of `COMP_WORDBREAKS`, such as `:`.

use std::io::{self, Write};

use clap::Command;
use clap_complete::engine::complete;

use crate::cli::completion::words::{Word, split};

/// It hands over the line up to the cursor, and what it is going to replace of that.
const REGISTRATION: &str = r#"_PROGRAM() {
    local reply
    COMPREPLY=()
    while IFS= read -r reply; do
        COMPREPLY+=("$reply")
    done < <(VARIABLE=bash PROGRAM -- "${COMP_LINE:0:COMP_POINT}" "$2" 2> /dev/null)
    # The path of a directory goes on.
    [[ ${COMPREPLY-} != */ ]] || compopt -o nospace 2> /dev/null
}
complete -o bashdefault -o nosort -F _PROGRAM PROGRAM 2> /dev/null || complete -o bashdefault -F _PROGRAM PROGRAM
"#;

pub(super) fn write_registration(variable: &str, program: &str, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(REGISTRATION.replace("VARIABLE", variable).replace("PROGRAM", program).as_bytes())
}

/// The words of the line, and how the last one begins that is typed: what bash does not replace of it.
pub(super) fn words(line: &str, replaced: &str) -> (Vec<String>, Word) {
    let (before, last) = split(line);
    let kept = last.raw.strip_suffix(replaced).map(|kept| split(kept).1).unwrap_or_default();
    (before.into_iter().map(|word| word.text).chain([last.text]).collect(), kept)
}

/// Writes what the last word can become, a line each, without what bash keeps of it.
///
/// # Errors
/// Of writing, and where nothing can stand there.
pub(super) fn write_values(
    command: &mut Command,
    words: &[String],
    kept: &Word,
    out: &mut dyn Write,
) -> io::Result<()> {
    let directory = std::env::current_dir().ok();
    let index = words.len().saturating_sub(1);
    for candidate in complete(command, words.iter().map(Into::into).collect(), index, directory.as_deref())? {
        let value = candidate.get_value().to_string_lossy();
        // A file's name can have more than one line.
        let rest = value.strip_prefix(&kept.text).filter(|rest| !rest.contains('\n'));
        if let Some(rest) = rest {
            writeln!(out, "{}", quoted(rest, kept.quote))?;
        }
    }
    Ok(())
}

/// The text as it is typed: as it is, or in a quote that is open already.
fn quoted(text: &str, quote: Option<char>) -> String {
    let piece = |(at, c): (usize, char)| match quote {
        Some('"') if c == '!' => r#""\!""#.to_owned(),
        Some('"') if r#""\$`"#.contains(c) => format!("\\{c}"),
        Some('\'') if c == '\'' => r"'\''".to_owned(),
        None if is_special(c) && !(at == 0 && text.starts_with("~/")) => format!("\\{c}"),
        _ => c.to_string(),
    };
    text.char_indices().map(piece).collect()
}

fn is_special(c: char) -> bool {
    c.is_ascii() && !c.is_ascii_alphanumeric() && !"%+,-./:=@_".contains(c)
}
