//! The config file: read, and each key and value checked. Everything that is wrong is told at once, by its line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use casnode_node::api::ErrorKind;
use clap::Command;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::check::{argument, complaint};
use super::keys::{self, Form, Key};
use crate::exit::{Failure, Result};

/// Longest file that is read: all keys take a few KiB.
const MAX_BYTES: u64 = 1 << 20;

/// A file that is right.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    pub(crate) path: PathBuf,
    pub(crate) entries: Vec<Entry>,
}

/// One key of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its name.
    pub(crate) name: &'static str,
    /// As its flag would take them.
    pub(crate) values: Vec<String>,
    /// Counted from 1.
    pub(crate) line: usize,
}

/// What is wrong in a file: texts by their lines.
type Wrong = BTreeMap<usize, Vec<String>>;

impl ConfigFile {
    /// Reads and checks a file; values are what the arguments of `command` take. `None` where there is none.
    pub(crate) fn read(path: &Path, command: &Command) -> Result<Option<Self>> {
        let bytes = match read_bytes(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(path, &error)),
        };
        let entries = match String::from_utf8(bytes) {
            Ok(text) => parse(&text, command),
            Err(error) => {
                let right = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = 1 + right.iter().filter(|byte| **byte == b'\n').count();
                Err(Wrong::from([(line, vec!["is not UTF-8".to_owned()])]))
            }
        };
        match entries {
            Ok(entries) => Ok(Some(Self {
                path: path.to_owned(),
                entries,
            })),
            Err(wrong) => Err(failure(path, &wrong)),
        }
    }

    /// What it says of a key.
    pub(crate) fn entry(&self, key: &Key) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == key.name)
    }
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("it is longer than 1 MiB"));
    }
    Ok(bytes)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        ErrorKind::Usage,
        format!("the config file {} cannot be read", path.display()),
        error.to_string(),
        "make it readable, name another with --config, or none with --config none",
    )
}

/// What is wrong, a line each.
fn failure(path: &Path, wrong: &Wrong) -> Failure {
    let texts: Vec<String> = wrong
        .iter()
        .flat_map(|(line, texts)| texts.iter().map(move |text| format!("line {line}: {text}")))
        .collect();
    let count = match texts.len() {
        1 => "1 mistake".to_owned(),
        n => format!("{n} mistakes"),
    };
    Failure::new(
        ErrorKind::Usage,
        format!("{count} in the config file {}", path.display()),
        texts.join("\n       "),
        "correct it; `casnode config check` tells when it is right",
    )
}

/// Reads the text of a file.
fn parse(text: &str, command: &Command) -> Result<Vec<Entry>, Wrong> {
    let line = |span: Range<usize>| {
        let before = text.as_bytes().iter().take(span.start);
        1 + before.filter(|byte| **byte == b'\n').count()
    };
    let mut wrong = Wrong::new();
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let line = line(error.span().unwrap_or_default());
        // What follows from the first mistake of a line is none of its own.
        let texts = wrong.entry(line).or_default();
        if texts.is_empty() {
            texts.push(format!(
                "is not TOML: {}",
                error.message().replace('\n', ", ")
            ));
        }
    }
    let mut entries = Vec::new();
    for (name, value) in table.into_inner() {
        let at = line(name.span());
        if wrong.contains_key(&at) {
            continue;
        }
        match entry(name.get_ref(), &value, command) {
            Ok((name, values)) => entries.push(Entry {
                name,
                values,
                line: at,
            }),
            Err(texts) => {
                for (span, text) in texts {
                    wrong
                        .entry(line(span.unwrap_or(name.span())))
                        .or_default()
                        .push(text);
                }
            }
        }
    }
    if wrong.is_empty() {
        entries.sort_by_key(|entry| entry.line);
        return Ok(entries);
    }
    Err(wrong)
}

/// What is wrong about an entry, and where, if not where its name is.
type Complaints = Vec<(Option<Range<usize>>, String)>;

fn entry(
    name: &str,
    value: &Spanned<DeValue<'_>>,
    command: &Command,
) -> Result<(&'static str, Vec<String>), Complaints> {
    let one = |text: String| vec![(None, text)];
    let Some(key) = keys::find(name) else {
        return Err(one(unknown(name, value.get_ref())));
    };
    let Some(arg) = argument(command, key) else {
        return Err(one(format!("{name} has no meaning here")));
    };
    let items = match (key.form, value.get_ref()) {
        (Form::List, DeValue::Array(items)) => items.iter().collect(),
        (_, DeValue::Array(_)) => {
            return Err(one(format!(
                "{name} takes one value, not a list: {}",
                key.value
            )));
        }
        _ => vec![value],
    };
    let mut values = Vec::new();
    let mut wrong = Complaints::new();
    for item in items {
        let checked = scalar(item.get_ref()).and_then(|text| match form(key, &text) {
            Some(why) => Err(why),
            None => match complaint(arg, &text) {
                Some(why) => Err(format!("{text:?}: {why}")),
                None => Ok(text),
            },
        });
        match checked {
            Ok(text) => values.push(text),
            Err(why) => wrong.push((Some(item.span()), format!("{name} = {why}"))),
        }
    }
    if wrong.is_empty() {
        return Ok((key.name, values));
    }
    Err(wrong)
}

