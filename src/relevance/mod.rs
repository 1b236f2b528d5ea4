//! Relevance: which teacher to believe on which account, and how their scores become one soft label.
//!
//! Numbers in, numbers out: nothing here reads a file. Shapes are row-major slices: scores of one teacher are
//! `[n, C]`, of all teachers on one row `[K, C]`, support is `[n, K]`. Logarithms of probabilities play the
//! part of logits: softmax(ln p) = p. `docs/method.md` has the formulas by the names of its sections. The order
//! of the work, as the stages call it:
//!
//! | folder | what it computes |
//! |---|---|
//! | [`profile`] | sketches of one pass, common bins, profiles, support, distances |
//! | [`shared`] | the profile that an owner shares instead of rows |
//! | [`transfer`] | calibration at home, transfer temperature, cross-loss |
//! | [`training`] | the calculator: trained with each history in turn as the target, rehearsed, saved |
//! | [`fusion`] | gate, alignment, soft label, class shares and labels, decision |
//! | [`findings`] | rivals side by side, what each teacher adds, how right the labels may be, in words |
//! | [`maths`] | probabilities, Newton's method, exact sums |
//!
//! Every sum over the target's accounts is exact ([`maths::exact_sum`]), so the order of rows, batches and
//! threads changes no bit.

pub mod findings;
pub mod fusion;
pub mod maths;
pub mod profile;
pub mod shared;
pub mod training;
pub mod transfer;
