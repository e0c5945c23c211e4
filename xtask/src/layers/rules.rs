//! The rules: imports point down, layers of one row do not import each other, and files do not import each other in
//! cycles.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
};

use petgraph::{algo::tarjan_scc, graphmap::DiGraphMap};

use super::{
    imports::{Import, module_name, project_path},
    module::{ModulePath, Modules},
    table::{CrateLayers, Row},
};

/// The violations of the rules in one crate, one line each.
pub(super) fn violations(
    folder: &Path,
    layers: Option<&CrateLayers>,
    modules: &Modules,
    imports: &BTreeSet<Import>,
) -> Vec<String> {
    let mut violations = Vec::new();
    if let Some(layers) = layers {
        violations.extend(table_mismatches(&layers.rows, modules));
        violations.extend(upward_imports(folder, &layers.rows, imports));
    }
    violations.extend(cycles(folder, imports));
    violations
}

/// Modules that are in no row of the table, and rows without a module.
fn table_mismatches(rows: &[Row], modules: &Modules) -> Vec<String> {
    let layers = rows.iter().flat_map(|row| row.layers.iter().chain(&row.forbidden));
    let missing = layers.filter(|layer| !modules.keys().any(|module| module_name(module) == **layer));
    let missing = missing.map(|layer| format!("the table lists `{layer}`, but there is no such module"));
    let unlisted = modules.keys().filter(|module| module.len() == 1 && !has_row(rows, module));
    let unlisted = unlisted.map(|module| format!("the table does not list `{}`", module_name(module)));
    missing.chain(unlisted).collect()
}

fn has_row(rows: &[Row], module: &ModulePath) -> bool {
    let (name, prefix) = (module_name(module), format!("{}/", module_name(module)));
    rows.iter().flat_map(|row| &row.layers).any(|layer| *layer == name || layer.starts_with(&prefix))
}

/// The layer of a module and the index of its row: of the layers that contain the module, the one with the longest
/// name.
fn layer_of<'a>(rows: &'a [Row], module: &[String]) -> Option<(usize, &'a str)> {
    let name = module_name(module);
    let contains = |layer: &str| name == layer || name.strip_prefix(layer).is_some_and(|rest| rest.starts_with('/'));
    let layers =
        rows.iter().enumerate().flat_map(|(index, row)| row.layers.iter().map(move |layer| (index, layer.as_str())));
    layers.filter(|(_, layer)| contains(layer)).max_by_key(|(_, layer)| layer.len())
}

/// Imports that do not point down: for each file, the first import from each layer.
fn upward_imports(folder: &Path, rows: &[Row], imports: &BTreeSet<Import>) -> Vec<String> {
    let mut known = BTreeSet::new();
    let mut violations = Vec::new();
    for import in imports {
        let Some((from_row, from)) = layer_of(rows, &import.from_module) else { continue };
        let (to, reason) = match layer_of(rows, &import.to_module) {
            None if import.to_module.is_empty() => ("the crate's root", "which is above it"),
            None => continue,
            Some((_, to)) if to == from => continue,
            Some((to_row, to)) => match from_row.cmp(&to_row) {
                Ordering::Less if rows[from_row].forbidden.iter().any(|layer| layer == to) => {
                    (to, "which it must not import")
                }
                Ordering::Less => continue,
                Ordering::Equal => (to, "which is beside it in the same row"),
                Ordering::Greater => (to, "which is above it"),
            },
        };
        if known.insert((&import.from, to)) {
            let location = format!("{}:{}", project_path(folder, &import.from), import.line);
            violations.push(format!("{location}: `{from}` imports `{}` from {to}, {reason}", import.path));
        }
    }
    violations
}

/// The shortest cycle of each group of files that import each other.
fn cycles(folder: &Path, imports: &BTreeSet<Import>) -> Vec<String> {
    let mut graph = DiGraphMap::<&Path, ()>::new();
    let mut lines = BTreeMap::new();
    for import in imports {
        graph.add_edge(&import.from, &import.to, ());
        lines.entry((import.from.as_path(), import.to.as_path())).or_insert(import.line);
    }
    let groups = tarjan_scc(&graph).into_iter().filter(|group| group.len() > 1);
    let describe = |group: Vec<&Path>| {
        let cycle = shortest_cycle(&graph, &group);
        let step = |pair: &[PathBuf]| {
            let line = lines.get(&(pair[0].as_path(), pair[1].as_path())).copied().unwrap_or_default();
            format!("{}:{line}", project_path(folder, &pair[0]))
        };
        let steps: Vec<_> = cycle.windows(2).map(step).collect();
        let first = cycle.first().map(|first| project_path(folder, first)).unwrap_or_default();
        format!("{} files import each other in a cycle: {} -> {first}", group.len(), steps.join(" -> "))
    };
    let mut cycles: Vec<_> = groups.map(describe).collect();
    cycles.sort();
    cycles
}

/// The files of the shortest cycle in the group; the first file is repeated at the end.
fn shortest_cycle(graph: &DiGraphMap<&Path, ()>, group: &[&Path]) -> Vec<PathBuf> {
    let cycle_from = |start: &Path| {
        let mut predecessors = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(file) = queue.pop_front() {
            for next in graph.neighbors(file).filter(|next| group.contains(next)) {
                if predecessors.contains_key(next) {
                    continue;
                }
                predecessors.insert(next, file);
                queue.push_back(next);
            }
        }
        let mut cycle = vec![start.to_owned()];
        let mut file = *predecessors.get(start)?;
        while file != start {
            cycle.push(file.to_owned());
            file = predecessors[file];
        }
        cycle.push(start.to_owned());
        cycle.reverse();
        Some(cycle)
    };
    let mut cycles: Vec<_> = group.iter().filter_map(|start| cycle_from(start)).collect();
    cycles.sort_by_key(|cycle| (cycle.len(), cycle.clone()));
    cycles.into_iter().next().unwrap_or_default()
}