fn unknown(name: &str, value: &DeValue<'_>) -> String {
    if let DeValue::Table(_) = value {
        return format!(
            "[{name}] is a section, and the file has none: write max-store = \"100GiB\" alone"
        );
    }
    match keys::nearest(name) {
        Some(key) => format!("{name} is no key; did you mean {}?", key.name),
        None => format!("{name} is no key; `casnode config show` lists them"),
    }
}

/// The text of a value that is one: numbers and the like are read as their flag would read them.
fn scalar(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.as_str().to_owned()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(value) => Ok(value.to_string()),
        other => Err(format!(
            "a value of type {}: write text in quotes",
            other.type_str()
        )),
    }
}

/// What a file asks of a value beyond its flag.
fn form(key: &Key, text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("\"\": it is empty; leave the key out for the default".to_owned());
    }
    match key.form {
        Form::Bool if !matches!(text, "true" | "false") => {
            Some(format!("{text:?}: write true or false"))
        }
        Form::Path if !Path::new(text).is_absolute() => Some(format!(
            "{text:?}: write the whole path from the root, without ~"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Args;

    fn wrong(text: &str) -> Vec<(usize, String)> {
        let wrong = parse(text, &Args::command()).unwrap_err();
        wrong
            .into_iter()
            .flat_map(|(line, texts)| texts.into_iter().map(move |text| (line, text)))
            .collect()
    }

    #[test]
    fn what_is_right_is_read_with_its_lines() {
        let text = "# a node\nmax-store = \"100GiB\"\n\nlisten = [\n  \"/ip4/127.0.0.1/tcp/1\",\n  \"/ip4/127.0.0.1/tcp/2\",\n]\nno-mdns = true\nbootstrap = \"/ip4/127.0.0.1/tcp/3\"\n";
        let entries = parse(text, &Args::command()).unwrap();
        let seen: Vec<_> = entries
            .iter()
            .map(|entry| (entry.name, entry.line, entry.values.join(" ")))
            .collect();
        let expected = [
            ("max-store", 2, "100GiB"),
            ("listen", 4, "/ip4/127.0.0.1/tcp/1 /ip4/127.0.0.1/tcp/2"),
            ("no-mdns", 8, "true"),
            ("bootstrap", 9, "/ip4/127.0.0.1/tcp/3"),
        ];
        assert_eq!(
            seen,
            expected.map(|(name, line, text)| (name, line, text.to_owned()))
        );
        assert!(parse("", &Args::command()).unwrap().is_empty());
    }

    #[test]
    fn each_mistake_is_told_by_its_line() {
        let text = "max-sotre = \"1GiB\"\nmax-up = 10\nmax-down = \"5MiB/s\"\nlisten = [\n  \"/ip4/127.0.0.1/tcp/1\",\n  \"/unix/x\",\n  \"nowhere\",\n]\nchunker = \"big\"\nno-mdns = \"yes\"\ndata-dir = \"~/x\"\nmemory = [\"1GiB\"]\ntimeout = \"\"\nseed = 1979-05-27\n[store]\nmax = 1\n";
        let wrong = wrong(text);
        let lines: Vec<usize> = wrong.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 2, 6, 7, 9, 10, 11, 12, 13, 14, 15], "{wrong:#?}");
        for (line, part) in [
            (1, "did you mean max-store?"),
            (2, "which unit? write 10MiB/s"),
            (6, "TCP and QUIC"),
            (7, "\"nowhere\""),
            (9, "fixed, fastcdc"),
            (10, "true or false"),
            (11, "whole path"),
            (12, "not a list"),
            (13, "leave the key out"),
            (14, "in quotes"),
            (15, "is a section"),
        ] {
            let told = wrong
                .iter()
                .any(|(at, text)| *at == line && text.contains(part));
            assert!(told, "{line}: {part} in {wrong:#?}");
        }
    }

    #[test]
    fn what_is_no_toml_is_told_beside_the_rest() {
        let wrong =
            wrong("max-up = 10MiB/s\nmemory = \"1\"\nmax-down = \"none\"\nmax-down = \"none\"\n");
        let lines: Vec<usize> = wrong.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 2, 4], "{wrong:#?}");
        assert!(wrong[0].1.contains("is not TOML"), "{wrong:#?}");
        assert!(wrong[2].1.contains("duplicate"), "{wrong:#?}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([a-z-]{1,10} ?= ?[\\PC]{0,12}\n?|\\PC{0,20}){0,4}") {
            let _ = parse(&text, &Args::command());
        }
    }
}
