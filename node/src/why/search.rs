//! The way through the network: who is connected, whom the DHT names, and what each of those does.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use casnode_cas::{Address, FileRecord};
use casnode_dht::{Dht, FindEvent, FindOptions, Mode, Multiaddr, PeerId, TraceEvent};
use futures::{StreamExt, stream::FuturesUnordered};

use super::{
    provider::ask,
    trace::{Trace, step},
    verdict::Network,
};
use crate::{
    api::{WhyKind, WhyOutcome},
    clock, errors,
    node::Node,
};

/// The longest that each part may take.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(15);
const RECORD_DEADLINE: Duration = Duration::from_secs(8);
const FIND_DEADLINE: Duration = Duration::from_secs(10);
const DIAL_DEADLINE: Duration = Duration::from_secs(5);

/// Providers that are asked.
const MAX_PROVIDERS: usize = 8;

/// Nodes to join by that are dialled when nobody is connected.
const MAX_BOOTSTRAP_DIALS: usize = 4;

/// Who is said to have the file, and where: the likeliest first.
#[derive(Default)]
struct Named(Vec<(PeerId, Vec<Multiaddr>)>);

impl Named {
    fn add(&mut self, peer: PeerId, addrs: Vec<Multiaddr>) {
        let at = self.0.iter().position(|(known, _)| *known == peer);
        match at {
            Some(at) => {
                let known = &mut self.0[at].1;
                let new = addrs.into_iter().filter(|addr| !known.contains(addr));
                let new: Vec<_> = new.collect();
                known.extend(new);
            }
            None => self.0.push((peer, addrs)),
        }
    }

    /// Adds those of another, behind.
    fn append(&mut self, other: Self) {
        for (peer, addrs) in other.0 {
            self.add(peer, addrs);
        }
    }
}

/// Goes the way of a `get`.
pub(super) async fn search(
    node: &Arc<Node>,
    address: Address,
    hints: &[Multiaddr],
    ends: Instant,
    trace: &mut Trace,
) {
    let Some(dht) = &node.dht else {
        let (what, _) = errors::without_network(trace.facts.is_read_only);
        trace.step(
            WhyKind::Network,
            WhyOutcome::Failed,
            None,
            what,
            Duration::ZERO,
        );
        return;
    };
    let mut named = Named::default();
    dial_hints(dht, hints, &mut named, trace).await;
    if connect(node, dht, trace).await {
        let by_hops = closest(dht, address, trace).await;
        record(dht, address, trace).await;
        find(dht, address, &mut named, trace).await;
        // One of them could name as many as it likes: those that the search chose go first.
        named.append(by_hops);
        tell_named(&named, trace);
    }
    let found = named.0.len();
    trace.facts.named = found;
    let mut asked: FuturesUnordered<_> = named
        .0
        .into_iter()
        .take(MAX_PROVIDERS)
        .map(|(peer, addrs)| ask(dht, address, peer, addrs, ends))
        .collect();
    if found > 0 {
        trace.waits("its providers to answer");
    }
    while let Some(answer) = asked.next().await {
        if let Some(size_bytes) = answer.size_bytes {
            trace.size_is(size_bytes);
        }
        trace.facts.providers.push(answer.asked);
        answer.steps.into_iter().for_each(|step| trace.push(step));
    }
}

/// Dials the peers that were named by hand, who count as providers.
async fn dial_hints(dht: &Dht, hints: &[Multiaddr], named: &mut Named, trace: &mut Trace) {
    for addr in hints {
        let began = clock::now();
        match dht.dial(addr.clone(), DIAL_DEADLINE).await {
            Ok(peer) => {
                let what = format!("{addr}: connected");
                trace.step(
                    WhyKind::Dial,
                    WhyOutcome::Ok,
                    Some(peer),
                    what,
                    began.elapsed(),
                );
                named.add(peer, vec![addr.clone()]);
            }
            Err(error) => {
                let what = format!("{addr}: {}", errors::brief(&error));
                trace.step(
                    WhyKind::Dial,
                    WhyOutcome::Failed,
                    None,
                    what,
                    began.elapsed(),
                );
            }
        }
    }
}

/// Waits for the network; whether anybody is connected.
async fn connect(node: &Arc<Node>, dht: &Dht, trace: &mut Trace) -> bool {
    let began = clock::now();
    trace.waits("a first connection to the network");
    let peers = dht.connected_within(node.network_patience()).await;
    let part = match dht.mode() {
        Mode::Server => "as a server, which holds records for others",
        _ => "as a client, which holds no records for others",
    };
    let (outcome, what) = match peers {
        0 => (WhyOutcome::Failed, "connected to no peers".to_owned()),
        n => {
            let n = errors::count(u64::try_from(n).unwrap_or(u64::MAX), "peer");
            (WhyOutcome::Ok, format!("connected to {n}, {part}"))
        }
    };
    trace.step(WhyKind::Network, outcome, None, what, began.elapsed());
    trace.facts.network = if peers > 0 {
        Network::Connected
    } else {
        Network::Alone
    };
    if peers == 0 {
        dial_bootstrap(node, dht, trace).await;
    }
    peers > 0
}

