//! What is printed about looking after the store: collection, usage, verification, rebuilding.

use std::fmt::Write as _;

use casnode_node::api::{
    DamagedFile, FileUsage, GcFile, GcPlanReport, GcReport, RebuildReport, ScrubReport,
    VerifyReport,
};

use super::{bytes, count, printable};

/// What `gc --dry-run` would do.
pub(super) fn plan_text(report: &GcPlanReport) -> String {
    let mut text = format!(
        "would remove {} that no file needs ({})\n",
        count(report.orphan_chunks, "chunk"),
        bytes(report.orphan_bytes)
    );
    text.push_str(&files_text(
        "would evict",
        report.evict_files,
        &report.evict,
    ));
    let _ = writeln!(
        text,
        "would rewrite {}, copying {}",
        count(report.compact_packs, "pack"),
        bytes(report.copy_bytes)
    );
    let _ = writeln!(text, "would give back {}", bytes(report.reclaim_bytes));
    text
}

/// What `gc` has done.
pub(super) fn gc_text(report: &GcReport) -> String {
    let mut text = format!(
        "removed {} that no file needed ({})\n",
        count(report.freed_chunks, "chunk"),
        bytes(report.freed_bytes)
    );
    text.push_str(&files_text(
        "evicted",
        report.evicted_files,
        &report.evicted,
    ));
    let _ = writeln!(
        text,
        "rewrote {}, copying {}",
        count(report.compacted_packs, "pack"),
        bytes(report.copied_bytes)
    );
    let given_back = report
        .disk_bytes_before
        .saturating_sub(report.disk_bytes_after);
    let _ = writeln!(
        text,
        "gave back {}; {} on disk",
        bytes(given_back),
        bytes(report.disk_bytes_after)
    );
    text
}

fn files_text(verb: &str, files: u64, listed: &[GcFile]) -> String {
    let mut text = String::new();
    for file in listed {
        let _ = writeln!(
            text,
            "{verb} {}  {}  {}",
            file.address,
            bytes(file.bytes),
            name(file.name.as_deref())
        );
    }
    text + &others(files, listed.len())
}

/// What a report counts and does not list.
fn others(files: u64, listed: usize) -> String {
    match files.saturating_sub(listed as u64) {
        0 => String::new(),
        1 => "and 1 more file\n".to_owned(),
        more => format!("and {more} more files\n"),
    }
}

fn name(name: Option<&str>) -> String {
    name.map_or_else(|| "-".to_owned(), printable)
}

/// What files occupy, a line each under a heading.
pub(super) fn du_text(files: &[FileUsage]) -> String {
    let mut text = String::new();
    let mut line = |a: &str, b: &str, c: &str, d: &str, file: &str| {
        let _ = writeln!(text, "{a:>11}  {b:>11}  {c:>11}  {d:>11}  {file}");
    };
    line("LOGICAL", "STORED", "SHARED", "IN PLACE", "FILE");
    for file in files {
        line(
            &bytes(file.logical_bytes),
            &bytes(file.stored_bytes),
            &bytes(file.shared_bytes),
            &bytes(file.referenced_bytes),
            &format!("{}  {}", file.address, name(file.name.as_deref())),
        );
    }
    text
}

/// What `verify` found.
pub(super) fn verify_text(report: &VerifyReport) -> String {
    let mut text = format!(
        "checked {}, {}: ",
        count(report.chunks, "chunk"),
        bytes(report.bytes)
    );
    if report.bad_chunks == 0 && report.damaged_files == 0 {
        return text + "all of it is right\n";
    }
    if report.bad_chunks > 0 {
        let chunks = super::were(report.bad_chunks, "chunk");
        let _ = write!(text, "{chunks} damaged ({}), ", bytes(report.bad_bytes));
    }
    let _ = writeln!(text, "{} affected", count(report.damaged_files, "file"));
    for file in &report.damaged {
        text.push_str(&damaged_line(file));
    }
    text.push_str(&others(report.damaged_files, report.damaged.len()));
    let _ = writeln!(
        text,
        "{} repaired ({} fetched), {} missing now",
        super::were(report.repaired_chunks, "chunk"),
        bytes(report.fetched_bytes),
        report.missing_chunks
    );
    text
}

