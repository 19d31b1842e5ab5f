//! The local API, as somebody uses it who knows HTTP and nothing else.

mod calls;
mod content;
pub(crate) mod raw;
mod tcp;
mod wrong;
