//! A value is right when the argument it stands for takes it.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

use super::keys::{Key, words};

/// The argument of a key, in whatever command has it.
pub(super) fn argument<'a>(command: &'a Command, key: &Key) -> Option<&'a Arg> {
    argument_below(command, "", key)
}

fn argument_below<'a>(command: &'a Command, of: &str, key: &Key) -> Option<&'a Arg> {
    let id = key.id();
    let mut own = command.get_arguments();
    let own = own.find(|arg| key.is_for(of) && *arg.get_id() == *id);
    own.or_else(|| {
        command.get_subcommands().find_map(|subcommand| {
            argument_below(subcommand, &words(of, subcommand.get_name()), key)
        })
    })
}

/// Why an argument does not take this value; `None`: it does.
pub(super) fn complaint(arg: &Arg, value: &str) -> Option<String> {
    const PROBE: &str = "value";
    // Alone, so that nothing but the value can be wrong; and a flag takes a value too, as its variable does.
    let arg = Arg::new(PROBE)
        .long(PROBE)
        .action(ArgAction::Set)
        .value_parser(arg.get_value_parser().clone());
    let probe = Command::new(PROBE)
        .no_binary_name(true)
        .disable_help_flag(true)
        .arg(arg);
    let error = probe
        .try_get_matches_from([format!("--{PROBE}={value}")])
        .err()?;
    Some(reason(&error))
}

fn reason(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::InvalidValue
        && let Some(ContextValue::Strings(allowed)) = error.get(ContextKind::ValidValue)
        && !allowed.is_empty()
    {
        return format!("write one of {}", allowed.join(", "));
    }
    match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.kind().to_string(),
    }
}
