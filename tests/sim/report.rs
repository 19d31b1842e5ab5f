//! What a run has shown, in numbers and as a row of a table.

use super::table::{Table, number};
use super::world::{NodeId, World};

/// The numbers of one run.
#[derive(Clone, Debug)]
pub struct Run {
    /// No faster with these lines, in seconds.
    pub bound_s: f64,
    /// How long each honest node took, in order; those that did not finish are left out.
    pub times_s: Vec<f64>,
    pub unfinished: usize,
    /// How often the sources have sent the file.
    pub copies: f64,
    /// Duplicate bytes among those received, 0 to 1.
    pub duplicates: f64,
    /// What was sent, of what the lines of all who give could have sent until the last was done.
    pub line_use: f64,
    /// Part of all chunks that are where they are wanted, by time.
    pub progress: Vec<(f64, f64)>,
    /// When each honest node was done.
    pub done_s: Vec<f64>,
}

/// The time until `leechers` with these uplinks all have a file from sources that send so much together.
pub fn bound_s(
    file_bytes: u64,
    source_per_s: f64,
    ups_per_s: &[f64],
    least_down_per_s: f64,
) -> f64 {
    let (file, count) = (file_bytes as f64, ups_per_s.len() as f64);
    let all = source_per_s + ups_per_s.iter().sum::<f64>();
    (file / source_per_s)
        .max(file / least_down_per_s)
        .max(count * file / all)
}

impl Run {
    /// The run of a world that has come to its end; `wanted` are the nodes it was for.
    pub fn of(world: &World, wanted: &[NodeId]) -> Self {
        let setup = &world.setup;
        let lines = |nodes: &[NodeId]| -> Vec<f64> {
            nodes
                .iter()
                .map(|id| world.net.line(*id).up_bytes_per_s)
                .collect()
        };
        let downs = wanted.iter().map(|id| world.net.line(*id).down_bytes_per_s);
        let least_down = downs.fold(f64::INFINITY, f64::min);
        let source_per_s: f64 = lines(&world.sources).iter().sum();
        let tallies = || wanted.iter().map(|id| &world.nodes[*id as usize].tally);
        let mut times_s: Vec<f64> = tallies()
            .filter_map(|t| Some(t.done_at?.since(t.entered_at).as_secs_f64()))
            .collect();
        times_s.sort_by(f64::total_cmp);
        let mut done_s: Vec<f64> = tallies()
            .filter_map(|t| Some(t.done_at?.0.as_secs_f64()))
            .collect();
        done_s.sort_by(f64::total_cmp);
        let received: u64 = tallies().map(|t| t.received_bytes).sum();
        let duplicate: u64 = tallies().map(|t| t.duplicate_bytes).sum();
        let sent = |nodes: &[NodeId]| {
            nodes
                .iter()
                .map(|id| world.net.sent_bytes(*id))
                .sum::<u64>()
        };
        let file = setup.file_bytes() as f64;
        let all_per_s = source_per_s + lines(wanted).iter().sum::<f64>();
        let end_s = done_s
            .last()
            .copied()
            .unwrap_or(world.now().0.as_secs_f64());
        let total = wanted.len() as f64 * f64::from(setup.chunks);
        Self {
            bound_s: bound_s(setup.file_bytes(), source_per_s, &lines(wanted), least_down),
            unfinished: wanted.len() - times_s.len(),
            times_s,
            copies: sent(&world.sources) as f64 / file,
            duplicates: duplicate as f64 / (received as f64).max(1.0),
            line_use: (sent(&world.sources) + sent(wanted)) as f64 / (all_per_s * end_s),
            progress: world
                .progress
                .iter()
                .map(|(s, placed)| (*s, *placed as f64 / total))
                .collect(),
            done_s,
        }
    }

    /// The time that `percent` of those who finished did not need more than, over the bound.
    pub fn over_bound(&self, percent: f64) -> f64 {
        percentile(&self.times_s, percent) / self.bound_s
    }

    pub fn mean_s(&self) -> f64 {
        self.times_s.iter().sum::<f64>() / self.times_s.len() as f64
    }
}

/// The value that `percent` of all, in order, are not above.
fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    let at = rank.clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// Something that is measured, and how it should be.
pub struct Figure {
    pub what: &'static str,
    pub value: f64,
    pub target: f64,
    pub at_most: bool,
}

impl Figure {
    pub fn at_most(what: &'static str, value: f64, target: f64) -> Self {
        Self {
            what,
            value,
            target,
            at_most: true,
        }
    }

    pub fn at_least(what: &'static str, value: f64, target: f64) -> Self {
        Self {
            what,
            value,
            target,
            at_most: false,
        }
    }

    pub fn is_met(&self) -> bool {
        match self.at_most {
            true => self.value <= self.target,
            false => self.value >= self.target,
        }
    }
}

/// The table of all figures.
pub struct Report {
    table: Table,
    pub all_met: bool,
}

impl Report {
    pub fn new(title: &str) -> Self {
        let head = [
            "scenario",
            "seed",
            "bound s",
            "p50",
            "p99",
            "last",
            "copies",
            "duplicates",
            "lines used",
            "figure",
            "value",
            "target",
            "met",
        ];
        Self {
            table: Table::new(title, &head),
            all_met: true,
        }
    }

    /// Adds a run and its figures, and prints them at once: some runs take minutes.
    pub fn add(&mut self, name: &str, seed: u64, run: Option<&Run>, figures: &[Figure]) {
        let over = |percent| {
            run.map_or_else(
                || "-".into(),
                |run| format!("{:.3}", run.over_bound(percent)),
            )
        };
        let of = |value: fn(&Run) -> String| run.map_or_else(|| "-".into(), value);
        for (n, figure) in figures.iter().enumerate() {
            let mut row = match n {
                0 => vec![
                    name.into(),
                    seed.to_string(),
                    of(|run| number(run.bound_s)),
                    over(50.0),
                    over(99.0),
                    over(100.0),
                    of(|run| format!("{:.2}", run.copies)),
                    of(|run| format!("{:.2} %", run.duplicates * 100.0)),
                    of(|run| format!("{:.0} %", run.line_use * 100.0)),
                ],
                _ => vec![String::new(); 9],
            };
            let sign = if figure.at_most { "<=" } else { ">=" };
            let met = if figure.is_met() { "yes" } else { "NO" };
            row.extend([
                figure.what.into(),
                format!("{:.3}", figure.value),
                format!("{sign} {}", figure.target),
                met.into(),
            ]);
            self.all_met &= figure.is_met();
            self.table.row(row);
            self.table.print_last();
        }
    }

    pub fn print(&self) {
        self.table.print();
    }
}
