//! Paths within a directory.

use std::fmt;

/// No path is longer, in bytes.
pub const MAX_PATH_BYTES: usize = 4096;

/// No component of a path is longer, in bytes: what common file systems can hold.
pub const MAX_COMPONENT_BYTES: usize = 255;

/// Why a text is not a path within a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// No text, a `/` at an end, or two in a row. An absolute path is one of these.
    #[error("it has an empty component")]
    Empty,
    /// A component `.` or `..`.
    #[error("it has a component \".\" or \"..\"")]
    Dots,
    /// A NUL byte.
    #[error("it has a NUL byte")]
    Nul,
    /// A component of more than [`MAX_COMPONENT_BYTES`].
    #[error("it has a component of more than {MAX_COMPONENT_BYTES} bytes")]
    ComponentTooLong,
    /// More than [`MAX_PATH_BYTES`].
    #[error("it has more than {MAX_PATH_BYTES} bytes")]
    TooLong,
}

/// A path from a directory on: components separated by `/`, none of them empty, `.` or `..`. Ordered by
/// its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Box<str>);

impl RelPath {
    /// Takes a text that is such a path.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(path: &str) -> Result<Self, PathError> {
        if path.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong);
        }
        for component in path.split('/') {
            match component {
                "" => return Err(PathError::Empty),
                "." | ".." => return Err(PathError::Dots),
                _ if component.contains('\0') => return Err(PathError::Nul),
                _ if component.len() > MAX_COMPONENT_BYTES => {
                    return Err(PathError::ComponentTooLong);
                }
                _ => {}
            }
        }
        Ok(Self(path.into()))
    }

    /// For tests of what refuses the others.
    #[cfg(test)]
    pub(super) fn unchecked(path: &str) -> Self {
        Self(path.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its components, the outermost first; at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The last component, and the path of the folder it is in; an empty one for the directory itself.
    #[must_use]
    pub fn split_name(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or(("", &self.0))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for RelPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}
