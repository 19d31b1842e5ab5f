//! What `casnode bench` prints: about the machine once, then one row a step, as soon as it is known.

use std::fmt::Write as _;

use serde::Serialize;

use super::printable;

/// Where a bench ran.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// Always `machine`.
    pub(crate) row: &'static str,
    /// Version of this program.
    pub(crate) version: String,
    /// Whether it was built to be fast; the figures of another build say nothing.
    pub(crate) optimised: bool,
    /// The operating system.
    pub(crate) system: String,
    /// The kind of processor.
    pub(crate) architecture: String,
    /// What the processor calls itself, where that is known.
    pub(crate) processor: Option<String>,
    /// Processors that this program may use.
    pub(crate) processors: usize,
    /// Those of its features that hashing and encrypting use.
    pub(crate) processor_features: Vec<&'static str>,
    /// The folder worked in.
    pub(crate) folder: String,
    /// Its file system, where that is known.
    pub(crate) file_system: Option<String>,
    /// Whether that is kept in memory alone.
    pub(crate) in_memory: Option<bool>,
    /// Bytes of the file.
    pub(crate) size_bytes: u64,
    /// Runs of each step.
    pub(crate) runs: u32,
}

/// A step: medians of its runs. What a step has not, or the system does not tell, is null.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct BenchRow {
    /// Always `step`.
    pub(crate) row: &'static str,
    /// Which one.
    pub(crate) step: &'static str,
    /// Bytes that went through it.
    pub(crate) bytes: u64,
    /// How often it was done.
    pub(crate) runs: u32,
    /// Wall time, and its extremes.
    pub(crate) seconds: f64,
    pub(crate) seconds_min: f64,
    pub(crate) seconds_max: f64,
    /// Millions of bytes a second.
    pub(crate) mb_per_s: f64,
    /// Processor time, user and system, of all processes, for each GiB.
    pub(crate) cpu_s_per_gib: Option<f64>,
    /// Of the providers, or of whoever sends.
    pub(crate) provider_cpu_s_per_gib: Option<f64>,
    /// Of the downloader, or of whoever receives.
    pub(crate) downloader_cpu_s_per_gib: Option<f64>,
    /// The most memory that is no file's of any of the processes.
    pub(crate) peak_bytes: Option<u64>,
    pub(crate) provider_peak_bytes: Option<u64>,
    pub(crate) downloader_peak_bytes: Option<u64>,
    /// Speed over that of the plain program.
    pub(crate) of_floor: Option<f64>,
    /// Processor time over that of a transfer from one provider.
    pub(crate) cpu_over_one_peer: Option<f64>,
    /// What else there is to say.
    pub(crate) note: Option<String>,
}

/// The lines above the table.
pub(crate) fn heading(machine: &Machine) -> String {
    let mut text = format!(
        "casnode {}, {} {}, {}",
        machine.version,
        machine.system,
        machine.architecture,
        super::count(
            u64::try_from(machine.processors).unwrap_or(u64::MAX),
            "processor"
        ),
    );
    if let Some(processor) = &machine.processor {
        let _ = write!(text, " ({})", printable(processor));
    }
    let features = machine.processor_features.join(", ");
    let features = if features.is_empty() {
        "none known"
    } else {
        &features
    };
    let kind = machine.file_system.as_deref().unwrap_or("unknown");
    let memory = if machine.in_memory == Some(true) {
        ", in memory alone"
    } else {
        ""
    };
    let _ = write!(
        text,
        "\nprocessor features: {features}\nfolder: {} (file system {}{memory})\n{} a step, medians of {}\n",
        printable(&machine.folder),
        printable(kind),
        super::bytes(machine.size_bytes),
        super::count(machine.runs, "run"),
    );
    if !machine.optimised {
        text.push_str("this is a debug build: its figures compare with nothing\n");
    }
    let _ = writeln!(
        text,
        "\n{:<21} {:>8} {:>17} {:>7} {:>17} {:>17} {:>8}",
        "", "MB/s", "seconds (min-max)", "CPU", "provider", "downloader", "of floor"
    );
    let _ = writeln!(
        text,
        "{:<21} {:>8} {:>17} {:>7} {:>17} {:>17}",
        "", "", "", "s/GiB", "s/GiB, peak MiB", "s/GiB, peak MiB"
    );
    text
}

