//! Whose pages may show what is here.
//!
//! Any page of the web can name a picture at this node's address: what it would learn is whether the picture is here, and what
//! it would cause is a download. So a browser is sent what a person opens, and what a page that was opened here shows beside it,
//! which browsers tell from the rest (Fetch Metadata). What says nothing of itself is no browser, or an old one.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use casnode_cas::Address;
use http::HeaderMap;

/// Files and directories that are remembered as opened.
const MAX_VISITS: usize = 64;

/// What was opened lately, the latest last.
#[derive(Debug, Default)]
pub(super) struct Visits(Mutex<VecDeque<Address>>);

impl Visits {
    /// Whether a request for something at this address is answered.
    pub(super) fn allow(&self, address: &Address, headers: &HeaderMap) -> bool {
        let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let is_opened = said("sec-fetch-mode") == Some("navigate")
            && said("sec-fetch-dest").is_none_or(|dest| dest == "document");
        let mut visits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_opened {
            visits.retain(|visited| visited != address);
            visits.push_back(*address);
            if visits.len() > MAX_VISITS {
                visits.pop_front();
            }
        }
        // A stored page is of an origin of its own, so what it shows is asked for across sites, too.
        match said("sec-fetch-site") {
            None | Some("none" | "same-origin") => true,
            Some(_) => is_opened || visits.contains(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(visits: &Visits, n: u8, said: [&'static str; 3]) -> bool {
        let names = ["sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest"];
        let mut headers = HeaderMap::new();
        for (name, value) in names.into_iter().zip(said) {
            if !value.is_empty() {
                headers.insert(name, value.parse().unwrap());
            }
        }
        visits.allow(&Address::from_bytes([n; 32]), &headers)
    }

    #[test]
    fn a_page_elsewhere_shows_nothing_of_what_was_not_opened_here() {
        let visits = Visits::default();
        assert!(allows(&visits, 1, ["", "", ""]));
        assert!(allows(&visits, 1, ["same-origin", "no-cors", "image"]));
        for site in ["cross-site", "same-site"] {
            assert!(!allows(&visits, 1, [site, "no-cors", "image"]));
            assert!(!allows(&visits, 1, [site, "navigate", "iframe"]));
        }
        assert!(allows(&visits, 1, ["cross-site", "navigate", "document"]));
        assert!(allows(&visits, 1, ["cross-site", "no-cors", "image"]));
        assert!(!allows(&visits, 2, ["cross-site", "no-cors", "image"]));
        for n in 2..=u8::try_from(MAX_VISITS + 1).unwrap() {
            assert!(allows(&visits, n, ["none", "navigate", "document"]));
        }
        assert!(!allows(&visits, 1, ["cross-site", "no-cors", "image"]));
        assert!(allows(&visits, 2, ["cross-site", "no-cors", "image"]));
    }
}
