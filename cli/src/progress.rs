//! What is going on, on standard error: one line that changes while a call runs. Nothing is drawn when standard
//! error is no terminal or the person wants quiet; warnings and log lines go around the bar, never through it.

mod speed;

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use self::speed::Speed;
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
    /// Where to draw; nowhere when standard error is no terminal or the person wants quiet.
    screen: Option<MultiProgress>,
    /// What is on the screen, and how it looks.
    shown: Option<(ProgressBar, Look)>,
    speed: Speed,
}

impl Reporter {
    /// A reporter that draws where drawing makes sense.
    pub(crate) fn new(quiet: bool) -> Self {
        let drawn = !quiet && io::stderr().is_terminal();
        Self::on(drawn.then(|| screen().clone()))
    }

    fn on(screen: Option<MultiProgress>) -> Self {
        Self {
            screen,
            shown: None,
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
        let look = Look::of(progress);
        let before = self.shown.as_ref().map(|(_, look)| look.phase);
        // What a resumed download finds here while nobody is connected is no speed.
        let local = progress.phase == Phase::Fetching && progress.sources == 0;
        if before != Some(progress.phase) || local {
            self.speed = Speed::default();
        }
        self.speed.note(now, progress.done_bytes);
        let message = message(progress, &self.speed);
        match &self.shown {
            Some((bar, shown)) if *shown == look => {
                bar.set_position(progress.done_bytes);
                bar.set_message(message);
            }
            _ => self.replace(look, progress.done_bytes, message),
        }
    }

    /// Another look is another bar: one that is changed in steps draws itself between them.
    fn replace(&mut self, look: Look, done_bytes: u64, message: String) {
        let elapsed = match &self.shown {
            Some((bar, shown)) if shown.phase == look.phase => bar.elapsed(),
            _ => Duration::ZERO,
        };
        self.take_away();
        let bar = ProgressBar::with_draw_target(look.total_bytes, ProgressDrawTarget::hidden())
            .with_style(style(&look))
            .with_prefix(name(look.phase))
            .with_position(done_bytes)
            .with_message(message)
            .with_elapsed(elapsed);
        let bar = match &self.screen {
            Some(screen) => screen.add(bar),
            None => bar,
        };
        bar.tick();
        bar.enable_steady_tick(TICK);
        self.shown = Some((bar, look));
    }

    /// Takes the line away.
    pub(crate) fn finish(mut self) {
        self.take_away();
    }

    fn take_away(&mut self) {
        if let Some((bar, _)) = self.shown.take() {
            bar.finish_and_clear();
            if let Some(screen) = &self.screen {
                screen.remove(&bar);
            }
        }
    }
}

/// What decides how the line is laid out; while it stays the same, only numbers and words change.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    phase: Phase,
    total_bytes: Option<u64>,
    /// Something is waited for, which needs the room of the bar.
    with_detail: bool,
}

impl Look {
    fn of(progress: &Progress) -> Self {
        Self {
            phase: progress.phase,
            total_bytes: progress.total_bytes.filter(|&total| total > 0),
            with_detail: !progress.detail.is_empty(),
        }
    }
}

/// Whether a phase moves bytes; the others only wait.
fn moves_bytes(phase: Phase) -> bool {
    matches!(
        phase,
        Phase::Planning
            | Phase::Importing
            | Phase::Fetching
            | Phase::Verifying
            | Phase::Repairing
            | Phase::Collecting
            | Phase::Seeding
    )
}

/// Narrow enough that sources and speed, or what is waited for, have room in 80 columns.
fn style(look: &Look) -> ProgressStyle {
    let template = match (moves_bytes(look.phase), look.total_bytes, look.with_detail) {
        (true, Some(_), true) => "{prefix:<10} {percent:>3} %  {wide_msg}",
        (true, Some(_), false) => {
            "{prefix:<10} {bar:14} {percent:>3} % of {binary_total_bytes}  {wide_msg}"
        }
        (true, None, _) => "{prefix:<10} {spinner} {binary_bytes}  {wide_msg}",
        (false, ..) => "{prefix:<10} {spinner} {elapsed}  {wide_msg}",
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Connecting => "connecting",
        Phase::Planning => "planning",
        Phase::Importing => "importing",
        Phase::Publishing => "publishing",
        Phase::Finding => "finding",
        Phase::Fetching => "fetching",
        Phase::Verifying => "verifying",
        Phase::Repairing => "repairing",
        Phase::Collecting => "collecting",
        Phase::Seeding => "seeding",
    }
}

