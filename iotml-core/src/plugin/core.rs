//! The plug-ins that need no server.

use super::Registry;

/// Adds core's own plug-ins.
pub(super) fn register(_registry: &mut Registry) {}
