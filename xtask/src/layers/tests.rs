//! Tests the rules on small crates that violate them.

use std::{fs, path::Path};

use super::{check, table};

const TABLE: &str = "\
## Crates

| crate | holds | must not use |
|---|---|---|
| `small` | a crate | |

## Layers

### `small`

| layer | holds | must not import |
|---|---|---|
| `top` | what uses the rest | `right` |
| `left` `right` | what is separate |
| `right/part` | a part of a layer that is lower than the rest of it |
| `bottom` | what all use |
";

/// The violations in a crate with these files in `src`.
fn violations(files: &[(&str, &str)]) -> Vec<String> {
    let root = tempfile::tempdir().unwrap();
    let valid_crate = [
        ("lib.rs", "pub mod top;\npub mod left;\npub mod right;\npub mod bottom;\n"),
        ("top.rs", "use crate::{bottom::Plain, left, right::part::Part};\nfn f() -> Plain { left::f() }\n"),
        ("left.rs", "use crate::right::part::Part;\npub fn f() -> crate::bottom::Plain { crate::bottom::Plain }\n"),
        ("right/mod.rs", "pub mod part;\nuse part::Part;\n"),
        ("right/part.rs", "pub struct Part(crate::bottom::Plain);\n"),
        ("bottom.rs", "pub struct Plain;\n#[cfg(test)]\nmod tests { use crate::top::f; }\n"),
    ];
    for (name, text) in valid_crate.iter().chain(files) {
        let path = root.path().join("small/src").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let architecture = table::read(TABLE).unwrap();
    check(root.path(), "small", architecture.layers.first()).unwrap().violations
}

#[test]
fn accepts_downward_imports_and_any_import_in_tests() {
    assert_eq!(violations(&[]), Vec::<String>::new());
}

#[test]
fn finds_an_upward_import_in_every_kind_of_code() {
    let violation = |text: &str| violations(&[("bottom.rs", text)]).remove(0);
    let upward = "small/src/bottom.rs:2: `bottom` imports";
    let imported = violation("\nuse crate::top::f;\npub struct Plain;\n");
    assert_eq!(imported, format!("{upward} `crate::top::f` from top, which is above it"));
    for text in [
        "pub struct Plain;\nfn g() { crate::top::f(); }\n",
        "pub struct Plain;\nfn g() { println!(\"{}\", crate::top::f()); }\n",
        "pub struct Plain;\nfn g() { super::top::f() }\n",
        "pub struct Plain;\n#[arg(value_parser = crate::top::f)] struct S;\n",
    ] {
        assert!(violation(text).starts_with(upward), "{text}");
    }
}

#[test]
fn a_re_exported_name_counts_as_an_import_from_its_declaration() {
    let files = [
        ("bottom.rs", "pub use crate::left::Left;\npub struct Plain;\n"),
        ("left.rs", "pub struct Left;\npub fn f() {}\n"),
        ("right/part.rs", "pub struct Part(crate::bottom::Left);\n"),
    ];
    assert_eq!(
        violations(&files),
        [
            "small/src/bottom.rs:1: `bottom` imports `crate::left::Left` from left, which is above it",
            "small/src/right/part.rs:1: `right/part` imports `crate::bottom::Left` from left, which is above it",
        ]
    );
}

#[test]
fn rejects_an_import_between_layers_of_one_row() {
    let found = violations(&[
        ("left.rs", "use crate::right::Whole;\n"),
        ("right/mod.rs", "pub mod part;\npub struct Whole;\n"),
    ]);
    assert_eq!(
        found,
        ["small/src/left.rs:1: `left` imports `crate::right::Whole` from right, which is beside it in the same row"]
    );
}

#[test]
fn rejects_an_import_that_the_table_forbids() {
    let files =
        [("top.rs", "use crate::{left::f, right::Whole};\n"), ("right/mod.rs", "pub mod part;\npub struct Whole;\n")];
    assert_eq!(
        violations(&files),
        ["small/src/top.rs:1: `top` imports `crate::right::Whole` from right, which it must not import"]
    );
}

#[test]
fn finds_a_cycle_of_files_within_a_layer() {
    let found = violations(&[
        ("top.rs", "mod a;\nmod b;\nmod c;\n"),
        ("top/a.rs", "use super::b::B;\npub struct A;\n"),
        ("top/b.rs", "\nuse super::c::C;\npub struct B;\n"),
        ("top/c.rs", "\n\nuse super::a::A;\nuse super::b::B;\npub struct C;\n"),
    ]);
    assert_eq!(
        found,
        ["3 files import each other in a cycle: small/src/top/b.rs:2 -> small/src/top/c.rs:4 -> small/src/top/b.rs"]
    );
}

#[test]
fn finds_a_cycle_of_a_module_and_its_child() {
    let found = violations(&[
        ("top.rs", "mod child;\nconst LIMIT: u32 = child::limit();\n"),
        ("top/child.rs", "pub const fn limit() -> u32 { super::LIMIT }\n"),
    ]);
    assert_eq!(
        found,
        [
            "2 files import each other in a cycle: small/src/top/child.rs:1 -> small/src/top.rs:2 -> small/src/top/child.rs"
        ]
    );
}

#[test]
fn finds_modules_without_a_row_and_rows_without_a_module() {
    let lib = "pub mod top;\npub mod left;\npub mod right;\npub mod other;\n";
    let files = [
        ("lib.rs", lib),
        ("top.rs", ""),
        ("left.rs", ""),
        ("right/part.rs", ""),
        ("right/mod.rs", "pub mod part;\n"),
        ("other.rs", ""),
    ];
    assert_eq!(
        violations(&files),
        ["the table lists `bottom`, but there is no such module", "the table does not list `other`"]
    );
}

#[test]
fn finds_a_forbidden_package_of_this_project() {
    let rule = |forbidden: &[&str]| table::CrateRule {
        name: "engine".to_owned(),
        forbidden: forbidden.iter().map(|&name| name.to_owned()).collect(),
    };
    let forbidden =
        |names: &[&str]| super::packages::forbidden(Path::new(&crate::project::root()), &[rule(names)]).unwrap();
    assert_eq!(forbidden(&["axum"]), Vec::<String>::new());
    assert_eq!(
        forbidden(&["bytes"]),
        ["quintet-engine must not use bytes: see cargo tree --package quintet-engine --invert bytes"]
    );
}
