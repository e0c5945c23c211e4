//! The page of limits, docs/limits.md, which is made from the command line's own help.

use std::{collections::BTreeMap, fs, path::Path};

use clap::{Command, CommandFactory as _};

use super::cli::Cli;

/// The heading in `--help` of all flags that bound what a client can make the server hold, compute or wait for.
const HEADING: &str = "Limits";
/// The lines of docs/limits.md between which the table stands.
const MARKS: [&str; 2] = ["<!-- flags: begin -->\n", "<!-- flags: end -->\n"];

/// A flag's default and what it bounds, from its help.
fn described(argument: &clap::Arg) -> (String, String) {
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    if let Some((what, default)) = help.split_once(" [default: ") {
        return (default.trim_end_matches(']').to_owned(), what.to_owned());
    }
    let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    (defaults.join(", "), help)
}

/// The limits of a command: by flag, the default and what is bounded.
fn limits(command: &Command) -> BTreeMap<String, (String, String)> {
    let limits = command.get_arguments().filter(|argument| argument.get_help_heading() == Some(HEADING));
    limits.map(|argument| (format!("--{}", argument.get_long().unwrap_or_default()), described(argument))).collect()
}

fn table() -> String {
    let command = Cli::command();
    let triton = limits(&command);
    let suite = limits(command.find_subcommand("suite").expect("the suite is a subcommand"));
    let mut rows = BTreeMap::new();
    for (mode, flags) in [("suite", &suite), ("Triton", &triton)] {
        for (flag, (default, what)) in flags {
            rows.entry(flag).or_insert_with(|| (default, what, Vec::new())).2.push(mode);
        }
    }
    let mut table = String::from("| flag | default | what it bounds |\n|---|---|---|\n");
    for (flag, (default, what, modes)) in rows {
        let only = if let [mode] = modes[..] { format!(" ({mode} only)") } else { String::new() };
        table += &format!("| `{flag}`{only} | {default} | {what} |\n");
    }
    table
}

#[test]
fn the_page_lists_every_limit_with_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/limits.md");
    let page = fs::read_to_string(&path).unwrap();
    let [begin, end] = MARKS.map(|mark| page.find(mark).expect(mark));
    let wanted = format!("{}{}{}", &page[..begin + MARKS[0].len()], table(), &page[end..]);
    if std::env::var_os("QUINTET_WRITE_LIMITS").is_some() {
        fs::write(&path, &wanted).unwrap();
        return;
    }
    assert!(page == wanted, "docs/limits.md does not list the limits; run this test with QUINTET_WRITE_LIMITS=1");
}

#[test]
fn every_flag_that_names_a_maximum_or_a_timeout_is_a_limit() {
    let command = Cli::command();
    for command in [&command, command.find_subcommand("suite").expect("the suite is a subcommand")] {
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let long = argument.get_long().unwrap_or_default();
            let names_a_limit = ["max-", "-timeout", "-max"].iter().any(|part| long.contains(part));
            assert!(!names_a_limit || argument.get_help_heading() == Some(HEADING), "--{long} has another heading");
        }
    }
}
