//! The six stages, by name.

/// The stages in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Stage {
    Profile,
    Score,
    Relevance,
    Fuse,
    Fit,
    Classify,
}

impl Stage {
    pub const ALL: [Stage; 6] =
        [Stage::Profile, Stage::Score, Stage::Relevance, Stage::Fuse, Stage::Fit, Stage::Classify];

    /// Whether it goes through the accounts, so that units of it can be done side by side.
    pub fn is_mapped(self) -> bool {
        matches!(self, Stage::Profile | Stage::Score | Stage::Fuse | Stage::Classify)
    }

    /// The stages before it, in their order.
    pub fn before(self) -> impl Iterator<Item = Stage> {
        Stage::ALL.into_iter().take_while(move |s| *s != self)
    }

    /// The stages before it of which it reads what their maps left.
    pub fn reads(self) -> &'static [Stage] {
        match self {
            Stage::Profile | Stage::Score => &[],
            Stage::Relevance | Stage::Fuse => &[Stage::Score],
            Stage::Fit => &[Stage::Score, Stage::Fuse],
            Stage::Classify => &[Stage::Fuse],
        }
    }

    /// Its name on the command line, in records and as a folder of the run directory.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Profile => "profile",
            Stage::Score => "score",
            Stage::Relevance => "relevance",
            Stage::Fuse => "fuse",
            Stage::Fit => "fit",
            Stage::Classify => "classify",
        }
    }
}
