//! Where a command's text goes: reports to stdout, the rest to stderr. A closed pipe ends the printing, never a run.

use std::cell::RefCell;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Stdout, Write, stderr};
use std::os::fd::AsFd;
use std::sync::Arc;

use anstream::AutoStream;
use anstream::adapter::strip_str;
use rustix::termios::tcgetwinsize;

use crate::cli::args::{CommonArgs, PlaceArgs};
use crate::cli::color::Color;
use crate::cli::exit::Exit;
use crate::cli::trace::Trace;
use crate::diagnostic::Diagnostic;
use crate::error::{Error, Explanation, Result};
use crate::foreign::Sentence;
use crate::report::diagnostics::render;
use crate::report::shown::{Naming, shown};
use crate::report::{Page, Width};

/// The two streams of the process, and what may be said on them. `main` makes one and hands it to every command.
pub(crate) struct Terminal {
    stdout: Stdout,
    color: Color,
    /// Whether errors leave out what they would quote.
    naming: Naming,
    /// The lines that stderr waits with until `release`. `None` once nothing waits.
    held: RefCell<Option<Vec<String>>>,
    /// What tells of each step, where the user wants that. It waits for nothing.
    trace: Arc<Trace>,
}

impl Terminal {
    /// As the arguments ask for: `--redact` hides names, and a quiet run holds its lines until it has something to say.
    pub(crate) fn new(place: &PlaceArgs, run: &CommonArgs) -> Self {
        let held = run.quiet.then(Vec::new);
        let trace = Arc::new(place.trace());
        Self { stdout: io::stdout(), color: place.color, naming: place.naming(), held: RefCell::new(held), trace }
    }

    /// What tells of each step.
    pub(crate) fn trace(&self) -> &Arc<Trace> {
        &self.trace
    }

    /// Whether names may be told.
    pub(crate) fn naming(&self) -> Naming {
        self.naming
    }

    /// Writes to stdout through `write`, without colour where it is no terminal.
    pub(crate) fn to_stdout(&self, write: impl FnOnce(&mut Page) -> io::Result<()>) -> Result<()> {
        // A report is written in pieces of a few bytes, too, and taking the colours out takes a while for each.
        let mut out = buffered(AutoStream::new(buffered(self.stdout.lock()), self.color.on(&self.stdout)));
        match write(&mut Page::onto(&mut out)).and_then(|()| out.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::stream("write", "stdout")(error)),
            _ => Ok(()),
        }
    }

    /// How much room a line of stdout has.
    pub(crate) fn width(&self) -> Width {
        width_of(&self.stdout)
    }

    /// Whether a question can be asked: whether what is asked is seen, and an answer can be typed.
    pub(crate) fn can_ask() -> bool {
        io::stdin().is_terminal() && stderr().is_terminal()
    }

    /// Shows something on stderr, in lines that have so much room, and asks for consent to it. Only `yes` is consent.
    pub(crate) fn ask(
        &self,
        question: &'static str,
        show: impl FnOnce(&mut Page, Width) -> io::Result<()>,
    ) -> Result<Answer> {
        let mut out = AutoStream::new(buffered(stderr().lock()), self.color.on(&stderr()));
        let shown = show(&mut Page::onto(&mut out), width_of(&stderr()));
        let asked =
            shown.and_then(|()| write!(out, "\n{question} Only `yes` is accepted: ")).and_then(|()| out.flush());
        asked.map_err(Error::stream("write", "stderr"))?;
        let mut line = String::new();
        io::stdin().read_line(&mut line).map_err(Error::stream("read", "stdin"))?;
        Ok(if line.trim() == "yes" { Answer::Yes } else { Answer::No })
    }

    /// Prints the lines that were held. From now on lines are printed at once.
    pub(crate) fn release(&self) {
        let lines = self.held.take();
        for text in lines.into_iter().flatten() {
            self.line(&text);
        }
    }

    /// The warnings among the lines that are held, without colour.
    pub(crate) fn held_warnings(&self) -> Vec<String> {
        let held = self.held.borrow();
        let lines = held.iter().flatten().map(|line| strip_str(line).to_string());
        lines.filter(|line| line.starts_with("warning")).collect()
    }

    /// Says what is good to know.
    pub(crate) fn note(&self, text: impl Into<Sentence>) {
        self.said("note", text);
    }

    /// Warns of what is probably not as it should be.
    pub(crate) fn warning(&self, text: impl Into<Sentence>) {
        self.said("warning", text);
    }

    /// Warns of what would keep a run from working, and says what to do about it.
    pub(crate) fn obstacle(&self, error: &Error) {
        let Explanation { message, hint, .. } = self.naming.explain(error);
        self.warning(message);
        if let Some(hint) = hint {
            self.hint(hint);
        }
    }

    /// Says why nothing is done, where that is no failure of the program: what was typed cannot be done, or a plan is refused.
    pub(crate) fn refused(&self, text: impl Into<Sentence>, hint: impl Into<Sentence>) {
        self.said("error", text);
        self.hint(hint);
    }

    /// Says what to do next.
    pub(crate) fn hint(&self, text: impl Into<Sentence>) {
        self.said("hint", text);
    }

    fn said(&self, kind: &str, text: impl Into<Sentence>) {
        self.line(&format!("{kind}: {}", shown(&text.into(), self.naming)));
    }

    pub(crate) fn diagnostics(&self, found: &[Diagnostic]) {
        if found.is_empty() {
            return;
        }
        self.line(render(found, self.naming).trim_end());
    }

    /// Shows an error, its code, and what to do about it.
    pub(crate) fn failure(&self, error: &Error) {
        if let Error::Invalid(found) = error {
            return self.diagnostics(found);
        }
        let Explanation { code, message, hint, .. } = self.naming.explain(error);
        self.said(&format!("error[{code}]"), message);
        if let Some(hint) = hint {
            self.hint(hint);
        }
    }

    /// Shows an error after the first effect, and what was done before it.
    pub(crate) fn failure_after(&self, error: &Error, done: impl Into<Sentence>) -> Exit {
        self.failure(error);
        self.note(done);
        Exit::Partly
    }

    /// A line on stderr. Foreign text in it must be escaped already.
    fn line(&self, text: &str) {
        if let Some(lines) = self.held.borrow_mut().as_mut() {
            lines.push(text.to_owned());
            return;
        }
        // Where stderr is closed, there is no other place to report that.
        let _ = writeln!(AutoStream::new(stderr(), self.color.on(&stderr())), "{text}");
    }
}

/// The answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Consent.
    Yes,
    /// Anything else, or nothing.
    No,
}

/// How much room a line of a stream has. A terminal that does not know says 0.
fn width_of(stream: &(impl IsTerminal + AsFd)) -> Width {
    let size = if stream.is_terminal() { tcgetwinsize(stream).ok() } else { None };
    size.filter(|size| size.ws_col > 0).map_or(Width::Any, |size| Width::Columns(size.ws_col.into()))
}

/// A buffer in front of a stream. What takes the colours out writes a few bytes at a time.
pub(crate) fn buffered<'a>(out: impl Write + 'a) -> Box<dyn Write + 'a> {
    Box::new(BufWriter::with_capacity(1 << 16, out))
}
