//! The parsers of untrusted bytes and what they need of coldstart, by the very files of its source.
#![allow(dead_code, reason = "the rest of coldstart uses them")]

#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/models/mod.rs"]
pub mod models;
#[path = "../../src/student/mod.rs"]
pub mod student;

#[path = "../../src/features"]
pub mod features {
    pub mod kind;
}

#[path = "../../src/lake"]
pub mod lake {
    pub mod location;
    #[path = "scan"]
    pub mod scan {
        pub mod footer;
    }
}

#[path = "../../src/relevance"]
pub mod relevance {
    pub mod maths {
        pub mod newton;
        pub mod probability;
    }
    pub mod profile {
        pub mod bins;
        pub mod categories;
        pub mod numbers;
        pub mod profiles;
    }
    pub mod shared {
        pub mod check;
        pub mod file;
    }
    pub mod transfer {
        pub mod calibrate;
        pub mod reliability;
    }
}

#[path = "../../src/teacher"]
pub mod teacher {
    pub mod bundle;
}
