//! The token that a caller over TCP shows: whoever can read the data directory has it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use http::{HeaderMap, header};
use rand::{TryRngCore, rngs::OsRng};
use subtle::ConstantTimeEq;

/// File of the token inside the data directory: 64 hex digits and a line break.
const TOKEN_FILE: &str = "api.token";

/// Bytes of randomness in it.
const TOKEN_BYTES: usize = 32;

/// A token file is never longer than this.
const MAX_FILE_BYTES: u64 = 256;

/// What a caller has to show.
pub(crate) struct Token(String);

impl Token {
    /// Loads the token of a data directory, or makes one. The caller holds the directory's lock.
    pub(crate) fn load_or_create(data_dir: &Path) -> io::Result<Self> {
        match Self::load(data_dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(&data_dir.join(TOKEN_FILE))
            }
            loaded => loaded,
        }
    }

    /// Loads the token of a data directory.
    fn load(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(TOKEN_FILE);
        let meta = fs::metadata(&path)?;
        if meta.len() > MAX_FILE_BYTES {
            return Err(malformed("it is too long"));
        }
        if meta.permissions().mode() & 0o077 != 0 {
            return Err(malformed(
                "others may read or write it: chmod 600, or remove it for a new one",
            ));
        }
        let text = fs::read_to_string(&path)?;
        let token = text.trim();
        let is_hex = token.bytes().all(|byte| byte.is_ascii_hexdigit());
        if token.len() != 2 * TOKEN_BYTES || !is_hex {
            return Err(malformed(
                "it is not 64 hex digits: remove it for a new one",
            ));
        }
        Ok(Self(token.to_owned()))
    }

    /// Whether these headers show it. How long that takes says nothing of where a wrong one differs.
    pub(super) fn is_shown(&self, headers: &HeaderMap) -> bool {
        let mut shown = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(shown), None) = (shown.next(), shown.next()) else {
            return false;
        };
        let Some((scheme, token)) = shown.to_str().ok().and_then(|text| text.split_once(' '))
        else {
            return false;
        };
        let is_right = self.0.as_bytes().ct_eq(token.trim().as_bytes());
        scheme.eq_ignore_ascii_case("Bearer") && bool::from(is_right)
    }
}

/// The token that callers over TCP show to the daemon of this data directory: 64 hex digits.
///
/// # Errors
/// Where there is none, or whoever asks may not read it.
pub fn read_token(data_dir: &Path) -> io::Result<String> {
    Token::load(data_dir).map(|token| token.0)
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{TOKEN_FILE} is not usable: {why}"),
    )
}

fn create(path: &Path) -> io::Result<Token> {
    let mut random = [0; TOKEN_BYTES];
    OsRng
        .try_fill_bytes(&mut random)
        .map_err(io::Error::other)?;
    let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let temp = path.with_extension("token.new");
    let _ = fs::remove_file(&temp); // of a process that died; its mode might be another
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temp)?;
    file.write_all(format!("{token}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&temp, path)?;
    Ok(Token(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shows(token: &Token, headers: &[&str]) -> bool {
        let mut map = HeaderMap::new();
        for text in headers {
            map.append(header::AUTHORIZATION, text.parse().unwrap());
        }
        token.is_shown(&map)
    }

    #[test]
    fn a_token_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let made = Token::load_or_create(dir.path()).unwrap();
        let again = Token::load_or_create(dir.path()).unwrap();
        assert_eq!(made.0, again.0);
        assert_eq!(read_token(dir.path()).unwrap(), made.0);
        assert_eq!(made.0.len(), 64);
        let file = dir.path().join(TOKEN_FILE);
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        let none = read_token(other.path()).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
        let other = Token::load_or_create(other.path()).unwrap();
        assert_ne!(made.0, other.0);
    }

    #[test]
    fn a_token_file_that_others_may_read_or_that_is_damaged_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Token::load_or_create(dir.path()).unwrap();
        let file = dir.path().join(TOKEN_FILE);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Token::load_or_create(dir.path()).is_err());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        for text in ["", "ab", &"x".repeat(64), &"a".repeat(65), &"a".repeat(300)] {
            fs::write(&file, text).unwrap();
            assert!(Token::load_or_create(dir.path()).is_err(), "{text}");
        }
    }

    #[test]
    fn only_the_token_itself_opens() {
        let token = Token("ab".repeat(32));
        let right = format!("Bearer {}", token.0);
        assert!(shows(&token, &[&right]));
        assert!(shows(&token, &[&right.replace("Bearer", "bearer")]));
        let wrong = right.replace("ab", "ac");
        for headers in [
            &[][..],
            &[""],
            &["Bearer"],
            &["Bearer "],
            &[&token.0],
            &[&wrong],
            &[&right[..40]],
            &[&format!("{right}0")],
            &[&format!("Basic {}", token.0)],
            &[&right, &right],
        ] {
            assert!(!shows(&token, headers), "{headers:?}");
        }
    }
}
