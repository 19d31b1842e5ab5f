//! What interruptions leave: rows of directories that are gone, and members that no directory lists.

use std::ops::ControlFlow;

use super::super::core::Core;
use super::super::entry::{self, Claim, FileValue};
use super::super::index::MAX_BATCH_KEYS;
use super::super::lock;
use super::super::types::Removed;
use super::KeptMembers;
use crate::error::StoreError;
use crate::id::Address;

/// Files that are looked at in one step.
const PAGE_FILES: usize = 4096;

impl Core {
    /// Removes members that no directory lists. Nothing goes while somebody holds members, or while what a
    /// directory lists is not known.
    pub(in crate::store) fn sweep_members(&self) -> Result<Removed, StoreError> {
        let mut removed = Removed::default();
        let _alone = lock(&self.membership);
        self.sweep_alone(&mut removed)?;
        Ok(removed)
    }

    /// The same for the holder of `membership`.
    pub(super) fn sweep_alone(&self, removed: &mut Removed) -> Result<(), StoreError> {
        if self.settle_alone()? > 0 || self.holds_members() {
            return Ok(());
        }
        let mut kept = KeptMembers::new(self)?;
        let mut from = Some(entry::FILE_PREFIX.to_vec());
        while let Some(at) = from.take() {
            let (left, next) = self.page_of_leftovers(&at, &mut kept)?;
            self.forget_rows(&kept.take_stale())?;
            let mut rest = left.as_slice();
            while !rest.is_empty() {
                let done = self.drop_members(rest, removed)?;
                rest = rest.get(done..).unwrap_or_default();
            }
            from = next;
        }
        loop {
            let more = kept.meet_rest()?;
            self.forget_rows(&kept.take_stale())?;
            if !more {
                return Ok(());
            }
        }
    }

    /// The members that a sweep would remove now.
    pub(in crate::store) fn leftovers(&self) -> Result<Vec<Address>, StoreError> {
        let _alone = lock(&self.membership);
        let mut directories = self.directories()?.into_iter();
        if self.holds_members() || directories.any(|(_, account)| !account.is_settled) {
            return Ok(Vec::new());
        }
        let mut kept = KeptMembers::new(self)?;
        let mut leftovers = Vec::new();
        let mut from = Some(entry::FILE_PREFIX.to_vec());
        while let Some(at) = from.take() {
            let (left, next) = self.page_of_leftovers(&at, &mut kept)?;
            for member in left {
                if !self.is_in_use(&member)? {
                    leftovers.push(member);
                }
            }
            kept.take_stale();
            from = next;
        }
        Ok(leftovers)
    }

    /// Those of a page of members that no directory lists.
    fn page_of_leftovers(
        &self,
        from: &[u8],
        kept: &mut KeptMembers<'_>,
    ) -> Result<(Vec<Address>, Option<Vec<u8>>), StoreError> {
        let (members, next) = self.page_of_members(from)?;
        let mut left = Vec::new();
        for member in members {
            if !kept.contains(&member)? {
                left.push(member);
            }
        }
        Ok((left, next))
    }

    /// The files without a claim of their own among the next ones, and where those end.
    fn page_of_members(&self, from: &[u8]) -> Result<(Vec<Address>, Option<Vec<u8>>), StoreError> {
        let (mut members, mut seen, mut next) = (Vec::new(), 0, None);
        let mut visit = |key: &[u8], value: &[u8]| {
            let file = FileValue::decode(value)?.entry;
            if file.claim == Claim::Member {
                members.push(file.address);
            }
            seen += 1;
            if seen < PAGE_FILES {
                return Ok(ControlFlow::Continue(()));
            }
            next = Some([key, &[0]].concat());
            Ok(ControlFlow::Break(()))
        };
        self.noting((self.index).scan_from(entry::FILE_PREFIX, from, &mut visit))?;
        Ok((members, next))
    }

    fn forget_rows(&self, stale: &[(Address, Address)]) -> Result<(), StoreError> {
        for part in stale.chunks(MAX_BATCH_KEYS) {
            self.space.check_index()?;
            let row = |(member, directory): &(_, _)| (entry::member_key(member, directory), None);
            self.apply(part.iter().map(row).collect())?;
        }
        Ok(())
    }
}
