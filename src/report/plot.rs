//! The few marks of the page: where lines, dots and steps lie in a box of fixed size. The templates draw them.

use serde::Serialize;

/// The box in SVG units, and the room that its axes take.
pub const WIDTH: f64 = 340.0;
pub const HEIGHT: f64 = 210.0;
const LEFT: f64 = 40.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 38.0;

/// A picture, laid out.
#[derive(Debug, Serialize)]
pub struct Plot {
    pub width: f64,
    pub height: f64,
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
    pub x_ticks: Vec<Tick>,
    pub y_ticks: Vec<Tick>,
    pub series: Vec<Series>,
}

#[derive(Debug, Serialize)]
pub struct Tick {
    pub at: f64,
    pub text: String,
    /// Where the text is held: `start`, `middle` or `end`.
    pub anchor: &'static str,
}

#[derive(Debug, Serialize)]
pub struct Series {
    pub name: String,
    /// The points joined, as an SVG path; gaps where there is no value.
    pub path: String,
    pub dots: Vec<(f64, f64)>,
}

/// How the numbers of an axis are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Share,
    Number,
}

/// An axis: its range and its unit.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    pub low: f64,
    pub high: f64,
    pub unit: Unit,
}

impl Axis {
    /// From zero to a round number that holds all values.
    pub fn from_zero(values: impl Iterator<Item = f64>, least: f64, unit: Unit) -> Axis {
        let most = values.filter(|v| v.is_finite()).fold(least, f64::max);
        let step = step(most);
        Axis { low: 0.0, high: (most / step - 1e-9).ceil() * step, unit }
    }

    /// The round numbers around all values, within `bounds`.
    pub fn around(values: impl Iterator<Item = f64> + Clone, bounds: (f64, f64), unit: Unit) -> Axis {
        let finite = values.filter(|v| v.is_finite());
        let (low, high) = (finite.clone().fold(bounds.1, f64::min), finite.fold(bounds.0, f64::max));
        let step = step((high - low).max(0.1));
        let low = ((low / step + 1e-9).floor() * step).max(bounds.0);
        let high = ((high / step - 1e-9).ceil() * step).min(bounds.1);
        Axis { low, high: high.max(low + step), unit }
    }

    fn place(&self, value: f64, from: f64, to: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        round(from + share.clamp(0.0, 1.0) * (to - from))
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        let step = step(self.high - self.low);
        let count = ((self.high - self.low) / step + 1e-6).floor() as usize;
        (0..=count).map(|i| self.low + i as f64 * step).map(|v| (v, self.write(v, step))).collect()
    }

    fn write(&self, value: f64, step: f64) -> String {
        let decimals = |step: f64| (-(step * 1.000_001).log10().floor()).max(0.0) as usize;
        match self.unit {
            Unit::Share => format!("{:.*} %", decimals(100.0 * step), 100.0 * value),
            Unit::Number => format!("{value:.*}", decimals(step)),
        }
    }
}

/// A step of 1, 2 or 5 times a power of ten that cuts the span into two to five.
fn step(span: f64) -> f64 {
    let rough = span.max(1e-9) / 4.0;
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough * 0.999).unwrap_or(10.0 * power)
}

fn round(v: f64) -> f64 {
    (v * 10.0).round() / 10.0
}

fn across(x: f64, axis: &Axis) -> f64 {
    axis.place(x, LEFT, WIDTH - RIGHT)
}

fn up(y: f64, axis: &Axis) -> f64 {
    axis.place(y, HEIGHT - BOTTOM, TOP)
}

fn empty(x_ticks: Vec<Tick>, y: &Axis, series: Vec<Series>) -> Plot {
    let y_ticks = y.ticks().into_iter().map(|(v, text)| Tick { at: up(v, y), text, anchor: "end" }).collect();
    Plot {
        width: WIDTH,
        height: HEIGHT,
        left: LEFT,
        right: WIDTH - RIGHT,
        top: TOP,
        bottom: HEIGHT - BOTTOM,
        x_ticks,
        y_ticks,
        series,
    }
}

