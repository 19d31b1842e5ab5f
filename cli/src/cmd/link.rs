//! `casnode link`, and links as `store --link` prints them.

use std::io::{self, IsTerminal};

use casnode_node::api::{ErrorKind, Request, Response};
use casnode_node::{Client, Link, Streams};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde::Serialize;

use crate::args::LinkArgs;
use crate::exit::{Failure, Result};
use crate::output;
use crate::session::{Context, unexpected};

/// Prints a link to a file that is here.
pub(crate) async fn run(context: &Context, args: LinkArgs) -> Result<()> {
    if args.qr {
        check_terminal()?;
    }
    let client = context.store_only().await?;
    let link = of_stored(context, &client, args.address.into_string()).await;
    client.close().await;
    print(context, &link?, args.qr)
}

async fn of_stored(context: &Context, client: &Client, address: String) -> Result<Link> {
    let request = Request::Stat { address };
    let Response::Stat(stat) = context.ask(client, request, Streams::default()).await? else {
        return Err(unexpected());
    };
    let (name, bytes) = (stat.file.name.as_deref(), stat.file.bytes);
    make(context, client, &stat.file.address, name, bytes).await
}

/// Makes a link to a file of this node. A node for the length of a command is named to nobody.
pub(super) async fn make(
    context: &Context,
    client: &Client,
    address: &str,
    name: Option<&str>,
    size_bytes: u64,
) -> Result<Link> {
    let mut listen = Vec::new();
    if client.is_daemon() {
        let asked = context.ask(client, Request::Status, Streams::default());
        let Response::Status(status) = asked.await? else {
            return Err(unexpected());
        };
        listen = status.listen;
    }
    let address = address.parse::<Link>().map_err(|_| unexpected())?.address();
    Ok(Link::of(address, name, size_bytes, &listen))
}

/// What `--json` prints.
#[derive(Serialize)]
struct LinkLine {
    address: String,
    link: String,
}

/// Prints a link, and draws it.
pub(super) fn print(context: &Context, link: &Link, qr: bool) -> Result<()> {
    let mut text = match context.json {
        true => output::json_line(&LinkLine {
            address: link.address().to_string(),
            link: link.to_string(),
        })?,
        false => format!("{link}\n"),
    };
    if qr {
        text.push_str(&drawn(&link.to_string())?);
    }
    output::write_out(&text)
}

/// Refuses to draw where nobody looks.
pub(super) fn check_terminal() -> Result<()> {
    if io::stdout().is_terminal() {
        return Ok(());
    }
    Err(Failure::new(
        ErrorKind::Usage,
        "--qr draws nothing here",
        "standard output is no terminal, and who reads it wants the link alone",
        "leave --qr out, or run it in a terminal",
    ))
}

/// A link as a code of half blocks. Terminals are dark, mostly, and a code is dark on light: what is light is drawn.
fn drawn(link: &str) -> Result<String> {
    let code = QrCode::new(link).map_err(|error| {
        Failure::new(
            ErrorKind::Failure,
            "the link could not be drawn",
            error.to_string(),
            "leave --qr out",
        )
    })?;
    let mut drawn = code.render::<Dense1x2>();
    drawn
        .dark_color(Dense1x2::Dark)
        .light_color(Dense1x2::Light);
    Ok(drawn.build() + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_a_square_of_half_blocks_with_a_light_edge() {
        let drawn = drawn(&format!("casnode:{}", "ab".repeat(32))).unwrap();
        let lines: Vec<&str> = drawn.lines().collect();
        let width = lines[0].chars().count();
        assert!(lines.iter().all(|line| line.chars().count() == width));
        assert_eq!(lines.len(), width.div_ceil(2));
        let strange = |c: char| !" █▀▄\n".contains(c);
        assert!(!drawn.contains(strange), "{drawn}");
        assert!(
            lines[0]
                .chars()
                .all(|c| c == lines[0].chars().next().unwrap())
        );
        assert!(
            lines[4]
                .trim_matches(lines[0].chars().next().unwrap())
                .len()
                > 8
        );
    }

    #[test]
    fn what_no_code_can_hold_is_said() {
        assert_eq!(drawn(&"x".repeat(5000)).unwrap_err().code(), 1);
    }
}
