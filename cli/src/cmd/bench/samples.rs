//! From runs to a row.

use crate::output::bench::BenchRow;

/// One run of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sample {
    /// Wall time.
    pub(crate) seconds: f64,
    /// What the only process used, or the downloader.
    pub(crate) own: Used,
    /// What the other side used.
    pub(crate) provider: Option<Used>,
}

/// What processes used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Used {
    /// Processor time of all.
    pub(crate) cpu_s: Option<f64>,
    /// Memory of the largest.
    pub(crate) peak_bytes: Option<u64>,
}

/// The medians of a step.
pub(crate) fn row(step: &'static str, bytes: u64, samples: &[Sample]) -> BenchRow {
    let all = |value: &dyn Fn(&Sample) -> Option<f64>| -> Vec<f64> {
        samples.iter().filter_map(value).collect()
    };
    let seconds = all(&|sample| Some(sample.seconds));
    let middle = median(&seconds).unwrap_or(0.0);
    let gib = bytes as f64 / f64::from(1 << 30);
    let per_gib = |cpu_s: Option<f64>| Some(rounded(cpu_s? / gib));
    let is_pair = samples.iter().any(|sample| sample.provider.is_some());
    let provider_cpu = all(&|sample| sample.provider?.cpu_s);
    let own_cpu = all(&|sample| sample.own.cpu_s);
    let all_cpu = all(&|sample| match sample.provider {
        Some(provider) => Some(provider.cpu_s? + sample.own.cpu_s?),
        None => sample.own.cpu_s,
    });
    let peak = |of: &dyn Fn(&Sample) -> Option<u64>| {
        let mut peaks: Vec<u64> = samples.iter().filter_map(of).collect();
        peaks.sort_unstable();
        peaks.get(peaks.len() / 2).copied()
    };
    let provider_peak = peak(&|sample| sample.provider?.peak_bytes);
    let own_peak = peak(&|sample| sample.own.peak_bytes);
    BenchRow {
        row: "step",
        step,
        bytes,
        runs: u32::try_from(samples.len()).unwrap_or(u32::MAX),
        seconds: rounded(middle),
        seconds_min: rounded(seconds.iter().copied().fold(middle, f64::min)),
        seconds_max: rounded(seconds.iter().copied().fold(middle, f64::max)),
        mb_per_s: rounded(mb_per_s(bytes, middle)),
        cpu_s_per_gib: per_gib(median(&all_cpu)),
        provider_cpu_s_per_gib: per_gib(median(&provider_cpu)),
        downloader_cpu_s_per_gib: per_gib(median(&own_cpu)).filter(|_| is_pair),
        peak_bytes: own_peak.max(provider_peak),
        provider_peak_bytes: provider_peak,
        downloader_peak_bytes: own_peak.filter(|_| is_pair),
        of_floor: None,
        cpu_over_one_peer: None,
        note: None,
    }
}

/// The one in the middle, or the mean of the two; of nothing there is none.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(sorted[middle - 1], upper))
}

fn mb_per_s(bytes: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        bytes as f64 / seconds / 1e6
    } else {
        0.0
    }
}

/// To millionths: more digits are noise.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(cpu_s: f64, peak_bytes: u64) -> Used {
        Used {
            cpu_s: Some(cpu_s),
            peak_bytes: Some(peak_bytes),
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn a_row_has_medians_and_extremes_of_all_runs() {
        let sample = |seconds, own, provider| Sample {
            seconds,
            own,
            provider: Some(provider),
        };
        let row = row(
            "x",
            1 << 29,
            &[
                sample(2.0, used(1.0, 30), used(0.5, 9)),
                sample(1.0, used(3.0, 20), used(0.25, 7)),
                sample(9.0, used(2.0, 10), used(1.0, 8)),
            ],
        );
        assert_eq!((row.runs, row.bytes), (3, 1 << 29));
        assert_eq!(
            (row.seconds, row.seconds_min, row.seconds_max),
            (2.0, 1.0, 9.0)
        );
        assert_eq!(row.mb_per_s, 268.435_456);
        assert_eq!(row.downloader_cpu_s_per_gib, Some(4.0));
        assert_eq!(row.provider_cpu_s_per_gib, Some(1.0));
        // The median of the sums, not the sum of the medians.
        assert_eq!(row.cpu_s_per_gib, Some(6.0));
        assert_eq!(row.provider_peak_bytes, Some(8));
        assert_eq!(row.downloader_peak_bytes, Some(20));
        assert_eq!(row.peak_bytes, Some(20));
    }

    #[test]
    fn one_process_alone_is_neither_provider_nor_downloader() {
        let sample = Sample {
            seconds: 1.0,
            own: used(2.0, 5),
            provider: None,
        };
        let row = row("x", 1 << 30, &[sample]);
        assert_eq!(row.cpu_s_per_gib, Some(2.0));
        assert_eq!(row.peak_bytes, Some(5));
        assert_eq!(row.downloader_cpu_s_per_gib, None);
        assert_eq!(row.downloader_peak_bytes, None);
    }

    #[test]
    fn what_is_not_known_is_not_made_up() {
        let row = row("x", 1 << 30, &[Sample::default()]);
        assert_eq!(row.cpu_s_per_gib, None);
        assert_eq!(row.peak_bytes, None);
        assert_eq!(row.mb_per_s, 0.0);
    }
}
