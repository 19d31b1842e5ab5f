//! Large files of a directory, which are kept where they are written, when the directory is fetched again.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::content::{CHUNK, Sample};
use crate::default_place::shares_blocks;
use crate::harness::{Home, Node, folder};

/// The smallest file that is kept in place.
const LARGE: usize = 64 * CHUNK;

/// A provider of directories that have two large files, under names of their own.
struct Trees {
    provider: Node,
    samples: [Sample; 2],
    dir: TempDir,
}

impl Trees {
    fn new(seed: u64) -> Self {
        Self {
            provider: Node::start(&[]),
            samples: [
                Sample::new(seed, LARGE + 1),
                Sample::new(seed + 1, LARGE + 2),
            ],
            dir: folder(),
        }
    }

    /// Stores a directory of the two, under these names, and of a small file, and gives its address.
    fn store(&self, names: [&str; 2], small: &str) -> String {
        let source = self.dir.path().join(format!("with {small}"));
        fs::create_dir(&source).unwrap();
        for (sample, name) in self.samples.iter().zip(names) {
            fs::copy(&sample.path, source.join(name)).unwrap();
        }
        fs::write(source.join(small), "small").unwrap();
        self.provider.store(&source)
    }

    fn out(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    #[track_caller]
    fn get(&self, home: &Home, words: &[&str], address: &str, to: &Path) -> Value {
        let peer = &self.provider.addr;
        let call = home.networked(["get", "--json", address, "--peer", peer], &[]);
        let call = call.args(words);
        call.arg("-o").arg(to).run().ok().json()
    }

    /// Where the store of a home has the two, which have to be there whole.
    #[track_caller]
    fn kept(&self, home: &Home) -> [Value; 2] {
        self.samples.each_ref().map(|sample| {
            let call = home.call(["stat", "--json", &sample.address]);
            let stat = call.run().ok().json();
            assert_eq!(stat["state"], "complete", "{stat}");
            stat["in_place"].clone()
        })
    }
}

fn at(out: &Path, names: [&str; 2]) -> [Value; 2] {
    names.map(|name| out.join(name).to_str().unwrap().into())
}

#[test]
fn copies_are_made_of_what_is_in_place_already() {
    if shares_blocks() {
        return;
    }
    let trees = Trees::new(2000);
    let address = trees.store(["a", "b"], "small");
    let (home, out) = (Home::new(), trees.out("out"));
    let report = trees.get(&home, &[], &address, &out);
    assert_eq!(report["kept_in_place"], 2, "{report}");
    assert_eq!(trees.kept(&home), at(&out, ["a", "b"]));
    // Again: that they must stay as they are is as true as before.
    let report = trees.get(&home, &[], &address, &out);
    assert_eq!(report["kept_in_place"], 2, "{report}");
    assert_eq!(report["here"], 3, "{report}");
    let report = trees.get(&home, &["--copy"], &address, &out);
    assert_eq!(report["kept_in_place"], 0, "{report}");
    assert_eq!(report["fetched"], 0, "{report}");
    assert_eq!(trees.kept(&home), [Value::Null, Value::Null]);
    fs::remove_dir_all(&out).unwrap();
    let Trees { samples, dir, .. } = trees; // the provider is gone
    for sample in &samples {
        let copy = dir.path().join("copy");
        let call = home.networked(["get", &sample.address, "--force"], &[]);
        call.arg("-o").arg(&copy).run().ok();
        sample.assert_at(&copy);
    }
}

#[test]
fn a_folder_that_was_moved_is_kept_where_it_is_now() {
    if shares_blocks() {
        return;
    }
    let trees = Trees::new(2010);
    let address = trees.store(["a", "b"], "small");
    let (home, first, second) = (Home::new(), trees.out("first"), trees.out("second"));
    trees.get(&home, &[], &address, &first);
    fs::rename(&first, &second).unwrap();
    let report = trees.get(&home, &[], &address, &second);
    assert_eq!(report["fetched"], 0, "{report}");
    assert_eq!(report["kept_in_place"], 2, "{report}");
    assert_eq!(trees.kept(&home), at(&second, ["a", "b"]));
}

#[test]
fn files_that_change_their_names_with_each_other_are_not_lost() {
    if shares_blocks() {
        return;
    }
    let trees = Trees::new(2020);
    let old = trees.store(["a", "b"], "c");
    let new = trees.store(["b", "c"], "a");
    let (home, out) = (Home::new(), trees.out("out"));
    trees.get(&home, &[], &old, &out);
    // The new listing is known here, and its small file, which is written first; of the large ones this is the only node.
    trees.get(&home, &["--include", "a"], &new, &trees.out("part"));
    let Trees {
        provider, samples, ..
    } = trees;
    drop(provider);
    let call = home.networked(["get", "--json", &new, "--force", "--timeout", "60s"], &[]);
    let report = call.arg("-o").arg(&out).run().ok().json();
    assert_eq!(report["failed"], 0, "{report}");
    samples[0].assert_at(&out.join("b"));
    samples[1].assert_at(&out.join("c"));
    assert_eq!(fs::read(out.join("a")).unwrap(), b"small");
}

#[test]
fn what_was_edited_in_place_keeps_no_version_from_being_fetched() {
    if shares_blocks() {
        return;
    }
    let trees = Trees::new(2040);
    let old = trees.store(["a", "b"], "c");
    let new = trees.store(["b", "c"], "a");
    let (home, out) = (Home::new(), trees.out("out"));
    trees.get(&home, &[], &old, &out);
    fs::write(out.join("a"), "edited").unwrap();
    fs::remove_file(out.join("b")).unwrap();
    for _ in 0..2 {
        let report = trees.get(&home, &["--force"], &new, &out);
        assert_eq!(report["failed"], 0, "{report}");
        trees.samples[0].assert_at(&out.join("b"));
        trees.samples[1].assert_at(&out.join("c"));
    }
}

#[test]
fn one_file_of_a_directory_is_kept_in_place_where_that_is_asked_for() {
    let trees = Trees::new(2030);
    let address = trees.store(["a", "b"], "small");
    let (home, out) = (Home::new(), trees.out("out"));
    let file = format!("{address}/small");
    let report = trees.get(&home, &["--in-place"], &file, &out);
    assert_eq!(report["kept"], "in_place", "{report}");
    let call = home.networked(["get", &address, "--in-place"], &[]);
    call.arg("-o").arg(trees.out("all")).run().exits(2);
}
