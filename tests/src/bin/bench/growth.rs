//! How what a market costs grows with its devices: a day in the simulator, and curves of it as a picture.

use std::fmt::Write;
use std::path::Path;

use stallmesh_tests::growth::{self, Figures, Market, Phase};

use crate::Options;
use crate::figures::{Report, Row, Target};

/// Devices without the hub. Larger ones take hours: each node reads anew who belongs at each checkpoint.
const SIZES: &[usize] = &[10, 30, 100];
/// Where the picture is shown.
const PICTURE: &str = "docs/growth.svg";

/// One curve: its name, and a value for each size.
type Curve = (&'static str, Vec<(f64, f64)>);

pub(crate) fn measure(options: &Options, report: &mut Report) {
    let sizes = if options.quick { &[5, 10] } else { SIZES };
    let mut days: Vec<(usize, Figures)> = Vec::new();
    for devices in sizes {
        let market = Market::of(*devices);
        let market = if options.quick { Market { sales: 2, day_ms: 60_000, ..market } } else { market };
        let figures = growth::run(&market, |what| println!("  {devices} devices: {what}"));
        rows(&market, &figures, report);
        days.push((*devices, figures));
    }
    // Of the first size and the last: what log n allows, and what is.
    if let (Some((few, first)), Some((many, last))) = (days.first(), days.last()) {
        let logs = (*many as f64).ln() / (*few as f64).ln();
        for (name, phase) in PHASES {
            let row = Row::new(format!("{name}: overhead an entry, {many} devices"), phase(last).overhead(), "B");
            let row = row.beside(format!("{few} devices"), phase(first).overhead());
            report.row(row.target(Target::AtMost(logs)));
        }
    }
    let path = if options.quick { options.directory.join("growth.svg") } else { Path::new(PICTURE).to_owned() };
    if let Err(error) = std::fs::write(&path, picture(&days)) {
        println!("  {}: {error}", path.display());
    }
}

/// Of what was measured, one part.
type Part = fn(&Figures) -> &Phase;

const PHASES: [(&str, Part); 2] = [("opening", |figures| &figures.opening), ("day", |figures| &figures.day)];

fn rows(market: &Market, figures: &Figures, report: &mut Report) {
    let Market { devices, sales, .. } = *market;
    let all = (figures.opening.cpu + figures.day.cpu).as_secs_f64();
    report.row(Row::new(format!("{devices} devices, {sales} sales each: time of a core"), all, "s"));
    for (name, phase) in PHASES {
        let phase = phase(figures);
        report.row(Row::new(format!("  {name}: time of a core"), phase.cpu.as_secs_f64(), "s"));
        report.row(Row::new("    simulated time", phase.span_ms as f64 / 60_000.0, "min"));
        report.row(Row::new("    events", phase.events as f64, ""));
        report.row(Row::new("    entries that came to others' disks", phase.delivered as f64, "entries"));
        report.row(Row::new("    bytes sent beside each", phase.overhead(), "B"));
        let per = phase.cpu.as_secs_f64() * 1e6 / (phase.delivered as f64).max(1.0);
        report.row(Row::new("    time of a core for each", per, "µs"));
        let mut kinds: Vec<_> = phase.traffic.iter().collect();
        kinds.sort_by_key(|(_, (_, bytes))| std::cmp::Reverse(*bytes));
        for (kind, (frames, bytes)) in kinds.into_iter().take(4) {
            let name = format!("    of which {kind}, {} frames", frames);
            report.row(Row::new(name, *bytes as f64 / (phase.delivered as f64).max(1.0), "B an entry"));
        }
    }
    let sold = (devices * sales) as f64;
    report.row(Row::new("  sales that the hub has posted, of all", figures.posted as f64 / sold, ""));
}

/// Curves on logarithmic axes, each as what it is at the smallest size: what grows as the market does is a straight line.
fn picture(days: &[(usize, Figures)]) -> String {
    let curve = |value: &dyn Fn(&Figures) -> f64| -> Vec<(f64, f64)> {
        days.iter().map(|(devices, figures)| (*devices as f64, value(figures))).collect()
    };
    let each = |phase: &Phase| phase.cpu.as_secs_f64() * 1e6 / (phase.delivered as f64).max(1.0);
    let panels: [(&str, Vec<Curve>); 2] = [
        (
            "bytes beside each delivered entry",
            vec![
                ("opening", curve(&|figures| figures.opening.overhead())),
                ("day", curve(&|figures| figures.day.overhead())),
            ],
        ),
        (
            "µs of a core for each delivered entry",
            vec![("opening", curve(&|figures| each(&figures.opening))), ("day", curve(&|figures| each(&figures.day)))],
        ),
    ];
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 330\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"760\" height=\"330\" fill=\"white\"/>\n",
    );
    for (number, (title, curves)) in panels.iter().enumerate() {
        panel(&mut svg, 60.0 + 380.0 * number as f64, title, curves);
    }
    svg += "</svg>\n";
    svg
}

/// One panel, 280 wide and 220 high, from 50 down.
fn panel(svg: &mut String, left: f64, title: &str, curves: &[Curve]) {
    const COLOURS: [&str; 2] = ["#1f6f8b", "#c8553d"];
    let (width, height, top) = (280.0, 220.0, 50.0);
    let points = || curves.iter().flat_map(|(_, points)| points.iter().copied());
    let (mut low, mut high) = (f64::MAX, f64::MIN);
    let (mut few, mut many) = (f64::MAX, f64::MIN);
    for (devices, value) in points() {
        let value = value.max(0.1);
        (low, high) = (low.min(value), high.max(value));
        (few, many) = (few.min(devices), many.max(devices));
    }
    // Whole powers of ten, so that a slope can be read.
    let (low, high) = (low.log10().floor(), high.log10().ceil().max(low.log10().floor() + 1.0));
    let (few, many) = (few.log10().floor(), many.log10().ceil().max(few.log10().floor() + 1.0));
    let x = |devices: f64| left + (devices.log10() - few) / (many - few) * width;
    let y = |value: f64| top + height - (value.max(0.1).log10() - low) / (high - low) * height;
    // Writing to a text doesn't fail.
    let _ = writeln!(svg, "<text x=\"{left}\" y=\"30\" font-weight=\"bold\">{title}</text>");
    for power in low as i32..=high as i32 {
        let at = y(10_f64.powi(power));
        let label = 10_f64.powi(power);
        let _ = writeln!(svg, "<path d=\"M{left:.1} {at:.1}h{width}\" stroke=\"#ddd\"/>");
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", left - 6.0, at + 4.0);
    }
    for power in few as i32..=many as i32 {
        let at = x(10_f64.powi(power));
        let _ = writeln!(svg, "<path d=\"M{at:.1} {top}v{height}\" stroke=\"#ddd\"/>");
        let (text, below) = (10_f64.powi(power), top + height + 18.0);
        let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{below:.1}\" text-anchor=\"middle\">{text}</text>");
    }
    let (middle, below) = (left + width / 2.0, top + height + 38.0);
    let _ = writeln!(svg, "<text x=\"{middle:.1}\" y=\"{below:.1}\" text-anchor=\"middle\">devices</text>");
    for (number, (name, points)) in curves.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let line: Vec<String> =
            points.iter().map(|(devices, value)| format!("{:.1},{:.1}", x(*devices), y(*value))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        for (devices, value) in points {
            let _ =
                writeln!(svg, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>", x(*devices), y(*value));
        }
        if let Some((devices, value)) = points.last() {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
                x(*devices) + 6.0,
                y(*value) + 4.0
            );
        }
    }
}
