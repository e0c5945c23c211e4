//! `cargo xtask release` and `cargo xtask release-notes`: the version in all files that have it, and the changelog.

use std::{fs, path::Path};

use anyhow::{Context as _, bail, ensure};
use time::{Date, OffsetDateTime};

use crate::{process::run, project::root};

const MANIFEST: &str = "Cargo.toml";
const CHANGELOG: &str = "CHANGELOG.md";
const CHART: &str = "deploy/helm/quintet/Chart.yaml";
const UNRELEASED: &str = "## Unreleased";

/// Sets the version in the workspace, `Cargo.lock` and the Helm chart, and closes the changelog's unreleased section. Commits
/// nothing: it prints the commands that do.
///
/// # Errors
/// When the version is not newer than the current one, or nothing is unreleased.
pub(crate) fn release(version: &str) -> anyhow::Result<()> {
    let today = OffsetDateTime::now_utc().date();
    set(&root(), version, today)?;
    run("cargo", &["update", "--workspace", "--offline"])?;
    eprintln!(
        "Look at the difference, then:\n  git commit --all --message 'Release {version}'\n  git tag --annotate v{version} \
         --message 'Quintet {version}'\n  git push --follow-tags"
    );
    Ok(())
}

/// Prints a version's section of the changelog, without its heading, to stdout.
///
/// # Errors
/// When the changelog has no such version.
#[allow(clippy::print_stdout, reason = "the result")]
pub(crate) fn notes(version: &str) -> anyhow::Result<()> {
    let changelog = fs::read_to_string(root().join(CHANGELOG)).context(CHANGELOG)?;
    println!("{}", section(&changelog, version)?);
    Ok(())
}

fn set(root: &Path, version: &str, today: Date) -> anyhow::Result<()> {
    let read = |name: &str| fs::read_to_string(root.join(name)).with_context(|| name.to_owned());
    // Nothing is written before everything is known to fit.
    let files = [
        (MANIFEST, with_version(&read(MANIFEST)?, "version = \"", version)?),
        (CHART, with_version(&with_version(&read(CHART)?, "version: \"", version)?, "appVersion: \"", version)?),
        (CHANGELOG, closed(&read(CHANGELOG)?, version, today)?),
    ];
    for (name, text) in files {
        fs::write(root.join(name), text).with_context(|| name.to_owned())?;
    }
    Ok(())
}

/// The text with another version in the first line that begins with `before`.
fn with_version(text: &str, before: &str, version: &str) -> anyhow::Result<String> {
    let line = text.lines().find(|line| line.starts_with(before)).with_context(|| format!("no line {before}...\""))?;
    let current = line[before.len()..].trim_end_matches('"');
    ensure!(numbers(version)? > numbers(current)?, "{version} is not newer than {current}");
    Ok(text.replacen(line, &format!("{before}{version}\""), 1))
}

/// `(0, 2, 0)` for `0.2.0`.
fn numbers(version: &str) -> anyhow::Result<(u32, u32, u32)> {
    let parts: Option<Vec<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
    match parts.as_deref() {
        Some([major, minor, patch]) => Ok((*major, *minor, *patch)),
        _ => bail!("{version} is not a version such as 0.2.0"),
    }
}

/// The changelog with what was unreleased under the version and its date.
fn closed(changelog: &str, version: &str, today: Date) -> anyhow::Result<String> {
    let unreleased = between(changelog, UNRELEASED).context("the changelog has no unreleased section")?;
    ensure!(!unreleased.is_empty(), "the changelog says of nothing that it is unreleased");
    Ok(changelog.replacen(UNRELEASED, &format!("{UNRELEASED}\n\n## {version} ({today})"), 1))
}

/// What the changelog says of a version.
fn section<'a>(changelog: &'a str, version: &str) -> anyhow::Result<&'a str> {
    between(changelog, &format!("## {version} (")).with_context(|| format!("{CHANGELOG} has no section for {version}"))
}

/// What stands between the line that begins with `heading` and the next heading.
fn between<'a>(changelog: &'a str, heading: &str) -> Option<&'a str> {
    let start = changelog.find(&format!("\n{heading}"))? + 1;
    let text = changelog[start..].split_once('\n')?.1;
    Some(text.split("\n## ").next()?.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "# Changelog\n\n## Unreleased\n\n- New.\n\n## 0.1.0 (2026-01-02)\n\n- First.\n";

    fn project() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join(CHART).parent().unwrap()).unwrap();
        let manifest =
            "[workspace.package]\nversion = \"0.1.0\"\n\n[workspace.dependencies]\na = { version = \"0.1.0\" }\n";
        fs::write(folder.path().join(MANIFEST), manifest).unwrap();
        fs::write(folder.path().join(CHART), "name: quintet\nversion: \"0.1.0\"\nappVersion: \"0.1.0\"\n").unwrap();
        fs::write(folder.path().join(CHANGELOG), OLD).unwrap();
        folder
    }

    fn date() -> Date {
        Date::from_calendar_date(2026, time::Month::March, 4).unwrap()
    }

    #[test]
    fn a_release_sets_every_version_and_dates_the_changelog() {
        let folder = project();
        set(folder.path(), "0.2.0", date()).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let manifest = read(MANIFEST);
        assert!(manifest.contains("\nversion = \"0.2.0\"\n") && manifest.contains("a = { version = \"0.1.0\" }"));
        assert_eq!(read(CHART), "name: quintet\nversion: \"0.2.0\"\nappVersion: \"0.2.0\"\n");
        let changelog = read(CHANGELOG);
        assert!(
            changelog.starts_with("# Changelog\n\n## Unreleased\n\n## 0.2.0 (2026-03-04)\n\n- New.\n"),
            "{changelog}"
        );
        assert_eq!(section(&changelog, "0.2.0").unwrap(), "- New.");
        assert_eq!(section(&changelog, "0.1.0").unwrap(), "- First.");
        assert!(section(&changelog, "0.3.0").is_err());
        let nothing_new = set(folder.path(), "0.3.0", date()).unwrap_err().to_string();
        assert!(nothing_new.contains("nothing"), "{nothing_new}");
    }

    #[test]
    fn a_version_that_is_not_newer_changes_nothing() {
        let folder = project();
        for version in ["0.1.0", "0.0.9", "1.0", "v1.0.0", "1.0.0-rc1"] {
            assert!(set(folder.path(), version, date()).is_err(), "{version}");
        }
        assert_eq!(fs::read_to_string(folder.path().join(CHANGELOG)).unwrap(), OLD);
    }

    #[test]
    fn the_projects_files_have_one_version() {
        let version = env!("CARGO_PKG_VERSION");
        let text = |name: &str| fs::read_to_string(root().join(name)).unwrap();
        for (name, before) in [(MANIFEST, "version = \""), (CHART, "version: \""), (CHART, "appVersion: \"")] {
            let again = with_version(&text(name), before, version).unwrap_err().to_string();
            assert_eq!(again, format!("{version} is not newer than {version}"), "{name}");
        }
        assert!(between(&text(CHANGELOG), UNRELEASED).is_some());
    }
}
