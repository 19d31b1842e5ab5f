//! File names as hints: what a stranger's record may suggest, and what may become a file here.

/// Longest name hint, in bytes: what common file systems allow for one path component.
pub const MAX_NAME_BYTES: usize = 255;

/// Whether `name` may stand in a record: one path component, not a special one.
pub(crate) fn is_valid_hint(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && name != "."
        && name != ".."
        && !name.contains(['/', '\0'])
}

/// Returns `name` if it may become a file name in a folder of the user's.
///
/// Stricter than what a record may carry: control characters could drive a terminal, and characters
/// that turn the direction of text can make `exe.jpg` out of `gpj.exe`.
#[must_use]
pub fn safe_file_name(name: &str) -> Option<&str> {
    let deceives = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    (is_valid_hint(name) && !name.contains(deceives)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_pass() {
        for name in [
            "a",
            "report.pdf",
            "..hidden",
            "Grüße 日本.txt",
            "back\\slash",
            ".profile",
            "-rf",
        ] {
            assert_eq!(safe_file_name(name), Some(name));
        }
        assert!(safe_file_name(&"n".repeat(255)).is_some());
    }

    #[test]
    fn names_that_leave_the_folder_or_deceive_do_not() {
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "/etc",
            "nul\0",
            "tab\t",
            "\u{1b}[2J",
            "a\u{202e}gpj.exe",
        ] {
            assert_eq!(safe_file_name(name), None, "{name:?}");
        }
        assert_eq!(safe_file_name(&"n".repeat(256)), None);
    }
}
