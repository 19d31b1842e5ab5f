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
    frames_of(|reporter| {
        for event in events {
            reporter.show(&Event::Progress(event.clone()));
        }
    })
}

/// Every frame that is drawn.
fn frames_of(draw: impl FnOnce(&mut Reporter)) -> Vec<String> {
    let paper = Paper::default();
    let target = ProgressDrawTarget::term_like(Box::new(paper.clone()));
    let mut reporter = Reporter::on(Some(MultiProgress::with_draw_target(target)));
    draw(&mut reporter);
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
    let detail = "1048576 entries of the folder looked at";
    let lines = frames(&[Progress {
        total_bytes: None,
        ..progress(Phase::Planning, 0, detail)
    }]);
    assert!(lines[0].contains(detail), "{lines:?}");
    assert!(!lines[0].contains("iB"), "no bytes are done: {lines:?}");
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

#[test]
fn what_tells_nothing_has_a_line_until_it_does() {
    let event = progress(Phase::Fetching, 1, "");
    let lines = frames_of(|reporter| {
        reporter.wait("opening the store");
        reporter.show(&Event::Progress(event.clone()));
        assert!(reporter.waiting.is_none());
        reporter.wait("never");
    });
    assert!(lines[0].starts_with("opening the store"), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("fetching")));
    assert!(!lines.iter().any(|line| line.contains("never")));
    let mut nowhere = Reporter::new(true);
    nowhere.wait("opening the store");
    assert!(nowhere.waiting.is_none());
}
