//! Files whose end a power cut tore: cut off, zeroed, with a bit turned over.
//!
//! Behind what was acknowledged, and anywhere in the index, nothing may be lost. Within the last bytes that
//! were acknowledged only the file they belong to may be.

use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use casnode_cas::{ChunkHash, Store};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::child::Stage;
use crate::number;
use crate::story::{self, Log};

/// The files of a store about to be torn: all of it fits one pack.
const FILES: Range<u64> = 0..4;

/// The child's part: acknowledged files, chunks nobody committed, and an end without a farewell.
pub(crate) fn write_tail(folder: &Path, log: &Path) {
    let store = Store::open(folder, story::config()).unwrap();
    let said = Log::append_to(log);
    for seed in FILES {
        story::import(&store, seed).unwrap();
        said.say(&format!("stored {seed}"));
    }
    let acknowledged_bytes = fs::metadata(last_pack(folder)).unwrap().len();
    fs::write(mark(folder), acknowledged_bytes.to_string()).unwrap();
    for n in 0..6 {
        let chunk = story::bytes_of("uncommitted", n, 50_000);
        store.put(&ChunkHash::of(&chunk), &chunk).unwrap();
    }
    std::process::exit(0);
}

/// Where the child leaves the length of the pack at the last acknowledgement.
fn mark(folder: &Path) -> PathBuf {
    folder.with_extension("mark")
}

fn last_pack(folder: &Path) -> PathBuf {
    let packs = fs::read_dir(folder.join("packs")).unwrap();
    packs.map(|entry| entry.unwrap().path()).max().unwrap()
}

/// Damages a place within `range` of a file, or what follows from its beginning on.
fn tear(file: &File, range: Range<u64>, random: &mut StdRng) -> String {
    let at = random.random_range(range.clone());
    match random.random_range(0..3) {
        0 => {
            file.set_len(at).unwrap();
            format!("cut at {at}")
        }
        1 => {
            let len = (range.end - at).min(4096);
            let zeros = vec![0; usize::try_from(len).unwrap()];
            file.write_all_at(&zeros, at).unwrap();
            format!("{len} bytes zeroed at {at}")
        }
        _ => {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            byte[0] ^= 1 << random.random_range(0..8);
            file.write_all_at(&byte, at).unwrap();
            format!("a bit turned over at {at}")
        }
    }
}

/// Tears the end of a fresh store's file as often as asked for. `place` names the file and the bytes of
/// which some are damaged, from the store's folder and the length that was acknowledged.
fn tear_tails(place: impl Fn(&Path, u64) -> (PathBuf, Range<u64>), unless: &str) {
    let times = number("CASNODE_TORN_TAILS", 5);
    let seed = number("CASNODE_CRASH_SEED", rand::rng().random());
    println!("CASNODE_CRASH_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut slowest_ms = 0;
    for _ in 0..times {
        let stage = Stage::new();
        let folder = stage.store();
        assert!(stage.start("tail", "").wait().unwrap().success());
        let acknowledged_bytes = fs::read_to_string(mark(&folder)).unwrap();
        let (path, range) = place(&folder, acknowledged_bytes.parse().unwrap());
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(&path).unwrap();
        let harm = tear(&file, range, &mut random);
        println!("{}: {harm}", path.file_name().unwrap().display());
        let checked = stage.finish("check", unless);
        assert_eq!(checked.acknowledged, FILES.end);
        slowest_ms = slowest_ms.max(checked.opened_ms);
        // What was mended stays so.
        stage.finish("check", "");
        stage.finish_empty();
    }
    println!("{times} torn, slowest open {slowest_ms} ms");
}

#[test]
fn a_torn_end_behind_what_was_acknowledged_costs_nothing() {
    tear_tails(
        |folder, acknowledged_bytes| {
            let pack = last_pack(folder);
            let len = fs::metadata(&pack).unwrap().len();
            // A writer that had written nothing more: half a record, at least, was on its way.
            if len <= acknowledged_bytes {
                let file = OpenOptions::new().write(true).open(&pack).unwrap();
                let garbage = story::bytes_of("garbage", len, 5_000);
                file.write_all_at(&garbage, acknowledged_bytes).unwrap();
            }
            let len = fs::metadata(&pack).unwrap().len();
            (pack, acknowledged_bytes..len)
        },
        "",
    );
}

#[test]
fn a_torn_end_within_the_last_file_costs_that_file_alone() {
    let last = FILES.end - 1;
    tear_tails(
        |folder, acknowledged_bytes| {
            let tail = acknowledged_bytes - 4096..acknowledged_bytes;
            (last_pack(folder), tail)
        },
        &last.to_string(),
    );
}

#[test]
fn a_torn_index_costs_nothing() {
    tear_tails(
        |folder, _| {
            let db = folder.join("index/db");
            let len = fs::metadata(&db).unwrap().len();
            (db, len.saturating_sub(70_000)..len)
        },
        "",
    );
}
