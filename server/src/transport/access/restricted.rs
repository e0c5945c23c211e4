//! Triton's `--http-restricted-api` and `--grpc-restricted-protocol`: groups of the API that need a header.

use http::{HeaderMap, HeaderName};

use super::{Refusal, group::Group};

/// The groups that need a header. A request of such a group without it is refused.
#[derive(Clone, Debug, Default)]
pub struct Restricted {
    groups: Vec<(Group, Header)>,
    what: &'static str,
}

/// A header that a group needs.
#[derive(Clone, Debug)]
struct Header {
    /// As the flag spells it, for the refusal.
    written: String,
    name: HeaderName,
    value: blake3::Hash,
}

/// A wrong value of one of the flags. The texts are Triton's, with a remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestrictedError {
    /// It has another form.
    #[error("--{flag} option format is '<API_1>,<API_2>:<restricted-key>=<restricted-value>'. Got {text}")]
    Form {
        /// The flag's name.
        flag: &'static str,
        /// The value.
        text: String,
    },
    /// A group does not exist.
    #[error("--{flag}: unknown restricted {what} '{group}': use {}", Group::names())]
    Unknown {
        /// The flag's name.
        flag: &'static str,
        /// Triton's word for a group.
        what: &'static str,
        /// The group.
        group: String,
    },
    /// A group is in two values.
    #[error("--{flag}: restricted {what} '{group}' can not be specified in multiple config groups: name it once")]
    Twice {
        /// The flag's name.
        flag: &'static str,
        /// Triton's word for a group.
        what: &'static str,
        /// The group.
        group: String,
    },
}

impl Restricted {
    /// Reads the values of `--http-restricted-api`.
    ///
    /// # Errors
    /// [`RestrictedError`].
    pub fn http(values: &[String]) -> Result<Self, RestrictedError> {
        Self::parse(values, "http-restricted-api", "api", "")
    }

    /// Reads the values of `--grpc-restricted-protocol`. As in Triton, clients put `triton-grpc-protocol-` before the key.
    ///
    /// # Errors
    /// [`RestrictedError`].
    pub fn grpc(values: &[String]) -> Result<Self, RestrictedError> {
        Self::parse(values, "grpc-restricted-protocol", "protocol", "triton-grpc-protocol-")
    }

    fn parse(values: &[String], flag: &'static str, what: &'static str, prefix: &str) -> Result<Self, RestrictedError> {
        let mut groups: Vec<(Group, Header)> = Vec::new();
        for text in values {
            let malformed = || RestrictedError::Form { flag, text: text.clone() };
            let (names, header) = text.split_once(':').ok_or_else(malformed)?;
            let (key, value) = header.split_once('=').ok_or_else(malformed)?;
            let written = format!("{prefix}{key}");
            let name = written.parse().map_err(|_| malformed())?;
            if key.is_empty() || value.is_empty() {
                return Err(malformed());
            }
            let header = Header { written, name, value: blake3::hash(value.as_bytes()) };
            for name in names.split(',') {
                let unknown = || RestrictedError::Unknown { flag, what, group: name.to_owned() };
                let group = Group::from_name(name).ok_or_else(unknown)?;
                if groups.iter().any(|(known, _)| *known == group) {
                    return Err(RestrictedError::Twice { flag, what, group: name.to_owned() });
                }
                groups.push((group, header.clone()));
            }
        }
        Ok(Self { groups, what: if what == "api" { "API" } else { what } })
    }

    /// Whether a request has the header of its group.
    ///
    /// # Errors
    /// Triton's refusal, which names the header.
    pub(super) fn check(&self, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.groups.is_empty() {
            return Ok(());
        }
        let group = Group::of(path);
        let Some((_, needed)) = self.groups.iter().find(|(restricted, _)| group == Some(*restricted)) else {
            return Ok(());
        };
        // Hashes are compared in constant time.
        match headers.get(&needed.name) {
            Some(value) if blake3::hash(value.as_bytes()) == needed.value => Ok(()),
            _ => Err(Refusal::Restricted { what: self.what, header: needed.written.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(values: &[&str]) -> Result<Restricted, String> {
        let values: Vec<_> = values.iter().map(|&value| value.to_owned()).collect();
        Restricted::http(&values).map_err(|error| error.to_string())
    }

    #[test]
    fn a_group_needs_its_header() {
        let restricted = http(&["model-repository,health:Admin-Key=a:b=c", "inference:infer-key=v"]).unwrap();
        let check = |path: &str, name: &'static str, value: &str| {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())]);
            restricted.check(path, &headers).map_err(|refusal| refusal.to_string())
        };
        assert_eq!(check("/v2/repository/index", "admin-key", "a:b=c"), Ok(()));
        assert_eq!(
            check("/v2/repository/index", "admin-key", "a"),
            Err("This API is restricted, expecting header 'Admin-Key'".into())
        );
        assert!(check("/v2/health/live", "infer-key", "v").is_err());
        assert_eq!(check("/v2/models/a/infer", "infer-key", "v"), Ok(()));
        assert_eq!(check("/v2", "x", "y"), Ok(()));
    }

    #[test]
    fn over_grpc_the_header_has_tritons_prefix() {
        let restricted = Restricted::grpc(&["inference:key=v".into()]).unwrap();
        let path = "/inference.GRPCInferenceService/ModelInfer";
        let refusal = restricted.check(path, &HeaderMap::new()).unwrap_err();
        assert_eq!(refusal.to_string(), "This protocol is restricted, expecting header 'triton-grpc-protocol-key'");
        assert_eq!(refusal.grpc(), tonic::Code::Unavailable);
    }

    #[test]
    fn wrong_values_are_refused_in_tritons_words() {
        let refusal = |values: &[&str]| http(values).unwrap_err();
        assert!(refusal(&["model-reposit,health:k=v"]).contains("unknown restricted api 'model-reposit'"));
        assert!(
            refusal(&["model-repository,health:k1=v1", "metadata,health:k2=v2"])
                .contains("api 'health' can not be specified in multiple config groups")
        );
        for text in ["health", "health:key", "health:=v", "health:k=", "health:a b=c"] {
            assert!(refusal(&[text]).contains("option format is"), "{text}");
        }
    }
}
