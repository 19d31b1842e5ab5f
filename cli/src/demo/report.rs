//! The demo's lines: one an act.

use casnode_node::api::GetReport;
use indicatif::HumanBytes;
use serde::Serialize;

use super::Stage;
use crate::exit::Result;
use crate::output::{self, count, json_line, rate, seconds};

/// What an act did.
#[derive(Debug, Serialize)]
pub(crate) struct Act {
    /// Its name.
    pub(crate) act: &'static str,
    /// The node it played on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<usize>,
    /// Wall time.
    pub(crate) seconds: f64,
    /// Bytes moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    /// Who sent them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sources: Option<Vec<SourceUse>>,
    /// Chunks that arrived with wrong bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rejected_chunks: Option<u32>,
    /// What else there is to say.
    pub(crate) note: String,
}

/// One node's part in a download.
#[derive(Debug, Serialize)]
pub(crate) struct SourceUse {
    /// Its number; 0 is nobody of ours.
    pub(crate) node: usize,
    /// Bytes accepted from it.
    pub(crate) bytes: u64,
    /// Chunks of it that were refused.
    pub(crate) rejected: u32,
}

impl Act {
    /// An act without a download.
    pub(crate) fn plain(act: &'static str, seconds: f64, note: impl Into<String>) -> Self {
        Self {
            act,
            node: None,
            seconds,
            bytes: None,
            sources: None,
            rejected_chunks: None,
            note: note.into(),
        }
    }

    /// A download.
    pub(crate) fn get(
        act: &'static str,
        stage: &Stage,
        node: usize,
        report: &GetReport,
        note: impl Into<String>,
    ) -> Self {
        let sources = report.providers.iter().map(|provider| SourceUse {
            node: stage.cluster.number_of(&provider.peer).unwrap_or(0),
            bytes: provider.bytes,
            rejected: provider.rejected,
        });
        Self {
            act,
            node: Some(node),
            seconds: report.seconds,
            bytes: Some(report.bytes),
            sources: Some(sources.collect()),
            rejected_chunks: Some(report.rejected_chunks),
            note: note.into(),
        }
    }

    /// Prints its line.
    pub(crate) fn print(&self, json: bool) -> Result<()> {
        output::write_out(&if json { json_line(self)? } else { self.line() })
    }

    fn line(&self) -> String {
        let mut parts = Vec::new();
        if let Some(bytes) = self.bytes {
            parts.push(format!(
                "{} in {}",
                HumanBytes(bytes),
                seconds(self.seconds)
            ));
            parts.push(rate(bytes, self.seconds));
        } else {
            parts.push(seconds(self.seconds));
        }
        if let Some(sources) = &self.sources {
            parts.push(sources_in_words(sources));
        }
        if let Some(rejected) = self.rejected_chunks {
            parts.push(format!("{} rejected", count(rejected, "chunk")));
        }
        let place = self
            .node
            .map_or_else(String::new, |node| format!("node {node}: "));
        let note = if self.note.is_empty() {
            String::new()
        } else {
            format!("; {}", self.note)
        };
        format!("{:<8} {place}{}{note}\n", self.act, parts.join(", "))
    }
}

fn sources_in_words(sources: &[SourceUse]) -> String {
    let used: Vec<String> = sources
        .iter()
        .filter(|source| source.bytes > 0)
        .map(|source| format!("{} from node {}", HumanBytes(source.bytes), source.node))
        .collect();
    if used.is_empty() {
        "nothing fetched".to_owned()
    } else {
        used.join(" + ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act() -> Act {
        let source = |node, bytes, rejected| SourceUse {
            node,
            bytes,
            rejected,
        };
        Act {
            act: "get",
            node: Some(3),
            seconds: 2.0,
            bytes: Some(4 << 20),
            sources: Some(vec![
                source(1, 1 << 20, 0),
                source(2, 3 << 20, 0),
                source(4, 0, 2),
            ]),
            rejected_chunks: Some(2),
            note: "all well".to_owned(),
        }
    }

    #[test]
    fn a_line_has_time_rate_sources_and_rejected_chunks() {
        let line = act().line();
        for part in [
            "get ",
            "node 3",
            "2.00 s",
            "2.0 MiB/s",
            "from node 1 + ",
            "from node 2",
            "2 chunks rejected",
            "; all well",
        ] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
        assert!(
            !line.contains("node 4"),
            "who sent nothing is no source: {line}"
        );
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn json_leaves_out_what_an_act_has_not() {
        let json = json_line(&Act::plain("nodes", 1.0, "up")).unwrap();
        assert_eq!(
            json,
            "{\"act\":\"nodes\",\"seconds\":1.0,\"note\":\"up\"}\n"
        );
    }
}
