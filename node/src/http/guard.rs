//! Who may ask over TCP.
//!
//! Every request: `Host` has to name this machine, or a page of another site whose name was pointed here (DNS rebinding)
//! could ask; and `Origin`, which browsers send with requests of pages, has to be this server's own. Everything below
//! `/v1/`: the token besides.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header, uri::Authority};

use super::{errors::Problem, token::Token};

/// The address that a connection came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct LocalAddress(pub(super) SocketAddr);

/// Names by which this server may be called, besides this machine's own.
#[derive(Debug, Default)]
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    pub(super) fn new(names: Vec<String>) -> Self {
        Self(names.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether a request that came to `local` may call this server so.
    fn allows(&self, host: &str, local: IpAddr) -> bool {
        let host = host.to_ascii_lowercase();
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        match literal.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback() || ip.to_canonical() == local.to_canonical(),
            Err(_) => host == "localhost" || self.0.contains(&host),
        }
    }

    fn check(&self, headers: &HeaderMap, local: IpAddr) -> Result<(), Problem> {
        let refused = |what: &str, why: String| {
            Err(Problem::new(
                StatusCode::FORBIDDEN,
                what,
                why,
                "use the address that `casnode status` shows, or allow the name with `casnode daemon --http-host NAME`",
            ))
        };
        let host = match one(headers, header::HOST) {
            Ok(Some(host)) => host,
            _ => return refused("the request was refused", "it has no one Host".to_owned()),
        };
        let Ok(authority) = host.parse::<Authority>() else {
            return refused("the request was refused", format!("{host:?} is no host"));
        };
        if !self.allows(authority.host(), local) {
            return refused(
                "the request was refused",
                format!("the host {host:?} is not this machine"),
            );
        }
        let origin = match one(headers, header::ORIGIN) {
            Ok(None) => return Ok(()),
            Ok(Some(origin)) => origin,
            Err(()) => {
                return refused(
                    "the request was refused",
                    "it has several origins".to_owned(),
                );
            }
        };
        if self.is_own(origin, &authority) {
            return Ok(());
        }
        refused(
            "the request was refused",
            format!("a page of {origin:?} made it, and only this server's own may"),
        )
    }

    /// Whether pages of this origin are this server's: it is called as they are, or by a name that was allowed, as behind
    /// a proxy.
    fn is_own(&self, origin: &str, host: &Authority) -> bool {
        let page = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        let Some(Ok(page)) = page.map(str::parse::<Authority>) else {
            return false;
        };
        let name = page.host().to_ascii_lowercase();
        page.as_str().eq_ignore_ascii_case(host.as_str()) || self.0.contains(&name)
    }
}

/// The value of a header that may be there once.
fn one(headers: &HeaderMap, name: header::HeaderName) -> Result<Option<&str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        _ => Err(()),
    }
}

/// Lets through what calls this server by its own name.
pub(super) async fn own_name(
    State(hosts): State<Arc<Hosts>>,
    request: Request,
    next: Next,
) -> Response {
    let local = request.extensions().get::<LocalAddress>();
    let local = local.map_or(IpAddr::from([0, 0, 0, 0]), |local| local.0.ip());
    match hosts.check(request.headers(), local) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Lets through what shows the token.
pub(super) async fn with_token(
    State(token): State<Arc<Token>>,
    request: Request,
    next: Next,
) -> Response {
    if token.is_shown(request.headers()) {
        return next.run(request).await;
    }
    no_token()
}

/// Lets through what comes to loopback, and beyond it what shows the token.
pub(super) async fn with_token_beyond_loopback(
    State(token): State<Arc<Token>>,
    request: Request,
    next: Next,
) -> Response {
    let local = request.extensions().get::<LocalAddress>();
    if local.is_some_and(|local| local.0.ip().to_canonical().is_loopback())
        || token.is_shown(request.headers())
    {
        return next.run(request).await;
    }
    no_token()
}

fn no_token() -> Response {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "the request was refused",
        "it does not show the token",
        "send `Authorization: Bearer TOKEN`, with what is in the file api.token of the data directory",
    )
    .into_response()
}

#[cfg(test)]
mod tests {
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    const LOCAL: [u8; 4] = [192, 0, 2, 7];

    fn passes(host: &[&str], origin: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for host in host {
            headers.append(header::HOST, host.parse().unwrap());
        }
        for origin in origin {
            headers.append(header::ORIGIN, origin.parse().unwrap());
        }
        let hosts = Hosts::new(vec!["Node.example".to_owned()]);
        hosts.check(&headers, IpAddr::from(LOCAL)).is_ok()
    }

    #[test]
    fn this_machine_is_called_by_its_own_names_alone() {
        for host in [
            "localhost",
            "LOCALHOST:4180",
            "127.0.0.1:4180",
            "127.8.9.1",
            "[::1]:4180",
            "192.0.2.7:1",
            "[::ffff:192.0.2.7]",
            "node.example:4180",
        ] {
            assert!(passes(&[host], &[]), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "192.0.2.8",
            "127.0.0.1.evil.example",
            "",
            "a b",
            "user@",
            "x.node.example",
        ] {
            assert!(!passes(&[host], &[]), "{host}");
        }
        assert!(!passes(&[], &[]));
        assert!(!passes(&["localhost", "localhost"], &[]));
    }

    #[test]
    fn a_page_of_another_site_is_refused() {
        for (host, origin) in [
            ("localhost:4180", "http://localhost:4180"),
            ("127.0.0.1", "http://127.0.0.1"),
            ("127.0.0.1:4180", "https://node.example"),
        ] {
            assert!(passes(&[host], &[origin]), "{host} {origin}");
        }
        for (host, origin) in [
            ("localhost:4180", "http://localhost:3000"),
            ("localhost:4180", "http://127.0.0.1:4180"),
            ("localhost:4180", "http://evil.example"),
            ("localhost:4180", "null"),
            ("localhost:4180", ""),
            ("localhost:4180", "file://localhost:4180"),
        ] {
            assert!(!passes(&[host], &[origin]), "{host} {origin}");
        }
        let own = "http://localhost:4180";
        assert!(!passes(&["localhost:4180"], &[own, own]));
    }

    #[tokio::test]
    async fn beyond_loopback_the_token_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let token = Arc::new(Token::load_or_create(dir.path()).unwrap());
        let text = std::fs::read_to_string(dir.path().join("api.token")).unwrap();
        let layer = axum::middleware::from_fn_with_state(token, with_token_beyond_loopback);
        let routes = axum::Router::new().route("/", axum::routing::get(|| async {}));
        let service = TowerToHyperService::new(routes.route_layer(layer));
        for (local, shows, status) in [
            (Some("127.0.0.1:1"), false, 200),
            (Some("[::1]:1"), false, 200),
            (Some("[::ffff:127.0.0.1]:1"), false, 200),
            (Some("192.0.2.7:1"), false, 401),
            (Some("192.0.2.7:1"), true, 200),
            (None, false, 401),
        ] {
            let mut request = http::Request::new(axum::body::Body::empty());
            if let Some(local) = local {
                let local = LocalAddress(local.parse().unwrap());
                request.extensions_mut().insert(local);
            }
            if shows {
                let bearer = format!("Bearer {}", text.trim()).parse().unwrap();
                request.headers_mut().insert(header::AUTHORIZATION, bearer);
            }
            let answer = service.call(request).await.unwrap();
            assert_eq!(answer.status(), status, "{local:?} {shows}");
        }
    }
}
