//! Value records: who may replace whose, and what their bytes cost.

use super::*;

fn put(
    tables: &mut Tables,
    n: u8,
    (source, publisher): (u8, u8),
    fill: u8,
    at: u32,
    now: u32,
) -> Result<(), Refused> {
    let bytes = sealed(&key(n), publisher, &value(fill, 100), at);
    let origin = Origin(u64::from(source));
    tables.put_value(key(n), bytes, &peer(source), origin, now)
}

fn held(tables: &Tables, n: u8, now: u32) -> Option<(PeerId, u8, u32)> {
    let (bytes, _) = tables.value(&key(n), now)?;
    let held = envelope::read(bytes).unwrap();
    Some((held.publisher().unwrap(), held.value[0], held.published_at))
}

#[test]
fn a_publisher_replaces_its_own_value_by_a_newer_one_only() {
    let mut tables = tables(Limits::default());
    put(&mut tables, 1, (1, 9), 1, START, START).unwrap();
    // Somebody else may carry it.
    put(&mut tables, 1, (2, 9), 2, START + 5, START + 5).unwrap();
    assert_eq!(held(&tables, 1, START + 5), Some((peer(9), 2, START + 5)));
    let replayed = put(&mut tables, 1, (1, 9), 1, START, START + 6);
    assert_eq!(replayed, Err(Refused::Known));
    // The same once more is no news, and no fault.
    put(&mut tables, 1, (1, 9), 2, START + 5, START + 6).unwrap();
    assert_eq!(held(&tables, 1, START + 6), Some((peer(9), 2, START + 5)));
}

#[test]
fn another_publisher_is_kept_out_for_a_day() {
    let mut tables = tables(Limits::default());
    put(&mut tables, 1, (1, 1), 1, START, START).unwrap();
    let day = START + 24 * HOUR;
    let early = put(&mut tables, 1, (2, 2), 2, day - 1, day - 1);
    assert_eq!(early, Err(Refused::Known));
    assert_eq!(held(&tables, 1, day - 1), Some((peer(1), 1, START)));
    put(&mut tables, 1, (2, 2), 2, day, day).unwrap();
    assert_eq!(held(&tables, 1, day), Some((peer(2), 2, day)));
}

#[test]
fn a_value_is_gone_48_hours_after_its_publication_and_does_not_come_back() {
    let mut tables = tables(Limits::default());
    put(&mut tables, 1, (1, 1), 1, START, START + 40 * HOUR).unwrap();
    let end = START + 48 * HOUR;
    assert!(held(&tables, 1, end - 1).is_some());
    assert_eq!(held(&tables, 1, end), None);
    let replayed = put(&mut tables, 1, (1, 1), 1, START, end);
    assert_eq!(replayed, Err(Refused::Expired));
    let bytes = sealed(&key(1), 1, b"value", START);
    assert!(envelope::open(&key(1), &bytes, end, 100).is_err());
}

#[test]
fn own_values_are_not_replaced_by_others() {
    let mut tables = tables(Limits::default());
    put(&mut tables, 1, (0, 0), 1, START, START).unwrap();
    let foreign = put(
        &mut tables,
        1,
        (3, 3),
        2,
        START + 30 * HOUR,
        START + 30 * HOUR,
    );
    assert_eq!(foreign, Err(Refused::Known));
    assert_eq!(tables.own_value(&key(1)), Some(&value(1, 100)[..]));
}

#[test]
fn own_values_go_out_in_a_fresh_envelope() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU32::new(START));
    let records = open(dir.path(), Limits::default(), &clock);
    records.put_own_value(key(1), b"value").unwrap();
    let kept = |records: &Records| {
        let tables = records.tables();
        let (bytes, _) = tables.own_sealed(&key(1)).unwrap();
        envelope::open(&key(1), bytes, START, 100).map(|opened| opened.value.to_vec())
    };
    assert!(kept(&records).is_err(), "signed before it goes out");
    let published_at = || {
        let bytes = records.own_sealed(&key(1)).unwrap();
        let now = clock.load(Ordering::SeqCst);
        let opened = envelope::open(&key(1), &bytes, now, 100).unwrap();
        assert_eq!(
            (opened.publisher(), opened.value),
            (Some(peer(0)), &b"value"[..])
        );
        assert_eq!(
            records.seal(&key(1), b"value").unwrap(),
            bytes,
            "sealed again"
        );
        opened.published_at
    };
    assert_eq!(published_at(), START);
    assert_eq!(kept(&records).unwrap(), b"value");
    clock.store(START + HOUR - 1, Ordering::SeqCst);
    assert_eq!(published_at(), START);
    clock.store(START + HOUR, Ordering::SeqCst);
    assert_eq!(published_at(), START + HOUR);
    // The clock was set back: a time ahead would be refused by others.
    clock.store(START, Ordering::SeqCst);
    assert_eq!(published_at(), START);
    runtime().block_on(records.close()).unwrap();
}

