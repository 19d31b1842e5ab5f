//! What is said of a file beside its bytes. Pure.
//!
//! What strangers stored is shown by the browser of whoever runs the node, from the place where the node's own page is. So
//! nothing of it ever runs: it is sandboxed into an origin of its own, may fetch nothing but pictures, sounds, styles and fonts
//! from here, and is what its header says it is, whatever its bytes look like.

use std::fmt::Write as _;

use casnode_cas::{Address, safe_file_name};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Of stored bytes.
const SANDBOX: &str = "sandbox; default-src 'none'; img-src 'self' data:; media-src 'self' data:; font-src 'self' data:; \
                       style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

/// Of a page that this node makes: it has no script, and links lead where they say.
const OWN_PAGE: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
                        frame-ancestors 'none'";

/// What an address names never changes.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// What is written as it is in `filename*` (RFC 8187).
const PLAIN: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// How the bytes of a file are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// In the browser, where it can.
    Inline,
    /// As a download.
    Attached,
}

/// The strong entity tag of a file.
pub(super) fn etag(address: &Address) -> String {
    format!("\"{address}\"")
}

/// The headers of a file, but for those about its length.
pub(super) fn of_file(address: &Address, name: Option<&str>, shown: Shown) -> HeaderMap {
    let mut headers = common(SANDBOX);
    let name = name.and_then(safe_file_name);
    let mut set = |name: HeaderName, value: &str| {
        // Nothing here has a control character; what had one would be left out, and not end a line.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, &content_type(name));
    set(header::CONTENT_DISPOSITION, &disposition(name, shown));
    set(header::ETAG, &etag(address));
    set(header::CACHE_CONTROL, IMMUTABLE);
    set(header::ACCEPT_RANGES, "bytes");
    headers
}

/// The headers of a page that this node makes.
pub(super) fn of_page() -> HeaderMap {
    let mut headers = common(OWN_PAGE);
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, html);
    let again = HeaderValue::from_static("no-cache");
    headers.insert(header::CACHE_CONTROL, again);
    headers
}

fn common(policy: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "SAMEORIGIN"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let opener = HeaderName::from_static("cross-origin-opener-policy");
    headers.insert(opener, HeaderValue::from_static("same-origin"));
    headers
}

/// What a file of this name is.
fn content_type(name: Option<&str>) -> String {
    let guessed = name.and_then(|name| mime_guess::from_path(name).first());
    match guessed {
        Some(guessed) if guessed.type_() == mime_guess::mime::TEXT => {
            format!("{}; charset=utf-8", guessed.essence_str())
        }
        Some(guessed) => guessed.essence_str().to_owned(),
        None => "application/octet-stream".to_owned(),
    }
}

/// How it is shown, and the name that it is saved under: once for old clients, and once as it is (RFC 6266).
fn disposition(name: Option<&str>, shown: Shown) -> String {
    let mut value = match shown {
        Shown::Inline => "inline".to_owned(),
        Shown::Attached => "attachment".to_owned(),
    };
    if let Some(name) = name {
        let is_plain = |c: &char| c.is_ascii_graphic() || *c == ' ';
        let is_quoted = |c: char| matches!(c, '"' | '\\' | '%');
        let ascii = |c: char| match is_plain(&c) && !is_quoted(c) {
            true => c,
            false => '_',
        };
        let ascii: String = name.chars().map(ascii).collect();
        let whole = utf8_percent_encode(name, &PLAIN);
        let _ = write!(value, "; filename=\"{ascii}\"; filename*=UTF-8''{whole}");
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: Option<&str>, shown: Shown, header: HeaderName) -> String {
        let headers = of_file(&Address::from_bytes([1; 32]), name, shown);
        headers[header].to_str().unwrap().to_owned()
    }

    #[test]
    fn a_file_is_what_its_name_says() {
        for (name, kind) in [
            (Some("a.mp4"), "video/mp4"),
            (Some("A.HTML"), "text/html; charset=utf-8"),
            (Some("a.txt"), "text/plain; charset=utf-8"),
            (Some("a.tar.gz"), "application/gzip"),
            (Some("a"), "application/octet-stream"),
            (Some("../x.png"), "application/octet-stream"),
            (None, "application/octet-stream"),
        ] {
            let kind_said = said(name, Shown::Inline, header::CONTENT_TYPE);
            assert_eq!(kind_said, kind, "{name:?}");
        }
    }

    #[test]
    fn a_name_ends_neither_its_header_nor_its_quotes() {
        let said = |name| said(Some(name), Shown::Attached, header::CONTENT_DISPOSITION);
        assert_eq!(
            said("a b.txt"),
            "attachment; filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt"
        );
        assert_eq!(
            said("ä\"\\%.txt"),
            "attachment; filename=\"____.txt\"; filename*=UTF-8''%C3%A4%22%5C%25.txt"
        );
        for name in ["a\r\nSet-Cookie: x=1", "a\0", "a\nb", "\u{7f}"] {
            let said = said(name);
            assert!(!said.contains(['\r', '\n', '\0', '\u{7f}']), "{said}");
        }
    }

    #[test]
    fn what_is_stored_never_runs() {
        let policy = said(
            Some("a.html"),
            Shown::Inline,
            header::CONTENT_SECURITY_POLICY,
        );
        assert!(policy.starts_with("sandbox; default-src 'none';"));
        assert!(!policy.contains("allow-") && !policy.contains("script-src"));
        let sniff = said(
            Some("a.html"),
            Shown::Inline,
            header::X_CONTENT_TYPE_OPTIONS,
        );
        assert_eq!(sniff, "nosniff");
        assert!(
            of_page()[header::CONTENT_SECURITY_POLICY]
                .to_str()
                .unwrap()
                .starts_with("default-src 'none'")
        );
    }
}
