//! The stores behind the addresses.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use iotml_core::plugin::config::Secrets;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use url::Url;

use super::{StoreError, StoreOptions};

pub(super) struct Opened {
    /// Without a slash at the end.
    pub url: String,
    pub prefix: Path,
    pub objects: Arc<dyn ObjectStore>,
    pub secrets: Secrets,
}

pub(super) fn open(text: &str, options: &StoreOptions) -> Result<Opened, StoreError> {
    // A password must not come into a message by way of the address.
    let wrong = |reason: &str| StoreError::Url { url: shown(text), reason: reason.to_owned() };
    let is_bucket = ["s3://", "gs://", "az://"].iter().any(|scheme| text.starts_with(scheme));
    if !is_bucket && !options.properties.is_empty() {
        return Err(StoreError::Options { reason: format!("{} is no bucket, so it has no properties", shown(text)) });
    }
    let Some((scheme, _)) = text.split_once("://") else {
        return folder(std::path::absolute(text).map_err(|error| wrong(&error.to_string()))?, wrong);
    };
    let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("credentials belong into the environment or the properties"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it must end with the path"));
    }
    if scheme == "file" {
        if url.host_str().is_some_and(|host| !host.is_empty()) {
            return Err(wrong("a folder is written with three slashes, like file:///srv/models"));
        }
        return folder(url.to_file_path().map_err(|()| wrong("it is no path of this system"))?, wrong);
    }
    let host = url.host_str().unwrap_or_default();
    let prefix = Path::from_url_path(url.path()).map_err(|error| wrong(&error.to_string()))?;
    let (objects, secrets): (Arc<dyn ObjectStore>, Secrets) = match scheme {
        "memory" => (memory(host), Secrets::default()),
        "s3" | "gs" | "az" if host.is_empty() => return Err(wrong("the bucket is missing")),
        #[cfg(feature = "aws")]
        "s3" => super::cloud::s3(host, options)?,
        #[cfg(feature = "gcp")]
        "gs" => super::cloud::gs(host, options)?,
        #[cfg(feature = "azure")]
        "az" => super::cloud::az(host, options)?,
        #[cfg(not(feature = "aws"))]
        "s3" => return Err(wrong("this build has no S3: enable the feature `aws` of iotml-model")),
        #[cfg(not(feature = "gcp"))]
        "gs" => return Err(wrong("this build has no Google Cloud Storage: enable the feature `gcp` of iotml-model")),
        #[cfg(not(feature = "azure"))]
        "az" => return Err(wrong("this build has no Azure: enable the feature `azure` of iotml-model")),
        _ => return Err(wrong("there are file://, memory://, s3://, gs:// and az://")),
    };
    let url = if prefix.is_root() { format!("{scheme}://{host}") } else { format!("{scheme}://{host}/{prefix}") };
    Ok(Opened { url, prefix, objects, secrets })
}

/// A folder, which need not exist yet.
fn folder(path: PathBuf, wrong: impl Fn(&str) -> StoreError) -> Result<Opened, StoreError> {
    let prefix = Path::from_absolute_path(&path).map_err(|error| wrong(&error.to_string()))?;
    let url = format!("file:///{prefix}");
    // What is announced must survive a loss of power.
    let objects = Arc::new(LocalFileSystem::new().with_fsync(true));
    Ok(Opened { url, prefix, objects, secrets: Secrets::default() })
}

/// The memory of a name, as long as somebody has it open.
fn memory(name: &str) -> Arc<InMemory> {
    static NAMED: Mutex<Option<HashMap<String, Weak<InMemory>>>> = Mutex::new(None);
    if name.is_empty() {
        return Arc::default();
    }
    let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    let named = named.get_or_insert_default();
    named.retain(|_, memory| memory.strong_count() > 0);
    if let Some(memory) = named.get(name).and_then(Weak::upgrade) {
        return memory;
    }
    let memory = Arc::<InMemory>::default();
    named.insert(name.to_owned(), Arc::downgrade(&memory));
    memory
}

/// An address without what may be a password.
pub(super) fn shown(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (&text[..scheme.len() + 3], rest));
    let host_end = rest.find('/').unwrap_or(rest.len());
    match rest[..host_end].rfind('@') {
        Some(at) => format!("{scheme}***{}", &rest[at..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        open(url, &StoreOptions::default()).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn addresses_are_normalized() {
        let url = |url| open(url, &StoreOptions::default()).map(|opened| opened.url).unwrap();
        assert_eq!(url("file:///srv/models/"), "file:///srv/models");
        assert_eq!(url("/srv/models"), "file:///srv/models");
        assert_eq!(url("memory://"), "memory://");
        assert_eq!(url("memory://plant/line/"), "memory://plant/line");
    }

    #[test]
    fn addresses_that_cannot_be_are_refused_with_the_reason() {
        assert!(refused("ftp://host/models").contains("there are file://"));
        assert!(refused("file://srv/models").contains("three slashes"));
        assert!(refused("s3://").contains("bucket is missing"));
        assert!(refused("memory://a/%2e%2e%2fb/c").contains("no address"), "{}", refused("memory://a/%2e%2e%2fb/c"));
    }

    #[test]
    fn inv_10_credentials_in_an_address_are_refused_and_not_told() {
        for url in ["s3://id:hunter2@bucket/models", "s3://bucket/models?token=hunter2", "s3://b#hunter2"] {
            let error = refused(url);
            assert!(!error.is_empty() && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_named_memory_is_shared_while_it_is_open() {
        let (one, two) = (memory("shared"), memory("shared"));
        assert!(Arc::ptr_eq(&one, &two));
        assert!(!Arc::ptr_eq(&one, &memory("other")));
        assert!(!Arc::ptr_eq(&memory(""), &memory("")));
    }
}
