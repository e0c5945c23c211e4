//! The client of an object store. Credentials come from the environment, under the names of the stores' own tools and of Triton.

use std::{env, sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder,
};

use super::{
    address::{Address, Bucket},
    error::RemoteError,
    http::Connector,
    reason::unconfigured,
};

/// How often a request that failed on the way, or with a status that may pass, is sent again.
const MAX_RETRIES: usize = 3;
/// The time after which it is not sent again.
const RETRY_TIMEOUT: Duration = Duration::from_secs(120);

/// Variables of Triton that have no effect here, and what does the same.
const WITHOUT_EFFECT: [(&str, &str); 4] = [
    ("TRITON_CLOUD_CREDENTIAL_PATH", "set the variables of each store, such as AWS_ACCESS_KEY_ID"),
    ("TRITON_AWS_MOUNT_DIRECTORY", "use --object-store-cache"),
    ("TRITON_GCS_MOUNT_DIRECTORY", "use --object-store-cache"),
    ("TRITON_AZURE_MOUNT_DIRECTORY", "use --object-store-cache"),
];

/// A client for the bucket of an address. Sends nothing yet.
///
/// # Errors
/// When the environment lacks what it needs, or has a wrong value.
pub(super) fn connect(address: &Address) -> Result<Arc<dyn ObjectStore>, RemoteError> {
    for (variable, instead) in WITHOUT_EFFECT {
        if env::var_os(variable).is_some_and(|value| !value.is_empty()) {
            tracing::warn!(variable, instead, "this variable has no effect here");
        }
    }
    let retry =
        RetryConfig { max_retries: MAX_RETRIES, retry_timeout: RETRY_TIMEOUT, backoff: BackoffConfig::default() };
    let store = match &address.bucket {
        Bucket::S3 { endpoint, name } => s3(endpoint.as_deref(), name, retry),
        Bucket::Gcs { name } => {
            let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(name).with_retry(retry);
            builder.with_http_connector(Connector::default()).build().map(|store| Arc::new(store) as _)
        }
        Bucket::Azure { account, container } => azure(account.as_deref(), container, retry),
    };
    store.map_err(|error| RemoteError::Store {
        address: address.text.clone(),
        reason: unconfigured(&error, &address.bucket),
    })
}

fn s3(endpoint: Option<&str>, name: &str, retry: RetryConfig) -> object_store::Result<Arc<dyn ObjectStore>> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(name).with_retry(retry);
    if let Some(endpoint) = endpoint {
        // Over the environment's, also over the one that is only for S3.
        builder = builder
            .with_config(AmazonS3ConfigKey::S3Endpoint, endpoint)
            .with_virtual_hosted_style_request(false)
            .with_allow_http(endpoint.starts_with("http://"));
    }
    Ok(Arc::new(builder.with_http_connector(Connector::default()).build()?))
}

fn azure(account: Option<&str>, container: &str, retry: RetryConfig) -> object_store::Result<Arc<dyn ObjectStore>> {
    let mut builder = MicrosoftAzureBuilder::from_env();
    // Triton's names, which are those of Azure's own tools.
    if let Ok(key) = env::var("AZURE_STORAGE_KEY") {
        builder = builder.with_access_key(key);
    }
    if let Some(account) = account.map(str::to_owned).or_else(|| env::var("AZURE_STORAGE_ACCOUNT").ok()) {
        builder = builder.with_account(account);
    }
    let builder = builder.with_container_name(container).with_retry(retry);
    Ok(Arc::new(builder.with_http_connector(Connector::default()).build()?))
}
