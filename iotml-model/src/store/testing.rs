//! What only tests do to a store: past all checks.

use object_store::ObjectStoreExt as _;
use prost::bytes::Bytes;

use super::Store;

impl Store {
    /// Writes an object, `inside` being its path below the store's address, over what is there.
    ///
    /// # Errors
    /// What the store says.
    pub async fn plant(&self, inside: &str, content: impl Into<Bytes>) -> Result<(), object_store::Error> {
        let path = inside.split('/').fold(self.inner.prefix.clone(), |path, part| path.join(part));
        self.inner.objects.put(&path, content.into().into()).await.map(drop)
    }

    /// Reads an object.
    ///
    /// # Errors
    /// What the store says.
    pub async fn dig(&self, inside: &str) -> Result<Bytes, object_store::Error> {
        let path = inside.split('/').fold(self.inner.prefix.clone(), |path, part| path.join(part));
        self.inner.objects.get(&path).await?.bytes().await
    }

    /// Takes an object away.
    ///
    /// # Errors
    /// What the store says.
    pub async fn uproot(&self, inside: &str) -> Result<(), object_store::Error> {
        let path = inside.split('/').fold(self.inner.prefix.clone(), |path, part| path.join(part));
        self.inner.objects.delete(&path).await
    }
}
