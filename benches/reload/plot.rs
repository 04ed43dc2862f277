//! A small plot of what the clients saw around a reload, as SVG.

use std::fmt::Write as _;
use std::time::Duration;

use crate::record::Around;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 50.0;
const COLOURS: [&str; 3] = ["#0b6e4f", "#c8553d", "#3d5a98"];

/// One proxy's line: latencies by the time from the reload, and what to say beside its name.
pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) points: Vec<(f64, Duration)>,
}

/// The plot. The latency axis is logarithmic.
pub(crate) fn svg(title: &str, lines: &[Line]) -> String {
    let latencies = || lines.iter().flat_map(|line| line.points.iter().map(|(_, latency)| millis(*latency)));
    let least = latencies().fold(f64::MAX, f64::min).max(0.01).log10().floor();
    let most = latencies().fold(0.1, f64::max).log10().ceil().max(least + 1.0);
    let x = |at: f64| LEFT + (at + Around::REACH) / (2.0 * Around::REACH) * (WIDTH - LEFT - RIGHT);
    let y = |latency: f64| {
        HEIGHT - BOTTOM - (latency.max(1e-3).log10() - least) / (most - least) * (HEIGHT - TOP - BOTTOM)
    };
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">
<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>
<text x="{LEFT}" y="18" font-size="14">{title}</text>"#
    );
    let mut decade = least;
    while decade <= most {
        let value = 10_f64.powf(decade);
        let at = y(value);
        let _ = writeln!(
            out,
            r##"<line x1="{LEFT}" x2="{}" y1="{at:.1}" y2="{at:.1}" stroke="#ddd"/><text x="{}" y="{:.1}" text-anchor="end">{value} ms</text>"##,
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
        decade += 1.0;
    }
    let mut at = -Around::REACH;
    while at <= Around::REACH {
        let _ = writeln!(
            out,
            r#"<text x="{:.1}" y="{}" text-anchor="middle">{at}</text>"#,
            x(at),
            HEIGHT - BOTTOM + 18.0
        );
        at += 50.0;
    }
    let _ = writeln!(
        out,
        r##"<line x1="{0:.1}" x2="{0:.1}" y1="{TOP}" y2="{1}" stroke="#888" stroke-dasharray="4 3"/>
<text x="{2}" y="{3}" text-anchor="middle">milliseconds from the signal to reload</text>"##,
        x(0.0),
        HEIGHT - BOTTOM,
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 12.0
    );
    for (number, (line, colour)) in lines.iter().zip(COLOURS).enumerate() {
        let points: Vec<String> = line
            .points
            .iter()
            .map(|(at, latency)| format!("{:.1},{:.1}", x(*at), y(millis(*latency))))
            .collect();
        let _ = writeln!(
            out,
            r#"<polyline fill="none" stroke="{colour}" stroke-width="2" points="{}"/>
<text x="{}" y="{}" fill="{colour}">{}</text>"#,
            points.join(" "),
            LEFT + 10.0 + 225.0 * number as f64,
            TOP - 8.0,
            line.label
        );
    }
    out + "</svg>\n"
}

fn millis(latency: Duration) -> f64 {
    latency.as_secs_f64() * 1000.0
}
