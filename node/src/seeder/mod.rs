//! Serves what is here to peers that ask.
//!
//! [`places`] says who may be served, [`stream`] serves one peer's stream, [`answers`] knows what to say, and [`recent`]
//! keeps what took work to make.

mod answers;
mod places;
mod recent;
mod stream;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, sync::Arc};

use casnode_dht::{Incoming, IncomingStreams};

use self::{answers::Answers, places::Places};
use crate::{clock, node::Node};

/// Serves inbound streams until the node ends.
pub(crate) async fn run(node: Arc<Node>, mut incoming: IncomingStreams) -> Result<(), Infallible> {
    let places = Arc::new(Places::default());
    let answers = Arc::new(Answers::new(node.store.clone(), node.downloads.clone()));
    while let Some(stream) = incoming.recv().await {
        let Incoming {
            peer,
            requests,
            replies,
            ..
        } = stream;
        let tasks = node.tasks.child();
        let end = tasks.token().clone();
        let Some(place) = places.take(peer, end.clone(), clock::now()) else {
            tracing::debug!(%peer, "all places are taken; a stream was refused");
            continue;
        };
        let answers = answers.clone();
        node.tasks.spawn("serve", async move {
            let _guard = end.clone().drop_guard();
            let outcome = tokio::select! {
                outcome = stream::serve(answers, requests, replies, &tasks, &place) => outcome,
                () = end.cancelled() => {
                    tracing::debug!(%peer, "a stream had to make room");
                    Ok(())
                }
            };
            tasks.finish().await;
            drop(place);
            if let Err(error) = outcome {
                tracing::debug!(%peer, %error, "a stream ended");
            }
            Ok::<(), Infallible>(())
        });
    }
    Ok(())
}
