//! Directories: a folder is stored as its files and a listing of them, and made anew from that.
//!
//! Storing: [`walk`] sees what is there, [`globs`] says what of it is meant, [`store`] enters the files, many at a time, and then
//! the listing. Fetching: [`listing`] has the listing, [`plan`] says what is to be made of it, and [`fetch`] makes it, through
//! [`crate::bundle`]; nothing is written outside the folder that was named. [`page`] shows what is in a directory.
//!
//! Non-goals: what a listing is, and which files belong to a directory, is the store's.

mod faults;
pub(crate) mod fetch;
mod globs;
pub(crate) mod listing;
pub(crate) mod page;
pub(crate) mod plan;
pub(crate) mod store;
mod walk;

pub(crate) use globs::Globs;
