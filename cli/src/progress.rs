//! What is going on, on standard error: one line that changes while a call runs. Nothing is drawn when standard
//! error is no terminal or the person wants quiet; warnings and log lines go around the bar, never through it.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Duration;

use casnode_node::api::{Event, Phase, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

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
    phase: Option<(Phase, bool)>,
}

impl Reporter {
    /// A reporter that draws where drawing makes sense.
    pub(crate) fn new(quiet: bool) -> Self {
        let bar = ProgressBar::no_length();
        if quiet || !io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
            Self { bar, phase: None }
        } else {
            Self {
                bar: screen().add(bar),
                phase: None,
            }
        }
    }

    /// Shows an event.
    pub(crate) fn show(&mut self, event: &Event) {
        match event {
            Event::Progress(progress) => self.progress(progress),
            Event::Warning { message } => {
                remark(&format!("warning: {}\n", crate::output::printable(message)));
            }
        }
    }

    fn progress(&mut self, progress: &Progress) {
        let shape = (
            progress.phase,
            progress.total_bytes.is_some_and(|total| total > 0),
        );
        if self.phase != Some(shape) {
            self.phase = Some(shape);
            self.bar.set_style(style(progress.phase, shape.1));
            self.bar.set_prefix(name(progress.phase));
            // What a resumed download finds done already is no speed.
            self.bar.set_position(progress.done_bytes);
            self.bar.reset_elapsed();
            self.bar.reset_eta();
            self.bar.enable_steady_tick(Duration::from_millis(120));
        }
        match progress.total_bytes {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
        self.bar.set_position(progress.done_bytes);
        self.bar.set_message(message(progress));
    }

    /// Takes the line away.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

/// Whether a phase moves bytes; the others only wait.
fn moves_bytes(phase: Phase) -> bool {
    matches!(phase, Phase::Importing | Phase::Fetching | Phase::Verifying)
}

fn style(phase: Phase, with_total: bool) -> ProgressStyle {
    let template = match (moves_bytes(phase), with_total) {
        (true, true) => {
            "{prefix:<10} {bar:28} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left  {wide_msg}"
        }
        (true, false) => "{prefix:<10} {spinner} {bytes}  {bytes_per_sec}  {elapsed}  {wide_msg}",
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

/// Sources and what is waited for.
fn message(progress: &Progress) -> String {
    let sources = match (progress.phase, progress.sources) {
        (Phase::Finding | Phase::Fetching, 1) => "1 source".to_owned(),
        (Phase::Finding | Phase::Fetching, n) => format!("{n} sources"),
        _ => String::new(),
    };
    let detail = crate::output::printable(&progress.detail);
    match (sources.is_empty(), detail.is_empty()) {
        (_, true) => sources,
        (true, false) => detail,
        (false, false) => format!("{sources}, {detail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(phase: Phase, sources: u32, detail: &str) -> Progress {
        Progress {
            phase,
            done_bytes: 5,
            total_bytes: Some(10),
            sources,
            detail: detail.to_owned(),
        }
    }

    #[test]
    fn the_message_names_sources_where_there_are_any() {
        assert_eq!(message(&progress(Phase::Fetching, 1, "")), "1 source");
        assert_eq!(
            message(&progress(Phase::Finding, 0, "until 12:00")),
            "0 sources, until 12:00"
        );
        assert_eq!(message(&progress(Phase::Importing, 0, "")), "");
        assert_eq!(message(&progress(Phase::Publishing, 3, "asking")), "asking");
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
                event.total_bytes = with_total.then_some(10);
                reporter.show(&Event::Progress(event));
                assert_eq!(reporter.bar.position(), 5);
                assert_eq!(reporter.bar.length(), with_total.then_some(10));
                assert_eq!(reporter.bar.prefix(), name(phase));
                reporter.finish();
            }
        }
    }
}
