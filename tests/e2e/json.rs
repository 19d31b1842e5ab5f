//! `--json`: of every command, one object a line and nothing else.

use serde_json::Value;

use crate::content::Sample;
use crate::harness::{Node, casnode, folder};

/// Commands whose output is tested elsewhere: nodes of their own, minutes of work, a browser, or help.
const ELSEWHERE: [&str; 5] = ["daemon", "demo", "bench", "web", "help"];

/// What is typed for each command; `ADDRESS` stands for a file that is here.
const CALLS: [&[&str]; 32] = [
    &["stat", "ADDRESS"],
    &["ls"],
    &["ls", "--all"],
    &["link", "ADDRESS"],
    &["pin", "ls"],
    &["pin", "add", "ADDRESS"],
    &["pin", "rm", "ADDRESS"],
    &["gc", "--dry-run"],
    &["gc"],
    &["du"],
    &["du", "ADDRESS"],
    &["verify"],
    &["providers", "ADDRESS"],
    &["why", "ADDRESS"],
    &["doctor"],
    &["provide", "status"],
    &["provide", "status", "ADDRESS"],
    &["provide", "now"],
    &["dht", "lookup", "ADDRESS"],
    &["dht", "get", "ADDRESS"],
    &["dht", "put-test"],
    &["dht", "mode"],
    &["limits"],
    &["metrics"],
    &["status"],
    &["status", "ADDRESS"],
    &["peers"],
    &["config", "show"],
    &["completions", "fish"],
    &["man", "FOLDER"],
    &["cat", "ADDRESS"],
    &["rm", "ADDRESS"],
];

#[test]
fn each_command_prints_objects_a_line_and_nothing_else() {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let sample = Sample::new(730, 5000);
    let stored = a
        .call(["store", "--json"])
        .arg(&sample.path)
        .run()
        .ok()
        .json();
    let address = stored["address"].as_str().unwrap();
    let pages = folder();
    let got = b.get(address, &sample.copy_path());
    assert_eq!(got["address"], address);
    for call in CALLS {
        let words = call.iter().map(|word| match *word {
            "ADDRESS" => address,
            "FOLDER" => pages.path().to_str().unwrap(),
            word => word,
        });
        let run = b.call(words).arg("--json").run().ok();
        // The bytes of a file are no result: they are all that is printed.
        if call[0] == "cat" {
            assert_eq!(run.stdout, sample.bytes);
            continue;
        }
        let lines = run.json_lines();
        assert!(lines.iter().all(Value::is_object), "{call:?}: {lines:?}");
        let may_be_empty = *call == ["pin", "ls"];
        assert!(may_be_empty || !lines.is_empty(), "{call:?}");
    }
}

#[test]
fn no_command_is_left_out() {
    let help = casnode(["--help"]).run().ok().text();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let names: Vec<_> = listed
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .collect();
    let names: Vec<_> = names.into_iter().filter(|name| !name.is_empty()).collect();
    assert!(names.len() > 20, "{help}");
    for name in names {
        let is_called = CALLS.iter().any(|call| call[0] == name);
        // Those two come first in the test above.
        let is_known = is_called || ["store", "get"].contains(&name) || ELSEWHERE.contains(&name);
        assert!(is_known, "what does `{name} --json` print?");
    }
}
