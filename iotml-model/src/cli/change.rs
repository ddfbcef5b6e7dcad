//! `model promote`, `model rollback` and `model retire`.

use std::sync::Arc;

use iotml_core::cli::clap::{self, Args};
use iotml_core::model::{ModelSet, SetError};
use iotml_core::plugin::Registry;

use super::Failure;
use super::board::{Board, in_force};

/// A version of a model.
#[derive(Args, Debug)]
pub(super) struct Named {
    /// The model
    #[arg(value_name = "NAME")]
    name: String,
    /// Its version
    #[arg(value_name = "VERSION")]
    version: String,
    #[command(flatten)]
    board: Board,
}

/// A model.
#[derive(Args, Debug)]
pub(super) struct Model {
    /// The model
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    board: Board,
}

pub(super) fn promote(arguments: &Named, registry: &Arc<Registry>) -> Result<String, Failure> {
    change(&arguments.board, &arguments.name, registry, |set| set.promote(&arguments.version))
}

pub(super) fn retire(arguments: &Named, registry: &Arc<Registry>) -> Result<String, Failure> {
    change(&arguments.board, &arguments.name, registry, |set| set.retire(&arguments.version))
}

pub(super) fn roll_back(arguments: &Model, registry: &Arc<Registry>) -> Result<String, Failure> {
    change(&arguments.board, &arguments.name, registry, ModelSet::roll_back)
}

fn change(
    board: &Board,
    name: &str,
    registry: &Arc<Registry>,
    change: impl FnMut(&mut ModelSet) -> Result<(), SetError>,
) -> Result<String, Failure> {
    Ok(in_force(&board.open(registry)?.change(name, change)?))
}
