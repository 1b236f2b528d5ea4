//! What a stage is given.

use std::ops::Range;

use crate::config::Pipeline;
use crate::process::log::Log;
use crate::run::directory::Directory;
use crate::run::identity::Identity;
use crate::sources::inputs::Inputs;

/// What a stage sees.
pub struct Run<'a> {
    pub pipeline: &'a Pipeline,
    pub date: &'a str,
    pub key: &'a str,
    pub directory: &'a Directory<'a>,
    pub log: &'a Log,
    pub inputs: &'a Inputs,
    pub identity: &'a Identity,
}

impl Run<'_> {
    /// All pieces of the accounts.
    pub fn pieces(&self) -> Range<usize> {
        0..self.inputs.accounts.units().len()
    }

    /// Whether it takes several pieces of rows to make a file of a table.
    pub fn is_cut_finer(&self) -> bool {
        self.inputs.accounts.parts().len() < self.inputs.accounts.units().len()
    }

    /// The run's name in tables and file names: short, and the same for the same key.
    pub fn id(&self) -> &str {
        &self.key[..12]
    }
}
