//! Entries that something is wrong with: all are counted, the first ones named.

use crate::api::{MAX_LISTED, TreeFault};

/// Bytes of paths and reasons that are told, about: as JSON each may take six.
const MAX_TOLD_BYTES: usize = 1 << 20;

/// Entries that are left out, refused, or not to be had.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    told: Vec<TreeFault>,
    told_bytes: usize,
    count: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: TreeFault) {
        self.count += 1;
        if self.told.len() < MAX_LISTED && self.told_bytes < MAX_TOLD_BYTES {
            self.told_bytes += fault.path.len() + fault.why.len();
            self.told.push(fault);
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The first of them.
    pub(crate) fn told(self) -> Vec<TreeFault> {
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ErrorKind;

    #[test]
    fn all_are_counted_and_as_many_told_as_a_report_holds() {
        let fault = |len: usize| TreeFault {
            path: "x".repeat(len),
            kind: ErrorKind::Failure,
            why: String::new(),
        };
        for (len, told) in [(1, MAX_LISTED), (4096, MAX_TOLD_BYTES / 4096)] {
            let mut faults = Faults::default();
            (0..MAX_LISTED + 1).for_each(|_| faults.add(fault(len)));
            assert_eq!(faults.count(), MAX_LISTED as u64 + 1);
            assert_eq!(faults.told().len(), told);
        }
    }
}
