//! Reads the tables of docs/architecture.md: the crates, and the layers of each crate.

use anyhow::{Context as _, bail, ensure};

/// The heading above the table of crates.
const CRATES: &str = "## Crates";
/// The heading above the tables of layers; each has a heading of its own, such as `` ### `server` ``.
const LAYERS: &str = "## Layers";

/// The content of the tables.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Architecture {
    pub(super) crates: Vec<CrateRule>,
    pub(super) layers: Vec<CrateLayers>,
}

/// A row of the table of crates.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CrateRule {
    /// Folder of the crate.
    pub(super) name: String,
    /// Packages that must not be in its dependency tree.
    pub(super) forbidden: Vec<String>,
}

/// The layers of one crate, from top to bottom.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CrateLayers {
    /// Folder of the crate.
    pub(super) name: String,
    pub(super) rows: Vec<Row>,
}

/// One row: a layer, or several layers that do not import each other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Module paths from the crate's root, such as `transport/http1`.
    pub(super) layers: Vec<String>,
    /// What the layers are for.
    pub(super) purpose: String,
    /// Layers of lower rows that these must not import.
    pub(super) forbidden: Vec<String>,
}

/// Reads the document.
///
/// # Errors
/// When a table is missing, a row has no purpose, or a table lists a layer twice.
pub(super) fn read(document: &str) -> anyhow::Result<Architecture> {
    let crates = rows(section(document, CRATES)?)
        .map(|cells| CrateRule {
            name: quoted(cells.first().copied().unwrap_or_default()).join("/"),
            forbidden: quoted(cells.get(2).copied().unwrap_or_default()),
        })
        .collect();
    let layers = section(document, LAYERS)?
        .split("\n### `")
        .skip(1)
        .map(|text| {
            let (name, table) = text.split_once('`').context("the heading of a crate does not end with `")?;
            layers_of(name, table).with_context(|| format!("the layers of `{name}`"))
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(Architecture { crates, layers })
}

fn layers_of(name: &str, table: &str) -> anyhow::Result<CrateLayers> {
    let mut known = Vec::new();
    let mut layers = CrateLayers { name: name.to_owned(), rows: Vec::new() };
    for cells in rows(table) {
        let [names, purpose, ref more @ ..] = cells[..] else { bail!("a row needs a layer and its purpose") };
        let forbidden = more.first().map_or_else(Vec::new, |cell| quoted(cell));
        let row = Row { layers: quoted(names), purpose: purpose.to_owned(), forbidden };
        ensure!(!row.layers.is_empty() && !purpose.is_empty(), "`{names}` needs a name in backticks and a purpose");
        for layer in &row.layers {
            ensure!(!known.contains(layer), "`{layer}` is listed twice");
            known.push(layer.clone());
        }
        layers.rows.push(row);
    }
    ensure!(!layers.rows.is_empty(), "there is no table");
    Ok(layers)
}

/// The text below a heading, up to the next heading of level 2.
fn section<'a>(document: &'a str, heading: &str) -> anyhow::Result<&'a str> {
    let (_, below) =
        document.split_once(&format!("{heading}\n")).with_context(|| format!("there is no heading '{heading}'"))?;
    Ok(below.split("\n## ").next().unwrap_or(below))
}

/// The cells of each row of the first table, without its header.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let table = text.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    table.skip(2).map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

/// The words in backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "\
## Crates

| crate | holds | must not use |
|---|---|---|
| `engine` | queues | HTTP: `axum` `tonic` |

## Layers

### `engine`

Words.

| layer | holds |
|---|---|
| `model` | models |
| `batch/policy` `cache` | decisions |

## More
";

    #[test]
    fn reads_crates_and_layers() {
        let Architecture { crates, layers } = read(DOCUMENT).unwrap();
        assert_eq!(crates[0].forbidden, ["axum", "tonic"]);
        assert_eq!(layers[0].name, "engine");
        assert_eq!(layers[0].rows[0].layers, ["model"]);
        assert_eq!(layers[0].rows[1].layers, ["batch/policy", "cache"]);
        assert_eq!(layers[0].rows[1].purpose, "decisions");
    }

    #[test]
    fn rejects_a_layer_without_purpose_and_a_layer_listed_twice() {
        let reason = |from: &str, to: &str| format!("{:#}", read(&DOCUMENT.replace(from, to)).unwrap_err());
        assert_eq!(
            reason("| models |", "| |"),
            "the layers of `engine`: ``model`` needs a name in backticks and a purpose"
        );
        assert_eq!(reason("`cache`", "`model`"), "the layers of `engine`: `model` is listed twice");
        assert_eq!(reason("## Layers", "## Other"), "there is no heading '## Layers'");
    }
}
