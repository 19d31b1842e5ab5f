//! The have-bitmap: which chunks of a manifest someone has.

use crate::chunker::MAX_CHUNKS;

/// Why bytes are not a have-bitmap of the expected length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BitmapError {
    /// Not one bit a chunk, rounded up to whole bytes.
    #[error("have-bitmap of {found} bytes where {expected} were expected")]
    Length {
        /// Bytes given.
        found: usize,
        /// Bytes that the number of chunks asks for.
        expected: usize,
    },
    /// A bit beyond the last chunk is set.
    #[error("have-bitmap with a bit set beyond its last chunk")]
    Padding,
    /// More chunks than a manifest can have.
    #[error("have-bitmap of more than {MAX_CHUNKS} chunks")]
    TooLong,
}

/// One bit a chunk. On the wire: chunk 0 is the most significant bit of the first byte, padding is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaveBitmap {
    bytes: Vec<u8>,
    len: usize,
    count: usize,
}

impl HaveBitmap {
    /// A bitmap of `len` chunks, none of them had.
    #[must_use]
    pub fn new(len: usize) -> Self {
        Self {
            bytes: vec![0; len.div_ceil(8)],
            len,
            count: 0,
        }
    }

    /// Takes a bitmap of `len` chunks as received.
    ///
    /// # Errors
    /// When it has another length, or a padding bit is set.
    pub fn from_wire(bytes: &[u8], len: usize) -> Result<Self, BitmapError> {
        if len > MAX_CHUNKS {
            return Err(BitmapError::TooLong);
        }
        let expected = len.div_ceil(8);
        if bytes.len() != expected {
            return Err(BitmapError::Length {
                found: bytes.len(),
                expected,
            });
        }
        let used_in_last = len % 8;
        if used_in_last != 0 && bytes.last().is_some_and(|last| last << used_in_last != 0) {
            return Err(BitmapError::Padding);
        }
        let count = bytes.iter().map(|byte| byte.count_ones() as usize).sum();
        Ok(Self {
            bytes: bytes.to_vec(),
            len,
            count,
        })
    }

    /// The wire form.
    #[must_use]
    pub fn to_wire(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    /// Number of chunks the bitmap speaks of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it speaks of no chunks at all (the empty file).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Marks chunk `index` as had; whether that is news. An index beyond the end changes nothing.
    pub fn set(&mut self, index: usize) -> bool {
        if index >= self.len || self.get(index) {
            return false;
        }
        self.bytes[index / 8] |= 0x80 >> (index % 8);
        self.count += 1;
        true
    }

    /// Marks chunk `index` as not had; whether that is news.
    pub fn unset(&mut self, index: usize) -> bool {
        if !self.get(index) {
            return false;
        }
        self.bytes[index / 8] &= !(0x80 >> (index % 8));
        self.count -= 1;
        true
    }

    /// Whether chunk `index` is had; no for an index beyond the end.
    #[must_use]
    pub fn get(&self, index: usize) -> bool {
        index < self.len && self.bytes[index / 8] & (0x80 >> (index % 8)) != 0
    }

    /// Number of chunks had.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Number of chunks not had.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.len - self.count
    }

    /// Whether all chunks are had.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.count == self.len
    }

    /// The chunks had, in order.
    pub fn iter_ones(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.len).filter(|index| self.get(*index))
    }

    /// The chunks not had, in order.
    pub fn iter_zeros(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.len).filter(|index| !self.get(*index))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_wire_forms_are_refused() {
        assert_eq!(
            HaveBitmap::from_wire(&[0; 2], 8),
            Err(BitmapError::Length {
                found: 2,
                expected: 1
            })
        );
        assert_eq!(
            HaveBitmap::from_wire(&[], 1),
            Err(BitmapError::Length {
                found: 0,
                expected: 1
            })
        );
        assert_eq!(
            HaveBitmap::from_wire(&[0b0001_0000], 3),
            Err(BitmapError::Padding)
        );
        assert_eq!(
            HaveBitmap::from_wire(&[], MAX_CHUNKS + 1),
            Err(BitmapError::TooLong)
        );
        assert_eq!(HaveBitmap::from_wire(&[0b1110_0000], 3).unwrap().count(), 3);
        assert!(HaveBitmap::from_wire(&[], 0).unwrap().is_complete());
    }

    proptest! {
        #[test]
        fn agrees_with_a_list_of_booleans(ops in prop::collection::vec((0usize..70, any::<bool>()), 0..200), len in 0usize..66) {
            let mut map = HaveBitmap::new(len);
            let mut model = vec![false; len];
            for (index, on) in ops {
                let news = model.get(index).is_some_and(|had| *had != on);
                prop_assert_eq!(if on { map.set(index) } else { map.unset(index) }, news);
                if let Some(slot) = model.get_mut(index) {
                    *slot = on;
                }
            }
            let ones: Vec<usize> = (0..len).filter(|i| model[*i]).collect();
            prop_assert_eq!(map.iter_ones().collect::<Vec<_>>(), ones.clone());
            prop_assert_eq!(map.iter_zeros().count(), map.missing());
            prop_assert_eq!(map.count(), ones.len());
            prop_assert_eq!(HaveBitmap::from_wire(&map.to_wire(), len).unwrap(), map);
        }
    }
}
