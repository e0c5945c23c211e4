//! The rules: imports point down, layers side by side are apart, and no files import each other in a circle.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
};

use petgraph::{algo::tarjan_scc, graphmap::DiGraphMap};

use super::{
    imports::{Import, shown, slashed},
    module::{ModulePath, Modules},
    table::{CrateLayers, Row},
};

/// What breaks the rules in one crate, a line each; empty if nothing does.
pub(super) fn broken(
    folder: &Path,
    layers: Option<&CrateLayers>,
    modules: &Modules,
    imports: &BTreeSet<Import>,
) -> Vec<String> {
    let mut broken = Vec::new();
    if let Some(layers) = layers {
        broken.extend(misnamed(&layers.rows, modules));
        broken.extend(upward(folder, &layers.rows, imports));
    }
    broken.extend(circles(folder, imports));
    broken
}

/// Modules that stand in no row, and rows without a module.
fn misnamed(rows: &[Row], modules: &Modules) -> Vec<String> {
    let named = rows.iter().flat_map(|row| &row.layers);
    let missing = named.filter(|name| !modules.keys().any(|module| slashed(module) == **name));
    let missing = missing.map(|name| format!("the table has `{name}`, and there is no such module"));
    let homeless = modules.keys().filter(|module| module.len() == 1 && !has_row(rows, module));
    missing.chain(homeless.map(|module| format!("`{}` stands in no row of the table", slashed(module)))).collect()
}

fn has_row(rows: &[Row], module: &ModulePath) -> bool {
    let (name, below) = (slashed(module), format!("{}/", slashed(module)));
    rows.iter().flat_map(|row| &row.layers).any(|layer| *layer == name || layer.starts_with(&below))
}

/// The layer of a module, with the number of its row: the longest name in the table that leads to it.
fn layer_of<'a>(rows: &'a [Row], module: &[String]) -> Option<(usize, &'a str)> {
    let name = slashed(module);
    let holds = |layer: &str| name == layer || name.strip_prefix(layer).is_some_and(|rest| rest.starts_with('/'));
    let all = rows.iter().enumerate().flat_map(|(row, it)| it.layers.iter().map(move |layer| (row, layer.as_str())));
    all.filter(|(_, layer)| holds(layer)).max_by_key(|(_, layer)| layer.len())
}

/// Imports that do not point down: of each file the first from each layer.
fn upward(folder: &Path, rows: &[Row], imports: &BTreeSet<Import>) -> Vec<String> {
    let mut known = BTreeSet::new();
    let mut broken = Vec::new();
    for import in imports {
        let Some((from_row, from)) = layer_of(rows, &import.from_module) else { continue };
        let (to, why) = match layer_of(rows, &import.to_module) {
            None if import.to_module.is_empty() => ("the crate's root", "which is above it"),
            None => continue,
            Some((_, to)) if to == from => continue,
            Some((to_row, to)) => match from_row.cmp(&to_row) {
                Ordering::Less => continue,
                Ordering::Equal => (to, "which is to be kept apart from it"),
                Ordering::Greater => (to, "which is above it"),
            },
        };
        if known.insert((&import.from, to)) {
            let place = format!("{}:{}", shown(folder, &import.from), import.line);
            broken.push(format!("{place}: `{from}` imports `{}` from {to}, {why}", import.path));
        }
    }
    broken
}

/// The shortest circle of each group of files that import each other.
fn circles(folder: &Path, imports: &BTreeSet<Import>) -> Vec<String> {
    let mut graph = DiGraphMap::<&Path, ()>::new();
    let mut lines = BTreeMap::new();
    for import in imports {
        graph.add_edge(&import.from, &import.to, ());
        lines.entry((import.from.as_path(), import.to.as_path())).or_insert(import.line);
    }
    let groups = tarjan_scc(&graph).into_iter().filter(|group| group.len() > 1);
    let circle = |group: Vec<&Path>| {
        let circle = shortest_circle(&graph, &group);
        let step = |pair: &[PathBuf]| {
            let line = lines.get(&(pair[0].as_path(), pair[1].as_path())).copied().unwrap_or_default();
            format!("{}:{line}", shown(folder, &pair[0]))
        };
        let steps: Vec<_> = circle.windows(2).map(step).collect();
        let first = circle.first().map(|first| shown(folder, first)).unwrap_or_default();
        format!("{} files import each other in a circle: {} -> {first}", group.len(), steps.join(" -> "))
    };
    let mut circles: Vec<_> = groups.map(circle).collect();
    circles.sort();
    circles
}

/// The files of the shortest way from a file of the group back to itself, which stands at both ends.
fn shortest_circle(graph: &DiGraphMap<&Path, ()>, group: &[&Path]) -> Vec<PathBuf> {
    let from = |start: &Path| {
        let mut reached = BTreeMap::new();
        let mut waiting = VecDeque::from([start]);
        while let Some(at) = waiting.pop_front() {
            for next in graph.neighbors(at).filter(|next| group.contains(next)) {
                if reached.contains_key(next) {
                    continue;
                }
                reached.insert(next, at);
                waiting.push_back(next);
            }
        }
        let mut circle = vec![start.to_owned()];
        let mut at = *reached.get(start)?;
        while at != start {
            circle.push(at.to_owned());
            at = reached[at];
        }
        circle.push(start.to_owned());
        circle.reverse();
        Some(circle)
    };
    let mut circles: Vec<_> = group.iter().filter_map(|start| from(start)).collect();
    circles.sort_by_key(|circle| (circle.len(), circle.clone()));
    circles.into_iter().next().unwrap_or_default()
}
