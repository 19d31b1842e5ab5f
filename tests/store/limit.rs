//! Several threads that store, remove and collect under a limit they do not all fit in.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use casnode_cas::{Address, ImportError, Store};

use crate::story::{self, Fate, Story};

const LIFE: Duration = Duration::from_secs(3);
const LIMIT_BYTES: u64 = 40 << 20;
const PINNED: std::ops::Range<u64> = 0..6;

/// A pinned file more or less, with a collection now and then, until it is over.
fn worker(store: &Store, first: u64) {
    let ends = Instant::now() + LIFE;
    for seed in (first..).step_by(3).take_while(|_| Instant::now() < ends) {
        match story::import(store, seed) {
            Ok(address) => store.set_pinned(&address, false).map(drop).unwrap(),
            Err(ImportError::Store(error)) if error.is_no_space() => {
                panic!("refused beside files that may go: {error}")
            }
            Err(error) => panic!("{error}"),
        }
        if seed % 4 == 0 {
            store
                .gc(&mut |_| std::ops::ControlFlow::Continue(()))
                .map(drop)
                .unwrap();
        }
        if seed % 5 == 0 {
            store
                .remove_file(&Address::of(&story::file_bytes(seed)))
                .unwrap();
        }
        let used = store.disk_bytes();
        assert!(used <= LIMIT_BYTES, "{used} bytes on disk");
    }
}

#[test]
fn threads_under_a_limit_neither_exceed_it_nor_disturb_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), story::config()).unwrap();
    let mut story = Story::default();
    for seed in PINNED {
        story::import(&store, seed).unwrap();
        story.files.insert(seed, Fate::Stored);
    }
    store.set_max_bytes(Some(LIMIT_BYTES)).unwrap();
    thread::scope(|scope| {
        for first in 0..3 {
            let store = store.clone();
            scope.spawn(move || worker(&store, 1000 + first));
        }
    });
    story::check(&store, &story, &BTreeSet::new());
    story::verify(&store);
    assert!(store.disk_bytes() <= LIMIT_BYTES);
}
