//! The page of limits, docs/limits.md, which is made from the command line's own help.

use std::collections::BTreeMap;

use clap::{Command, CommandFactory as _};
use quintet_http2::connection::{Allowance, FRAMES_PER_SENT, Limits};

use super::{cli::Cli, page};

/// The heading in `--help` of all flags that bound what a client can make the server hold, compute or wait for.
const HEADING: &str = "Limits";

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

fn flags() -> String {
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

/// What one HTTP/2 connection may do. These limits have no flags: they bound what no client needs.
fn http2() -> String {
    let Limits {
        concurrent_streams,
        header_list_bytes,
        field_block_bytes,
        continuation_frames,
        settings_entries,
        empty_frames,
        rapid_resets,
    } = Limits::default();
    let often = |allowed: Allowance| format!("{} at once, then {} a second", allowed.burst, allowed.per_second);
    let rows = [
        (
            "open streams",
            concurrent_streams.to_string(),
            "each has a request and a body; further ones get REFUSED_STREAM",
        ),
        (
            "bytes of a request's fields",
            header_list_bytes.to_string(),
            "held while the request runs; more gets status 431",
        ),
        ("bytes of a field block as sent", field_block_bytes.to_string(), "held until it is complete"),
        ("CONTINUATION frames of a field block", continuation_frames.to_string(), "empty ones add no bytes to it"),
        ("values in a SETTINGS frame", settings_entries.to_string(), "each costs work; the standard defines six"),
        (
            "frames that carry nothing: PING, SETTINGS, WINDOW_UPDATE, PRIORITY, empty DATA, unknown ones",
            format!("{}, and {FRAMES_PER_SENT} for each frame of a response", often(empty_frames)),
            "they cost work, and some an answer",
        ),
        (
            "streams that end at once by a reset of the client or by its error",
            often(rapid_resets),
            "they cost work and do not count as open (CVE-2023-44487, CVE-2025-8671)",
        ),
    ];
    let rows = rows.map(|(what, limit, reason)| format!("| {what} | {limit} | {reason} |\n"));
    format!("| of one connection | limit | reason |\n|---|---|---|\n{}", rows.concat())
}

#[test]
fn the_page_lists_every_limit_with_its_default() {
    page::check("docs/limits.md", &[("flags", flags()), ("http2", http2())]);
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
