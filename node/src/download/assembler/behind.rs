//! Brings an output to the disk while it is being written, so that little is left to wait for at its end.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use casnode_cas::OutputFile;

/// The disk is waited for after this many bytes.
const BYTES: u64 = 32 << 20;

/// The side that writes.
pub(in crate::download) struct Behind {
    due: SyncSender<()>,
    ended: Receiver<io::Result<()>>,
    bytes: u64,
}

/// The two sides of it; the other one is to run on a thread of its own.
pub(in crate::download) fn behind(
    file: Arc<OutputFile>,
) -> (Behind, impl FnOnce() + Send + 'static) {
    let (due, queue) = sync_channel(1);
    let (last, ended) = sync_channel(1);
    let work = move || {
        let synced = queue.iter().try_for_each(|()| file.sync_data());
        drop(file); // whoever hears the end may open it anew
        let _ = last.send(synced);
    };
    let behind = Behind {
        due,
        ended,
        bytes: 0,
    };
    (behind, work)
}

impl Behind {
    /// So many bytes were written.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        // When the disk is behind already, there is no use in telling it so once more.
        if self.bytes >= BYTES && self.due.try_send(()).is_ok() {
            self.bytes = 0;
        }
    }

    /// Waits until the file is left alone. An error of the disk is told here and nowhere else.
    pub(super) fn finish(self) -> io::Result<()> {
        drop(self.due);
        self.ended.recv().unwrap_or(Ok(())) // the thread never began: nothing was synced
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write};

    use super::*;

    #[test]
    fn the_file_is_let_go_of_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = File::create(dir.path().join("out")).unwrap();
        file.write_all(b"bytes").unwrap();
        let file = Arc::new(OutputFile::from(file));
        let (mut behind, work) = behind(file.clone());
        let thread = std::thread::spawn(work);
        let much = usize::try_from(BYTES).unwrap();
        (0..9).for_each(|_| behind.wrote(much));
        behind.finish().unwrap();
        assert_eq!(Arc::strong_count(&file), 1);
        thread.join().unwrap();
    }

    #[test]
    fn an_error_of_the_disk_is_not_lost() {
        let (reader, _writer) = io::pipe().unwrap();
        let unsyncable = File::from(std::os::fd::OwnedFd::from(reader));
        let (mut behind, work) = behind(Arc::new(unsyncable.into()));
        let thread = std::thread::spawn(work);
        behind.wrote(usize::try_from(BYTES).unwrap());
        behind.finish().unwrap_err();
        thread.join().unwrap();
    }
}
