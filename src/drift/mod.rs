//! What changed from date to date: sketches of the target that outlive their run ([`sketches`]), compared
//! ([`compare`]) into tables ([`tables`]).

pub mod compare;
pub mod sketches;
pub mod tables;
