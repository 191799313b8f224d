//! The dry runs and the applies as a picture: time over sessions, both in powers of ten.

use std::fmt::Write;

use crate::measure::{Cell, Measured};
use crate::work::Job;

const COLOURS: [(&str, &str); 7] = [
    ("reconcile", "#c2410c"),
    ("Python, json", "#2563eb"),
    ("Python, orjson", "#0891b2"),
    ("jq", "#7c3aed"),
    ("wc -l", "#6b7280"),
    ("cp, fsync", "#6b7280"),
    ("/bin/true", "#9ca3af"),
];

/// One panel's inside.
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 320.0;
const TOP: f64 = 60.0;
/// From one panel to the next; right of each there is room for names.
const STEP: f64 = 480.0;
const LEFT: f64 = 64.0;

/// Seconds, as powers of ten: the lowest and the highest line.
const TIMES: (f64, f64) = (-4.0, 2.0);

pub fn svg(cells: &[Cell]) -> String {
    let mut svg = String::new();
    let (width, height) = (LEFT + 2.0 * STEP - 40.0, TOP + HEIGHT + 60.0);
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"system-ui, 'DejaVu Sans', sans-serif\" font-size=\"12\">\n\
         <title>Time of whole processes over the size of the registry</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
    );
    for (index, job) in [Job::InSync, Job::Apply].into_iter().enumerate() {
        let cells: Vec<&Cell> = cells.iter().filter(|cell| cell.job == job.name()).collect();
        panel(&mut svg, LEFT + STEP * index as f64, job.name(), &cells);
    }
    svg + "</svg>\n"
}

fn panel(svg: &mut String, left: f64, title: &str, cells: &[&Cell]) {
    let y = |seconds: f64| TOP + HEIGHT * (1.0 - (seconds.log10() - TIMES.0) / (TIMES.1 - TIMES.0));
    let x = |sessions: f64| left + WIDTH * (sessions.log10() - 2.0) / 4.0;
    let _ = writeln!(
        svg,
        "<text x=\"{left}\" y=\"{}\" font-size=\"15\" font-weight=\"600\" fill=\"#111827\">{title}</text>\n\
         <text x=\"{left}\" y=\"{}\" fill=\"#6b7280\">median of whole processes</text>",
        TOP - 32.0,
        TOP - 14.0
    );
    for (power, label) in
        [(-4, "0.1 ms"), (-3, "1 ms"), (-2, "10 ms"), (-1, "0.1 s"), (0, "1 s"), (1, "10 s"), (2, "100 s")]
    {
        let at = y(10_f64.powi(power));
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#e5e7eb\"/>\n\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#6b7280\">{label}</text>",
            left + WIDTH,
            left - 8.0,
            at + 4.0
        );
    }
    for (sessions, label) in [(1e2, "100"), (1e3, "1,000"), (1e4, "10,000"), (1e5, "100,000"), (1e6, "1,000,000")] {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#6b7280\">{label}</text>",
            x(sessions),
            TOP + HEIGHT + 20.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#6b7280\">sessions</text>",
        left + WIDTH / 2.0,
        TOP + HEIGHT + 40.0
    );

    let mut ends = Vec::new();
    for (name, colour) in COLOURS {
        let measured = cells.iter().filter_map(|cell| Some((cell.sessions as f64, cell.of(name)?)));
        let points: Vec<(f64, f64)> =
            measured.map(|(sessions, measured)| (x(sessions), y(Measured::median(measured)))).collect();
        let Some((_, last)) = points.last() else { continue };
        ends.push((*last, name, colour));
        let ours = name == "reconcile";
        let line: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{}\"/>",
            line.join(" "),
            if ours { 3.0 } else { 1.5 }
        );
        for (x, y) in points {
            let radius = if ours { 4.5 } else { 3.0 };
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\"/>");
        }
    }
    // Names stand beside the ends of their lines, and not on each other.
    ends.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut free = f64::MIN;
    for (end, name, colour) in ends {
        let at = (end + 4.0).max(free);
        free = at + 15.0;
        let weight = if name == "reconcile" { 700 } else { 400 };
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{at:.1}\" fill=\"{colour}\" font-weight=\"{weight}\">{name}</text>",
            left + WIDTH + 10.0
        );
    }
}
