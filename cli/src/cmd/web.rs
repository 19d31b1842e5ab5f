//! `casnode web`: the way to the node's page.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use casnode_node::api::{ErrorKind, Request, Response};
use casnode_node::{Streams, read_token};
use serde::Serialize;

use super::state::require_daemon;
use crate::exit::{Failure, Result};
use crate::output;
use crate::session::{Context, unexpected};

/// What opens a file in whatever the person browses with.
const OPENER: &str = "xdg-open";

/// File of the data directory that leads to the page.
const WAY_FILE: &str = "web.html";

/// What `--json` prints.
#[derive(Serialize)]
struct WebLine {
    url: String,
    opened: bool,
}

/// Prints the address of the page, with the token that it needs; opens it in a browser.
pub(crate) async fn run(context: &Context, open: bool) -> Result<()> {
    let daemon = require_daemon(context, "so there is no page").await?;
    let asked = context.call(daemon, Request::Status, Streams::default());
    let Response::Status(status) = asked.await? else {
        return Err(unexpected());
    };
    let http = status.http.and_then(|http| http.parse().ok());
    let http = http.ok_or_else(no_address)?;
    let token = read_token(&context.data_dir).map_err(|error| no_token(&error))?;
    let url = url(http, &token);
    if open {
        show(&context.data_dir, &url)?;
    }
    match context.json {
        true => output::write_out(&output::json_line(&WebLine { url, opened: open })?),
        false => {
            context.remark("Whoever has this address may do all that you may do here.\n");
            output::write_out(&format!("{url}\n"))
        }
    }
}

fn no_token(error: &io::Error) -> Failure {
    Failure::new(
        ErrorKind::Failure,
        "the daemon's token could not be read",
        error.to_string(),
        "run this as the daemon's user, or restart the daemon for a new token",
    )
}

fn no_address() -> Failure {
    Failure::new(
        ErrorKind::Failure,
        "the daemon has no page",
        "it serves nothing over TCP: it was told so, or port 4180 was taken when it started",
        "restart it with `casnode daemon --http 127.0.0.1:4180`, or with another port",
    )
}

/// The page, and the token where no server and no log sees it.
fn url(http: SocketAddr, token: &str) -> String {
    // All addresses of the machine: its own is one of them, and the only one that every request may name.
    let ip = match http.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}/#token={token}", SocketAddr::new(ip, http.port()))
}

/// Opens the page by a file that leads there: every user of the machine can see with what a program was started, and so the
/// token is not said there.
fn show(data_dir: &Path, url: &str) -> Result<()> {
    let way = write_way(data_dir, url).map_err(|error| {
        Failure::io(
            "the file that leads to the page could not be written",
            &error,
        )
    })?;
    let started = Command::new(OPENER)
        .arg(&way)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    started.map(drop).map_err(|error| {
        Failure::new(
            ErrorKind::Failure,
            format!("no browser was opened: {OPENER} could not be started"),
            error.to_string(),
            "run `casnode web`, and open the address that it prints",
        )
    })
}

fn write_way(data_dir: &Path, url: &str) -> io::Result<PathBuf> {
    let path = data_dir.join(WAY_FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {} // made anew, nobody else has it open
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    write!(
        file,
        "<!doctype html>\n<meta charset=\"utf-8\">\n<meta name=\"referrer\" content=\"no-referrer\">\n<title>casnode</title>\n\
         <meta http-equiv=\"refresh\" content=\"0;url={url}\">\n<p><a href=\"{url}\">casnode</a></p>\n"
    )?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_address_is_one_that_the_daemon_answers_to() {
        for (http, begins) in [
            ("127.0.0.1:4180", "http://127.0.0.1:4180/#token=ab"),
            ("0.0.0.0:80", "http://127.0.0.1:80/#token=ab"),
            ("[::]:81", "http://[::1]:81/#token=ab"),
            ("192.0.2.7:4180", "http://192.0.2.7:4180/#token=ab"),
        ] {
            assert_eq!(url(http.parse().unwrap(), "ab"), begins);
        }
    }

    #[test]
    fn the_way_to_the_page_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(WAY_FILE), "old").unwrap();
        let way = write_way(dir.path(), "http://127.0.0.1:1/#token=ab").unwrap();
        let mode = fs::metadata(&way).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = fs::read_to_string(&way).unwrap();
        assert!(
            text.contains("url=http://127.0.0.1:1/#token=ab\""),
            "{text}"
        );
        assert!(!text.contains("old"));
    }
}
