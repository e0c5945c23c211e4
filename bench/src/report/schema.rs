//! The JSON schema of `report.json`, generated from the report's types.

use crate::model::report::Report;

/// Where the schema is published in the repository, and what `quintet-bench schema` prints.
pub const FILE: &str = "bench/schema/report.schema.json";

/// The JSON schema of a report.
///
/// # Errors
/// Never: a schema is JSON.
pub fn schema() -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(&schemars::schema_for!(Report))? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares the published schema with the types; with QUINTET_WRITE_SCHEMA set, writes it first.
    #[test]
    fn the_published_schema_matches_the_types() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(FILE);
        let schema = schema().unwrap();
        if std::env::var_os("QUINTET_WRITE_SCHEMA").is_some() {
            std::fs::write(&path, &schema).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        let differing = published.lines().zip(schema.lines()).position(|(a, b)| a != b);
        assert!(
            published == schema,
            "{FILE} does not match the types (line {:?}); run this test with QUINTET_WRITE_SCHEMA=1",
            differing.map(|line| line + 1)
        );
    }

    #[test]
    fn a_report_is_valid_and_a_damaged_one_is_not() {
        let validator = jsonschema::validator_for(&serde_json::from_str(&schema().unwrap()).unwrap()).unwrap();
        let report = serde_json::to_value(crate::fixture::report()).unwrap();
        let errors: Vec<_> = validator.iter_errors(&report).take(3).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new());
        for (pointer, wrong) in [
            ("/cells/0/lane", serde_json::json!("pytorch")),
            ("/cells/0/load/batch", serde_json::json!(-1)),
            ("/hypotheses/0/verdict", serde_json::json!("true")),
            ("/differences/0/difference", serde_json::json!(0.5)),
        ] {
            let mut damaged = report.clone();
            *damaged.pointer_mut(pointer).unwrap() = wrong;
            assert!(!validator.is_valid(&damaged), "{pointer}");
        }
    }
}
