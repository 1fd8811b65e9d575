//! The picture: each contender's share of what bare TCP reaches.

use super::report::Report;
use super::{Contender, matrix};
use std::fmt::Write as _;

const LEFT: f64 = 170.0;
const WIDTH: f64 = 520.0;
const BAR: f64 = 13.0;

const BARS: [(Contender, &str); 5] = [
    (Contender::LunetteMemory, "#1b6ca8"),
    (Contender::LunetteFile, "#7fb3d5"),
    (Contender::TgtMemory, "#c0562f"),
    (Contender::TgtFile, "#e2a58b"),
    (Contender::IstgtMemory, "#8a8a8a"),
];

/// Bars for some workloads that bare TCP was measured with.
pub(super) fn draw(report: &Report) -> String {
    let names: Vec<&str> =
        matrix::DRAWN.into_iter().filter(|name| report.per_cpu(name, Contender::Raw).is_some()).collect();
    let group = BAR * BARS.len() as f64 + 14.0;
    let height = 70.0 + group * names.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 {height:.0}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"760\" height=\"{height:.0}\" fill=\"white\"/>\n<text x=\"10\" y=\"18\" \
         font-size=\"14\">Commands per processor second of the target, as a share of what bare TCP reaches</text>\n"
    );
    for (index, (contender, colour)) in BARS.iter().enumerate() {
        let x = 10.0 + 140.0 * index as f64;
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"28\" width=\"10\" height=\"10\" fill=\"{colour}\"/><text x=\"{}\" y=\"37\">{}</text>",
            x + 14.0,
            contender.name()
        );
    }
    for share in [0.25, 0.5, 0.75, 1.0] {
        let x = LEFT + WIDTH * share;
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" y1=\"50\" x2=\"{x}\" y2=\"{:.0}\" stroke=\"#ddd\"/><text x=\"{x}\" y=\"{:.0}\" \
             text-anchor=\"middle\" fill=\"#666\">{:.0} %</text>",
            height - 20.0,
            height - 6.0,
            100.0 * share
        );
    }
    for (index, name) in names.iter().enumerate() {
        let top = 52.0 + group * index as f64;
        let _ = writeln!(out, "<text x=\"10\" y=\"{:.0}\">{name}</text>", top + group / 2.0 - 3.0);
        let Some(limit) = report.per_cpu(name, Contender::Raw) else { continue };
        for (place, (contender, colour)) in BARS.iter().enumerate() {
            let Some(value) = report.per_cpu(name, *contender) else { continue };
            let (y, share) = (top + BAR * place as f64, value / limit);
            let _ = writeln!(
                out,
                "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/><text x=\"{:.1}\" \
                 y=\"{:.1}\">{:.0} %</text>",
                WIDTH * share.min(1.05),
                BAR - 2.0,
                LEFT + WIDTH * share.min(1.05) + 4.0,
                y + BAR - 3.0,
                100.0 * share
            );
        }
    }
    out.push_str("</svg>\n");
    out
}
