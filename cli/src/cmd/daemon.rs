//! `casnode daemon`.

mod reload;
mod systemd;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use casnode_node::api::StatusReport;
use casnode_node::{HttpConfig, NodeConfig, PassedSockets, SeedPolicy, run_daemon};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::args::{DaemonArgs, Http};
use crate::exit::{Failure, Result};
use crate::memory;
use crate::output::{self, Rows};
use crate::session::Context;

/// Where a daemon listens when nothing else is said.
const LISTEN_IPV4: [&str; 2] = ["/ip4/0.0.0.0/tcp/4101", "/ip4/0.0.0.0/udp/4101/quic-v1"];
const LISTEN_IPV6: [&str; 2] = ["/ip6/::/tcp/4101", "/ip6/::/udp/4101/quic-v1"];

/// Where the API is served over TCP when nothing else is said.
const DEFAULT_HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4180);

/// How long an orphaned daemon may take to leave before it is ended.
const ORPHAN_GRACE: Duration = Duration::from_secs(20);

/// Runs the node until a signal.
pub(crate) async fn run(context: &Context, args: DaemonArgs, passed: PassedSockets) -> Result<()> {
    let mut network = args.network.into_config();
    network.mode = args.dht_mode.and_then(|mode| mode.0).unwrap_or_default();
    network.swarm = args.swarm;
    network.listen = listen(network.listen);
    if args.until_eof {
        tokio::spawn(leave_at_eof(context.stop.clone()));
    }
    let http = http(args.http.and_then(|http| http.0), args.http_host);
    if http.is_none() && passed.http.is_some() {
        return Err(crate::activation::unwanted_http());
    }
    let _rests = AbortOnDropHandle::new(tokio::spawn(memory::give_back_at_rest(
        context.stop.clone(),
    )));
    let seed = args.seed;
    let config = NodeConfig {
        data_dir: context.data_dir.clone(),
        network: Some(network),
        serve_dht: true,
        max_store: context.max_store,
        scrub_bytes_per_s: args.scrub_rate.0,
        seed: args.seed,
        memory: context.memory,
    };
    let hangups = signal(SignalKind::hangup())
        .map_err(|error| Failure::io("cannot listen for signals", &error))?;
    let (calls, changes) = mpsc::channel(1);
    let daemon = run_daemon(
        config,
        http,
        passed,
        changes,
        |report| ready(context, &report, seed),
        context.stop.clone(),
    );
    tokio::pin!(daemon);
    tokio::select! {
        ended = &mut daemon => ended?,
        () = reload::run(context, hangups, calls) => daemon.await?,
    }
    context.tell("left the network\n");
    Ok(())
}

/// Where a daemon listens that was told this.
pub(super) fn listen(given: Vec<String>) -> Vec<String> {
    if given.is_empty() {
        return default_listen(has_ipv6());
    }
    given
}

/// Where the API is served over TCP.
pub(super) fn http(given: Option<Http>, hosts: Vec<String>) -> Option<HttpConfig> {
    let (listen, optional) = match given {
        Some(Http::Off) => return None,
        Some(Http::At(listen)) => (listen, false),
        None => (DEFAULT_HTTP, true),
    };
    Some(HttpConfig {
        listen,
        optional,
        hosts,
    })
}

/// Says that the node listens. A closed standard output does not stop a daemon.
fn ready(context: &Context, report: &StatusReport, seed: SeedPolicy) {
    systemd::notify("READY=1");
    context.tell(&ready_text(context, report, seed));
    if context.json
        && let Ok(line) = output::json_line(report)
    {
        let _ = output::write_out(&line);
    }
}

fn ready_text(context: &Context, report: &StatusReport, seed: SeedPolicy) -> String {
    let mut rows = Rows::default();
    rows.add("peer id", &report.peer_id);
    rows.add("data dir", context.data_dir.display());
    if let Some(network) = &report.network {
        rows.add("network", network);
    }
    if let Some(mode) = report.swarm_mode {
        rows.add("swarms", output::swarm_mode(mode));
        rows.add("seeding", seed);
    }
    for addr in &report.listen {
        rows.add("listening", addr);
    }
    if let Some(http) = &report.http {
        rows.add("http", format_args!("http://{http}"));
    }
    rows.add(
        "files",
        format_args!("{} in {} chunks", report.files, report.chunks),
    );
    rows.0
}

fn default_listen(ipv6: bool) -> Vec<String> {
    let more = if ipv6 { &LISTEN_IPV6[..] } else { &[] };
    LISTEN_IPV4
        .iter()
        .chain(more)
        .map(|&addr| addr.to_owned())
        .collect()
}

/// Whether this machine has any IPv6 address. Where the kernel does not tell (no Linux), it is taken to have.
fn has_ipv6() -> bool {
    if !cfg!(target_os = "linux") {
        return true;
    }
    std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|table| !table.trim().is_empty())
}

/// Stops the daemon when whoever started it is gone: the other end of standard input closes with it, however
/// it ended.
async fn leave_at_eof(stop: CancellationToken) {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0u8; 256];
    while stdin.read(&mut ignored).await.is_ok_and(|n| n > 0) {}
    stop.cancel();
    tokio::time::sleep(ORPHAN_GRACE).await;
    std::process::exit(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multiaddr::parse_listen;

    #[test]
    fn the_default_is_port_4101_of_all_addresses_on_tcp_and_quic() {
        assert_eq!(default_listen(false).len(), 2);
        let both = default_listen(true);
        assert!(both.iter().all(|addr| parse_listen(addr).is_ok()));
        assert_eq!(both.len(), 4);
        assert!(both.iter().all(|addr| addr.contains("/4101")));
        assert_eq!(
            both.iter()
                .filter(|addr| addr.ends_with("/quic-v1"))
                .count(),
            2
        );
    }
}
