//! The text format of Prometheus.

use std::fmt::Write as _;

use super::MetricReport;

/// Metrics in the text format of Prometheus: each with its help, its type and its values.
pub fn prometheus_text(metrics: &[MetricReport]) -> String {
    let mut text = String::new();
    for MetricReport {
        name,
        help,
        kind,
        values,
    } in metrics
    {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for value in values {
            let _ = match &value.what {
                None => writeln!(text, "{name} {}", value.value),
                Some(what) => writeln!(text, "{name}{{what=\"{}\"}} {}", label(what), value.value),
            };
        }
    }
    text
}

/// The value of a label, between its quotes.
fn label(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::MetricValue;

    #[test]
    fn a_metric_is_written_as_prometheus_reads_it() {
        let value = |what: Option<&str>, value| MetricValue {
            what: what.map(str::to_owned),
            value,
        };
        let metric = |name: &str, kind: &str, values| MetricReport {
            name: name.to_owned(),
            help: "One\nline.".to_owned(),
            kind: kind.to_owned(),
            values,
        };
        let metrics = [
            metric("a_total", "counter", vec![value(None, 12_345_678.0)]),
            metric("b", "gauge", vec![value(Some("x\"y"), 0.5)]),
        ];
        let expected = "# HELP a_total One\\nline.\n# TYPE a_total counter\na_total 12345678\n\
                        # HELP b One\\nline.\n# TYPE b gauge\nb{what=\"x\\\"y\"} 0.5\n";
        assert_eq!(prometheus_text(&metrics), expected);
    }
}
