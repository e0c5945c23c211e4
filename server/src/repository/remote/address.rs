//! Addresses of repositories in object stores, in Triton's spellings.

use super::error::RemoteError;

/// A repository in an object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// As it was given; it has no secret in it.
    pub(super) text: String,
    /// Where the bucket is.
    pub(super) bucket: Bucket,
    /// What the names of the repository's objects begin with, without a slash at the end; empty for the whole bucket.
    pub(super) prefix: String,
}

/// A bucket, or a container of Azure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bucket {
    /// `s3://bucket`, `s3://host:port/bucket`, `s3://https://host:port/bucket`.
    S3 {
        /// The URL of a server that is not Amazon's.
        endpoint: Option<String>,
        name: String,
    },
    /// `gs://bucket`.
    Gcs { name: String },
    /// `as://account/container`, `az://container`.
    Azure {
        /// The account, unless the environment has it.
        account: Option<String>,
        container: String,
    },
}

impl Address {
    /// The address in this text; `None` for the path of a folder.
    ///
    /// # Errors
    /// When it has a scheme but is no address.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, RemoteError> {
        let Some((scheme, rest)) = text.split_once("://") else { return Ok(None) };
        if scheme.is_empty() || !scheme.chars().all(|it| it.is_ascii_alphanumeric() || "+-.".contains(it)) {
            return Ok(None);
        }
        let wrong = |reason| RemoteError::Address { address: text.to_owned(), reason };
        if rest.contains(['@', '?', '#']) {
            let address = format!("{scheme}://...");
            let reason = "it has a user, a query or a fragment: credentials belong into the environment";
            return Err(RemoteError::Address { address, reason });
        }
        let mut parts = rest.trim_end_matches('/').split('/');
        let mut next = || parts.next().filter(|part| !part.is_empty()).map(str::to_owned);
        let bucket = match scheme {
            "s3" => s3(rest, &mut parts),
            "gs" => next().map(|name| Bucket::Gcs { name }),
            "az" => next().map(|container| Bucket::Azure { account: None, container }),
            "as" => next().zip(next()).map(|(account, container)| Bucket::Azure { account: Some(account), container }),
            _ => return Err(wrong("this scheme is not known: use s3://, gs://, as://, az:// or a folder")),
        };
        let form = "use s3://BUCKET/PREFIX, s3://HOST:PORT/BUCKET/PREFIX, gs://BUCKET/PREFIX, as://ACCOUNT/CONTAINER/PREFIX \
                    or az://CONTAINER/PREFIX";
        let bucket = bucket.ok_or_else(|| wrong(form))?;
        let prefix: Vec<_> = parts.collect();
        if prefix.iter().any(|part| matches!(*part, "" | "." | "..") || part.contains(char::is_control)) {
            return Err(wrong("a part of its prefix is empty, '.', '..' or has a control character"));
        }
        Ok(Some(Self { text: text.to_owned(), bucket, prefix: prefix.join("/") }))
    }
}

/// The bucket of `s3://`: `HOST:PORT` stands for Triton's `http://HOST:PORT`.
fn s3<'a>(rest: &str, parts: &mut impl Iterator<Item = &'a str>) -> Option<Bucket> {
    let scheme = ["http", "https"].into_iter().find(|scheme| rest.starts_with(&format!("{scheme}://")));
    if scheme.is_some() {
        // The scheme, and nothing between its slashes.
        parts.nth(1)?;
    }
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let first = next()?;
    if scheme.is_none() && !first.contains(':') {
        return Some(Bucket::S3 { endpoint: None, name: first.to_owned() });
    }
    let endpoint = format!("{}://{first}", scheme.unwrap_or("http"));
    Some(Bucket::S3 { endpoint: Some(endpoint), name: next()?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_tritons_spellings() {
        let read = |text: &str| {
            let Address { bucket, prefix, .. } = Address::parse(text).unwrap().unwrap();
            format!("{bucket:?} {prefix:?}")
        };
        let all = [
            "s3://bucket",
            "s3://bucket/path/to/models/",
            "s3://127.0.0.1:9000/bucket/models",
            "s3://https://host:9000/bucket",
            "s3://http://minio/bucket/a b/%41",
            "gs://bucket/models",
            "as://account/container/models",
            "az://container",
        ];
        insta::assert_snapshot!(all.map(read).join("\n"), @r#"
        S3 { endpoint: None, name: "bucket" } ""
        S3 { endpoint: None, name: "bucket" } "path/to/models"
        S3 { endpoint: Some("http://127.0.0.1:9000"), name: "bucket" } "models"
        S3 { endpoint: Some("https://host:9000"), name: "bucket" } ""
        S3 { endpoint: Some("http://minio"), name: "bucket" } "a b/%41"
        Gcs { name: "bucket" } "models"
        Azure { account: Some("account"), container: "container" } "models"
        Azure { account: None, container: "container" } ""
        "#);
        for folder in ["models", "/models", "./a:b", "C:/models", "a b://c", "s3:/bucket", "://x"] {
            assert_eq!(Address::parse(folder).unwrap(), None, "{folder}");
        }
    }

    #[test]
    fn refuses_what_is_no_address_and_repeats_no_secret() {
        let form = "use s3://BUCKET/PREFIX, ";
        let cases = [
            ("s3://", form),
            ("s3://host:9000", form),
            ("s3://https://host/", form),
            ("as://account", form),
            ("s3://bucket/../other", "a part of its prefix is"),
            ("gs://bucket//models", "a part of its prefix is"),
            ("hdfs://name/models", "this scheme is not known: use s3://, "),
            ("s3://AKIA:secret@bucket/models", "credentials belong into the environment"),
            ("as://account/container/models?sig=secret", "credentials belong into the environment"),
        ];
        for (text, reason) in cases {
            let refusal = Address::parse(text).unwrap_err().to_string();
            assert!(refusal.starts_with("--model-repository ") && refusal.contains(reason), "{refusal}");
            assert!(!refusal.contains("secret"), "{refusal}");
        }
    }
}
