//! What is set, and by whom.

use std::path::Path;

use serde::Serialize;

use super::{json_line, write_out};
use crate::config::{Origin, Setting};
use crate::exit::Result;

/// A setting, for programs.
#[derive(Serialize)]
struct SettingLine<'a> {
    key: &'a str,
    /// `null`: nobody said anything, and the default holds.
    value: Option<String>,
    default: &'a str,
    /// `default`, `file`, `variable` or `flag`.
    origin: &'a str,
    /// Of a file, its path and line; of a variable, its name.
    at: Option<String>,
    /// Whether a running daemon takes it over on SIGHUP.
    live: bool,
    about: &'a str,
}

impl<'a> SettingLine<'a> {
    fn of(setting: &'a Setting) -> Self {
        let (origin, at) = match &setting.origin {
            Origin::Default => ("default", None),
            Origin::File(path, line) => ("file", Some(place(path, *line))),
            Origin::Variable(name) => ("variable", Some(name.clone())),
            Origin::Flag => ("flag", None),
        };
        Self {
            key: setting.key.name,
            value: (setting.origin != Origin::Default).then(|| setting.shown()),
            default: setting.key.default,
            origin,
            at,
            live: setting.key.live,
            about: setting.key.about,
        }
    }
}

fn place(path: &Path, line: usize) -> String {
    format!("{}:{line}", path.display())
}

/// Prints a line for each setting.
pub(crate) fn print_settings(settings: &[Setting], json: bool) -> Result<()> {
    let lines = settings.iter().map(SettingLine::of);
    if json {
        let lines: Result<String> = lines.map(|line| json_line(&line)).collect();
        return write_out(&lines?);
    }
    write_out(&text(settings))
}

fn text(settings: &[Setting]) -> String {
    let shown: Vec<_> = settings.iter().map(Setting::shown).collect();
    let widest = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
    let names = widest(&mut settings.iter().map(|setting| setting.key.name.len()));
    let values = widest(&mut shown.iter().map(|value| value.chars().count())).min(40);
    let mut text = String::new();
    for (setting, value) in settings.iter().zip(shown) {
        let line = SettingLine::of(setting);
        let origin = match (&setting.origin, line.at) {
            (Origin::Flag, _) => format!("--{}", setting.key.name),
            (_, Some(at)) => at,
            (_, None) => line.origin.to_owned(),
        };
        text += &format!("{:<names$}  {value:<values$}  {origin}\n", setting.key.name);
    }
    text
}

/// A file that is right, for programs.
#[derive(Serialize)]
struct CheckedLine {
    path: String,
    keys: usize,
}

/// Says that a file is right.
pub(crate) fn print_checked(path: &Path, keys: usize, json: bool) -> Result<()> {
    let path = path.display().to_string();
    if json {
        return write_out(&json_line(&CheckedLine { path, keys })?);
    }
    let count = match keys {
        1 => "1 key".to_owned(),
        n => format!("{n} keys"),
    };
    write_out(&format!("{path} is right: {count}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;

    #[test]
    fn each_origin_is_shown_for_people_and_for_programs() {
        let setting = |name, values: &[&str], origin| Setting {
            key: keys::find(name).unwrap(),
            values: values.iter().map(|&value| value.to_owned()).collect(),
            origin,
        };
        let settings = [
            setting("network", &[], Origin::Default),
            setting("listen", &["/a", "/b"], Origin::File("/c.toml".into(), 3)),
            setting(
                "max-up",
                &["1MiB/s"],
                Origin::Variable("CASNODE_MAX_UP".to_owned()),
            ),
            setting("memory", &["64MiB"], Origin::Flag),
        ];
        let expected = "network  main    default\n\
                        listen   /a, /b  /c.toml:3\n\
                        max-up   1MiB/s  CASNODE_MAX_UP\n\
                        memory   64MiB   --memory\n";
        assert_eq!(text(&settings), expected);
        let lines = settings
            .each_ref()
            .map(|setting| json_line(&SettingLine::of(setting)).unwrap());
        assert_eq!(
            lines,
            [
                r#"{"key":"network","value":null,"default":"main","origin":"default","at":null,"live":false,"about":"the network's name; those of different names have nothing to do with each other"}"#,
                r#"{"key":"listen","value":"/a, /b","default":"port 4101 of all addresses, TCP and QUIC","origin":"file","at":"/c.toml:3","live":false,"about":"where the node listens"}"#,
                r#"{"key":"max-up","value":"1MiB/s","default":"none","origin":"variable","at":"CASNODE_MAX_UP","live":true,"about":"the most that is sent"}"#,
                r#"{"key":"memory","value":"64MiB","default":"256MiB","origin":"flag","at":null,"live":false,"about":"memory that the node may use, about"}"#,
            ]
            .map(|line| format!("{line}\n"))
        );
    }
}
