//! What writing an output costs: `export FOLDER [MIB]`, around the page cache and through it.
//!
//! Chunks of the sizes that fastcdc makes, in order, in stretches, and one by one at random.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use casnode_cas::{Address, Assembly, OutputOptions};

/// Chunks that follow each other, of those that come in stretches.
const STRETCH: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("usage: export FOLDER [MIB]")?;
    let mib: u64 = args.next().map_or(Ok(1024), |mib| mib.parse())?;
    println!("{mib} MiB            wall s  user s   system s  of these in finish");
    for (name, stretch) in [
        ("in order", usize::MAX),
        ("stretches", STRETCH),
        ("at random", 1),
    ] {
        for direct_io in [true, false] {
            let row = run(Path::new(&folder), mib << 20, stretch, direct_io)?;
            let way = if direct_io { "direct" } else { "cached" };
            println!("{name:9}  {way}  {row}");
        }
    }
    Ok(())
}

fn run(
    folder: &Path,
    size_bytes: u64,
    stretch: usize,
    direct_io: bool,
) -> Result<String, Box<dyn Error>> {
    let target = folder.join("casnode-export-example");
    let mut options = OutputOptions::new(true, None);
    options.direct_io = direct_io;
    let chunks = chunks(size_bytes, stretch);
    let bytes = vec![7; 1 << 20];
    let (began, before) = (Instant::now(), processor_s()?);
    let assembly = Assembly::create(&target, &Address::of(b""), size_bytes, &options)?;
    for (offset, len) in chunks {
        assembly.write_at(offset, &bytes[..len])?;
    }
    let written = Instant::now();
    assembly.finish()?;
    let after = processor_s()?;
    let row = format!(
        "{:11.2} {:7.2} {:10.2} {:10.2}",
        began.elapsed().as_secs_f64(),
        after.0 - before.0,
        after.1 - before.1,
        written.elapsed().as_secs_f64(),
    );
    fs::remove_file(&target)?;
    Ok(row)
}

/// Offsets and lengths, in the order in which they come.
fn chunks(size_bytes: u64, stretch: usize) -> Vec<(u64, usize)> {
    let (mut offset, mut state) = (0, 1u64);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut chunks = Vec::new();
    while offset < size_bytes {
        let len = (65_536 + next() % 393_216).min(size_bytes - offset);
        chunks.push((offset, usize::try_from(len).unwrap_or(0)));
        offset += len;
    }
    let mut stretches: Vec<_> = chunks.chunks(stretch).collect();
    stretches.sort_by_cached_key(|_| next());
    if stretch == usize::MAX {
        return chunks;
    }
    stretches.concat()
}

/// User and system time of this process, in seconds.
fn processor_s() -> Result<(f64, f64), Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.split_whitespace().collect();
    let seconds = |at: usize| -> Result<f64, Box<dyn Error>> {
        Ok(fields.get(at).ok_or("no such field")?.parse::<f64>()? / 100.0)
    };
    Ok((seconds(13)?, seconds(14)?))
}
