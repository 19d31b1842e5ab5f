//! What is asked for on the command line.

use std::path::PathBuf;
use std::str::FromStr;

use casnode_node::SwarmMode;

use super::scenarios::{ALL, Scale};

const OPTIONS: &[(&str, &str, &str)] = &[
    ("scenario", "all", "which one"),
    ("seed", "1", "random numbers, those of the nodes included"),
    ("runs", "1", "so many seeds, from that one on"),
    ("leechers", "per scenario", "nodes beside the seed"),
    ("size", "per scenario", "bytes of the file"),
    ("chunk", "per scenario", "bytes of a chunk"),
    ("mbit", "per scenario", "rate of each line"),
    ("down", "per scenario", "rate down by rate up"),
    ("mode", "per scenario", "fair or trusted"),
    ("check", "no", "yes: look for what must never happen; slow"),
    ("out", "target/sim", "where the plots go"),
];

/// The options of one call.
pub struct Options {
    pub scenario: String,
    pub seed: u64,
    pub runs: u64,
    pub out: PathBuf,
    scale: Scale,
}

impl Options {
    /// Reads a command line without the name of the program.
    ///
    /// # Errors
    /// An option that there is not, one without its value, or with one of another kind.
    pub fn read(args: Vec<String>) -> Result<Self, String> {
        let mut options = Self {
            scenario: "all".into(),
            seed: 1,
            runs: 1,
            out: "target/sim".into(),
            scale: Scale::default(),
        };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let name = arg.trim_start_matches("--");
            let value = args
                .next()
                .ok_or_else(|| format!("{arg} needs a value; see --help"))?;
            match name {
                "scenario" => options.scenario = value,
                "seed" => options.seed = parse(name, &value)?,
                "runs" => options.runs = parse(name, &value)?,
                "leechers" => options.scale.leechers = Some(parse(name, &value)?),
                "size" => options.scale.size_bytes = Some(parse(name, &value)?),
                "chunk" => options.scale.chunk_bytes = Some(parse(name, &value)?),
                "mbit" => options.scale.mbit = Some(parse(name, &value)?),
                "down" => options.scale.down = Some(parse(name, &value)?),
                "mode" => options.scale.mode = Some(mode(&value)?),
                "check" => options.scale.check = value == "yes",
                "out" => options.out = value.into(),
                _ => return Err(format!("there is no option {arg}; see --help")),
            }
        }
        let known =
            options.scenario == "all" || ALL.iter().any(|(name, _, _)| *name == options.scenario);
        match known {
            true => Ok(options),
            false => Err(format!(
                "there is no scenario {}; see --help",
                options.scenario
            )),
        }
    }

    pub fn scale(&self, seed: u64) -> Scale {
        Scale {
            seed,
            ..self.scale.clone()
        }
    }
}

fn mode(value: &str) -> Result<SwarmMode, String> {
    match value {
        "fair" => Ok(SwarmMode::Fair),
        "trusted" => Ok(SwarmMode::Trusted),
        _ => Err(format!("--mode is fair or trusted, not {value}")),
    }
}

fn parse<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("--{name} is a number, not {value}"))
}

pub fn help() {
    println!("sim [--OPTION VALUE]…\n\nScenarios:");
    for (name, what, _) in ALL {
        println!("  {name:<12} {what}");
    }
    println!("\nOptions:");
    for (name, default, what) in OPTIONS {
        println!("  --{name:<12} {what} [{default}]");
    }
}
