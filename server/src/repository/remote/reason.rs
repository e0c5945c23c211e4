//! Why a store did not answer, in one line that says what to do. What stores send back is left out but for its code: it may
//! repeat keys and signatures.

use std::error::Error;

use super::address::Bucket;

/// Paths of the services that give credentials to machines in a cloud.
const METADATA_SERVICES: [&str; 3] = ["/latest/", "/computeMetadata/", "/metadata/identity"];

/// Before a status, which the answer's body follows.
const STATUS: &str = "Server returned non-2xx status code: ";

/// Why a request failed.
pub(super) fn reason(error: &object_store::Error, bucket: &Bucket) -> String {
    let (whole, text) = (error.to_string(), deepest(error));
    let code = text.split_once("<Code>").and_then(|(_, rest)| Some(rest.split_once("</Code>")?.0));
    let code = code.filter(|code| code.chars().all(|it| it.is_ascii_alphanumeric()));
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let remedy = if METADATA_SERVICES.iter().any(|path| whole.contains(path)) {
        format!(": there are no credentials, and this machine's cloud gives none: {}", credentials(bucket))
    } else if has(&["NoSuchBucket", "ContainerNotFound"]) {
        ": there is no such bucket".to_owned()
    } else if has(&["status code: 401", "status code: 403"]) {
        format!(": {}", credentials(bucket))
    } else if has(&["redirect", "status code: 301", "status code: 307"]) {
        ": the bucket is in another region: set AWS_DEFAULT_REGION".to_owned()
    } else {
        String::new()
    };
    let answered = text.strip_prefix(STATUS).map(|rest| rest.split(':').next().unwrap_or_default());
    let text = answered.map_or(text.clone(), |status| format!("it answers {status}"));
    let code = code.map_or_else(String::new, |code| format!(" ({code})"));
    format!("{text}{code}{remedy}")
}

/// Why there is no client.
pub(super) fn unconfigured(error: &object_store::Error, bucket: &Bucket) -> String {
    format!("{}: {}", deepest(error), credentials(bucket))
}

/// The innermost error: those around it repeat its text.
fn deepest(error: &object_store::Error) -> String {
    let mut deepest: &dyn Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// Where the credentials of a store are set.
fn credentials(bucket: &Bucket) -> &'static str {
    match bucket {
        Bucket::S3 { .. } => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of a user who may list and read the bucket, or AWS_SKIP_SIGNATURE=true for a public one"
        }
        Bucket::Gcs { .. } => {
            "set GOOGLE_APPLICATION_CREDENTIALS to the file of an account that may list and read the bucket, or GOOGLE_SKIP_SIGNATURE=true for a public one"
        }
        Bucket::Azure { .. } => {
            "set AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY of an account that may list and read the container, or AZURE_SKIP_SIGNATURE=true for a public one"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_to_do_and_repeats_nothing_that_a_store_sent() {
        let s3 = Bucket::S3 { endpoint: None, name: "bucket".into() };
        let gcs = Bucket::Gcs { name: "bucket".into() };
        let status = |status: &str, body: &str| format!("Server returned non-2xx status code: {status}: {body}");
        let xml = |code: &str| {
            format!("<?xml?><Error><Code>{code}</Code><AWSAccessKeyId>AKIALEAKED</AWSAccessKeyId></Error>")
        };
        let redirect = "Received redirect without LOCATION, this normally indicates an incorrectly configured region";
        let cases = [
            (
                status("404 Not Found", &xml("NoSuchBucket")),
                &s3,
                "404 Not Found (NoSuchBucket): there is no such bucket",
            ),
            (status("403 Forbidden", &xml("AccessDenied")), &s3, "it answers 403 Forbidden (AccessDenied): set AWS_"),
            (status("401 Unauthorized", "{\"error\": \"LEAKED\"}"), &gcs, "it answers 401 Unauthorized: set GOOGLE_"),
            (status("503 Service Unavailable", "LEAKED"), &s3, "it answers 503 Service Unavailable"),
            (redirect.into(), &s3, "set AWS_DEFAULT_REGION"),
            ("io: Connection refused (os error 111)".into(), &s3, "io: Connection refused (os error 111)"),
            ("PUT http://169.254.169.254/latest/api/token - timeout".into(), &s3, "there are no credentials, and"),
            ("GET http://metadata/computeMetadata/v1/x - host not found".into(), &gcs, "there are no credentials, and"),
        ];
        for (text, bucket, expected) in cases {
            let reason = reason(&object_store::Error::Generic { store: "S3", source: text.into() }, bucket);
            assert!(reason.contains(expected) && !reason.contains("LEAKED"), "{reason}");
        }
    }
}
