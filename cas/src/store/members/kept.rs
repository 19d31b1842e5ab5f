//! Which of many files are kept by directories, asked in the order of their addresses.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::super::core::Core;
use super::super::entry;
use crate::error::StoreError;
use crate::id::Address;

/// Rows that are read at a time.
const PAGE_ROWS: usize = 4096;

/// Goes through all rows beside a walk over the files. To meet all in one pass takes far less than to ask
/// for each.
pub(in crate::store) struct KeptMembers<'a> {
    core: &'a Core,
    directories: HashSet<Address>,
    /// Members and directories, ascending, of which the first are behind.
    page: std::vec::IntoIter<(Address, Address)>,
    /// Where the next page begins; `None` after the last page.
    from: Option<Vec<u8>>,
    /// The first row that was not asked for yet.
    next: Option<(Address, Address)>,
    /// Rows that do not count.
    stale: Vec<(Address, Address)>,
}

impl<'a> KeptMembers<'a> {
    pub(in crate::store) fn new(core: &'a Core) -> Result<Self, StoreError> {
        let mut kept = Self {
            core,
            directories: core.live_directories()?,
            page: Vec::new().into_iter(),
            from: Some(entry::MEMBER_PREFIX.to_vec()),
            next: None,
            stale: Vec::new(),
        };
        kept.advance()?;
        Ok(kept)
    }

    /// Whether a directory lists this file. Each address asked for is greater than the one before.
    pub(in crate::store) fn contains(&mut self, member: &Address) -> Result<bool, StoreError> {
        let mut is_kept = false;
        while let Some((listed, directory)) = self.next.filter(|(listed, _)| listed <= member) {
            let counts = self.directories.contains(&directory);
            if !counts {
                self.stale.push((listed, directory));
            }
            is_kept |= counts && listed == *member;
            self.advance()?;
        }
        Ok(is_kept)
    }

    /// The rows met so far that do not count.
    pub(super) fn take_stale(&mut self) -> Vec<(Address, Address)> {
        std::mem::take(&mut self.stale)
    }

    /// Meets the rows behind the last address that was asked for, a page at most. False when there are no
    /// more.
    pub(super) fn meet_rest(&mut self) -> Result<bool, StoreError> {
        for _ in 0..PAGE_ROWS {
            let Some((listed, directory)) = self.next else {
                return Ok(false);
            };
            if !self.directories.contains(&directory) {
                self.stale.push((listed, directory));
            }
            self.advance()?;
        }
        Ok(true)
    }

    fn advance(&mut self) -> Result<(), StoreError> {
        self.next = self.page.next();
        if self.next.is_some() {
            return Ok(());
        }
        let Some(from) = self.from.take() else {
            return Ok(());
        };
        let mut page = Vec::new();
        let mut last = Vec::new();
        let core = self.core;
        let mut visit = |key: &[u8], _: &[u8]| {
            page.push(entry::member_of_key(key)?);
            if page.len() < PAGE_ROWS {
                return Ok(ControlFlow::Continue(()));
            }
            last.extend_from_slice(key);
            Ok(ControlFlow::Break(()))
        };
        core.noting((core.index).scan_from(entry::MEMBER_PREFIX, &from, &mut visit))?;
        if !last.is_empty() {
            // The least key behind it.
            last.push(0);
            self.from = Some(last);
        }
        self.page = page.into_iter();
        self.next = self.page.next();
        Ok(())
    }
}
