//! Where models are announced.

use std::collections::BTreeMap;

use super::{ModelDrift, ModelSet, ModelStatus, SetError};
use crate::error::BoxError;

/// The other side of a [`ModelFeed`](super::ModelFeed): announces models, and reads what is announced and reported.
///
/// # Contract
/// 1. Calls wait until they have done all or failed; what they have done is durable.
/// 2. Of two who change what is announced of a model at the same time neither is lost: one is asked again.
pub trait Announcer: Send + Sync {
    /// What is announced of all models, by name; what cannot be read says why.
    ///
    /// # Errors
    /// What keeps it from being read.
    fn announced(&self) -> Result<BTreeMap<String, Result<ModelSet, SetError>>, BoxError>;

    /// Changes what is announced of `model`, and gives the set that is in force then. `change` may be called more than once, each
    /// time with what others have announced meanwhile.
    ///
    /// # Errors
    /// What `change` says, or what keeps it from being written. Nothing was changed then, unless the error says that this is not known,
    /// as where no answer came in time; what is announced tells.
    fn change(
        &self,
        model: &str,
        change: &mut dyn FnMut(&mut ModelSet) -> Result<(), SetError>,
    ) -> Result<ModelSet, BoxError>;

    /// What workers reported, oldest first.
    ///
    /// # Errors
    /// What keeps it from being read.
    fn reports(&self) -> Result<Vec<ModelStatus>, BoxError>;

    /// What workers reported of rows that drifted, oldest first.
    ///
    /// # Errors
    /// What keeps it from being read.
    fn drifts(&self) -> Result<Vec<ModelDrift>, BoxError>;
}
