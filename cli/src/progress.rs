//! What is going on, on standard error: one line that changes while a call runs. Nothing is drawn when standard
//! error is no terminal or the person wants quiet; warnings and log lines go around the bar, never through it.

mod patience;
mod speed;

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub(crate) use self::patience::with_word;
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
    /// What is there while nothing is told.
    waiting: Option<ProgressBar>,
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
            waiting: None,
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

    /// Says what is done until an event says more.
    pub(crate) fn wait(&mut self, doing: &'static str) {
        let (Some(screen), None) = (&self.screen, &self.shown) else {
            return;
        };
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
            .with_style(template("{prefix} {spinner} {elapsed}"))
            .with_prefix(doing)
            .with_elapsed(patience::PATIENCE);
        let bar = screen.add(bar);
        bar.tick();
        bar.enable_steady_tick(TICK);
        self.waiting = Some(bar);
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
    pub(crate) fn finish(&mut self) {
        self.take_away();
    }

    fn take_away(&mut self) {
        let shown = self.shown.take().map(|(bar, _)| bar);
        for bar in [shown, self.waiting.take()].into_iter().flatten() {
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
    template(
        match (moves_bytes(look.phase), look.total_bytes, look.with_detail) {
            (true, Some(_), true) => "{prefix:<10} {percent:>3} %  {wide_msg}",
            (true, Some(_), false) => {
                "{prefix:<10} {bar:14} {percent:>3} % of {binary_total_bytes}  {wide_msg}"
            }
            // Nothing of it has been read yet.
            (true, None, true) if look.phase == Phase::Planning => {
                "{prefix:<10} {spinner} {elapsed}  {wide_msg}"
            }
            (true, None, _) => "{prefix:<10} {spinner} {binary_bytes}  {wide_msg}",
            (false, ..) => "{prefix:<10} {spinner} {elapsed}  {wide_msg}",
        },
    )
}

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text)
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
mod tests;