/// What is waited for, speed, time left, and sources; whatever there is of it, what matters most first.
fn message(progress: &Progress, speed: &Speed) -> String {
    let mut parts = Vec::new();
    if !progress.detail.is_empty() {
        parts.push(crate::output::printable(&progress.detail));
    }
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
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

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
            "until 12:00, 0 sources"
        );
        assert_eq!(text(Phase::Importing, 0, ""), "");
        assert_eq!(text(Phase::Publishing, 3, "asking"), "asking");
    }

    #[test]
    fn the_message_has_speed_and_time_left() {
        let start = Instant::now();
        let mut speed = Speed::default();
        for second in 0..4 {
            speed.note(start + Duration::from_secs(second), second << 20);
        }
        let text = message(&progress(Phase::Fetching, 2, ""), &speed);
        assert_eq!(text, "1.00 MiB/s, 5s left, 2 sources");
    }

    const PHASES: [Phase; 10] = [
        Phase::Connecting,
        Phase::Planning,
        Phase::Importing,
        Phase::Publishing,
        Phase::Finding,
        Phase::Fetching,
        Phase::Verifying,
        Phase::Repairing,
        Phase::Collecting,
        Phase::Seeding,
    ];

    #[test]
    fn every_phase_is_shown_in_every_layout() {
        for phase in PHASES {
            for (with_total, detail) in [(true, ""), (false, ""), (true, "x"), (false, "x")] {
                let mut reporter = Reporter::new(true);
                let mut event = progress(phase, 2, detail);
                event.total_bytes = with_total.then_some(10 << 20);
                reporter.show(&Event::Progress(event));
                let (bar, _) = reporter.shown.as_ref().unwrap();
                assert_eq!(bar.position(), 5 << 20);
                assert_eq!(bar.length(), with_total.then_some(10 << 20));
                assert_eq!(bar.prefix(), name(phase));
                reporter.finish();
            }
        }
    }

    /// A terminal of 80 columns that remembers every frame it was given.
    #[derive(Debug, Clone, Default)]
    struct Paper(Arc<Mutex<Vec<String>>>);

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push(text.trim().to_owned());
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Every frame that is drawn of these events.
    fn frames(events: &[Progress]) -> Vec<String> {
        let paper = Paper::default();
        let target = ProgressDrawTarget::term_like(Box::new(paper.clone()));
        let mut reporter = Reporter::on(Some(MultiProgress::with_draw_target(target)));
        for event in events {
            reporter.show(&Event::Progress(event.clone()));
        }
        reporter.finish();
        let mut lines = paper.0.lock().unwrap().clone();
        lines.retain(|line| !line.is_empty());
        lines
    }

    #[test]
    fn no_frame_is_half_of_the_phase_before() {
        let mut events = Vec::new();
        for phase in PHASES {
            for (total_bytes, detail) in [(None, "words"), (Some(3 << 20), ""), (Some(1), "more")] {
                events.push(Progress {
                    total_bytes,
                    ..progress(phase, 2, detail)
                });
            }
        }
        let lines = frames(&events);
        for phase in PHASES {
            let shown = |line: &String| line.starts_with(name(phase));
            assert!(lines.iter().any(shown), "{lines:?}");
        }
        for line in &lines {
            let phase = PHASES.iter().find(|&&phase| line.starts_with(name(phase)));
            let phase = *phase.unwrap_or_else(|| panic!("a frame of no phase: {line:?}"));
            let bar = line.contains('[') || line.contains("% of");
            assert!(!bar || moves_bytes(phase), "{line:?}");
            assert!(!line.contains("5242880"), "the default style: {line:?}");
        }
    }

    #[test]
    fn what_is_waited_for_is_not_cut_off_at_80_columns() {
        let detail = "no provider is connected; looking again, giving up in 299 s";
        let lines = frames(&[progress(Phase::Fetching, 0, detail)]);
        assert!(lines[0].contains(detail), "{lines:?}");
        let detail = "123 peers asked, 45 providers known";
        let lines = frames(&[progress(Phase::Finding, 0, detail)]);
        assert!(lines[0].contains(detail), "{lines:?}");
        let detail = "no answer so far: nobody is connected; for 12 s more";
        let lines = frames(&[progress(Phase::Connecting, 0, detail)]);
        assert!(lines[0].contains(detail), "{lines:?}");
    }

    #[test]
    fn chunks_found_here_are_no_speed() {
        let mut reporter = Reporter::new(true);
        let start = Instant::now();
        let event = |sources, done_bytes| Progress {
            done_bytes,
            ..progress(Phase::Fetching, sources, "")
        };
        reporter.progress(&event(0, 0), start);
        let second = Duration::from_secs(1);
        reporter.progress(&event(0, 8 << 20), start + second);
        assert_eq!(reporter.speed.bytes_per_second(), None);
        reporter.progress(&event(1, 9 << 20), start + 2 * second);
        let rate = reporter.speed.bytes_per_second().unwrap();
        assert!((rate / f64::from(1 << 20) - 1.0).abs() < 0.01, "{rate}");
        // Nobody is left: the speed there was is over.
        reporter.progress(&event(0, 9 << 20), start + 3 * second);
        assert_eq!(reporter.speed.bytes_per_second(), None);
        // Importing has no sources, and a speed.
        let mut reporter = Reporter::new(true);
        let event = |done_bytes| Progress {
            done_bytes,
            ..progress(Phase::Importing, 0, "")
        };
        reporter.progress(&event(0), start);
        reporter.progress(&event(1 << 20), start + second);
        assert!(reporter.speed.bytes_per_second().is_some());
    }
}
