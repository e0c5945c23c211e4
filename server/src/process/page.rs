//! Pages of the documentation with tables that are made from the code.

use std::{fs, path::Path};

/// Checks that a page has these tables, each between the comments `NAME: begin` and `NAME: end`. With
/// `QUINTET_WRITE_PAGES=1` it writes them.
pub(super) fn check(page: &str, tables: &[(&str, String)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
    let found = fs::read_to_string(&path).unwrap();
    let mut wanted = found.clone();
    for (name, table) in tables {
        let [begin, end] = ["begin", "end"].map(|mark| format!("<!-- {name}: {mark} -->\n"));
        let from = wanted.find(&begin).expect(name) + begin.len();
        let to = wanted.find(&end).expect(name);
        wanted.replace_range(from..to, table);
    }
    if std::env::var_os("QUINTET_WRITE_PAGES").is_some() {
        fs::write(&path, &wanted).unwrap();
        return;
    }
    assert!(found == wanted, "{page} is not up to date; run this test with QUINTET_WRITE_PAGES=1");
}
