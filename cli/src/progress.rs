//! What is going on, on standard error: one line that changes while a call runs. Nothing is drawn when standard
//! error is no terminal or the person wants quiet; warnings and log lines go around the bar, never through it.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use casnode_node::api::{Event, Phase, Progress};
use indicatif::{
    BinaryBytes, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle,
};

/// How often the line is drawn anew while no event comes.
const TICK: Duration = Duration::from_millis(120);

/// The screen area all bars are in; whatever else goes to standard error asks it to step aside.
fn screen() -> &'static MultiProgress {
    static SCREEN: OnceLock<MultiProgress> = OnceLock::new();
    SCREEN.get_or_init(MultiProgress::new)
}

/// Standard error that leaves a bar intact.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        screen().suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Writes a remark to standard error. Nobody is left to hear that standard error is closed.
pub(crate) fn remark(text: &str) {
    let _ = Stderr.write_all(text.as_bytes());
}

/// The progress of one call.
pub(crate) struct Reporter {
    bar: ProgressBar,
    shape: Option<(Phase, bool)>,
    speed: Speed,
}

impl Reporter {
    /// A reporter that draws where drawing makes sense.
    pub(crate) fn new(quiet: bool) -> Self {
        let bar = ProgressBar::no_length();
        let bar = if quiet || !io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
            bar
        } else {
            screen().add(bar)
        };
        Self {
            bar,
            shape: None,
            speed: Speed::default(),
        }
    }

    /// Shows an event.
    pub(crate) fn show(&mut self, event: &Event) {
        match event {
            Event::Progress(progress) => self.progress(progress, Instant::now()),
            Event::Warning { message } => {
                remark(&format!("warning: {}\n", crate::output::printable(message)));
            }
        }
    }

    fn progress(&mut self, progress: &Progress, now: Instant) {
        let total = progress.total_bytes.filter(|&total| total > 0);
        let shape = (progress.phase, total.is_some());
        if self.shape.map(|(phase, _)| phase) != Some(progress.phase) {
            // What a resumed download finds done already is no speed.
            self.speed = Speed::default();
            self.bar.reset_elapsed();
        }
        self.speed.note(now, progress.done_bytes);
        match total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
        self.bar.set_position(progress.done_bytes);
        self.bar.set_message(message(progress, &self.speed));
        if self.shape != Some(shape) {
            self.shape = Some(shape);
            self.bar.set_prefix(name(progress.phase));
            self.bar.set_style(style(progress.phase, total.is_some()));
            self.bar.enable_steady_tick(TICK);
        }
    }

    /// Takes the line away.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

/// The speed of the last few seconds.
#[derive(Debug, Default)]
struct Speed(VecDeque<(Instant, u64)>);

impl Speed {
    /// Bytes done longer ago than this do not count.
    const SPAN: Duration = Duration::from_secs(4);
    /// Samples kept: eight a second are plenty.
    const SAMPLES: usize = 32;

    fn note(&mut self, now: Instant, done_bytes: u64) {
        let gap = Self::SPAN / 32;
        match self.0.len() {
            // The newest sample moves along until the one before is old enough.
            n if n >= 2 && now.duration_since(self.0[n - 2].0) < gap => {
                self.0[n - 1] = (now, done_bytes);
            }
            _ => self.0.push_back((now, done_bytes)),
        }
        while self.0.len() > Self::SAMPLES
            || self.0.len() > 2 && now.duration_since(self.0[0].0) > Self::SPAN
        {
            self.0.pop_front();
        }
    }

    /// Bytes a second, once there is something to tell it by.
    fn bytes_per_second(&self) -> Option<f64> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        let seconds = last.0.duration_since(first.0).as_secs_f64();
        let bytes = last.1.checked_sub(first.1)?;
        (seconds > 0.05 && bytes > 0).then(|| bytes as f64 / seconds)
    }
}

/// Whether a phase moves bytes; the others only wait.
fn moves_bytes(phase: Phase) -> bool {
    matches!(phase, Phase::Importing | Phase::Fetching | Phase::Verifying)
}

