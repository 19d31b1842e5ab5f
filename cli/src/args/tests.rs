use clap::CommandFactory;

use super::*;
use crate::size;

const ADDRESS: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

fn parse(words: &[&str]) -> Result<Args, clap::Error> {
    Args::try_parse_from(std::iter::once(&"casnode").chain(words))
}

#[test]
fn the_definition_is_sound() {
    Args::command().debug_assert();
}

#[test]
fn help_lists_every_exit_code() {
    let help = Args::command().render_long_help().to_string();
    for code in ["0", "1", "2", "10", "11", "12", "13", "15", "16", "130"] {
        assert!(
            help.lines()
                .any(|line| line.trim_start().starts_with(&format!("{code} "))),
            "{code} is missing in {help}"
        );
    }
}

#[test]
fn global_flags_stand_before_or_after_the_command() {
    assert!(parse(&["--json", "ls"]).unwrap().global.json);
    let args = parse(&["ls", "--json", "-q", "-vv", "--data-dir", "/x"]).unwrap();
    assert!(args.global.json && args.global.quiet);
    assert_eq!(args.global.verbose, 2);
    assert_eq!(args.global.data_dir, Some("/x".into()));
}

#[test]
fn a_malformed_address_is_a_usage_error_that_says_what_is_wrong() {
    let error = parse(&["get", "xyz"]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("3 characters"), "{error}");
    assert!(error.to_string().contains("'x'"), "{error}");
}

#[test]
fn a_dash_is_a_path() {
    let Command::Store(store) = parse(&["store", "-"]).unwrap().command else {
        panic!()
    };
    assert_eq!(store.paths, ["-"]);
    let Command::Get(get) = parse(&["get", ADDRESS, "-o", "-"]).unwrap().command else {
        panic!()
    };
    assert_eq!(get.output, Some("-".into()));
}

#[test]
fn store_takes_files_or_a_subcommand() {
    let store = |words: &[&str]| match parse(words)?.command {
        Command::Store(store) => Ok::<_, clap::Error>(store),
        other => panic!("{other:?}"),
    };
    let several = store(&["store", "a", "--in-place", "b", "help"]).unwrap();
    assert_eq!(several.paths, ["a", "b", "help"]);
    assert!(several.in_place && !several.no_pin && several.upkeep.is_none());
    assert!(store(&["store", "rebuild-index"]).unwrap().upkeep.is_some());
    let file = store(&["store", "./rebuild-index"]).unwrap();
    assert_eq!(file.paths, ["./rebuild-index"]);
    assert!(store(&["store"]).is_err());
    assert!(store(&["store", "rebuild-index", "a"]).is_err());
    let help = parse(&["store", "--help"]).unwrap_err().to_string();
    assert!(help.contains("./rebuild-index"), "{help}");
}

#[test]
fn what_is_kept_of_a_get_is_one_thing() {
    assert!(parse(&["get", ADDRESS, "--in-place", "--pin"]).is_ok());
    for pair in [
        ["--in-place", "--no-keep"],
        ["--copy", "--no-keep"],
        ["--in-place", "--copy"],
        ["--no-keep", "--pin"],
        ["--pin", "--no-keep"],
    ] {
        let words = [&["get", ADDRESS][..], &pair].concat();
        assert_eq!(parse(&words).unwrap_err().exit_code(), 2, "{pair:?}");
    }
}

#[test]
fn a_limit_and_a_pace_are_sizes() {
    let limit = |words: &[&str]| parse(words).map(|args| args.global.max_store);
    let gib = size::Limit(Some(casnode_node::StoreLimit::Bytes(1 << 30)));
    assert_eq!(limit(&["ls", "--max-store", "1GiB"]).unwrap(), Some(gib));
    assert!(limit(&["ls", "--max-store", "1"]).is_err());
    let rate = |words: &[&str]| match parse(words)?.command {
        Command::Daemon(daemon) => Ok::<_, clap::Error>(daemon.scrub_rate.0),
        other => panic!("{other:?}"),
    };
    assert_eq!(rate(&["daemon"]).unwrap(), Some(8 << 20));
    assert_eq!(rate(&["daemon", "--scrub-rate", "off"]).unwrap(), None);
}

#[test]
fn durations_are_read_as_people_write_them() {
    let Command::Get(get) = parse(&["get", ADDRESS, "--timeout", "1m 30s"])
        .unwrap()
        .command
    else {
        panic!()
    };
    assert_eq!(get.timeout, Some(Duration::from_secs(90)));
    assert_eq!(
        parse(&["get", ADDRESS, "--timeout", "soon"])
            .unwrap_err()
            .exit_code(),
        2
    );
}

#[test]
fn a_demo_needs_four_nodes() {
    assert!(parse(&["demo", "--nodes", "3"]).is_err());
    let Command::Demo(demo) = parse(&["demo"]).unwrap().command else {
        panic!()
    };
    assert_eq!(demo.nodes, 5);
}

#[test]
fn a_commands_own_options_stand_apart_from_the_global_ones() {
    for command in ["ls", "get", "daemon"] {
        let help = parse(&["help", command]).unwrap_err().to_string();
        let (own, global) = help.split_once("Global options:").unwrap();
        for option in ["--data-dir", "--json", "--quiet", "--verbose"] {
            assert!(!own.contains(option) && global.contains(option), "{help}");
        }
        assert!(own.contains("--help"), "{help}");
    }
}

#[test]
fn help_says_what_the_limits_are() {
    // Lines are broken where the terminal ends.
    let help = |command| {
        let help = parse(&[command, "--help"]).unwrap_err().to_string();
        help.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let get = help("get");
    assert!(get.contains("30 s to find a provider"), "{get}");
    assert!(get.contains("5 min without progress"), "{get}");
    let demo = help("demo");
    assert!(demo.contains("4..=32"), "{demo}");
    assert!(demo.contains("12 times the file's size"), "{demo}");
    assert!(demo.contains("TMPDIR"), "{demo}");
}

#[test]
fn wrong_choices_are_usage_errors_that_say_what_is_allowed() {
    for (words, allowed) in [
        (&["daemon", "--network", "Main"][..], "a-z, 0-9 and -"),
        (&["get", ADDRESS, "--profile", "big"], "home, server or lab"),
        (
            &["store", "a", "--cipher", "rot13"],
            "auto, aes or chacha20",
        ),
        (&["daemon", "--dht-mode", "off"], "auto, server or client"),
        (&["daemon", "--max-up", "10"], "10MiB/s"),
        (&["daemon", "--max-down", "10MiB"], "10MiB/s"),
        (&["limits", "--up", "10"], "10MiB/s"),
        (&["limits", "--local", "yes"], "on or off"),
        (&["dht", "mode", "off"], "auto, server or client"),
        (&["dht", "lookup", "xyz"], "64 hex digits"),
        (&["dht", "put-test", "--timeout", "soon"], "soon"),
    ] {
        let error = parse(words).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{words:?}");
        assert!(error.to_string().contains(allowed), "{error}");
    }
}

#[test]
fn whatever_joins_takes_the_networks_name_and_limits() {
    for words in [
        &["daemon"][..],
        &["store", "a"],
        &["get", ADDRESS],
        &["verify", "--repair"],
        &["providers", ADDRESS],
        &["provide", "now"],
        &["dht", "lookup", ADDRESS],
        &["dht", "get", ADDRESS],
        &["dht", "put-test"],
    ] {
        let words = [
            words,
            &["--network", "lab", "--profile", "lab", "--max-up", "1MiB/s"],
            &["--cipher", "aes"],
        ]
        .concat();
        assert!(parse(&words).is_ok(), "{words:?}");
    }
}
