//! The pages that the gateway makes: what is in a folder, and what went wrong. Pure.

use std::fmt::{Display, Formatter, Result, Write as _};

use casnode_cas::Address;

use super::path;
use crate::api::{ApiError, TreeEntry, TreeEntryKind};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;\
background:#fff}h1{font-size:1.2rem;overflow-wrap:anywhere}table{border-collapse:collapse;width:100%}td{padding:.2rem .5rem;\
border-bottom:1px solid #ddd;overflow-wrap:anywhere}td+td{text-align:right;white-space:nowrap}a{color:#0645ad}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#111}td{border-color:#333}a{color:#8ab4f8}}";

/// Text in a page, whatever is in it.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // What turns the direction of writing makes one name look like another.
                '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    f.write_char('\u{fffd}')?;
                }
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

fn page(title: &str, body: &str) -> String {
    let title = Escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style>\n<h1>{title}</h1>\n{body}</html>\n"
    )
}

/// What went wrong, in three parts.
pub(super) fn of_error(error: &ApiError) -> String {
    let (why, next) = (Escaped(&error.why), Escaped(&error.next));
    page(&error.what, &format!("<p>{why}.</p>\n<p>{next}.</p>\n"))
}

/// The same for a terminal.
pub(super) fn text_of_error(error: &ApiError) -> String {
    format!("{}: {}\n{}\n", error.what, error.why, error.next)
}

/// The page of a folder: what is directly in it, or a part of that. `next` says how many to skip for the next part.
pub(super) fn of_folder(
    address: &Address,
    inside: &str,
    entries: &[TreeEntry],
    next: Option<u64>,
) -> String {
    let mut body = String::from("<table>\n");
    if !inside.is_empty() {
        body.push_str("<tr><td><a href=\"../\">../</a><td>\n");
    }
    for entry in entries {
        let name = entry.path.rsplit('/').next().unwrap_or_default();
        let (link, name, size) = (path::encode(name), Escaped(name), size(entry.bytes));
        let _ = match (entry.kind, entry.target.as_deref()) {
            (TreeEntryKind::Folder, _) => {
                writeln!(body, "<tr><td><a href=\"./{link}/\">{name}/</a><td>{size}")
            }
            (TreeEntryKind::File, _) => {
                writeln!(body, "<tr><td><a href=\"./{link}\">{name}</a><td>{size}")
            }
            (TreeEntryKind::Symlink, target) => {
                let target = Escaped(target.unwrap_or_default());
                writeln!(
                    body,
                    "<tr><td><a href=\"./{link}\">{name}</a> → {target}<td>link"
                )
            }
        };
    }
    body.push_str("</table>\n");
    if let Some(next) = next {
        let _ = writeln!(body, "<p><a href=\"./?skip={next}\">more</a></p>");
    }
    page(&format!("{address}/{inside}"), &body)
}

/// A size for people.
fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut shown = (bytes as f64, "bytes");
    for unit in units {
        if shown.0 < 1024.0 {
            break;
        }
        shown = (shown.0 / 1024.0, unit);
    }
    match shown {
        (_, "bytes") => format!("{bytes} bytes"),
        (number, unit) => format!("{number:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ErrorKind;

    fn entry(path: &str, kind: TreeEntryKind) -> TreeEntry {
        TreeEntry {
            path: path.to_owned(),
            kind,
            bytes: 1536,
            files: 1,
            address: None,
            executable: false,
            target: Some("<x>".to_owned()),
        }
    }

    #[test]
    fn a_name_is_text_and_nothing_else() {
        let evil = "a/<script>alert(1)<_script>\"'&\u{202e}.txt";
        let kinds = [
            TreeEntryKind::File,
            TreeEntryKind::Folder,
            TreeEntryKind::Symlink,
        ];
        let entries = kinds.map(|kind| entry(evil, kind));
        let page = of_folder(&Address::from_bytes([2; 32]), "a", &entries, Some(3));
        assert!(!page.contains("<script") && !page.contains('\u{202e}') && !page.contains("<x>"));
        let name = "&lt;script&gt;alert(1)&lt;_script&gt;&quot;&#39;&amp;";
        assert_eq!(page.matches(name).count(), 3);
        assert_eq!(page.matches("href=\"./%3Cscript%3E").count(), 3);
        assert!(page.contains("href=\"../\"") && page.contains("href=\"./?skip=3\""));
        assert!(page.contains("1.5 KiB") && page.contains("&lt;x&gt;"));
        let error = ApiError::new(ErrorKind::Usage, "<b>", "\"", "&");
        assert!(!of_error(&error).contains("<b>"));
    }

    #[test]
    fn sizes_are_for_people() {
        for (bytes, shown) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }
}
