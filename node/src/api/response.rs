//! What a call that went well returns.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[cfg(doc)]
use super::Request;
use super::{
    ApiError, CatReport, DhtGetReport, DhtLookupReport, DhtModeReport, DhtPutTestReport,
    DirectoryReport, DoctorCheck, FileInfo, FileStat, FileUsage, GcPlanReport, GcReport, GetReport,
    GetTreeReport, LimitsReport, ListReport, MetricReport, PeerReport, PinReport,
    ProvideFileReport, ProvideNowReport, ProvideReport, ProvidersReport, RmReport, SeedReport,
    StatusReport, StoreReport, StoreTreeReport, SwarmReport, TreePage, VerifyReport, WhyReport,
};

/// What became of a path.
// How the `Result` of a path is described: serde writes it like this.
#[derive(ToSchema)]
#[allow(dead_code, reason = "its schema is what is wanted")]
enum PathOutcome {
    /// It is stored.
    Ok(StoreReport),
    /// It is not.
    Err(ApiError),
}

/// What a call that went well returns. Each list item becomes one JSON line of `--json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Response {
    /// Of [`Request::Store`].
    Store(StoreReport),
    /// Of [`Request::StoreMany`].
    StoreMany {
        /// What became of each path, in their order.
        #[schema(value_type = Vec<PathOutcome>)]
        outcomes: Vec<Result<StoreReport, ApiError>>,
    },
    /// Of [`Request::StoreTree`].
    StoreTree(StoreTreeReport),
    /// Of [`Request::Get`], and of [`Request::GetTree`] for a single file.
    Get(GetReport),
    /// Of [`Request::Cat`].
    Cat(CatReport),
    /// Of [`Request::Get`] for an address that is a directory's.
    Directory(DirectoryReport),
    /// Of [`Request::GetTree`].
    GetTree(GetTreeReport),
    /// Of [`Request::LsTree`].
    LsTree(TreePage),
    /// Of [`Request::GetMany`].
    GetMany(ListReport),
    /// Of [`Request::Linger`].
    Linger(SeedReport),
    /// Of [`Request::Ls`], [`Request::LsAll`] and [`Request::PinLs`].
    Ls {
        /// Every file, by time stored.
        files: Vec<FileInfo>,
    },
    /// Of [`Request::Stat`].
    Stat(FileStat),
    /// Of [`Request::Rm`].
    Rm(RmReport),
    /// Of [`Request::PinAdd`] and [`Request::PinRm`].
    Pin(PinReport),
    /// Of [`Request::Gc`] with `dry_run`.
    GcPlan(GcPlanReport),
    /// Of [`Request::Gc`].
    Gc(GcReport),
    /// Of [`Request::Du`].
    Du {
        /// Every file that was asked for, by time stored.
        files: Vec<FileUsage>,
    },
    /// Of [`Request::Verify`].
    Verify(VerifyReport),
    /// Of [`Request::Providers`].
    Providers(ProvidersReport),
    /// Of [`Request::Why`].
    Why(WhyReport),
    /// Of [`Request::Doctor`].
    Doctor {
        /// What was looked at.
        checks: Vec<DoctorCheck>,
    },
    /// Of [`Request::ProvideStatus`].
    ProvideStatus(ProvideReport),
    /// Of [`Request::ProvideStatus`] with an address.
    ProvideFile(ProvideFileReport),
    /// Of [`Request::ProvideNow`].
    ProvideNow(ProvideNowReport),
    /// Of [`Request::DhtLookup`].
    DhtLookup(DhtLookupReport),
    /// Of [`Request::DhtGet`].
    DhtGet(DhtGetReport),
    /// Of [`Request::DhtPutTest`].
    DhtPutTest(DhtPutTestReport),
    /// Of [`Request::DhtMode`].
    DhtMode(DhtModeReport),
    /// Of [`Request::Limits`].
    Limits(LimitsReport),
    /// Of [`Request::Metrics`].
    Metrics {
        /// Every number there is.
        metrics: Vec<MetricReport>,
    },
    /// Of [`Request::Status`].
    Status(StatusReport),
    /// Of [`Request::SwarmStatus`].
    SwarmStatus(SwarmReport),
    /// Of [`Request::Peers`].
    Peers {
        /// Every connected peer.
        peers: Vec<PeerReport>,
    },
}
