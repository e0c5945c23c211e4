//! Runs every target on the inputs in its folder.

use std::{fs, path::Path};

use quintet_fuzz::TARGETS;

#[test]
fn every_input_of_the_corpora_passes() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for target in &TARGETS {
        let mut folders = vec![here.join("corpus").join(target.name)];
        if target.name == "images" {
            folders.push(here.join("../preprocess/reference/inputs"));
        }
        let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
        let mut inputs: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{} has no inputs", target.name);
        for input in inputs {
            // Shown only if it fails.
            println!("{}", input.display());
            (target.run)(&fs::read(input).unwrap());
        }
    }
}

#[test]
fn every_target_takes_nothing_and_zeros() {
    for target in &TARGETS {
        (target.run)(&[]);
        (target.run)(&[0; 300]);
    }
}
