//! A trace, a step a line; the cause is the last.

use std::fmt::Write as _;

use casnode_node::api::{WhyKind, WhyOutcome, WhyReport, WhyStep};

use super::printable;

/// Characters of a peer id that tell it from others.
const PEER_CHARS: usize = 8;

/// The trace as text.
pub(super) fn why_text(report: &WhyReport) -> String {
    let mut text: String = report.steps.iter().map(step_line).collect();
    let (what, next) = (printable(&report.what), printable(&report.next));
    // Writing to a string cannot fail.
    let _ = writeln!(text, "cause: {what}; what to do: {next}");
    text
}

fn step_line(step: &WhyStep) -> String {
    let mark = match step.outcome {
        WhyOutcome::Ok => "ok",
        WhyOutcome::Nothing => "-",
        WhyOutcome::Failed => "fail",
    };
    let kind = match step.kind {
        WhyKind::Here => "here",
        WhyKind::Network => "network",
        WhyKind::Lookup => "lookup",
        WhyKind::Hop => "hop",
        WhyKind::Record => "record",
        WhyKind::Provider => "provider",
        WhyKind::Dial => "dial",
        WhyKind::Manifest => "manifest",
        WhyKind::Chunk => "chunk",
        WhyKind::Room => "room",
        _ => "other",
    };
    let mut about = String::new();
    if let Some(peer) = &step.peer {
        let begin = peer.chars().count().saturating_sub(PEER_CHARS);
        about.push('…');
        about.extend(peer.chars().skip(begin));
    }
    if let Some(bits) = step.shared_bits {
        let _ = write!(about, " ({bits} bits)");
    }
    let what = printable(&step.what);
    format!(
        "{mark:4} {kind:8} {:>6} ms  {about:19} {what}\n",
        step.took_ms
    )
}
