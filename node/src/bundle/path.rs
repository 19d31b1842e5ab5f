//! Names of a list: each is a place within the folder, or is refused.

/// The longest name of a file or folder, in bytes.
const MAX_PART_BYTES: usize = 255;

/// The longest path, in bytes.
const MAX_PATH_BYTES: usize = 4096;

/// A path without its `.` parts; or why it is not taken.
pub(super) fn clean(path: &str) -> Result<String, &'static str> {
    if path.is_empty() {
        return Err("the path is empty");
    }
    if path.starts_with('/') {
        return Err("it begins at the root, and only what is in the folder is written");
    }
    if path.len() > MAX_PATH_BYTES {
        return Err("the path is longer than 4,096 bytes");
    }
    if path.contains('\0') {
        return Err("there is a zero byte in it");
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" => return Err("a part of the path is empty"),
            "." => {}
            ".." => return Err("it leads out of the folder"),
            part if part.len() > MAX_PART_BYTES => {
                return Err("a part of the path is longer than 255 bytes");
            }
            part => parts.push(part),
        }
    }
    match parts.is_empty() {
        true => Err("it names no file"),
        false => Ok(parts.join("/")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_in_the_folder_is_taken() {
        for (path, expected) in [
            ("a", "a"),
            ("./a/./b c", "a/b c"),
            ("new\nline", "new\nline"),
            ("..a/b..", "..a/b.."),
        ] {
            assert_eq!(clean(path), Ok(expected.to_owned()));
        }
        assert!(clean(&"x".repeat(255)).is_ok());
    }

    #[test]
    fn what_leads_out_or_is_no_name_is_refused() {
        for path in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "a/../b",
            "a/..",
            "a//b",
            "a/",
            ".",
            "./",
            "a\0b",
        ] {
            assert!(clean(path).is_err(), "{path:?}");
        }
        assert!(clean(&"x".repeat(256)).is_err());
        assert!(clean(&"x/".repeat(2500)).is_err());
    }
}
