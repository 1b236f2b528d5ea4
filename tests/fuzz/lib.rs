//! The parsers of untrusted bytes and what they need of coldstart, by the very files of its source.
#![allow(dead_code, reason = "the rest of coldstart uses them")]

#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/student/mod.rs"]
pub mod student;

#[path = "../../src/lake"]
pub mod lake {
    pub mod footer;
    pub mod kind;
}

#[path = "../../src/relevance"]
pub mod relevance {
    pub mod bins;
    pub mod calibrate;
    pub mod levels;
    mod newton;
    pub mod profiles;
    pub mod reliability;
    pub mod simplex;
    pub mod sketch;
    mod sketch_check;
    pub mod sketch_file;
}

#[path = "../../src/teacher"]
pub mod teacher {
    pub mod bundle;
    pub mod onnx_proto;
    pub mod trees;
}
