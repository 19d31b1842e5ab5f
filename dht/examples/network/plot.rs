//! Plots as SVG, for people to look at.

use std::fmt::Write as _;
use std::path::Path;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 66.0;
const BOTTOM: f64 = 92.0;
const COLOURS: [&str; 6] = [
    "#1f6fb4", "#d1495b", "#2f8f5b", "#8a5fbf", "#c98a1b", "#555555",
];

/// One line of a plot.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    /// Whether each point is marked.
    pub marked: bool,
}

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    Linear,
    Log,
}

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    pub label: String,
    pub scale: Scale,
    /// The least and the greatest value shown; what the data need when `None`.
    pub range: Option<(f64, f64)>,
}

impl Axis {
    pub fn linear(label: &str) -> Self {
        Self {
            label: label.into(),
            scale: Scale::Linear,
            range: None,
        }
    }

    pub fn log(label: &str) -> Self {
        Self {
            scale: Scale::Log,
            ..Self::linear(label)
        }
    }

    #[must_use]
    pub fn between(mut self, least: f64, greatest: f64) -> Self {
        self.range = Some((least, greatest));
        self
    }

    /// The marks of the axis for data between these.
    fn ticks(&self, least: f64, greatest: f64) -> Vec<f64> {
        match self.scale {
            Scale::Log => {
                let (from, to) = (least.log10().floor(), greatest.log10().ceil());
                let decades = (from as i32)..=(to.max(from + 1.0) as i32);
                decades.map(|power| 10f64.powi(power)).collect()
            }
            Scale::Linear => {
                let rough = ((greatest - least) / 6.0).max(1e-9);
                let power = 10f64.powf(rough.log10().floor());
                let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
                let step = steps.into_iter().find(|step| *step >= rough);
                let step = step.unwrap_or(rough);
                let (from, to) = ((least / step).floor(), (greatest / step - 1e-9).ceil());
                (from as i64..=to as i64)
                    .map(|at| at as f64 * step)
                    .collect()
            }
        }
    }

    fn place(&self, value: f64, (least, greatest): (f64, f64)) -> f64 {
        match self.scale {
            Scale::Linear => (value - least) / (greatest - least),
            Scale::Log => (value / least).log10() / (greatest / least).log10(),
        }
    }
}

/// A plot with lines.
#[derive(Clone, Debug)]
pub struct Plot {
    pub title: String,
    /// What model and what numbers it is made of.
    pub note: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
}

