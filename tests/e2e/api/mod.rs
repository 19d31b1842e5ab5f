//! The local API, as somebody uses it who knows HTTP and nothing else.

mod calls;
mod content;
mod raw;
mod tcp;
mod wrong;
