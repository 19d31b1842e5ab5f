//! The page at `/`: one document, with everything it needs in it. Its parts are the files beside this one.
//!
//! The page itself has nothing of anybody, so everybody may load it; what it shows it asks of the API with a token that came
//! in the link's fragment. It runs its own script and no other: the policy names both inline blocks by their hashes, and
//! allows no markup to be made of text, so a file's name stays text.

use std::sync::LazyLock;

use axum::{Router, body::Body, response::Response, routing::get};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use sha2::{Digest, Sha256};

const BODY: &str = include_str!("shell.html");
const STYLE: &str = include_str!("style.css");

/// In the order in which they are run.
const SCRIPTS: [&str; 7] = [
    include_str!("api.js"),
    include_str!("dom.js"),
    include_str!("files.js"),
    include_str!("work.js"),
    include_str!("swarm.js"),
    include_str!("node.js"),
    include_str!("main.js"),
];

/// A small ring of keys, so that browsers ask for no `/favicon.ico`.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='5.5' \
fill='none' stroke='%230b6e6e' stroke-width='2'/%3E%3Ccircle cx='8' cy='2.5' r='2.5' fill='%23e07a1f'/%3E%3C/svg%3E";

static PAGE: LazyLock<Page> = LazyLock::new(Page::new);

/// The route of the page.
pub(super) fn routes() -> Router {
    Router::new().route("/", get(page))
}

async fn page() -> Response {
    let mut response = Response::new(Body::from(PAGE.document.clone()));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().extend(PAGE.headers.clone());
    response
}

/// The document, and what is said beside it.
struct Page {
    document: Bytes,
    headers: HeaderMap,
}

impl Page {
    fn new() -> Self {
        // A block of its own for each file: what one declares, the next ones see.
        let script = format!("\"use strict\";\n{}", SCRIPTS.concat());
        let document = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>casnode</title>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
             <link rel=\"icon\" href=\"{ICON}\">\n<style>{STYLE}</style>\n</head>\n<body>\n{BODY}<script>{script}</script>\n</body>\n</html>\n"
        );
        Self {
            document: document.into(),
            headers: headers(&policy(STYLE, &script)),
        }
    }
}

/// What the page may do: run its own script, have its own style, ask the server that it came from.
fn policy(style: &str, script: &str) -> String {
    let (style, script) = (source(style), source(script));
    format!(
        "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

/// An inline block, as a policy names it.
fn source(block: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(block)))
}

fn headers(policy: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        // Another version of the program has another page.
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::from_str(policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is between the only two tags of this name.
    fn block<'a>(document: &'a str, tag: &str) -> &'a str {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        assert_eq!(document.matches(&open).count(), 1, "{tag}");
        assert_eq!(document.matches(&close).count(), 1, "{tag}");
        let begin = document.find(&open).unwrap() + open.len();
        &document[begin..document.find(&close).unwrap()]
    }

    #[test]
    fn the_policy_names_the_blocks_that_are_in_the_document_and_allows_no_others() {
        let page = Page::new();
        let document = std::str::from_utf8(&page.document).unwrap();
        let policy = page.headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        for (directive, tag) in [("script-src", "script"), ("style-src", "style")] {
            let wanted = format!("{directive} {};", source(block(document, tag)));
            assert!(policy.contains(&wanted), "{wanted}\n{policy}");
        }
        assert!(policy.starts_with("default-src 'none';"));
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"));
        for loose in ["unsafe", "*", "http:", "https:"] {
            assert!(!policy.contains(loose), "{policy}");
        }
    }

    #[test]
    fn nothing_in_the_page_comes_from_elsewhere_or_turns_text_into_markup() {
        let page = Page::new();
        let document = std::str::from_utf8(&page.document).unwrap();
        for wrong in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
            "src=",
            "style=\"",
            "onclick=\"",
            "javascript:",
            "https://",
        ] {
            assert!(!document.contains(wrong), "{wrong}");
        }
        let foreign = document
            .split("http://")
            .skip(1)
            .find(|rest| !rest.starts_with("www.w3.org/2000/svg"));
        assert_eq!(foreign, None);
    }
}
