//! Chunks that come when nothing is missing any more.

use std::time::Duration;

use super::*;
use crate::budget::Share;

/// Longer than anything takes here, but for what hangs.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn their_memory_is_free_while_the_output_waits_for_its_name() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bytes = content(3 * CHUNK, 11);
    let manifest = Arc::new(manifest_of(&bytes, Chunking::Fixed));
    let share = Share::of(100);
    let (jobs, queue) = mpsc::channel(JOB_QUEUE);
    let all = chunks(&manifest, &bytes);
    for (index, bytes) in all.iter().chain(&all) {
        let job = Job {
            peer: PeerSlot(0),
            index: *index,
            bytes: bytes.clone().into(),
            _held: share.try_hold(1),
        };
        jobs.try_send(job).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let (address, size) = (manifest.address(), manifest.size_bytes());
    let output = Assembly::create(&target, &address, size, &OutputOptions::default()).unwrap();
    let (tell_place, place) = oneshot::channel();
    let (events, _heard) = mpsc::channel(4096);
    let assembler = Assembler {
        store: Store::in_memory().unwrap(),
        manifest: manifest.clone(),
        output: Some(Output::Plain(output)),
        named: Some(place),
        behind: None,
        lent: None,
        is_proven: false,
        live: Arc::new(LiveHave::new(manifest.clone())),
        events,
        runtime: runtime.handle().clone(),
        needs: watch::Sender::new(Vec::new()).subscribe(),
        is_on_demand: false,
        is_directory_told: false,
        keeps_listing: false,
        copies: false,
        twins: twins(&manifest),
        _turn: turn(),
    };
    let here = HaveBitmap::new(manifest.chunks().len());
    let worker = std::thread::spawn(move || assembler.run(&here, queue));
    let all_free = async { tokio::time::timeout(LONG, share.hold(100)).await };
    assert!(runtime.block_on(all_free).is_ok());
    tell_place.send(target.clone()).unwrap();
    worker.join().unwrap();
    assert!(std::fs::read(&target).unwrap() == bytes);
}
