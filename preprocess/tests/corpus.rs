//! Compares the images of the corpus with Pillow, by kind, and writes the table in docs/images.md.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic in its helpers too")]

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use quintet_preprocess::{DEFAULT_MAX_PIXELS, ELEMENTS, to_pixels};

/// Maximum difference from Pillow, in levels of 0 to 255.
const TOLERANCE: u8 = 3;
/// The kind of images that are refused by name, though Pillow reads them.
const NAMED: &str = "named";

/// What became of the images of a kind.
#[derive(Default)]
struct Row {
    agree: usize,
    refused_by_both: usize,
    worst: u8,
}

fn corpus(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/corpus").join(folder)
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn pixels(encoded: &[u8]) -> Result<Vec<u8>, String> {
    let mut pixels = vec![0; ELEMENTS];
    to_pixels(encoded, DEFAULT_MAX_PIXELS, &mut pixels).map_err(|error| error.to_string())?;
    Ok(pixels)
}

/// Compares an image with Pillow's pixels, which are oriented and in a PNG: both are resized and cropped alike.
fn compare(kind: &str, name: &str, row: &mut Row) -> Result<(), String> {
    let ours = pixels(&fs::read(corpus("inputs").join(kind).join(name)).unwrap());
    let pillow = fs::read(corpus("outputs").join(kind).join(format!("{name}.png"))).ok();
    match (ours, pillow.map(|encoded| pixels(&encoded).unwrap())) {
        (Ok(ours), Some(pillow)) => {
            let difference = ours.iter().zip(&pillow).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            row.worst = row.worst.max(difference);
            row.agree += 1;
            if difference > TOLERANCE { Err(format!("differs by {difference}")) } else { Ok(()) }
        }
        (Err(_), None) => {
            row.refused_by_both += 1;
            Ok(())
        }
        (Ok(_), None) => Err("is read, and Pillow refuses it".to_owned()),
        (Err(error), Some(_)) => Err(error),
    }
}

/// The table of agreement, then the table of images that are refused by name.
fn tables(rows: &[(String, Row)], named: &[(String, String)]) -> String {
    let mut text =
        "| Kind | Images | Within 3 levels | Largest difference | Refused by both |\n|---|---|---|---|---|\n"
            .to_owned();
    let mut line = |kind: &str, row: &Row| {
        let images = row.agree + row.refused_by_both;
        let worst = if row.agree == 0 { "".to_owned() } else { row.worst.to_string() };
        writeln!(text, "| {kind} | {images} | {} | {worst} | {} |", row.agree, row.refused_by_both).unwrap();
    };
    let mut all = Row::default();
    for (kind, row) in rows {
        line(kind, row);
        all.agree += row.agree;
        all.refused_by_both += row.refused_by_both;
        all.worst = all.worst.max(row.worst);
    }
    line("**all**", &all);
    text.push_str("\nPillow reads these, and the server says what they are:\n\n| Image | Answer |\n|---|---|\n");
    for (name, error) in named {
        writeln!(text, "| {name} | {error} |").unwrap();
    }
    text
}

#[test]
fn images_of_every_kind_agree_with_pillow() {
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for kind in names(&corpus("inputs")).into_iter().filter(|kind| kind != NAMED) {
        let mut row = Row::default();
        for name in names(&corpus("inputs").join(&kind)) {
            if let Err(reason) = compare(&kind, &name, &mut row) {
                wrong.push(format!("{kind}/{name}: {reason}"));
            }
        }
        rows.push((kind, row));
    }
    let named = corpus("inputs").join(NAMED);
    let named = names(&named).into_iter().map(|name| {
        let error = pixels(&fs::read(named.join(&name)).unwrap()).unwrap_err();
        assert!(error.contains("convert it to"), "{name}: {error}");
        (name, error)
    });
    let named: Vec<_> = named.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows.iter().map(|(_, row)| row.agree).sum::<usize>() >= 150);

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images.md");
    let page = fs::read_to_string(&path).unwrap();
    let marks = ["<!-- made by the test `corpus` -->\n", "<!-- end -->\n"];
    let (before, rest) = page.split_once(marks[0]).unwrap();
    let (_, after) = rest.split_once(marks[1]).unwrap();
    let wanted = [before, marks[0], &tables(&rows, &named), marks[1], after].concat();
    if std::env::var_os("QUINTET_WRITE_IMAGES").is_some() {
        fs::write(&path, wanted).unwrap();
        return;
    }
    assert!(page == wanted, "docs/images.md has another table; run this test with QUINTET_WRITE_IMAGES=1");
}
