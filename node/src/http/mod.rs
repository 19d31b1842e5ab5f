//! The local API over HTTP/1.1: the daemon's end. `docs/API.md` says how it is used.
//!
//! [`listen`] has the connections, [`router`] the routes; each call is a task that [`calls`] knows by name. What a request
//! says is in [`request`], what it is told in [`events`], [`json`] and [`errors`], a file's bytes in [`content`]. Over TCP
//! [`guard`] lets in who calls this machine by its own name and shows the [`token`]; [`health`] is for everybody.
//! [`gateway`] serves files to browsers and players, [`page`] is what a person sees of the node.

pub(crate) mod calls;
mod content;
pub(crate) mod errors;
pub(crate) mod events;
mod gateway;
mod guard;
mod health;
mod json;
pub(crate) mod listen;
mod openapi;
mod page;
mod patience;
pub(crate) mod request;
mod router;
pub(crate) mod token;

use std::sync::Arc;

use axum::{Router, middleware};

use self::{calls::Calls, guard::Hosts, token::Token};

/// What callers on the socket can ask.
pub(crate) fn on_socket(calls: &Arc<Calls>) -> Router {
    let routes = router::api(calls.clone())
        .merge(health::routes(calls.node().clone()))
        .merge(gateway::routes(calls.node().clone()))
        .merge(page::routes());
    router::complete(routes)
}

/// What callers over TCP can ask: the same with the token; without it whether the daemon is well and, on loopback, files
/// by the gateway.
pub(crate) fn on_tcp(calls: &Arc<Calls>, token: Token, hosts: Vec<String>) -> Router {
    let token = Arc::new(token);
    let beyond = middleware::from_fn_with_state(token.clone(), guard::with_token_beyond_loopback);
    let gateway = gateway::routes(calls.node().clone()).route_layer(beyond);
    let token = middleware::from_fn_with_state(token, guard::with_token);
    let own_name = middleware::from_fn_with_state(Arc::new(Hosts::new(hosts)), guard::own_name);
    let api = router::api(calls.clone()).route_layer(token);
    let routes = api
        .merge(health::routes(calls.node().clone()))
        .merge(gateway)
        .merge(page::routes());
    router::complete(routes).layer(own_name)
}