impl Plot {
    /// Writes the plot.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, folder: &Path, name: &str) -> Result<(), String> {
        let path = folder.join(name);
        let saved = std::fs::create_dir_all(folder);
        let saved = saved.and_then(|()| std::fs::write(&path, self.svg()));
        saved.map_err(|error| format!("{}: {error}", path.display()))?;
        println!("plot: {}", path.display());
        Ok(())
    }

    /// The plot as SVG.
    pub fn svg(&self) -> String {
        let (x_ticks, x_range) = self.axis(&self.x, |point| point.0);
        let (y_ticks, y_range) = self.axis(&self.y, |point| point.1);
        let to_x = |value| LEFT + self.x.place(value, x_range) * (WIDTH - LEFT - RIGHT);
        let bottom = HEIGHT - BOTTOM;
        let to_y = |value| bottom - self.y.place(value, y_range) * (bottom - TOP);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        text(&mut svg, LEFT, 24.0, "start", 17, &self.title);
        for (n, line) in wrap(&self.note, 128).iter().enumerate() {
            text(
                &mut svg,
                LEFT,
                HEIGHT - 26.0 + 14.0 * n as f64,
                "start",
                11,
                line,
            );
        }
        for tick in &x_ticks {
            let at = to_x(*tick);
            rule(&mut svg, (at, TOP), (at, bottom));
            text(&mut svg, at, bottom + 18.0, "middle", 12, &label(*tick));
        }
        for tick in &y_ticks {
            let at = to_y(*tick);
            rule(&mut svg, (LEFT, at), (WIDTH - RIGHT, at));
            text(&mut svg, LEFT - 8.0, at + 4.0, "end", 12, &label(*tick));
        }
        let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
        text(&mut svg, middle, bottom + 40.0, "middle", 13, &self.x.label);
        let (x, y) = (20.0, TOP + (bottom - TOP) / 2.0);
        let _ = writeln!(svg, "<g transform=\"rotate(-90 {x} {y})\">");
        text(&mut svg, x, y, "middle", 13, &self.y.label);
        svg.push_str("</g>\n");
        let mut legend = LEFT;
        for (n, series) in self.series.iter().enumerate() {
            let colour = COLOURS[n % COLOURS.len()];
            let places = series.points.iter().map(|(x, y)| (to_x(*x), to_y(*y)));
            let places: Vec<_> = places
                .filter(|(x, y)| x.is_finite() && y.is_finite())
                .collect();
            let path: Vec<_> = places
                .iter()
                .map(|(x, y)| format!("{x:.1},{y:.1}"))
                .collect();
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{}/>",
                path.join(" "),
                // Of two lines in the same place both are seen.
                if n % 2 == 1 {
                    " stroke-dasharray=\"9 5\""
                } else {
                    ""
                }
            );
            for (x, y) in places.iter().filter(|_| series.marked) {
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>"
                );
            }
            let _ = writeln!(
                svg,
                "<rect x=\"{legend}\" y=\"40\" width=\"14\" height=\"4\" fill=\"{colour}\"/>"
            );
            text(&mut svg, legend + 20.0, 46.0, "start", 12, &series.name);
            legend += 44.0 + 6.6 * series.name.chars().count() as f64;
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn axis(&self, axis: &Axis, of: impl Fn(&(f64, f64)) -> f64) -> (Vec<f64>, (f64, f64)) {
        let values = self.series.iter().flat_map(|series| &series.points);
        let shown =
            |value: &f64| value.is_finite() && (axis.scale == Scale::Linear || *value > 0.0);
        let values: Vec<f64> = values.map(of).filter(shown).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (least, greatest) = axis.range.unwrap_or(match least.is_finite() {
            true => (least, greatest),
            false => (1.0, 10.0),
        });
        let from_zero = axis.scale == Scale::Linear && axis.range.is_none() && least > 0.0;
        let least = if from_zero { 0.0 } else { least };
        let greatest = if greatest > least {
            greatest
        } else {
            least + 1.0
        };
        let ticks = axis.ticks(least, greatest);
        let range = match axis.range {
            Some(range) => range,
            None => (ticks[0], ticks[ticks.len() - 1]),
        };
        let inside = |tick: &f64| *tick >= range.0 - 1e-9 && *tick <= range.1 + 1e-9;
        (ticks.into_iter().filter(inside).collect(), range)
    }
}

fn rule(svg: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    let _ = writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#dddddd\"/>"
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, size: u32, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\">{text}</text>"
    );
}

fn wrap(note: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in note.split_whitespace() {
        let full = lines
            .last()
            .is_some_and(|line| line.chars().count() + word.chars().count() >= width);
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

fn label(value: f64) -> String {
    let scaled = |value: f64, unit: &str| {
        let text = format!("{value:.4}");
        let short = text.trim_end_matches('0').trim_end_matches('.');
        format!("{short}{unit}")
    };
    match value.abs() {
        size if size >= 999_999.5 => scaled(value / 1e6, " M"),
        size if size >= 9_999.5 => scaled(value / 1e3, " k"),
        _ => scaled(value, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: &[(f64, f64)], x: Axis) -> Plot {
        Plot {
            title: "a < b".into(),
            note: "word ".repeat(60),
            x,
            y: Axis::linear("y"),
            series: vec![Series {
                name: "s".into(),
                points: points.to_vec(),
                marked: true,
            }],
        }
    }

    #[test]
    fn every_point_is_inside_whatever_the_data() {
        for points in [
            &[][..],
            &[(5.0, 5.0)],
            &[(1.0, 0.0), (1e6, 1e6)],
            &[(3.0, 2.0), (7.0, f64::NAN)],
        ] {
            for x in [Axis::linear("x"), Axis::log("x")] {
                let svg = plot(points, x).svg();
                assert!(svg.contains("a &lt; b") && !svg.contains("NaN") && !svg.contains("inf"));
                for circle in svg.lines().filter(|line| line.starts_with("<circle")) {
                    let mut numbers = circle
                        .split('"')
                        .filter_map(|part| part.parse::<f64>().ok());
                    let (x, y) = (numbers.next().unwrap(), numbers.next().unwrap());
                    assert!((LEFT - 0.1..=WIDTH - RIGHT + 0.1).contains(&x), "{circle}");
                    assert!((TOP - 0.1..=HEIGHT - BOTTOM + 0.1).contains(&y), "{circle}");
                }
            }
        }
    }
}
