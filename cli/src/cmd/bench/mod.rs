//! `casnode bench`: how fast this program is on this machine, and how much of it a plain program would be. It needs no
//! network but the loopback and no other program, and leaves nothing behind whatever happens.

mod child;
mod data;
mod machine;
mod part;
mod plain;
mod samples;
mod stage;
mod steps;
mod transfer;
mod usage;

use clap::ValueEnum;
use tokio_util::sync::CancellationToken;

use self::child::Children;
use self::stage::{ORIGINAL, Stage};
use self::steps::Ratios;
use crate::args::{BenchArgs, Global, Step};
use crate::exit::{Failure, Result};
use crate::output::bench::{heading, line};
use crate::output::{json_line, write_out};
use crate::progress::remark;
use crate::session::{data_dir, interrupted};

pub(super) use self::part::run as run_part;

/// Measures, and leaves nothing behind whatever happens.
pub(super) async fn run(args: BenchArgs, global: &Global, stop: CancellationToken) -> Result<()> {
    let steps = chosen(&args.only);
    let data_dir = data_dir(global.data_dir.as_deref()).ok();
    let folder = data::folder(args.dir.as_deref(), data_dir.as_deref())?;
    data::check_space(folder.path(), args.size, &steps)?;
    let mut stage = Stage {
        folder: folder.path().to_owned(),
        address: String::new(),
        size_bytes: args.size,
        runs: args.runs,
        children: Children::default(),
    };
    let told = stop
        .run_until_cancelled(measure(&mut stage, &steps, global))
        .await
        .ok_or_else(interrupted)
        .and_then(|outcome| outcome);
    stage.children.end().await;
    let path = folder.path().display().to_string();
    let removed = folder
        .close()
        .map_err(|error| Failure::io(format!("cannot remove {path}"), &error));
    told.and(removed)
}

async fn measure(stage: &mut Stage, steps: &[Step], global: &Global) -> Result<()> {
    let machine = machine::look(&stage.folder, stage.size_bytes, stage.runs);
    write_out(&if global.json {
        json_line(&machine)?
    } else {
        heading(&machine)
    })?;
    let say = |text: &str| {
        if !global.quiet {
            remark(text);
        }
    };
    say("bench: writing the file\n");
    let (path, bytes) = (stage.folder.join(ORIGINAL), stage.size_bytes);
    stage.address = data::blocking(move || data::generate(&path, bytes))
        .await
        .map_err(|error| Failure::io("cannot write the file", &error))?;
    let mut ratios = Ratios::default();
    for &step in steps {
        say(&format!("bench: {}\n", step.name()));
        let row = stage.step(step, &mut ratios).await?;
        write_out(&if global.json {
            json_line(&row)?
        } else {
            line(&row)
        })?;
    }
    stage.children.leave_all().await;
    Ok(())
}

/// The steps that were asked for, each once and in their order.
fn chosen(only: &[Step]) -> Vec<Step> {
    let all = Step::value_variants().iter().copied();
    all.filter(|step| only.is_empty() || only.contains(step))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_in_their_order_and_once() {
        assert_eq!(chosen(&[]), Step::value_variants());
        assert_eq!(
            chosen(&[Step::Floor, Step::Hash, Step::Floor]),
            [Step::Hash, Step::Floor]
        );
    }
}
