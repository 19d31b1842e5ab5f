//! The node's key: made once, kept in the data directory, readable by its owner alone.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use casnode_dht::{Keypair, PeerId};

/// File of the key inside the data directory: libp2p's protobuf encoding of a private key.
const KEY_FILE: &str = "identity.key";

/// A key file is never longer than this.
const MAX_KEY_BYTES: u64 = 4096;

/// Loads the node's key, or makes one. The caller holds the data directory's lock.
pub(crate) fn load_or_create(data_dir: &Path) -> io::Result<Keypair> {
    let path = data_dir.join(KEY_FILE);
    match fs::metadata(&path) {
        Ok(meta) if meta.len() > MAX_KEY_BYTES => Err(malformed("it is too long")),
        Ok(_) => Keypair::from_protobuf_encoding(&fs::read(&path)?)
            .map_err(|e| malformed(&e.to_string())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => create(&path),
        Err(e) => Err(e),
    }
}

/// The peer id of a data directory that has one.
pub(crate) fn existing_id(data_dir: &Path) -> Option<PeerId> {
    let there = data_dir.join(KEY_FILE).try_exists().unwrap_or(false);
    let key = there.then(|| load_or_create(data_dir).ok())??;
    Some(key.public().to_peer_id())
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{KEY_FILE} is not a private key: {why}"),
    )
}

fn create(path: &Path) -> io::Result<Keypair> {
    let key = Keypair::generate_ed25519();
    let bytes = key
        .to_protobuf_encoding()
        .map_err(|e| malformed(&e.to_string()))?;
    let temp = path.with_extension("key.new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temp)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&temp, path)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let made = load_or_create(dir.path()).unwrap();
        let again = load_or_create(dir.path()).unwrap();
        assert_eq!(made.public(), again.public());
        assert_eq!(existing_id(dir.path()), Some(made.public().to_peer_id()));
        let mode = fs::metadata(dir.path().join(KEY_FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_refused_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(existing_id(dir.path()), None);
        fs::write(dir.path().join(KEY_FILE), b"not a key").unwrap();
        assert!(load_or_create(dir.path()).is_err());
        assert_eq!(fs::read(dir.path().join(KEY_FILE)).unwrap(), b"not a key");
    }
}
