//! Settings: a file, variables and flags, and what is said of mistakes in them.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Call, Home, LIMIT, Node, casnode, signal, wait_until};

/// A data directory, and a config file with this text beside what is in it.
fn home_with(text: &str) -> (Home, PathBuf) {
    let home = Home::new();
    let path = home.path().join("settings.toml");
    fs::write(&path, text).unwrap();
    (home, path)
}

/// What `config show` says of a key: its value and its origin.
fn shown(call: Call, key: &str) -> (Value, Value) {
    let lines = call.run().ok().json_lines();
    let line = lines.into_iter().find(|line| line["key"] == key).unwrap();
    (line["value"].clone(), line["origin"].clone())
}

#[test]
fn a_flag_is_stronger_than_a_variable_and_that_than_the_file() {
    let (home, path) = home_with(
        "# limits\nmax-up = \"1MiB/s\"\nno-mdns = true\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\n",
    );
    let show = || {
        home.call(["--json", "config", "show"])
            .env("CASNODE_CONFIG", &path)
    };
    let variable = || show().env("CASNODE_MAX_UP", "2MiB/s");
    let of = |value: &str, origin: &str| (Value::from(value), Value::from(origin));
    assert_eq!(shown(show(), "max-up"), of("1MiB/s", "file"));
    assert_eq!(shown(variable(), "max-up"), of("2MiB/s", "variable"));
    let flag = variable().args(["--max-up", "3MiB/s"]);
    assert_eq!(shown(flag, "max-up"), of("3MiB/s", "flag"));
    // An empty variable says nothing.
    let empty = show().env("CASNODE_MAX_UP", "");
    assert_eq!(shown(empty, "max-up"), of("1MiB/s", "file"));
    let none = show().env("CASNODE_CONFIG", "none");
    assert_eq!(shown(none, "max-up"), (Value::Null, Value::from("default")));
    assert_eq!(shown(show(), "no-mdns"), of("true", "file"));
    // --config is stronger than its variable.
    let other = show().args(["--config", "none"]);
    assert_eq!(shown(other, "no-mdns").1, "default");
    let text = home
        .call(["config", "show"])
        .env("CASNODE_CONFIG", &path)
        .run()
        .ok()
        .text();
    assert!(text.contains(&format!("{}:2", path.display())), "{text}");
}

#[test]
fn the_file_is_looked_for_in_the_users_config_folder() {
    let home = Home::new();
    let folder = home.path().join("config/casnode");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.toml"), "memory = \"64MiB\"\n").unwrap();
    let call = || {
        home.call(["--json", "config", "show"])
            .env("XDG_CONFIG_HOME", home.path().join("config"))
            .without_env("CASNODE_CONFIG")
    };
    assert_eq!(shown(call(), "memory").0, "64MiB");
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(shown(call(), "memory").0, Value::Null);
}

#[test]
fn what_the_file_says_is_what_commands_do() {
    let (home, path) = home_with("");
    let store = home.path().join("elsewhere");
    let text = format!(
        "data-dir = {:?}\nchunker = \"fastcdc\"\nmax-store = \"64MiB\"\n",
        store.display()
    );
    fs::write(&path, text).unwrap();
    let file = home.path().join("a");
    fs::write(&file, vec![1; 1000]).unwrap();
    let call = |words: &[&str]| casnode(words).env("CASNODE_CONFIG", &path);
    call(&["store", "--no-mdns", file.to_str().unwrap()])
        .run()
        .ok();
    assert!(store.join("FORMAT").exists());
    let status = call(&["--json", "status"]).run().ok().json();
    assert_eq!(status["max_store_bytes"], 64 << 20);
}