#[test]
fn without_an_envelope_nothing_is_taken() {
    let mut tables = tables(Limits::default());
    let bare = tables.put_value(key(1), b"value".to_vec(), &peer(1), Origin(1), START);
    assert_eq!(bare, Err(Refused::Unsigned));
    let large = sealed(&key(1), 1, &value(1, 8193), START);
    let large = tables.put_value(key(1), large, &peer(1), Origin(1), START);
    assert_eq!(large, Err(Refused::TooLarge));
}

#[test]
fn many_sources_of_one_origin_displace_no_value_of_another() {
    let limits = Limits {
        value_records: 64,
        value_records_bytes: 64 << 10,
        ..Limits::default()
    };
    let mut tables = tables(limits);
    for n in 0..4 {
        put(&mut tables, n, (1, 1), 1, START, START).unwrap();
    }
    for n in 10..250 {
        let bytes = sealed(&key(n), n, &value(1, 100), START);
        let _ = tables.put_value(key(n), bytes, &peer(n), Origin(66), START);
    }
    assert_eq!(tables.values.foreign().0, 64);
    assert!((0..4).all(|n| held(&tables, n, START).is_some()));
    for n in 4..10 {
        put(&mut tables, n, (2, 2), 1, START, START).unwrap();
    }
    assert!((0..10).all(|n| held(&tables, n, START).is_some()));
    assert_eq!(tables.values.foreign().0, 64);
}

#[test]
fn values_are_bounded_by_their_bytes_too() {
    let limits = Limits {
        value_records_bytes: 1000,
        ..Limits::default()
    };
    let mut tables = tables(limits);
    let put = |tables: &mut Tables, n: u8, source: u8, len: usize| {
        let bytes = sealed(&key(n), source, &value(1, len), START);
        let origin = Origin(u64::from(source));
        tables.put_value(key(n), bytes, &peer(source), origin, START)
    };
    put(&mut tables, 1, 1, 600).unwrap();
    assert_eq!(put(&mut tables, 2, 2, 600), Err(Refused::Quota));
    assert!(
        tables.value(&key(1), START).is_some(),
        "the held one went for nothing"
    );
    // Own values do not count, and a removed one no more.
    put(&mut tables, 3, 0, 600).unwrap();
    tables.remove_value(&key(1));
    put(&mut tables, 2, 2, 600).unwrap();
    // Nothing is lost when a newer value of the same key does not fit.
    let large = sealed(&key(2), 2, &value(2, 999), START + 1);
    let large = tables.put_value(key(2), large, &peer(2), Origin(2), START + 1);
    assert_eq!(large, Err(Refused::Quota));
    assert_eq!(held(&tables, 2, START + 1), Some((peer(2), 1, START)));
}

#[test]
fn a_search_sees_no_own_values_and_of_the_others_only_so_many() {
    let mut values = crate::records::values::Values::new();
    let sealed = sealed(&key(1), 1, b"v", START);
    for n in 0..4000u16 {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&n.to_be_bytes());
        let source = u32::from(n >= 3000);
        let stored = crate::records::values::StoredValue::new(source, sealed.clone());
        values.insert(key, stored.unwrap());
    }
    assert_eq!(values.foreign().0, 1000);
    let looked = std::cell::Cell::new(0);
    let never = |held: &crate::records::values::StoredValue| {
        assert_ne!(held.source, 0, "an own value was looked at");
        looked.set(looked.get() + 1);
        false
    };
    let mut may_see = 600;
    assert_eq!(values.find(&mut may_see, never), None);
    assert_eq!((may_see, looked.get()), (0, 600));
    // The next search goes on there.
    let found = values.find(&mut 1, |_| true).unwrap();
    assert_eq!(u16::from_be_bytes([found[0], found[1]]), 3600);
    let all = values.keys_after(None, usize::MAX);
    assert!(all.len() == 4000 && all.is_sorted());
}
