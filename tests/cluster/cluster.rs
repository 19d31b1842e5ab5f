//! The cluster test: `scripts/cluster.sh test` as a test of the workspace.
//!
//! It needs Docker and a static release build, which takes minutes, so it runs only where it is asked for:
//! `CASNODE_CLUSTER_TEST=1 cargo test --test cluster`. Elsewhere, and where Docker does not run, it is
//! reported as ignored, with the reason. That is decided when the test runs, which the standard test harness
//! cannot do, so this file brings its own `main` and speaks the harness's language: its arguments as far as
//! people and test runners use them, its result lines, its exit codes.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

const NAME: &str = "store_get_kill_a_provider_and_scale_in_containers";

/// The script bounds each of its steps; this is the sum that no machine should need.
const DEADLINE_S: &str = "1500";

/// How long the script may take to remove its containers once the deadline has passed.
const CLEAN_UP_S: &str = "300";

/// The harness's exit code for failed tests.
const FAILED: u8 = 101;

enum Outcome {
    Passed,
    Failed(String),
    Ignored(String),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse(env::args().skip(1));
    if arguments.list {
        // A runner that asks which tests are ignored hears it of this one wherever it would be.
        if arguments.selects(NAME) && (!arguments.ignored || why_not().is_some()) {
            println!("{NAME}: test");
        }
        return ExitCode::SUCCESS;
    }
    let started = Instant::now();
    let outcome = arguments.selects(NAME).then(|| {
        println!("\nrunning 1 test");
        run()
    });
    report(outcome.as_ref(), started)
}

/// Prints the result as the standard harness does; its closing line is what CI systems read.
fn report(outcome: Option<&Outcome>, started: Instant) -> ExitCode {
    let (mut passed, mut failed, mut ignored, mut filtered) = (0, 0, 0, 0);
    match outcome {
        None => {
            println!("\nrunning 0 tests");
            filtered = 1;
        }
        Some(Outcome::Passed) => {
            println!("test {NAME} ... ok");
            passed = 1;
        }
        Some(Outcome::Ignored(reason)) => {
            println!("test {NAME} ... ignored, {reason}");
            ignored = 1;
        }
        Some(Outcome::Failed(reason)) => {
            println!("test {NAME} ... FAILED\n\n{reason}");
            failed = 1;
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; \
         {filtered} filtered out; finished in {:.2}s\n",
        started.elapsed().as_secs_f64()
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    }
}

/// Why the test does not run here.
fn why_not() -> Option<String> {
    if env::var("CASNODE_CLUSTER_TEST").as_deref() != Ok("1") {
        return Some("not asked for: CASNODE_CLUSTER_TEST=1 runs it".to_owned());
    }
    match Command::new(script()).arg("available").output() {
        Ok(answer) if answer.status.success() => None,
        Ok(answer) => Some(String::from_utf8_lossy(&answer.stdout).trim().to_owned()),
        Err(error) => Some(format!("{}: {error}", script().display())),
    }
}

fn run() -> Outcome {
    if let Some(reason) = why_not() {
        return Outcome::Ignored(reason);
    }
    let script = script();
    // In the foreground group, so that Ctrl-C reaches the script too, which then takes its containers down.
    let status = Command::new("timeout")
        .args(["--foreground", "--kill-after", CLEAN_UP_S, DEADLINE_S])
        .arg(&script)
        .arg("test")
        .status();
    match status {
        Ok(status) if status.success() => Outcome::Passed,
        Ok(status) => Outcome::Failed(format!("{} test: {status}", script.display())),
        Err(error) => Outcome::Failed(format!("timeout: {error}")),
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join("scripts")
        .join("cluster.sh")
}

/// What the standard harness would be told, as far as it matters to one test.
#[derive(Default)]
struct Arguments {
    list: bool,
    exact: bool,
    ignored: bool,
    filters: Vec<String>,
    skips: Vec<String>,
}

impl Arguments {
    fn parse(mut given: impl Iterator<Item = String>) -> Self {
        let mut arguments = Self::default();
        while let Some(argument) = given.next() {
            match argument.as_str() {
                "--list" => arguments.list = true,
                "--exact" => arguments.exact = true,
                "--ignored" => arguments.ignored = true,
                "--skip" => arguments.skips.extend(given.next()),
                // Options that take a value which is not a filter.
                "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => {
                    drop(given.next())
                }
                other if other.starts_with('-') => {}
                _ => arguments.filters.push(argument),
            }
        }
        arguments
    }

    fn selects(&self, name: &str) -> bool {
        let matches = |filter: &String| {
            if self.exact {
                name == filter
            } else {
                name.contains(filter.as_str())
            }
        };
        (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skips.iter().any(matches)
    }
}