#[test]
fn each_mistake_in_a_file_is_told_with_its_line() {
    let (home, path) =
        home_with("max-sotre = \"1GiB\"\nmax-up = 10\n\nlisten = [\n  \"/unix/x\",\n]\nsecret\n");
    let check = || home.call(["config", "check"]).arg(&path);
    let told = check().run().exits(2);
    let told = told.says(&format!("4 mistakes in the config file {}", path.display()));
    for part in [
        "line 1: max-sotre is no key; did you mean max-store?",
        "line 2: max-up = \"10\": which unit? write 10MiB/s",
        "line 5: listen = \"/unix/x\": a node listens on TCP and QUIC alone",
        "line 7: is not TOML",
        "next: correct it",
    ] {
        assert!(told.stderr.contains(part), "{part} in\n{}", told.stderr);
    }
    // Whatever heeds it says the same, and does nothing.
    let ls = home
        .call(["ls"])
        .env("CASNODE_CONFIG", &path)
        .run()
        .exits(2);
    ls.says("did you mean max-store?");
    fs::write(&path, "max-up = \"10MiB/s\"\n").unwrap();
    let right = check().arg("--json").run().ok().json();
    assert_eq!(right["keys"], 1);
    assert_eq!(right["path"], path.to_str().unwrap());
}

#[test]
fn a_file_that_is_not_there_or_no_text_is_named() {
    let (home, path) = home_with("");
    let missing = home.path().join("missing.toml");
    let call = |config: &PathBuf| home.call(["ls", "--config"]).arg(config).run();
    call(&missing).exits(2).says("there is no config file");
    call(&home.path().to_owned())
        .exits(2)
        .says("cannot be read");
    fs::write(&path, b"memory = \"1GiB\"\n# \xff\n").unwrap();
    call(&path).exits(2).says("line 2: is not UTF-8");
    fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    call(&path).exits(2).says("longer than 1 MiB");
}

#[test]
fn wrong_variables_are_told_together_by_name() {
    let home = Home::new();
    let call = |words: &[&str]| {
        home.call(words)
            .env("CASNODE_MAX_UP", "10")
            .env("CASNODE_BOOTSTRAP", "/ip4/127.0.0.1/tcp/1,nowhere")
    };
    let told = call(&["config", "show"])
        .run()
        .exits(2)
        .says("2 variables have wrong values");
    let told = told.says("CASNODE_MAX_UP: \"10\": which unit?");
    told.says("CASNODE_BOOTSTRAP: \"nowhere\": it is not a multiaddr");
    // Of those alone that would be listened to.
    call(&["pin", "ls"]).run().ok();
    call(&[
        "config",
        "show",
        "--max-up",
        "none",
        "--bootstrap",
        "/dnsaddr/x",
    ])
    .run()
    .ok();
}

#[test]
fn a_limit_in_the_file_is_not_held_against_a_running_daemon() {
    let (home, path) = home_with("max-store = \"2GiB\"\nnetwork = \"lab\"\nmax-up = \"1MiB/s\"\n");
    let node = Node::start_on(home, &[]);
    let file = node.home.path().join("a");
    fs::write(&file, b"a").unwrap();
    let run = node
        .home
        .call(["store", "a"])
        .current_dir(node.home.path())
        .env("CASNODE_CONFIG", &path)
        .run()
        .ok();
    assert!(!run.stderr.contains("a daemon runs"), "{}", run.stderr);
    let typed = node.home.call(["ls", "--max-store", "2GiB"]).run();
    typed.exits(2).says("is not what the daemon was told");
}

#[test]
fn logs_are_for_people_or_for_programs() {
    let home = Home::new();
    let silent = home.networked(
        [
            "-q",
            "--log-level",
            "info",
            "--log-format",
            "json",
            "providers",
            &"0".repeat(64),
            "--timeout",
            "1s",
        ],
        &[],
    );
    let run = silent.run();
    let logged: Vec<Value> = run
        .stderr
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!logged.is_empty(), "{}", run.stderr);
    for line in logged {
        assert!(
            line["level"].is_string() && line["timestamp"].is_string(),
            "{line}"
        );
    }
}

/// A daemon that reads this file, and its limits.
fn daemon_with(text: &str) -> (Node, PathBuf) {
    daemon_as(text, &[])
}

