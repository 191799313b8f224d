//! Numbers in the text form that Prometheus reads.

use std::io;

use crate::report::escape::blank_out;
use crate::report::page::Page;

/// A number that is told of a registry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gauge {
    /// The name of the metric.
    pub(crate) name: &'static str,
    /// What the metric counts, in a sentence.
    pub(crate) help: &'static str,
    /// The number.
    pub(crate) value: i64,
}

/// The name of a registry, as the value of a label is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label(String);

impl Label {
    /// The label of a registry.
    pub(crate) fn of(name: &str) -> Self {
        let written = name.replace('\\', r"\\").replace('"', "\\\"").replace('\n', "\\n");
        Self(blank_out(&written).into_owned())
    }

    /// The label that stands between quotes in a file of metrics.
    pub(crate) fn as_written(text: &str) -> Self {
        Self(blank_out(text).into_owned())
    }
}

impl Page<'_> {
    /// Writes a number, and what it means.
    ///
    /// # Errors
    /// Of writing.
    pub(crate) fn gauge(&mut self, label: &Label, gauge: Gauge) -> io::Result<()> {
        let (Gauge { name, help, value }, Label(label)) = (gauge, label);
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge\n{name}{{registry=\"{label}\"}} {value}")
    }
}
