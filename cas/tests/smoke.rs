#![allow(clippy::unwrap_used, missing_docs)]
use casnode_cas::*;
use std::ops::ControlFlow;
#[test]
fn smoke() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let bytes: Vec<u8> = (0..3_000_001u32).flat_map(|i| i.to_le_bytes()).collect();
    std::fs::write(&path, &bytes).unwrap();
    let address = Address::of(&bytes);
    {
        let store = Store::open(&dir.path().join("s"), StoreConfig::default()).unwrap();
        let done = import_file(&store, &path, &ImportOptions::default(), &mut |_, _| {
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(done.address, address);
        assert_eq!(done.new_chunks, done.chunks);
        println!("{:?}", store.stats().unwrap());
    }
    let store = Store::open(&dir.path().join("s"), StoreConfig::default()).unwrap();
    let manifest = store.manifest(&address).unwrap().unwrap();
    let out = Assembly::create(
        &dir.path().join("out"),
        &address,
        manifest.size_bytes(),
        false,
    )
    .unwrap();
    for (i, c) in manifest.chunks().iter().enumerate() {
        out.write_at(
            manifest.chunk_offset(i),
            &store.get(&c.hash).unwrap().unwrap(),
        )
        .unwrap();
    }
    out.finish().unwrap();
    assert_eq!(file_address(&dir.path().join("out")).unwrap(), address);
    println!("{:?}", store.stats().unwrap());
    println!(
        "{:?}",
        store.remove_file(&address).unwrap().unwrap().freed_bytes
    );
    println!("{:?}", store.stats().unwrap());
}
