//! What a supervisor and a monitoring system ask, without a token: nothing of it says what is stored.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, StatusCode, header};

use super::errors::Problem;
use crate::{api::prometheus_text, node::Node, ops};

/// A store that has not answered in this time is not ready.
const STATUS_DEADLINE: Duration = Duration::from_secs(5);

/// The content type of Prometheus' text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn routes(node: Arc<Node>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(node)
}

/// Say that the daemon lives.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "healthz",
    tag = "health",
    responses((status = 200, description = "It lives.", body = String, content_type = "text/plain"))
)]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Say whether the daemon can do its work: its store answers, and where peers were named to join by, one is connected.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "health",
    responses(
        (status = 200, description = "It can.", body = String, content_type = "text/plain"),
        (status = 503, description = "It cannot, and why.", body = String, content_type = "text/plain")
    )
)]
pub(super) async fn readyz(State(node): State<Arc<Node>>) -> (StatusCode, String) {
    let not_ready = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
    match tokio::time::timeout(STATUS_DEADLINE, ops::status(&node)).await {
        Err(_) => not_ready("the store does not answer"),
        Ok(Err(error)) => not_ready(&error.to_string()),
        Ok(Ok(status)) if status.peers == 0 && node.has_bootstrap() => {
            not_ready("no peer is connected")
        }
        Ok(Ok(_)) => (StatusCode::OK, "ready\n".to_owned()),
    }
}

/// Numbers for a monitoring system, in the text format of Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics_text",
    tag = "health",
    responses((status = 200, description = "The numbers.", body = String, content_type = "text/plain"))
)]
pub(super) async fn metrics(State(node): State<Arc<Node>>) -> Result<Response, Problem> {
    let metrics = ops::all_metrics(&node).await?;
    let mut response = prometheus_text(&metrics).into_response();
    let kind = HeaderValue::from_static(PROMETHEUS);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}
