//! A reader shown chunk by chunk.

use std::io::{self, Read};

use crate::chunker::Chunker;

/// The read buffer holds this many of the largest chunks.
const BUFFER_CHUNKS: usize = 4;

/// Shows a reader's bytes chunk by chunk.
pub(super) struct ChunkReader<'a> {
    reader: &'a mut dyn Read,
    chunker: Chunker,
    buffer: Vec<u8>,
    /// The bytes read and not yet given out.
    unread: std::ops::Range<usize>,
    at_end: bool,
}

impl<'a> ChunkReader<'a> {
    pub(super) fn new(reader: &'a mut dyn Read, chunker: Chunker) -> Self {
        let buffer = vec![0; chunker.needed_bytes() * BUFFER_CHUNKS];
        Self {
            reader,
            chunker,
            buffer,
            unread: 0..0,
            at_end: false,
        }
    }

    /// The next chunk, or `None` at the end.
    pub(super) fn next_chunk(&mut self) -> io::Result<Option<&[u8]>> {
        self.fill()?;
        let Some(len) = self
            .chunker
            .cut(&self.buffer[self.unread.clone()], self.at_end)
        else {
            return Ok(None);
        };
        let start = self.unread.start;
        self.unread.start += len;
        Ok(Some(&self.buffer[start..start + len]))
    }

    /// Reads until a boundary can be decided.
    fn fill(&mut self) -> io::Result<()> {
        let needed = self.chunker.needed_bytes();
        while self.unread.len() < needed && !self.at_end {
            if self.buffer.len() - self.unread.start < needed {
                self.buffer.copy_within(self.unread.clone(), 0);
                self.unread = 0..self.unread.len();
            }
            match self.reader.read(&mut self.buffer[self.unread.end..]) {
                Ok(0) => self.at_end = true,
                Ok(count) => self.unread.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
