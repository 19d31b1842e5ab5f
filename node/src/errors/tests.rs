//! What a person is told of an error.

use super::*;

#[derive(Debug, thiserror::Error)]
#[error("cannot listen")]
struct Outer(#[source] io::Error);

#[derive(Debug, thiserror::Error)]
#[error("cannot listen: {0}")]
struct Telling(#[source] io::Error);

#[test]
fn a_list_of_failed_dials_is_told_by_its_first_cause() {
    let dial = io::Error::other(
        "Failed to negotiate transport protocol(s): [(/ip4/127.0.0.1/tcp/1: : Multiple dial errors occurred:\n - \
         Connection refused (os error 111): : Connection refused (os error 111))\n - again]",
    );
    #[derive(Debug, thiserror::Error)]
    #[error("cannot connect to 12D3: {0}")]
    struct Dial(#[source] io::Error);
    let brief = brief(&Dial(dial));
    assert!(
        brief.starts_with("cannot connect to 12D3: Connection refused"),
        "{brief}"
    );
    assert_eq!(brief.matches("refused").count(), 1, "{brief}");
    assert!(!brief.contains('\n'));
}

#[test]
fn causes_are_told_once() {
    let cause = || io::Error::other("address in use");
    assert_eq!(chain(&Outer(cause())), "cannot listen: address in use");
    assert_eq!(chain(&Telling(cause())), "cannot listen: address in use");
}

#[test]
fn over_the_limit_only_flags_that_there_are_are_advised() {
    let error = StoreError::OverQuota {
        needed_bytes: 2,
        available_bytes: 1,
        max_bytes: 3,
    };
    let advised = |target: Target, is_one_of_many| {
        let told = keep("x", &error, Made::of(&target, is_one_of_many));
        assert_eq!(told.kind, ErrorKind::NoSpace);
        assert!(told.next.contains("--max-store"), "{}", told.next);
        ["--no-keep", "--in-place"].map(|flag| told.next.contains(flag))
    };
    let file = Target::File {
        path: "x".into(),
        force: false,
    };
    assert_eq!(advised(file.clone(), false), [true, true]);
    assert_eq!(advised(file, true), [true, false]);
    for target in [Target::Stream, Target::Keep, Target::Readers] {
        assert_eq!(advised(target, false), [false, false]);
    }
}

#[test]
fn what_the_store_refused_is_not_blamed_on_the_path() {
    let told = |error: StoreError| import("a.bin", &ImportError::Store(error));
    let stopped = told(StoreError::WritesStopped);
    assert!(
        stopped.next.contains("restart the daemon"),
        "{}",
        stopped.next
    );
    assert_eq!(stopped.what, "a.bin was not stored");
    let full = told(StoreError::NoSpace {
        needed_bytes: 2,
        available_bytes: 1,
    });
    assert_eq!(full.kind, ErrorKind::NoSpace);
    let address = Address::from_bytes([1; 32]);
    let damaged = told(StoreError::CorruptManifest {
        address,
        source: None,
    });
    assert_eq!(damaged.kind, ErrorKind::Integrity);
    let missing = import(
        "a.bin",
        &ImportError::NotFound {
            path: "a.bin".into(),
        },
    );
    assert!(missing.next.contains("check the path"));
}