/// A row of the table.
pub(crate) fn line(row: &BenchRow) -> String {
    let seconds = format!(
        "{} ({}-{})",
        short(row.seconds),
        short(row.seconds_min),
        short(row.seconds_max)
    );
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2}"));
    let mut text = format!(
        "{:<21} {:>8.0} {seconds:>17} {:>7} {:>17} {:>17} {:>8}",
        row.step,
        row.mb_per_s,
        number(row.cpu_s_per_gib),
        side(row.provider_cpu_s_per_gib, row.provider_peak_bytes),
        side(row.downloader_cpu_s_per_gib, row.downloader_peak_bytes),
        number(row.of_floor),
    );
    let one = row
        .cpu_over_one_peer
        .map(|ratio| format!("CPU {ratio:.2} x that of one peer"));
    // Where both sides have theirs it says nothing more.
    let peak = row
        .peak_bytes
        .filter(|_| row.downloader_peak_bytes.is_none())
        .map(|bytes| format!("peak {} MiB", mib(bytes)));
    for remark in [one, peak, row.note.clone()].into_iter().flatten() {
        let _ = write!(text, "  {remark}");
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// What one side of a transfer used.
fn side(cpu: Option<f64>, peak: Option<u64>) -> String {
    match (cpu, peak) {
        (Some(cpu), Some(peak)) => format!("{cpu:.2}, {}", mib(peak)),
        (Some(cpu), None) => format!("{cpu:.2}"),
        (None, _) => String::new(),
    }
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// Three digits, for seconds that may be few or many.
fn short(seconds: f64) -> String {
    let decimals = if seconds < 1.0 {
        3
    } else if seconds < 10.0 {
        2
    } else {
        1
    };
    format!("{seconds:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            row: "machine",
            version: "1.2.3".to_owned(),
            optimised: true,
            system: "linux".to_owned(),
            architecture: "x86_64".to_owned(),
            processor: Some("A\u{1b}B".to_owned()),
            processors: 2,
            processor_features: vec!["aes", "avx2"],
            folder: "/tmp/x".to_owned(),
            file_system: Some("tmpfs".to_owned()),
            in_memory: Some(true),
            size_bytes: 1 << 30,
            runs: 3,
        }
    }

    fn row() -> BenchRow {
        BenchRow {
            row: "step",
            step: "transfer-tcp-aes",
            bytes: 1 << 30,
            runs: 3,
            seconds: 1.5,
            seconds_min: 1.25,
            seconds_max: 12.0,
            mb_per_s: 715.8,
            cpu_s_per_gib: Some(2.5),
            provider_cpu_s_per_gib: Some(1.0),
            downloader_cpu_s_per_gib: Some(1.5),
            peak_bytes: Some(50 << 20),
            provider_peak_bytes: Some(20 << 20),
            downloader_peak_bytes: Some(50 << 20),
            of_floor: Some(0.61),
            cpu_over_one_peer: None,
            note: None,
        }
    }

    /// Programs read these: a name that is here stays.
    #[test]
    fn the_fields_have_the_promised_names() {
        let names = |value: serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        let mut expected = [
            "row",
            "version",
            "optimised",
            "system",
            "architecture",
            "processor",
            "processors",
            "processor_features",
            "folder",
            "file_system",
            "in_memory",
            "size_bytes",
            "runs",
        ];
        expected.sort_unstable();
        let mut found = names(serde_json::to_value(machine()).unwrap());
        found.sort_unstable();
        assert_eq!(found, expected);
        let mut expected = [
            "row",
            "step",
            "bytes",
            "runs",
            "seconds",
            "seconds_min",
            "seconds_max",
            "mb_per_s",
            "cpu_s_per_gib",
            "provider_cpu_s_per_gib",
            "downloader_cpu_s_per_gib",
            "peak_bytes",
            "provider_peak_bytes",
            "downloader_peak_bytes",
            "of_floor",
            "cpu_over_one_peer",
            "note",
        ];
        expected.sort_unstable();
        // A row without anything has all of them, too.
        for row in [row(), BenchRow::default()] {
            let mut found = names(serde_json::to_value(row).unwrap());
            found.sort_unstable();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_line_has_speed_extremes_both_sides_and_the_ratio() {
        let line = line(&row());
        for part in [
            "transfer-tcp-aes",
            " 716 ",
            "1.50 (1.25-12.0)",
            " 2.50 ",
            "1.00, 20",
            "1.50, 50",
            "0.61",
        ] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
        assert!(!line.contains("peak"), "{line}");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn what_a_step_has_not_is_left_out() {
        let bare = BenchRow {
            step: "hash",
            cpu_over_one_peer: Some(1.1),
            peak_bytes: Some(1),
            note: Some("as it is".to_owned()),
            ..BenchRow::default()
        };
        let line = line(&bare);
        assert!(
            line.ends_with("  CPU 1.10 x that of one peer  peak 1 MiB  as it is\n"),
            "{line}"
        );
        let nothing = self::line(&BenchRow::default());
        assert!(nothing.ends_with("0.000 (0.000-0.000)\n"), "{nothing}");
    }

    #[test]
    fn the_heading_says_what_figures_are_compared_by() {
        let text = heading(&machine());
        for part in [
            "casnode 1.2.3",
            "2 processors",
            "aes, avx2",
            "tmpfs, in memory alone",
            "1.00 GiB",
            "3 runs",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(!text.contains('\u{1b}') && !text.contains("debug"));
        let debug = Machine {
            optimised: false,
            in_memory: None,
            file_system: None,
            ..machine()
        };
        let text = heading(&debug);
        assert!(text.contains("debug build") && text.contains("system unknown)"));
    }
}
