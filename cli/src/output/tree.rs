//! What was done with directories, and what is in them.

use std::fmt::Write as _;

use casnode_node::api::{GetTreeReport, StoreTreeReport, TreeEntry, TreeEntryKind, TreeFault};
use indicatif::HumanBytes;

use super::{count, printable, rate, seconds};

/// The warnings on standard error after a `store` of a folder.
pub(crate) fn left_out(report: &StoreTreeReport) -> String {
    let mut text = faults("left out", &report.faults, report.left_out);
    match report.outward_symlinks {
        0 => {}
        links => {
            let _ = writeln!(
                text,
                "warning: {} out of the folder: stored, but `casnode get` does not make such links",
                match links {
                    1 => "1 symbolic link leads".to_owned(),
                    links => format!("{links} symbolic links lead"),
                }
            );
        }
    }
    text
}

/// The warnings on standard error after a `get` of a directory.
pub(crate) fn not_made(report: &GetTreeReport) -> String {
    let all = report.missing + report.refused_symlinks;
    faults("not written", &report.faults, all)
}

fn faults(what: &str, faults: &[TreeFault], all: u64) -> String {
    let mut text = String::new();
    for fault in faults {
        let (path, why) = (printable(&fault.path), printable(&fault.why));
        let _ = writeln!(text, "warning: {what}: {path}: {why}");
    }
    match all.saturating_sub(faults.len() as u64) {
        0 => {}
        more => {
            let _ = writeln!(text, "warning: {what}: {more} more");
        }
    }
    text
}

/// The remark on standard error after a `store` of a folder.
pub(crate) fn store_tree_summary(report: &StoreTreeReport) -> String {
    let mut text = format!(
        "{} ({}) in {}: {} read, {} new, {} written",
        things(report.files, report.symlinks, report.empty_folders),
        HumanBytes(report.bytes),
        seconds(report.seconds),
        report.read_files,
        report.new_files,
        HumanBytes(report.new_bytes)
    );
    if report.left_out > 0 {
        let _ = write!(text, "; {} left out", report.left_out);
    }
    text + "\n"
}

/// The remark on standard error after a `get` of a directory.
pub(crate) fn get_tree_summary(report: &GetTreeReport) -> String {
    let there = report.files.saturating_sub(report.failed);
    let mut text = format!(
        "{} ({}) in {}: {} fetched, {} here already",
        things(there, report.symlinks, report.empty_folders),
        HumanBytes(report.bytes),
        seconds(report.seconds),
        report.fetched,
        report.here
    );
    if report.fetched > 0 {
        let _ = write!(text, ", {}", rate(report.bytes, report.seconds));
    }
    if report.refused_symlinks > 0 {
        let _ = write!(text, "; {} refused", count(report.refused_symlinks, "link"));
    }
    if report.missing > 0 {
        let _ = write!(text, "; {} missing", report.missing);
    }
    text + "\n"
}

fn things(files: u64, links: u64, empty_folders: u64) -> String {
    let mut text = count(files, "file");
    for (number, thing) in [(links, "link"), (empty_folders, "empty folder")] {
        if number > 0 {
            let _ = write!(text, ", {}", count(number, thing));
        }
    }
    text
}

/// A line of `ls ADDRESS`.
pub(crate) fn entry_line(entry: &TreeEntry) -> String {
    let (mark, behind) = match entry.kind {
        TreeEntryKind::Folder => ('d', format!("/  ({})", count(entry.files, "file"))),
        TreeEntryKind::Symlink => {
            let target = entry.target.as_deref().map(printable);
            ('l', format!(" -> {}", target.unwrap_or_default()))
        }
        TreeEntryKind::File if entry.executable => ('x', String::new()),
        TreeEntryKind::File => ('-', String::new()),
    };
    let size = match entry.kind {
        TreeEntryKind::Symlink => String::new(),
        _ => HumanBytes(entry.bytes).to_string(),
    };
    format!("{mark} {size:>11}  {}{behind}\n", printable(&entry.path))
}

#[cfg(test)]
mod tests {
    use casnode_node::api::ErrorKind;

    use super::*;

    fn entry(kind: TreeEntryKind) -> TreeEntry {
        TreeEntry {
            path: "a/b".to_owned(),
            kind,
            bytes: 5 << 10,
            files: 1,
            address: Some("ab".repeat(32)),
            executable: false,
            target: None,
        }
    }

    #[test]
    fn each_kind_of_entry_has_its_mark() {
        let file = entry(TreeEntryKind::File);
        assert_eq!(entry_line(&file), "-    5.00 KiB  a/b\n");
        let run = TreeEntry {
            executable: true,
            ..file
        };
        assert_eq!(entry_line(&run), "x    5.00 KiB  a/b\n");
        let folder = TreeEntry {
            files: 12,
            ..entry(TreeEntryKind::Folder)
        };
        assert_eq!(entry_line(&folder), "d    5.00 KiB  a/b/  (12 files)\n");
        let link = TreeEntry {
            target: Some("\u{1b}[2J".to_owned()),
            ..entry(TreeEntryKind::Symlink)
        };
        assert_eq!(entry_line(&link), "l              a/b -> \\u{1b}[2J\n");
    }

    fn stored() -> StoreTreeReport {
        StoreTreeReport {
            address: "ab".repeat(32),
            name: Some("d".to_owned()),
            files: 3,
            symlinks: 1,
            empty_folders: 0,
            bytes: 3 << 10,
            read_files: 2,
            new_files: 1,
            new_bytes: 1 << 10,
            listing_bytes: 200,
            left_out: 2,
            faults: vec![TreeFault {
                path: "a\n".to_owned(),
                kind: ErrorKind::Failure,
                why: "it is a FIFO, and no file".to_owned(),
            }],
            outward_symlinks: 1,
            announced_to: 0,
            seconds: 1.5,
        }
    }

    #[test]
    fn what_was_left_out_has_a_line_each_and_the_rest_is_counted() {
        assert_eq!(
            left_out(&stored()),
            "warning: left out: a\\n: it is a FIFO, and no file\n\
             warning: left out: 1 more\n\
             warning: 1 symbolic link leads out of the folder: stored, but `casnode get` does not make such links\n"
        );
        assert_eq!(
            store_tree_summary(&stored()),
            "3 files, 1 link (3.00 KiB) in 1.50 s: 2 read, 1 new, 1.00 KiB written; 2 left out\n"
        );
    }

    #[test]
    fn what_was_made_is_told_in_a_line() {
        let report = GetTreeReport {
            address: "ab".repeat(32),
            path: "/x".to_owned(),
            files: 4,
            fetched: 2,
            here: 1,
            failed: 1,
            symlinks: 0,
            refused_symlinks: 1,
            empty_folders: 2,
            bytes: 3 << 20,
            kept_in_place: 0,
            seconds: 1.5,
            faults: Vec::new(),
            missing: 1,
            providers: Vec::new(),
        };
        assert_eq!(
            get_tree_summary(&report),
            "3 files, 2 empty folders (3.00 MiB) in 1.50 s: 2 fetched, 1 here already, 2.0 MiB/s; 1 link refused; 1 missing\n"
        );
        assert_eq!(not_made(&report), "warning: not written: 2 more\n");
    }
}
