//! Calls of an ordinary user, also where root runs the tests: permissions stop root nowhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::harness::{CASNODE, Call, copy_env};

/// A user and group that own nothing.
const NOBODY: u32 = 65_534;

/// Gives a folder to the user of [`Call::without_privileges`].
pub(crate) fn give_away(folder: &Path) {
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

impl Call {
    /// Makes it a call of somebody whom permissions stop: root runs it as another user, with a copy of the binary
    /// in this folder, which is opened to everybody.
    pub(crate) fn without_privileges(mut self, folder: &Path) -> Self {
        if !rustix::process::geteuid().is_root() {
            return self;
        }
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        let binary = folder.join("casnode");
        if !binary.exists() {
            fs::copy(CASNODE, &binary).unwrap();
        }
        let mut command = Command::new(binary);
        command
            .args(self.command.get_args())
            .current_dir(folder)
            .uid(NOBODY)
            .gid(NOBODY);
        copy_env(&self.command, &mut command);
        self.command = command;
        self
    }
}