fn damaged_line(file: &DamagedFile) -> String {
    let mut line = format!("{}  {}", file.address, name(file.name.as_deref()));
    let mut facts = Vec::new();
    if file.bad_chunks > 0 {
        facts.push(super::were(file.bad_chunks, "chunk") + " damaged");
    }
    if file.bad_manifest {
        facts.push("its list of chunks was damaged".to_owned());
    }
    if let Some(source) = &file.source {
        let state = file.source_state.as_deref().unwrap_or("changed");
        facts.push(format!("{} is {state}", printable(source)));
    }
    facts.push(match (&file.error, file.missing_chunks) {
        (Some(error), _) => format!("not repaired: {}", printable(error)),
        (None, 0) => "whole again".to_owned(),
        (None, missing) => format!("{} missing now", super::count(missing, "chunk")),
    });
    let _ = writeln!(line, ": {}", facts.join(", "));
    line
}

/// What `store rebuild-index` has found.
pub(super) fn rebuilt_text(report: &RebuildReport) -> String {
    let mut text = format!(
        "{} and {} found in {}\n",
        count(report.files, "file"),
        count(report.chunks, "chunk"),
        count(report.packs, "pack")
    );
    if report.bad_records > 0 {
        let _ = writeln!(
            text,
            "{} could not be used; `casnode verify --repair` fetches what is missing",
            count(report.bad_records, "damaged record")
        );
    }
    if let Some(aside) = &report.aside {
        let _ = writeln!(text, "the old index is in {}", printable(aside));
    }
    text
}

/// How far the background check is.
pub(super) fn scrub_text(scrub: &ScrubReport) -> String {
    let mut text = format!(
        "{} checked at {}/s, {} through",
        bytes(scrub.checked_bytes),
        bytes(scrub.bytes_per_s),
        count(scrub.rounds, "time")
    );
    if scrub.bad_chunks > 0 {
        let _ = write!(
            text,
            "; {} damaged, {} fetched again",
            super::were(scrub.bad_chunks, "chunk"),
            scrub.repaired_chunks
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damaged(missing_chunks: u64) -> DamagedFile {
        DamagedFile {
            address: "ab".repeat(32),
            name: Some("a\u{1b}[2J".to_owned()),
            bad_chunks: 2,
            missing_chunks,
            ..DamagedFile::default()
        }
    }

    #[test]
    fn verify_names_what_is_damaged_and_what_was_repaired() {
        let clean = VerifyReport {
            chunks: 3,
            bytes: 3 << 20,
            ..VerifyReport::default()
        };
        assert_eq!(
            verify_text(&clean),
            "checked 3 chunks, 3.00 MiB: all of it is right\n"
        );
        assert!(clean.is_whole());
        let report = VerifyReport {
            bad_chunks: 2,
            damaged_files: 3,
            unrepaired_files: 1,
            damaged: vec![damaged(1), damaged(0)],
            missing_chunks: 1,
            repaired_chunks: 1,
            fetched_bytes: 1 << 20,
            ..clean
        };
        assert!(!report.is_whole());
        let text = verify_text(&report);
        for part in [
            "2 chunks were damaged",
            "1 chunk missing now",
            "whole again",
            "and 1 more file",
            "1 chunk was repaired (1.00 MiB fetched), 1 missing now",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn a_plan_lists_the_files_that_would_go() {
        let file = GcFile {
            address: "cd".repeat(32),
            name: None,
            bytes: 1 << 20,
        };
        let plan = GcPlanReport {
            orphan_chunks: 1,
            orphan_bytes: 1,
            evict_files: 2,
            evict: vec![file],
            compact_packs: 1,
            copy_bytes: 1,
            reclaim_bytes: 2 << 20,
        };
        let text = plan_text(&plan);
        assert!(text.contains(&"cd".repeat(32)), "{text}");
        assert!(text.contains("and 1 more file"), "{text}");
        assert!(text.contains("would give back 2.00 MiB"), "{text}");
    }

    #[test]
    fn usage_is_a_table() {
        let file = FileUsage {
            address: "cd".repeat(32),
            name: Some("x".to_owned()),
            logical_bytes: 3 << 20,
            stored_bytes: 2 << 20,
            shared_bytes: 1 << 20,
            referenced_bytes: 0,
        };
        let text = du_text(&[file]);
        let line = text.lines().nth(1).unwrap();
        let columns: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(columns[..6], ["3.00", "MiB", "2.00", "MiB", "1.00", "MiB"]);
        assert!(line.ends_with("  x"), "{line}");
    }
}
