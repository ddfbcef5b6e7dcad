//! Names, versions, and where in a store they are.

use object_store::path::Path;

use super::{Inner, StoreError};

/// What a name or a version may have at most, so that it fits every file system and every key of a topic.
const MAX_LENGTH: usize = 128;

/// Checks that `name` and `version` are safe in paths, URLs and topics alike.
///
/// # Errors
/// [`StoreError::Name`] if one is not.
pub(super) fn check(name: &str, version: &str) -> Result<(), StoreError> {
    for (what, text) in [("name", name), ("version", version)] {
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if !starts_well || !is_plain || text.len() > MAX_LENGTH {
            let found = text.chars().take(MAX_LENGTH).collect();
            return Err(StoreError::Name { what, found });
        }
    }
    Ok(())
}

/// Name and version of what is at `uri` in the store at `url`.
pub(super) fn split<'a>(url: &str, uri: &'a str) -> Result<(&'a str, &'a str), StoreError> {
    let inside = uri.strip_prefix(url).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
    match inside.split_once('/').filter(|(name, version)| check(name, version).is_ok()) {
        Some(found) => Ok(found),
        None => Err(StoreError::Elsewhere { uri: uri.chars().take(512).collect(), store: url.to_owned() }),
    }
}

/// The store, the name and the version in the address of a version.
pub(super) fn parts(uri: &str) -> Option<(&str, &str, &str)> {
    let (rest, version) = uri.rsplit_once('/')?;
    let (store, name) = rest.rsplit_once('/')?;
    (store.contains("://") && check(name, version).is_ok()).then_some((store, name, version))
}

impl Inner {
    /// The path of an object of a version; name and version were checked.
    pub(super) fn path(&self, name: &str, version: &str, object: &str) -> Path {
        self.prefix.clone().join(name).join(version).join(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_pass() {
        for good in ["cars", "cars-18.v2_final", "3", "2026-11-28T02.00.00Z"] {
            assert!(check(good, good).is_ok(), "{good}");
        }
        let long = "x".repeat(129);
        for bad in
            ["", ".", "..", "../cars", "a/b", "a\\b", "a b", "%2e%2e", ".hidden", "-x", "a\0b", "ä", "a?b", &long]
        {
            assert!(matches!(check(bad, "1"), Err(StoreError::Name { what: "name", .. })), "{bad}");
            assert!(matches!(check("cars", bad), Err(StoreError::Name { what: "version", .. })), "{bad}");
        }
    }

    #[test]
    fn a_uri_tells_its_store() {
        assert_eq!(parts("s3://models/cars/3"), Some(("s3://models", "cars", "3")));
        assert_eq!(parts("file:///srv/models/cars/3"), Some(("file:///srv/models", "cars", "3")));
        for none in ["s3://models", "s3://models/3", "models/cars/3", "s3://models/cars/3?token=x", "s3://m/../3", ""] {
            assert_eq!(parts(none), None, "{none}");
        }
    }

    #[test]
    fn a_uri_must_be_in_the_store() {
        let store = "s3://models/factory-7";
        assert_eq!(split(store, "s3://models/factory-7/cars/3").unwrap(), ("cars", "3"));
        for elsewhere in [
            "s3://models/factory-70/cars/3",
            "s3://models/factory-7/cars",
            "s3://models/factory-7/cars/3/model.onnx",
            "s3://models/factory-7/../secret/3",
            "s3://models/factory-7//3",
            "file:///etc/passwd/3",
            "",
        ] {
            assert!(matches!(split(store, elsewhere), Err(StoreError::Elsewhere { .. })), "{elsewhere}");
        }
    }
}
