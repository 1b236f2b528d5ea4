//! Relevance: which teacher to believe on which account, and what their beliefs add up to.
//!
//! Numbers in, numbers out: nothing here reads a file. Shapes are row-major slices: scores of one teacher are
//! `[n, C]`, of all teachers on one row `[K, C]`, support is `[n, K]`. Logarithms of probabilities play the
//! part of logits: softmax(ln p) = p. The order of the work, as the stages call it:
//!
//! | step | what | where |
//! |---|---|---|
//! | 1 | every scenario is sketched in one pass, in any order of rows | [`sketch`], [`levels`] |
//! | 1 | common bins; profiles of all scenarios on them | [`bins`], [`profiles`] |
//! | 1 | the sketch that an owner shares instead of rows | [`sketch_file`] |
//! | 4 | s_k(x): how much the features of an account look like those of history k | [`support`] |
//! | 11 | distances between profiles | [`distance`] |
//! | 2, 3 | own calibration, foreign slope | [`calibrate`] |
//! | 5 - 9 | cross-loss, the gate, its training on pseudo-targets | [`world`], [`judgement`], [`gate`], [`train`] |
//! | 2, 3, 5 | the same from a history whose rows may not leave their owner | [`reliability`], [`noise`] |
//! | 9 | each history as a target, for the record | [`rehearsal`] |
//! | 8 | the trained calculator, as it is saved, and what is checked of a saved one | [`calculator`], [`saved`] |
//! | 10 - 12 | the soft label of an account | [`fuse`] |
//! | - | beyond the reference: teachers aligned to one level of class shares | [`alignment`] |
//! | 13 | base rate: known class shares or a few labels | [`base_rate`] |
//! | 14 | the rivals side by side, what each teacher adds, how right the labels may be, and all that in words | [`findings`], [`diversity`], [`estimate`], [`verdict`] |
//! | - | which accounts to label next | [`advice`] |
//! | - | a decision, or none, and what abstaining is worth | [`decision`], [`risk`] |
//!
//! Every sum over the target's accounts is exact ([`sum`]), so the order of rows, batches and threads changes
//! no bit.

pub mod findings;
pub mod fusion;
pub mod maths;
pub mod profile;
pub mod shared;
pub mod training;
pub mod transfer;
