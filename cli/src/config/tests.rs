//! The order of strength, without an environment: variables are tested from outside.

use std::fs;

use super::*;

fn typed(words: &[&str]) -> Vec<OsString> {
    let all = std::iter::once(&"casnode").chain(words);
    all.map(OsString::from).collect()
}

/// What a command makes of a file with this text.
fn read_with(text: &str, words: &[&str]) -> Result<(Args, Settings), Stop> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, text).unwrap();
    let config = ["--config", path.to_str().unwrap()];
    read(typed(&[&config, words].concat()))
}

fn origin(settings: &Settings, name: &str) -> String {
    match settings.origin(name).unwrap() {
        Origin::File(_, line) => format!("line {line}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_file_fills_in_what_is_not_typed() {
    let text = "max-up = \"1MiB/s\"\nmemory = \"64MiB\"\nno-mdns = true\nscrub-rate = \"off\"\nlisten = [\"/ip4/127.0.0.1/tcp/1\", \"/ip4/127.0.0.1/tcp/2\"]\n";
    let typed = ["daemon", "--max-up", "2MiB/s"];
    let (args, settings) = read_with(text, &typed).unwrap();
    let crate::args::Command::Daemon(daemon) = args.command else {
        panic!()
    };
    assert_eq!(
        args.global.memory.unwrap().0.unwrap().total_bytes(),
        64 << 20
    );
    assert_eq!(daemon.scrub_rate.0, None);
    let network = daemon.network.into_config();
    assert_eq!(
        network.bandwidth.up_bytes_per_s.map(Into::into),
        Some(2 << 20)
    );
    assert!(!network.mdns);
    assert_eq!(network.listen.len(), 2);
    let origins =
        ["max-up", "memory", "no-mdns", "listen", "max-down"].map(|name| origin(&settings, name));
    assert_eq!(origins, ["Flag", "line 2", "line 3", "line 5", "Default"]);
    assert!(settings.is_typed("max-up") && !settings.is_said_here("memory"));
}

#[test]
fn what_is_meant_for_the_daemon_is_not_for_others() {
    let text =
        "seed = \"30m\"\nswarm = \"fair\"\nlisten = \"/ip4/127.0.0.1/tcp/1\"\ntimeout = \"7s\"\n";
    let address = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    let (args, settings) = read_with(text, &["get", address]).unwrap();
    let crate::args::Command::Get(get) = args.command else {
        panic!()
    };
    assert!(get.seed.is_none() && get.swarm.is_none() && get.network.listen.is_empty());
    assert_eq!(get.timeout, Some(std::time::Duration::from_secs(7)));
    assert_eq!(origin(&settings, "seed"), "Default");
    assert_eq!(origin(&settings, "timeout"), "line 4");
}

#[test]
fn show_knows_every_key_and_flags_before_and_after_the_command() {
    let typed = ["--memory", "1GiB", "config", "show", "--seed", "1h"];
    let (_, settings) = read_with("dht-mode = \"client\"\n", &typed).unwrap();
    let all = settings.all();
    assert_eq!(all.len(), KEYS.len());
    let shown = |name| {
        let setting = all.iter().find(|setting| setting.key.name == name);
        setting.unwrap().shown()
    };
    assert_eq!(
        (shown("memory"), shown("seed")),
        ("1GiB".to_owned(), "1h".to_owned())
    );
    assert_eq!(
        (shown("dht-mode"), shown("network")),
        ("client".to_owned(), "main".to_owned())
    );
    assert_eq!(origin(&settings, "seed"), "Flag");
}

#[test]
fn a_broken_file_stops_what_heeds_it_and_nothing_else() {
    let broken = "no key at all\n";
    for typed in [&["ls"][..], &["daemon"], &["config", "show"]] {
        let stopped =
            matches!(read_with(broken, typed), Err(Stop::Failure(failure)) if failure.code() == 2);
        assert!(stopped, "{typed:?}");
    }
    for typed in [
        &["completions", "bash"][..],
        &["config", "check", "x"],
        &["demo"],
    ] {
        assert!(read_with(broken, typed).is_ok(), "{typed:?}");
    }
    assert!(matches!(
        read_with(broken, &["ls", "--help"]),
        Err(Stop::Clap(_))
    ));
}

#[test]
fn a_file_that_was_named_has_to_be_there() {
    let missing = read(typed(&["--config", "/no/such/file", "ls"]));
    assert!(matches!(missing, Err(Stop::Failure(failure)) if failure.code() == 2));
    assert!(read(typed(&["--config", "none", "ls"])).is_ok());
    assert_eq!(Place::named_or_usual(Some("none".into())), None);
}
