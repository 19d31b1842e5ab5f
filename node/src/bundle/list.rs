//! A list of files that somebody wrote, and what became of it.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
    time::Instant,
};

use casnode_cas::Address;

use super::{Done, Fetched, Folder, Line, path};
use crate::{
    api::{
        ApiError, ErrorKind, FetchedFile, FetchedState, ListReport, ListedFile, MAX_LISTED_FILES,
        ProviderUse,
    },
    clock, errors,
    tasks::blocking,
};

/// Opens the folder of a list, and makes it if need be.
pub(crate) async fn open(
    path: &Path,
    force: bool,
    mode: Option<u32>,
) -> Result<Arc<Folder>, ApiError> {
    let folder = path.to_owned();
    let opened = blocking(move || Folder::open(&folder, force, mode)).await;
    let opened = opened.map_err(errors::panicked)?.map_err(|error| {
        ApiError::new(
            ErrorKind::Failure,
            format!("the files cannot be written to {}", path.display()),
            error.to_string(),
            "name another folder with -o",
        )
    })?;
    Ok(Arc::new(opened))
}

/// Returns when everything written to a folder survives a power cut.
pub(crate) async fn sync(folder: &Arc<Folder>) -> Result<(), ApiError> {
    let folder = folder.clone();
    let synced = blocking(move || folder.sync()).await;
    synced.map_err(errors::panicked)?.map_err(|error| {
        ApiError::new(
            ErrorKind::Failure,
            "the files were written, and are not known to be on the disk",
            error.to_string(),
            "look at the disk of the folder, and run the command again",
        )
    })
}

/// The lines of one call, their paths clean and each named once.
pub(crate) fn lines(files: &[ListedFile]) -> Result<Vec<Line>, ApiError> {
    if files.len() > MAX_LISTED_FILES {
        let what = format!("a call for {} files is too large", files.len());
        return Err(refused(what, "one call may be for 16,384"));
    }
    let mut seen = HashSet::new();
    files.iter().map(|file| line(file, &mut seen)).collect()
}

/// Checks a list of any length: each address is one, and each path a place of its own in the folder. A call of
/// [`crate::api::Request::GetMany`] checks its own part alone.
///
/// # Errors
/// `Usage` for the first file that is refused.
pub fn check_list(files: &[ListedFile]) -> Result<(), ApiError> {
    let mut seen = HashSet::new();
    files
        .iter()
        .try_for_each(|file| line(file, &mut seen).map(drop))
}

fn line(file: &ListedFile, seen: &mut HashSet<String>) -> Result<Line, ApiError> {
    let address = file.address.parse::<Address>();
    let address = address.map_err(|error| {
        refused(
            format!("{} is not an address", file.address),
            &error.to_string(),
        )
    })?;
    let path = path::clean(&file.path)
        .map_err(|why| refused(format!("{:?} was not written", file.path), why))?;
    if !seen.insert(path.clone()) {
        let what = format!("{path:?} is in the list twice");
        return Err(refused(what, "each file needs a place of its own"));
    }
    Ok(Line {
        address,
        path,
        size_bytes: None,
        executable: None,
    })
}

fn refused(what: String, why: &str) -> ApiError {
    ApiError::new(
        ErrorKind::Usage,
        what,
        why,
        "mend the list: its lines are those of `b3sum` or `casnode store --sums`, with paths relative to the folder",
    )
}

/// Adds to what a peer sent.
pub(crate) fn count(providers: &mut HashMap<String, ProviderUse>, used: ProviderUse) {
    match providers.get_mut(&used.peer) {
        Some(before) => {
            before.bytes += used.bytes;
            before.chunks += used.chunks;
            before.rejected += used.rejected;
        }
        None => drop(providers.insert(used.peer.clone(), used)),
    }
}

/// What became of a list.
pub(crate) fn report(fetched: Fetched, started: Instant) -> ListReport {
    let mut report = ListReport {
        files: Vec::with_capacity(fetched.lines.len()),
        fetched: 0,
        here: 0,
        failed: 0,
        bytes: 0,
        kept_in_place: fetched.in_place,
        seconds: clock::now()
            .saturating_duration_since(started)
            .as_secs_f64(),
        providers: fetched.providers.into_values().collect(),
    };
    report.providers.sort_by_key(|p| std::cmp::Reverse(p.bytes));
    for Done {
        address,
        path,
        outcome,
    } in fetched.lines
    {
        let (state, bytes, error) = match outcome {
            Ok((state, bytes)) => (state, bytes, None),
            Err(error) => (FetchedState::Failed, 0, Some(error)),
        };
        let count = match state {
            FetchedState::Fetched => &mut report.fetched,
            FetchedState::Here => &mut report.here,
            FetchedState::Failed => &mut report.failed,
        };
        *count += 1;
        report.bytes += bytes;
        report.files.push(FetchedFile {
            address: address.to_string(),
            path,
            bytes,
            state,
            error,
        });
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(address: &str, path: &str) -> ListedFile {
        ListedFile {
            address: address.to_owned(),
            path: path.to_owned(),
        }
    }

    #[test]
    fn a_list_names_each_place_once_and_only_places_in_the_folder() {
        let address = Address::of(b"a").to_string();
        let good = [file(&address, "a"), file(&address, "./b/c")];
        let good = lines(&good).unwrap();
        assert_eq!(good[1].path, "b/c");
        for bad in [
            [file(&address, "a"), file(&address, "./a")],
            [file(&address, "a"), file(&address, "../b")],
            [file("12", "a"), file(&address, "b")],
        ] {
            assert_eq!(lines(&bad).unwrap_err().kind, ErrorKind::Usage);
            assert_eq!(check_list(&bad).unwrap_err().kind, ErrorKind::Usage);
        }
        let many: Vec<_> = (0..=MAX_LISTED_FILES)
            .map(|n| file(&address, &n.to_string()))
            .collect();
        assert!(lines(&many).is_err());
        assert!(lines(&many[1..]).is_ok());
        assert!(check_list(&many).is_ok());
    }
}
