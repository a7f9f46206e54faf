//! The latencies by percentile, as SVG: logarithmic in time, and in the share that is slower.

use crate::measures::Summary;
use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;
/// From a microsecond to a hundred seconds.
const LOWEST: f64 = 1e-6;
const DECADES: f64 = 8.0;
/// Up to 99.999 %.
const NINES: f64 = 5.0;

/// A line of the plot.
pub(crate) struct Series<'s> {
    pub(crate) name: &'static str,
    pub(crate) color: &'static str,
    pub(crate) summary: &'s Summary,
}

fn x(quantile: f64) -> f64 {
    let nines = (-(1.0 - quantile).max(1e-9).log10()).clamp(0.0, NINES);
    LEFT + nines / NINES * (WIDTH - LEFT - RIGHT)
}

fn y(seconds: f64) -> f64 {
    let decades = (seconds / LOWEST).max(1.0).log10().min(DECADES);
    HEIGHT - BOTTOM - decades / DECADES * (HEIGHT - TOP - BOTTOM)
}

/// Draws the plot.
pub(crate) fn svg(title: &str, series: &[Series<'_>]) -> String {
    let mut svg = String::new();
    // Writing to a string cannot fail.
    let _ = draw(&mut svg, title, series);
    svg
}

fn draw(svg: &mut String, title: &str, series: &[Series<'_>]) -> std::fmt::Result {
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{title}</text>"
    )?;
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for (decade, label) in (0i32..).zip(["1 us", "10 us", "100 us", "1 ms", "10 ms", "100 ms", "1 s", "10 s", "100 s"])
    {
        let at = y(LOWEST * 10f64.powi(decade));
        writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/><text x=\"{:.0}\" y=\"{:.1}\" \
             text-anchor=\"end\">{label}</text>",
            LEFT - 8.0,
            at + 4.0
        )?;
    }
    for (quantile, label) in
        [(0.0, "0 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %"), (0.99999, "99.999 %")]
    {
        let at = x(quantile);
        writeln!(
            svg,
            "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{:.0}\" \
             text-anchor=\"middle\">{label}</text>",
            bottom + 20.0
        )?;
    }
    writeln!(
        svg,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">share of requests answered within</text>",
        (LEFT + right) / 2.0,
        bottom + 44.0
    )?;
    for (row, Series { name, color, summary }) in series.iter().enumerate() {
        let points = summary.curve.iter().map(|(quantile, nanos)| (x(*quantile), y(*nanos as f64 / 1e9)));
        let points: Vec<_> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let at = TOP + 16.0 + 20.0 * row as f64;
        writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>\n\
             <path d=\"M{:.0} {at:.0}h24\" stroke=\"{color}\" stroke-width=\"2\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\">{name}</text>",
            points.join(" "),
            right + 12.0,
            right + 42.0,
            at + 4.0
        )?;
    }
    svg.push_str("</svg>\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measures::Times;
    use std::time::Duration;

    #[test]
    fn slower_and_rarer_is_up_and_right() {
        assert!(y(1.0) < y(0.001) && x(0.999) > x(0.9));
        assert_eq!((y(0.0), y(1e-6)), (HEIGHT - BOTTOM, HEIGHT - BOTTOM));
        assert_eq!((x(1.0), y(1e9)), (WIDTH - RIGHT, TOP));
    }

    #[test]
    fn every_series_has_a_line() {
        let times = Times::new();
        (1..100).for_each(|millis| times.record(Duration::from_millis(millis)));
        let summary = times.summary();
        let series = |name| Series { name, color: "#123456", summary: &summary };
        let drawn = svg("title", &[series("one"), series("other")]);
        assert_eq!(drawn.matches("<polyline").count(), 2);
        assert!(drawn.starts_with("<svg") && drawn.ends_with("</svg>\n") && !drawn.contains("NaN"));
    }
}