fn daemon_as(text: &str, more: &[&str]) -> (Node, PathBuf) {
    let (home, path) = home_with(text);
    let options = [
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
        "--config",
        path.to_str().unwrap(),
    ];
    let options = [&options, more].concat();
    (Node::start_as(home, &[], &options), path)
}

fn limits(node: &Node) -> Value {
    node.home.call(["limits", "--json"]).run().ok().json()
}

fn status(node: &Node) -> Value {
    node.home.call(["status", "--json"]).run().ok().json()
}

#[test]
fn a_running_daemon_takes_new_limits_over() {
    let (node, path) =
        daemon_with("max-up = \"1MiB/s\"\nmax-store = \"1GiB\"\nscrub-rate = \"off\"\n");
    assert_eq!(limits(&node)["up_bytes_per_s"], 1 << 20);
    assert!(status(&node)["scrub"].is_null());
    fs::write(
        &path,
        "max-down = \"3MiB/s\"\nlimit-local = \"off\"\nmax-store = \"2GiB\"\nscrub-rate = \"4MiB/s\"\nnetwork = \"lab\"\n",
    )
    .unwrap();
    signal(&node.child, Signal::HUP);
    wait_until("the new limits", || {
        node.said().contains("scrub-rate: off -> 4MiB/s")
    });
    let now = limits(&node);
    assert_eq!(now["up_bytes_per_s"], Value::Null);
    assert_eq!(now["down_bytes_per_s"], 3 << 20);
    assert_eq!(now["local"], false);
    let now = status(&node);
    assert_eq!(now["max_store_bytes"], 2u64 << 30);
    assert_eq!(now["scrub"]["bytes_per_s"], 4 << 20);
    assert_eq!(now["network"], "main");
    assert!(
        node.said()
            .contains("network: main -> lab (with the next start)"),
        "{}",
        node.said()
    );
}

#[test]
fn what_waits_for_the_next_start_is_a_warning_also_where_programs_read_the_log() {
    let (node, path) = daemon_as("", &["--quiet", "--log-format", "json"]);
    fs::write(&path, "network = \"lab\"\n").unwrap();
    signal(&node.child, Signal::HUP);
    let what = "network: main -> lab (with the next start)";
    wait_until("a warning", || node.said().contains(what));
    let said = node.said();
    let line = said.lines().find(|line| line.contains(what)).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["level"], "WARN", "{line}");
}

#[test]
fn a_broken_file_changes_nothing_of_a_running_daemon() {
    let (node, path) = daemon_with("max-up = \"1MiB/s\"\n");
    fs::write(&path, "max-up = \"2MiB/s\"\nmax-dwon = \"1MiB/s\"\n").unwrap();
    signal(&node.child, Signal::HUP);
    wait_until("a warning", || {
        node.said().contains("the settings stay as they are")
    });
    assert!(
        node.said()
            .contains("line 2: max-dwon is no key; did you mean max-down?"),
        "{}",
        node.said()
    );
    assert_eq!(limits(&node)["up_bytes_per_s"], 1 << 20);
    // Corrected, it is taken over.
    fs::write(&path, "max-up = \"2MiB/s\"\n").unwrap();
    signal(&node.child, Signal::HUP);
    wait_until("the new limit", || {
        node.said().contains("max-up: 1MiB/s -> 2MiB/s")
    });
    assert_eq!(limits(&node)["up_bytes_per_s"], 2 << 20);
}

#[test]
fn the_service_manager_is_told_when_the_daemon_listens() {
    let home = Home::new();
    let path = home.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let call = home
        .networked(["daemon", "--until-eof"], &[])
        .env("NOTIFY_SOCKET", &path);
    let (running, stdin) = call.spawn_open();
    let mut state = [0; 64];
    let mut next = || {
        let length = socket.recv(&mut state).unwrap();
        String::from_utf8_lossy(&state[..length]).into_owned()
    };
    assert_eq!(next(), "READY=1");
    running.signal(Signal::HUP);
    assert_eq!(
        (next(), next()),
        ("RELOADING=1".to_owned(), "READY=1".to_owned())
    );
    drop(stdin);
    running.wait().ok();
}
