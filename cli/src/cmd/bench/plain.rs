//! Plain programs: what a transfer could be at best on this machine. One sends a file by TCP, the other takes it, hashes
//! it and writes it once; each with one thread and one buffer.

use std::fs::File;
#[cfg(target_os = "linux")]
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use casnode_node::bench::{Lap, Stopwatch};

/// What is read, sent and hashed at a time: it is still in the processor's cache when it is hashed.
const PIECE_BYTES: usize = 256 << 10;

/// What is written around the page cache at a time.
const DIRECT_BLOCK_BYTES: usize = 4 << 20;

/// What addresses, lengths and offsets of direct writes are multiples of.
const ALIGN_BYTES: usize = 4096;

/// How long the other side may say nothing.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// What the receiver does with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sink<'a> {
    /// Drops them.
    Nowhere,
    /// Hashes them, and writes them through the page cache.
    Buffered(&'a Path),
    /// Hashes them, and writes them around the page cache.
    Direct(&'a Path),
}

/// Sends a file to a port of this machine.
pub(crate) fn send(file: &Path, port: u16) -> io::Result<Lap> {
    let mut file = File::open(file)?;
    let mut to = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    to.set_write_timeout(Some(STALL_LIMIT))?;
    let mut piece = vec![0; PIECE_BYTES];
    let watch = Stopwatch::start();
    loop {
        let len = file.read(&mut piece)?;
        if len == 0 {
            return Ok(watch.stop());
        }
        to.write_all(&piece[..len])?;
    }
}

/// Takes what the first caller sends until it has sent all; says what it took, and the BLAKE3 of what was written. What is
/// written is on the disk when this returns.
pub(crate) fn receive(listener: &TcpListener, sink: Sink<'_>) -> io::Result<(Lap, Option<String>)> {
    let (mut from, _) = listener.accept()?;
    from.set_read_timeout(Some(STALL_LIMIT))?;
    let watch = Stopwatch::start();
    let address = match sink {
        Sink::Nowhere => {
            let mut piece = vec![0; PIECE_BYTES];
            while from.read(&mut piece)? > 0 {}
            None
        }
        Sink::Buffered(path) => Some(buffered(&mut from, path)?),
        Sink::Direct(path) => Some(direct(&mut from, path)?),
    };
    Ok((watch.stop(), address))
}

fn buffered(from: &mut impl Read, path: &Path) -> io::Result<String> {
    let mut out = File::create_new(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let len = from.read(&mut piece)?;
        if len == 0 {
            break;
        }
        hasher.update(&piece[..len]);
        out.write_all(&piece[..len])?;
    }
    out.sync_all()?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn direct(from: &mut impl Read, path: &Path) -> io::Result<String> {
    let mut out = create_direct(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut memory = vec![0; DIRECT_BLOCK_BYTES + ALIGN_BYTES];
    let start = memory.as_ptr().align_offset(ALIGN_BYTES);
    let block = &mut memory[start..start + DIRECT_BLOCK_BYTES];
    loop {
        let mut filled = 0;
        while filled < block.len() {
            let end = block.len().min(filled + PIECE_BYTES);
            let len = from.read(&mut block[filled..end])?;
            if len == 0 {
                break;
            }
            hasher.update(&block[filled..filled + len]);
            filled += len;
        }
        // The last block is written whole, and the file cut to its length.
        out.write_all(&block[..filled.next_multiple_of(ALIGN_BYTES)])?;
        if filled < block.len() {
            break;
        }
    }
    out.set_len(hasher.count())?;
    out.sync_all()?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Whether a folder's file system takes direct writes.
pub(crate) fn has_direct_writes(folder: &Path) -> bool {
    let probe = folder.join("probe");
    let written = direct(&mut io::repeat(0).take(1), &probe).is_ok();
    let _ = std::fs::remove_file(probe);
    written
}

#[cfg(target_os = "linux")]
fn create_direct(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).map_err(io::Error::other)?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .custom_flags(flags)
        .open(path)
}

#[cfg(not(target_os = "linux"))]
fn create_direct(_path: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_arrive_whole_however_they_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        // No multiple of a block, of a piece, or of what direct writes need.
        for len in [0, 1, DIRECT_BLOCK_BYTES, DIRECT_BLOCK_BYTES + 300_001] {
            let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
            std::fs::write(&source, &bytes).unwrap();
            let target = dir.path().join(format!("copy-{len}"));
            for sink in [
                Sink::Nowhere,
                Sink::Buffered(&target),
                Sink::Direct(&target),
            ] {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                let port = listener.local_addr().unwrap().port();
                let source = source.clone();
                let sender = std::thread::spawn(move || send(&source, port).unwrap());
                let received = receive(&listener, sink);
                sender.join().unwrap();
                let (_, address) = match received {
                    Ok(received) => received,
                    // Not every file system has direct writes.
                    Err(_) if matches!(sink, Sink::Direct(_)) => continue,
                    Err(error) => panic!("{error}"),
                };
                if sink == Sink::Nowhere {
                    assert_eq!(address, None);
                    continue;
                }
                assert_eq!(address.unwrap(), blake3::hash(&bytes).to_hex().to_string());
                assert!(std::fs::read(&target).unwrap() == bytes, "{sink:?}, {len}");
                std::fs::remove_file(&target).unwrap();
            }
        }
    }
}
