//! Completion over time, as a plot.

use std::path::Path;

use super::lines::{Axis, Plot, Series};
use super::report::Run;

/// Writes how many of the nodes were done when, what part of all bytes was there, and the bound.
///
/// # Errors
/// The file cannot be written.
pub fn save(run: &Run, name: &str, seed: u64, folder: &Path) -> Result<(), String> {
    let count = run.done_s.len() + run.unfinished;
    let mut done = vec![(0.0, 0.0)];
    for (n, at) in run.done_s.iter().enumerate() {
        let share = |n: usize| 100.0 * n as f64 / count as f64;
        done.push((*at, share(n)));
        done.push((*at, share(n + 1)));
    }
    let there = run
        .progress
        .iter()
        .map(|(at, part)| (*at, 100.0 * part))
        .collect();
    let series = |name: &str, points| Series {
        name: name.into(),
        points,
        marked: false,
    };
    let plot = Plot {
        title: format!("{name}: {count} nodes"),
        note: format!(
            "virtual time; seed {seed}; the bound is when the lines allow the last node to be done at best, \
             {:.0} s; the seed sent {:.2} copies",
            run.bound_s, run.copies
        ),
        x: Axis::linear("seconds"),
        y: Axis::linear("percent").between(0.0, 100.0),
        series: vec![
            series("nodes that are done", done),
            series("bytes that are there", there),
            series("bound", vec![(run.bound_s, 0.0), (run.bound_s, 100.0)]),
        ],
    };
    plot.save(
        folder,
        &format!("sim-{}-{seed}.svg", name.replace(' ', "-")),
    )
}
