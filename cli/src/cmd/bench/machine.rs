//! Where a bench runs: what figures can be compared by.

use std::path::Path;

use crate::output::bench::Machine;

/// Looks at this machine, and at the folder that is worked in.
pub(crate) fn look(folder: &Path, size_bytes: u64, runs: u8) -> Machine {
    let file_system = file_system(folder);
    Machine {
        row: "machine",
        version: env!("CARGO_PKG_VERSION").to_owned(),
        optimised: !cfg!(debug_assertions),
        system: std::env::consts::OS.to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        processor: processor(),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        processor_features: features(),
        in_memory: file_system
            .as_deref()
            .map(|kind| kind == "tmpfs" || kind == "ramfs"),
        file_system,
        folder: folder.display().to_string(),
        size_bytes,
        runs: runs.into(),
    }
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Of the features that hashing and encrypting use, those that are here.
fn features() -> Vec<&'static str> {
    let mut found = Vec::new();
    let mut add = |is_there: bool, name| {
        if is_there {
            found.push(name);
        }
    };
    #[cfg(target_arch = "x86_64")]
    {
        add(std::arch::is_x86_feature_detected!("aes"), "aes");
        add(std::arch::is_x86_feature_detected!("avx2"), "avx2");
        add(std::arch::is_x86_feature_detected!("avx512f"), "avx512");
        add(std::arch::is_x86_feature_detected!("sha"), "sha");
    }
    #[cfg(target_arch = "aarch64")]
    {
        add(std::arch::is_aarch64_feature_detected!("aes"), "aes");
        add(std::arch::is_aarch64_feature_detected!("neon"), "neon");
        add(std::arch::is_aarch64_feature_detected!("sve"), "sve");
    }
    // Elsewhere nothing is known.
    add(false, "");
    found
}

/// The kind of file system that a folder is on, where the system tells.
fn file_system(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    kind_of(&mounts, &folder)
}

/// The kind of the mount that a path is below. Of several on one place the last is the one on top.
fn kind_of(mounts: &str, path: &Path) -> Option<String> {
    /// The field with the place.
    const PLACE: usize = 4;
    let parse = |line: &str| {
        let (about, kind) = line.split_once(" - ")?;
        let place = unescaped(about.split(' ').nth(PLACE)?);
        let depth = Path::new(&place).components().count();
        path.starts_with(&place)
            .then(|| (depth, kind.split(' ').next().unwrap_or_default().to_owned()))
    };
    let found = mounts.lines().filter_map(parse);
    found.max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

/// Spaces and the like are octal in that file.
fn unescaped(place: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(place.to_owned(), |place, (octal, plain)| {
        place.replace(octal, plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_is_the_one_and_the_last_of_equals() {
        let mounts = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                      30 22 0:26 / /dev/shm rw - tmpfs tmpfs rw\n\
                      31 22 0:27 / /a\\040b rw - xfs /dev/vdb rw\n\
                      32 31 0:28 / /a\\040b rw - btrfs /dev/vdc rw\n\
                      a line of another kind\n";
        let kind = |path| kind_of(mounts, Path::new(path));
        assert_eq!(kind("/home/x").as_deref(), Some("ext4"));
        assert_eq!(kind("/dev/shm/x").as_deref(), Some("tmpfs"));
        assert_eq!(kind("/dev/shmx").as_deref(), Some("ext4"));
        assert_eq!(kind("/a b/c").as_deref(), Some("btrfs"));
        assert_eq!(kind_of("", Path::new("/")), None);
    }

    #[test]
    fn this_machine_has_processors() {
        let machine = look(&std::env::temp_dir(), 1, 1);
        assert!(machine.processors >= 1);
        assert!(!machine.processor_features.contains(&""));
    }
}
