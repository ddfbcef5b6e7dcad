//! Buckets.

use std::sync::Arc;

use iotml_core::plugin::config::Secrets;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::properties::is_secret;
use super::{StoreError, StoreOptions};

/// Makes the client of a bucket: settings of the environment first, then those of the options over them.
macro_rules! bucket {
    ($name:ident, $service:literal, $environment:literal, $builder:ty, $key:ty, $with_bucket:ident) => {
        pub(super) fn $name(
            bucket: &str,
            options: &StoreOptions,
        ) -> Result<(Arc<dyn ObjectStore>, Secrets), StoreError> {
            let mut secrets = Secrets::default();
            let mut builder = <$builder>::new().with_client_options(client(options)).with_retry(retry(options));
            for setting in settings($environment, options) {
                match setting.name.parse::<$key>() {
                    Ok(key) => builder = builder.with_config(key, setting.value.as_str()),
                    // The environment may have more than is meant for a store.
                    Err(_) if setting.is_from_environment => continue,
                    Err(_) => {
                        let reason = concat!("is none of ", $service, " that the crate object_store knows").to_owned();
                        return Err(StoreError::Property { name: setting.name, reason });
                    }
                }
                if is_secret(&setting.name) {
                    secrets.add(&setting.value);
                }
            }
            let built = builder.$with_bucket(bucket).build();
            let built = built.map_err(|error| {
                let reason = secrets.scrub(&iotml_core::error::report(&error)).into_owned();
                StoreError::Options { reason }
            })?;
            Ok((Arc::new(built), secrets))
        }
    };
}

#[cfg(feature = "aws")]
bucket!(s3, "S3", "AWS_", object_store::aws::AmazonS3Builder, object_store::aws::AmazonS3ConfigKey, with_bucket_name);
#[cfg(feature = "gcp")]
bucket!(
    gs,
    "Google Cloud Storage",
    "GOOGLE_",
    object_store::gcp::GoogleCloudStorageBuilder,
    object_store::gcp::GoogleConfigKey,
    with_bucket_name
);
#[cfg(feature = "azure")]
bucket!(
    az,
    "Azure",
    "AZURE_",
    object_store::azure::MicrosoftAzureBuilder,
    object_store::azure::AzureConfigKey,
    with_container_name
);

struct Setting {
    name: String,
    value: String,
    is_from_environment: bool,
}

/// What the environment and the options say, the latter behind, so that they win.
fn settings(prefix: &str, options: &StoreOptions) -> Vec<Setting> {
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with(prefix))?;
        Some(Setting { name: name.to_lowercase(), value: value.into_string().ok()?, is_from_environment: true })
    });
    let given = options.properties.iter().map(|(name, value)| Setting {
        name: name.to_owned(),
        value: value.to_owned(),
        is_from_environment: false,
    });
    environment.chain(given).collect()
}

fn client(options: &StoreOptions) -> ClientOptions {
    ClientOptions::new()
        .with_connect_timeout(options.connect_timeout.into())
        .with_timeout(options.request_timeout.into())
}

fn retry(options: &StoreOptions) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: options.max_retries,
        retry_timeout: options.retry_timeout.into(),
    }
}
