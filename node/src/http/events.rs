//! A call as server-sent events: `progress` and `warning` as they come, and one last `result` or `error`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, header};
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use super::{
    calls::{Call, State, outcome_of},
    errors::ErrorBody,
    json,
};
use crate::{
    api::{Event, Outcome, Progress},
    tasks::Tasks,
};

/// The content type of server-sent events.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// A call of which there is no news says so: the connection is seen to live.
const ALIVE: Duration = Duration::from_secs(15);

/// The events of a call. With `call` given, its caller is who hears them: when nobody listens, it is cancelled.
pub(super) fn respond(tasks: Tasks, state: watch::Receiver<State>, call: Option<Call>) -> Response {
    let follower = Follower {
        tasks,
        state,
        progress: None,
        warnings: 0,
        end: None,
        _call: call,
    };
    let texts = stream::unfold(follower, |mut follower| async {
        let text = follower.next().await?;
        Some((Ok::<_, Infallible>(text), follower))
    });
    let mut response = Body::from_stream(texts).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// One listener, and what it has heard.
struct Follower {
    tasks: Tasks,
    state: watch::Receiver<State>,
    progress: Option<Progress>,
    warnings: usize,
    /// The last event, on its way.
    end: Option<mpsc::Receiver<Bytes>>,
    _call: Option<Call>,
}

impl Follower {
    /// What is sent next; `None` when everything was said.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(end) = &mut self.end {
                return end.recv().await;
            }
            if let Some(news) = self.news() {
                return Some(news);
            }
            let has_ended = self.state.borrow().outcome.is_some();
            if has_ended {
                self.begin_end().await;
                continue;
            }
            match tokio::time::timeout(ALIVE, self.state.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => self.begin_end().await,
                Err(_) => return Some(Bytes::from_static(b":\n\n")),
            }
        }
    }

    /// Warnings and progress that were not told yet.
    fn news(&mut self) -> Option<Bytes> {
        let state = self.state.borrow_and_update();
        let mut text = String::new();
        if self.warnings < state.forgotten_warnings {
            let lost = state.forgotten_warnings - self.warnings;
            let message = format!("{lost} warnings came faster than they were read, and are lost");
            write_event(&mut text, "warning", &Event::Warning { message });
            self.warnings = state.forgotten_warnings;
        }
        let heard = self.warnings - state.forgotten_warnings;
        for message in state.warnings.iter().skip(heard) {
            let message = message.clone();
            write_event(&mut text, "warning", &Event::Warning { message });
            self.warnings += 1;
        }
        if let Some(progress) = &state.progress
            && self.progress.as_ref() != Some(progress)
        {
            write_event(&mut text, "progress", &Event::Progress(progress.clone()));
            self.progress = Some(progress.clone());
        }
        (!text.is_empty()).then(|| text.into())
    }

    async fn begin_end(&mut self) {
        let outcome = outcome_of(&mut self.state).await;
        self.end = Some(end(&self.tasks, outcome));
    }
}

/// The last event.
fn end(tasks: &Tasks, outcome: Arc<Outcome>) -> mpsc::Receiver<Bytes> {
    match &*outcome {
        Ok(_) => json::pieces(
            tasks,
            "event: result\ndata: ",
            Arc::new(Won(outcome)),
            "\n\n",
        ),
        Err(error) => {
            let body = ErrorBody {
                error: error.clone(),
            };
            json::pieces(tasks, "event: error\ndata: ", Arc::new(body), "\n\n")
        }
    }
}

/// What a call that went well returns, shared.
pub(super) struct Won(pub(super) Arc<Outcome>);

impl Serialize for Won {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &*self.0 {
            Ok(response) => response.serialize(to),
            Err(error) => error.serialize(to),
        }
    }
}

/// JSON has no line breaks of its own, so an event's data is one line.
fn write_event(text: &mut String, name: &str, event: &Event) {
    if let Ok(json) = serde_json::to_string(event) {
        text.extend(["event: ", name, "\ndata: ", &json, "\n\n"]);
    }
}
