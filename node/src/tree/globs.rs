//! Which entries of a directory are meant: globs on the paths in it.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::api::{ApiError, ErrorKind, MAX_GLOBS};

/// The longest glob, in bytes.
const MAX_GLOB_BYTES: usize = 4096;

/// What is taken: all that matches an `include`, everything where there is none, and nothing that matches an `exclude`.
#[derive(Debug, Clone)]
pub(crate) struct Globs {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

/// What the globs say of a path by itself, whatever they say of the folders that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    Excluded,
    Included,
    /// It is as the folder that it is in.
    Nothing,
}

impl Globs {
    /// # Errors
    /// `Usage`, naming the glob that is none.
    pub(crate) fn new(include: &[String], exclude: &[String]) -> Result<Self, ApiError> {
        Ok(Self {
            include: match include {
                [] => None,
                globs => Some(set("--include", globs)?),
            },
            exclude: set("--exclude", exclude)?,
        })
    }

    /// What is said of the directory itself.
    pub(crate) fn of_root(&self) -> Said {
        match self.include {
            None => Said::Included,
            Some(_) => Said::Nothing,
        }
    }

    /// What is said of this path by itself.
    pub(crate) fn say(&self, path: &str) -> Said {
        if self.exclude.is_match(path) {
            return Said::Excluded;
        }
        match &self.include {
            Some(include) if include.is_match(path) => Said::Included,
            _ => Said::Nothing,
        }
    }

    /// Whether an entry is taken, by its path and those of the folders that it is in.
    pub(crate) fn take(&self, path: &str) -> bool {
        let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        let mut said = self.of_root();
        for part in folders.chain([path]) {
            match self.say(part) {
                Said::Excluded => return false,
                Said::Included => said = Said::Included,
                Said::Nothing => {}
            }
        }
        said == Said::Included
    }
}

fn set(option: &str, globs: &[String]) -> Result<GlobSet, ApiError> {
    let refused = |what: String, why: String| {
        let next = "write it like *.rs, docs/**/*.md or target, and quote it from the shell";
        ApiError::new(ErrorKind::Usage, what, why, next)
    };
    if globs.len() > MAX_GLOBS {
        let what = format!("{option} was given {} times", globs.len());
        return Err(refused(what, format!("at most {MAX_GLOBS} are taken")));
    }
    let mut set = GlobSetBuilder::new();
    for text in globs {
        let why = match text.len() {
            0 => Some("it is empty".to_owned()),
            len if len > MAX_GLOB_BYTES => {
                Some(format!("it is longer than {MAX_GLOB_BYTES} bytes"))
            }
            _ => None,
        };
        if let Some(why) = why {
            return Err(refused(format!("{option} {text:?} is no glob"), why));
        }
        // `src/` is meant for the folder, and `./src` for what is at the top.
        let plain = text.trim_end_matches('/');
        let anywhere = match plain.contains('/') {
            true => plain
                .trim_start_matches("./")
                .trim_start_matches('/')
                .to_owned(),
            false => format!("**/{plain}"),
        };
        let glob = GlobBuilder::new(&anywhere)
            .literal_separator(true)
            .backslash_escape(true)
            .build();
        let glob = glob.map_err(|error| {
            refused(
                format!("{option} {text:?} is no glob"),
                error.kind().to_string(),
            )
        })?;
        set.add(glob);
    }
    set.build().map_err(|error| {
        refused(
            format!("the globs of {option} are too much"),
            error.to_string(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(include: &[&str], exclude: &[&str]) -> Globs {
        let own = |globs: &[&str]| globs.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>();
        Globs::new(&own(include), &own(exclude)).unwrap()
    }

    fn taken<'a>(globs: &Globs, paths: &[&'a str]) -> Vec<&'a str> {
        paths
            .iter()
            .copied()
            .filter(|path| globs.take(path))
            .collect()
    }

    const PATHS: [&str; 7] = [
        ".git/config",
        "Cargo.toml",
        "docs/a.md",
        "docs/deep/b.md",
        "src/lib.rs",
        "src/target/x.rs",
        "target/y.rs",
    ];

    #[test]
    fn without_globs_everything_is_taken_hidden_files_too() {
        assert_eq!(taken(&globs(&[], &[]), &PATHS), PATHS);
    }

    #[test]
    fn a_glob_without_a_slash_is_for_names_at_any_depth() {
        assert_eq!(
            taken(&globs(&["*.rs"], &[]), &PATHS),
            ["src/lib.rs", "src/target/x.rs", "target/y.rs"]
        );
        assert_eq!(
            taken(&globs(&["*.rs"], &["target"]), &PATHS),
            ["src/lib.rs"]
        );
        assert_eq!(
            taken(&globs(&[], &["target/", ".git"]), &PATHS),
            ["Cargo.toml", "docs/a.md", "docs/deep/b.md", "src/lib.rs"]
        );
    }

    #[test]
    fn a_glob_with_a_slash_is_for_the_whole_path() {
        assert_eq!(taken(&globs(&["docs/*.md"], &[]), &PATHS), ["docs/a.md"]);
        assert_eq!(
            taken(&globs(&["docs/**/*.md"], &[]), &PATHS),
            ["docs/a.md", "docs/deep/b.md"]
        );
        assert_eq!(
            taken(&globs(&[], &["/target"]), &PATHS),
            &PATHS[..6],
            "at the top alone"
        );
        assert_eq!(
            taken(&globs(&["./docs"], &["docs/deep"]), &PATHS),
            ["docs/a.md"]
        );
    }

    #[test]
    fn what_is_no_glob_is_named() {
        for bad in ["", "a[", "{a", "a\\"] {
            let error = Globs::new(&[], &[bad.to_owned()]).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Usage);
            assert!(error.what.contains("--exclude"), "{error:?}");
        }
        let many = vec!["a".to_owned(); MAX_GLOBS + 1];
        assert!(Globs::new(&many, &[]).is_err());
    }
}