/// Points, joined where they follow each other.
pub fn points(series: &[(String, Vec<(f64, f64)>)], x: Axis, y: Axis) -> Plot {
    let x_ticks =
        x.ticks().into_iter().map(|(v, text)| Tick { at: across(v, &x), text, anchor: "middle" }).collect();
    let drawn = series.iter().map(|(name, points)| {
        let dots: Vec<(f64, f64)> = points.iter().map(|(a, b)| (across(*a, &x), up(*b, &y))).collect();
        Series { name: name.clone(), path: path(&dots.iter().copied().map(Some).collect::<Vec<_>>()), dots }
    });
    empty(x_ticks, &y, drawn.collect())
}

/// A line for each name over dates, with gaps where a date has no value.
pub fn over_dates(dates: &[String], lines: &[(String, Vec<Option<f64>>)], y: Axis) -> Plot {
    let x = Axis { low: 0.0, high: (dates.len().max(2) - 1) as f64, unit: Unit::Number };
    let at = |i: usize| across(i as f64, &x);
    let last = dates.len().saturating_sub(1);
    let ends = if last == 0 { vec![0] } else { vec![0, last] };
    let x_ticks = ends
        .into_iter()
        .map(|i| Tick { at: at(i), text: dates[i].clone(), anchor: if i == 0 { "start" } else { "end" } })
        .collect();
    let series = lines.iter().map(|(name, values)| {
        let places: Vec<Option<(f64, f64)>> =
            values.iter().enumerate().map(|(i, v)| v.map(|v| (at(i), up(v, &y)))).collect();
        Series { name: name.clone(), path: path(&places), dots: places.into_iter().flatten().collect() }
    });
    empty(x_ticks, &y, series.collect())
}

/// Two histograms on the same bins as steps, each closed down to the axis: the target's, then the history's.
pub fn histograms(target: &[f64], history: &[f64]) -> Plot {
    let y = Axis::from_zero(target.iter().chain(history).copied(), 0.05, Unit::Share);
    let x = Axis { low: 0.0, high: target.len().max(1) as f64, unit: Unit::Number };
    let outline = |name: &str, shares: &[f64]| {
        let mut text = format!("M{} {}", across(0.0, &x), up(0.0, &y));
        for (i, share) in shares.iter().enumerate() {
            text += &format!("V{}H{}", up(*share, &y), across((i + 1) as f64, &x));
        }
        Series { name: name.to_string(), path: format!("{text}V{}Z", up(0.0, &y)), dots: Vec::new() }
    };
    empty(Vec::new(), &y, vec![outline("history", history), outline("target", target)])
}

fn path(places: &[Option<(f64, f64)>]) -> String {
    let mut text = String::new();
    let mut pen = 'M';
    for place in places {
        match place {
            Some((x, y)) => {
                text += &format!("{pen}{x} {y}");
                pen = 'L';
            }
            None => pen = 'M',
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers_and_lines_have_gaps() {
        let y = Axis::from_zero([0.03, 0.173].into_iter(), 0.05, Unit::Share);
        assert!((y.high - 0.2).abs() < 1e-12, "{y:?}");
        assert_eq!(
            y.ticks().into_iter().map(|t| t.1).collect::<Vec<_>>(),
            ["0 %", "5 %", "10 %", "15 %", "20 %"]
        );
        let dates: Vec<String> = ["2026-01-01", "2026-01-02", "2026-01-03"].map(String::from).into();
        let plot = over_dates(&dates, &[("a".into(), vec![Some(0.0), None, Some(0.2)])], y);
        assert_eq!(plot.series[0].path, "M40 172M326 20");
        assert_eq!(plot.x_ticks.len(), 2);
        let around = Axis::around([0.72, 0.91].into_iter(), (0.0, 1.0), Unit::Share);
        assert!((around.low - 0.7).abs() < 1e-9 && around.high >= 0.91, "{around:?}");
    }
}
