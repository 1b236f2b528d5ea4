//! Account features as columns of numbers and categories: what teachers, profiles and the student all read.

pub mod block;
pub mod coded;
pub mod column;
pub mod kind;
