//! A run: its identity, the directory in which its stages leave their artefacts, and what each stage is
//! given.

pub mod context;
pub mod directory;
pub mod fold;
pub mod identity;
pub mod stage;
