//! What a run is given, opened and checked: the panel of teachers, their histories or what their owners share
//! instead, a saved calculator, labels of the target.

pub mod calculator_file;
pub mod history;
pub mod inputs;
pub mod labels;
pub mod owner_profile;
pub mod pooled;
pub mod repeats;
pub mod sketch;
pub mod support;
pub mod training;
pub mod trial;
