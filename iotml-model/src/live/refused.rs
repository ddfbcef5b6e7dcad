//! Why an announced model is not put into service.

/// The reason, as it is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// What is wrong, and what to do.
    pub(crate) cause: String,
    /// The same announcement may go well later.
    pub(crate) may_pass: bool,
}

impl Refused {
    /// It stays wrong however often it is tried.
    pub(crate) fn for_good(cause: impl Into<String>) -> Self {
        Refused { cause: cause.into(), may_pass: false }
    }

    /// It is tried again.
    pub(crate) fn for_now(cause: impl Into<String>) -> Self {
        Refused { cause: cause.into(), may_pass: true }
    }
}
