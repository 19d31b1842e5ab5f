//! For tests: a message's JSON is this and nothing else.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Request;

/// What was written reads back, and is written like this.
#[track_caller]
pub(super) fn pinned<T>(value: &T, expected: Value)
where
    T: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug,
{
    assert_eq!(serde_json::to_value(value).unwrap(), expected);
    assert_eq!(&serde_json::from_value::<T>(expected).unwrap(), value);
}

/// The same of a request, which is an operation and its fields.
#[track_caller]
pub(super) fn pinned_call(request: &Request, operation: &str, fields: Value) {
    let body = fields.to_string();
    assert_eq!(request.to_call().unwrap(), (operation.to_owned(), fields));
    assert_eq!(
        &Request::from_call(operation, body.as_bytes()).unwrap(),
        request
    );
}
