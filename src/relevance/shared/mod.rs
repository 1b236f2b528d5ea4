//! The profile that an owner shares whose rows may not leave: its file, what is checked of it, its noise.

pub mod check;
pub mod file;
pub mod laplace;
