//! What is said of the store, without a stream.

use super::{super::answers::Known, *};

fn answers(store: &Store) -> Arc<Answers> {
    Arc::new(Answers::new(
        store.clone(),
        Arc::default(),
        seeding().0,
        1 << 20,
    ))
}

fn manifest_bytes(reply: Reply) -> Option<Bytes> {
    match reply {
        Reply::Manifest { bytes, .. } => Some(bytes),
        _ => None,
    }
}

#[tokio::test]
async fn a_manifest_is_read_once_and_not_served_when_its_file_is_gone() {
    let store = Store::in_memory().unwrap();
    let address = import(&store).address;
    let answers = answers(&store);
    let first = manifest_bytes(answers.manifest(address, 0).await).unwrap();
    let rest = manifest_bytes(answers.manifest(address, 10).await).unwrap();
    assert_eq!(first.slice(10..), rest);
    assert_eq!(
        first.slice(10..).as_ptr(),
        rest.as_ptr(),
        "it was read again"
    );
    store.remove_file(&address).unwrap().unwrap();
    assert!(manifest_bytes(answers.manifest(address, 0).await).is_none());
}

#[tokio::test]
async fn an_offset_behind_the_end_is_not_found() {
    let store = Store::in_memory().unwrap();
    let imported = import(&store);
    let answers = answers(&store);
    let total = imported.manifest.encode().len() as u64;
    let last = manifest_bytes(answers.manifest(imported.address, total - 1).await).unwrap();
    assert_eq!(last.len(), 1);
    for offset in [total, total + 1, u64::MAX] {
        let reply = answers.manifest(imported.address, offset).await;
        assert!(matches!(reply, Reply::NotFound), "{offset}");
    }
}

#[tokio::test]
async fn the_bitmap_of_an_unfinished_file_is_made_once_for_many_polls() {
    let (source, store) = (Store::in_memory().unwrap(), Store::in_memory().unwrap());
    let manifest = import(&source).manifest;
    store.begin_partial(&manifest, None, Claim::Own).unwrap();
    let chunk = manifest.chunks()[1].hash;
    let bytes = source.get(&chunk).unwrap().unwrap();
    store.put(&chunk, &bytes).unwrap();
    store.commit().unwrap();
    let answers = answers(&store);
    for _ in 0..2 {
        let Known::Here(here) = answers.here(manifest.id()).await else {
            panic!("it is not known")
        };
        assert_eq!(here.have.iter_ones().collect::<Vec<_>>(), [1]);
        // What comes now is seen when the bitmap is made again.
        let other = manifest.chunks()[0].hash;
        let bytes = source.get(&other).unwrap().unwrap();
        store.put(&other, &bytes).unwrap();
        store.commit().unwrap();
    }
    store.remove_file(&manifest.address()).unwrap().unwrap();
    let gone = answers.here(manifest.id()).await;
    assert!(matches!(gone, Known::Unknown));
}
