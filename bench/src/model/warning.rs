//! A warning: a reason to distrust figures.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{lane::Lane, words::list};

/// How severe it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Note,
    /// Figures may mislead.
    Warning,
    /// Figures are not what they appear to be.
    Error,
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// A finding with its remedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// Stable name of the kind.
    pub code: String,
    /// How severe it is.
    pub severity: Severity,
    /// The lanes concerned.
    pub lanes: Vec<Lane>,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// One line of Markdown.
impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "**{}** `{}`", self.severity, self.code)?;
        if !self.lanes.is_empty() {
            write!(f, " [{}]", list(&self.lanes))?;
        }
        write!(f, ": {}. {}", self.message, self.remedy)
    }
}
