//! For tests: a message's JSON is this and nothing else.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What was written reads back, and is written like this.
#[track_caller]
pub(super) fn pinned<T>(value: &T, expected: Value)
where
    T: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug,
{
    assert_eq!(serde_json::to_value(value).unwrap(), expected);
    assert_eq!(&serde_json::from_value::<T>(expected).unwrap(), value);
}