/// Why nobody that was named to join by answers.
async fn dial_bootstrap(node: &Arc<Node>, dht: &Dht, trace: &mut Trace) {
    for named in node.bootstrap.iter().take(MAX_BOOTSTRAP_DIALS) {
        let Ok(addr) = named.parse::<Multiaddr>() else {
            continue;
        };
        let began = clock::now();
        let dialled = dht.dial(addr, DIAL_DEADLINE).await;
        let (outcome, what) = match &dialled {
            Ok(_) => (
                WhyOutcome::Ok,
                "it answers, and is of no help: it may be in another network".to_owned(),
            ),
            Err(error) => (WhyOutcome::Failed, errors::brief(error)),
        };
        let what = format!("{named}, to join by: {what}");
        trace.step(WhyKind::Dial, outcome, dialled.ok(), what, began.elapsed());
    }
}

/// The lookup of the peers closest to the address, and what each of them says.
async fn closest(dht: &Dht, address: Address, trace: &mut Trace) -> Named {
    let mut named = Named::default();
    trace.waits("the peers closest to the address");
    let mut events = dht.trace(*address.as_bytes(), LOOKUP_DEADLINE);
    while let Some(event) = events.recv().await {
        match event {
            TraceEvent::Closest {
                found,
                asked_peers,
                complete,
                took,
            } => {
                let mut what = format!(
                    "{} led to the {found} closest",
                    errors::count(asked_peers.into(), "request")
                );
                if !complete {
                    what.push_str(", and the time was over before the end");
                }
                let outcome = if found > 0 {
                    WhyOutcome::Ok
                } else {
                    WhyOutcome::Failed
                };
                trace.step(WhyKind::Lookup, outcome, None, what, took);
            }
            TraceEvent::Hop {
                peer,
                shared_bits,
                took,
                answer,
            } => {
                let (outcome, what) = match &answer {
                    Ok(providers) if providers.is_empty() => {
                        (WhyOutcome::Nothing, "knows no provider".to_owned())
                    }
                    Ok(providers) => {
                        let of = u64::try_from(providers.len()).unwrap_or(u64::MAX);
                        (
                            WhyOutcome::Ok,
                            format!("names {}", errors::count(of, "provider")),
                        )
                    }
                    Err(error) => (WhyOutcome::Failed, errors::brief(error)),
                };
                let mut step = step(WhyKind::Hop, outcome, Some(peer), what, took);
                step.shared_bits = Some(shared_bits);
                trace.push(step);
                trace.facts.asked_peers += u32::from(answer.is_ok());
                let me = dht.local_peer_id();
                for (peer, addrs) in answer.unwrap_or_default() {
                    if peer != me {
                        named.add(peer, addrs);
                    }
                }
            }
        }
    }
    named
}

/// The metadata record.
async fn record(dht: &Dht, address: Address, trace: &mut Trace) {
    let began = clock::now();
    trace.waits("the metadata record");
    let found = dht.get_record(*address.as_bytes(), RECORD_DEADLINE).await;
    let value = found.ok().and_then(|found| found.value);
    let record = value.and_then(|value| FileRecord::decode_for(&address, &value).ok());
    let (outcome, what) = match &record {
        Some(record) => {
            let (bytes, name) = (record.size_bytes(), record.name().unwrap_or("no name"));
            trace.facts.has_record = true;
            trace.size_is(bytes);
            (
                WhyOutcome::Ok,
                format!("published as {name:?}, {bytes} bytes"),
            )
        }
        None => (WhyOutcome::Nothing, "there is none".to_owned()),
    };
    trace.step(WhyKind::Record, outcome, None, what, began.elapsed());
}

/// The search that `get` makes, which is not content with the closest peers.
async fn find(dht: &Dht, address: Address, named: &mut Named, trace: &mut Trace) {
    let began = clock::now();
    trace.waits("providers");
    let options = FindOptions {
        limit: MAX_PROVIDERS,
        deadline: FIND_DEADLINE,
        ..FindOptions::default()
    };
    let mut found = 0_u32;
    let mut events = dht.find_providers(*address.as_bytes(), options);
    while let Some(event) = events.recv().await {
        match event {
            FindEvent::Provider { peer, addrs } => {
                found += 1;
                named.add(peer, addrs);
            }
            FindEvent::Done { asked_peers, .. } => {
                trace.facts.asked_peers = trace.facts.asked_peers.max(asked_peers);
            }
        }
    }
    let of = errors::count(found.into(), "provider");
    let outcome = if found > 0 {
        WhyOutcome::Ok
    } else {
        WhyOutcome::Nothing
    };
    let what = format!("the search of a get finds {of}");
    trace.step(WhyKind::Provider, outcome, None, what, began.elapsed());
}

/// Who is named, and is asked next.
fn tell_named(named: &Named, trace: &mut Trace) {
    for (peer, addrs) in named.0.iter().take(MAX_PROVIDERS) {
        let shown: Vec<String> = addrs.iter().take(2).map(ToString::to_string).collect();
        let what = match shown.is_empty() {
            true => "named, and nobody knows where it is".to_owned(),
            false => format!("named, at {}", shown.join(", ")),
        };
        trace.step(
            WhyKind::Provider,
            WhyOutcome::Ok,
            Some(*peer),
            what,
            Duration::ZERO,
        );
    }
    let others = named.0.len().saturating_sub(MAX_PROVIDERS);
    if others > 0 {
        let what = format!("{others} more are named, and not asked");
        trace.step(
            WhyKind::Provider,
            WhyOutcome::Nothing,
            None,
            what,
            Duration::ZERO,
        );
    }
}