/// Narrow enough that sources and speed have room in 80 columns.
fn style(phase: Phase, with_total: bool) -> ProgressStyle {
    let template = match (moves_bytes(phase), with_total) {
        (true, true) => "{prefix:<10} {bar:14} {percent:>3} % of {binary_total_bytes}  {wide_msg}",
        (true, false) => "{prefix:<10} {spinner} {binary_bytes}  {wide_msg}",
        (false, _) => "{prefix:<10} {spinner} {elapsed}  {wide_msg}",
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Connecting => "connecting",
        Phase::Importing => "importing",
        Phase::Publishing => "publishing",
        Phase::Finding => "finding",
        Phase::Fetching => "fetching",
        Phase::Verifying => "verifying",
    }
}

/// Speed, time left, sources, and what is waited for; whatever there is of it.
fn message(progress: &Progress, speed: &Speed) -> String {
    let mut parts = Vec::new();
    if moves_bytes(progress.phase)
        && let Some(rate) = speed.bytes_per_second()
    {
        parts.push(format!("{}/s", BinaryBytes(whole(rate))));
        if let Some(total) = progress.total_bytes {
            let left = total.saturating_sub(progress.done_bytes) as f64 / rate;
            let left = Duration::from_secs(whole(left.ceil()));
            parts.push(format!("{:#} left", HumanDuration(left)));
        }
    }
    match (progress.phase, progress.sources) {
        (Phase::Finding | Phase::Fetching, 1) => parts.push("1 source".to_owned()),
        (Phase::Finding | Phase::Fetching, n) => parts.push(format!("{n} sources")),
        _ => {}
    }
    if !progress.detail.is_empty() {
        parts.push(crate::output::printable(&progress.detail));
    }
    parts.join(", ")
}

/// A number of bytes or seconds for people. Saturates.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "float to integer casts saturate, and less than a unit does not matter"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(phase: Phase, sources: u32, detail: &str) -> Progress {
        Progress {
            phase,
            done_bytes: 5 << 20,
            total_bytes: Some(10 << 20),
            sources,
            detail: detail.to_owned(),
        }
    }

    #[test]
    fn the_message_names_sources_where_there_are_any() {
        let text =
            |phase, sources, detail| message(&progress(phase, sources, detail), &Speed::default());
        assert_eq!(text(Phase::Fetching, 1, ""), "1 source");
        assert_eq!(
            text(Phase::Finding, 0, "until 12:00"),
            "0 sources, until 12:00"
        );
        assert_eq!(text(Phase::Importing, 0, ""), "");
        assert_eq!(text(Phase::Publishing, 3, "asking"), "asking");
    }

    #[test]
    fn speed_and_time_left_are_those_of_the_last_seconds() {
        let start = Instant::now();
        let mut speed = Speed::default();
        assert_eq!(speed.bytes_per_second(), None);
        // A resumed download: what was there at first does not count.
        for step in 0..1000u64 {
            speed.note(
                start + Duration::from_millis(step * 10),
                (4 << 20) + step * (1 << 20) / 100,
            );
        }
        assert!(speed.0.len() <= Speed::SAMPLES);
        let rate = speed.bytes_per_second().unwrap();
        assert!((rate / f64::from(1 << 20) - 1.0).abs() < 0.01, "{rate}");
        let text = message(&progress(Phase::Fetching, 2, ""), &speed);
        assert_eq!(text, "1.00 MiB/s, 5s left, 2 sources");
        // A long stall is seen.
        let last = speed.0.back().unwrap().1;
        for step in 0..60u64 {
            speed.note(
                start + Duration::from_secs(10) + Duration::from_millis(step * 100),
                last,
            );
        }
        assert_eq!(speed.bytes_per_second(), None);
    }

    #[test]
    fn every_phase_has_a_template_that_parses() {
        let phases = [
            Phase::Connecting,
            Phase::Importing,
            Phase::Publishing,
            Phase::Finding,
            Phase::Fetching,
            Phase::Verifying,
        ];
        for phase in phases {
            for with_total in [true, false] {
                let mut reporter = Reporter::new(true);
                let mut event = progress(phase, 2, "x");
                event.total_bytes = with_total.then_some(10 << 20);
                reporter.show(&Event::Progress(event));
                assert_eq!(reporter.bar.position(), 5 << 20);
                assert_eq!(reporter.bar.length(), with_total.then_some(10 << 20));
                assert_eq!(reporter.bar.prefix(), name(phase));
                reporter.finish();
            }
        }
    }
}
