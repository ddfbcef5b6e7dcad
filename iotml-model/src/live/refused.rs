//! Why an announced model is not put into service.

/// The reason, as it is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// What is wrong, and what to do. The same trouble has the same words, since it is reported once.
    pub(crate) cause: String,
    pub(crate) outlook: Outlook,
}

/// Whether the same announcement may go well later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// It stays wrong however often it is tried.
    Never,
    /// A busy machine or odd rows may be to blame, so a few tries decide.
    AFewTries,
    /// It is tried until it goes well.
    Later,
}

impl Refused {
    /// It stays wrong however often it is tried.
    pub(crate) fn for_good(cause: impl Into<String>) -> Self {
        Refused { cause: cause.into(), outlook: Outlook::Never }
    }

    /// It is tried a few times.
    pub(crate) fn unless_it_passes(cause: impl Into<String>) -> Self {
        Refused { cause: cause.into(), outlook: Outlook::AFewTries }
    }

    /// It is tried again.
    pub(crate) fn for_now(cause: impl Into<String>) -> Self {
        Refused { cause: cause.into(), outlook: Outlook::Later }
    }
}
