//! States of maps as bytes: what one process learned of some rows, for another to merge.
//!
//! MessagePack behind a line that says what it is. The same state gives the same bytes, whatever the order in
//! which it was learned.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// The first line; another one is refused.
const HEAD: &[u8] = b"coldstart state 1\n";

pub fn write<S: Serialize>(state: &S) -> Result<Vec<u8>> {
    let mut bytes = HEAD.to_vec();
    rmp_serde::encode::write(&mut bytes, state)
        .map_err(|e| Error::bug(format!("cannot write a state: {e}")))?;
    Ok(bytes)
}

pub fn read<S: DeserializeOwned>(bytes: &[u8]) -> Result<S> {
    let body =
        bytes.strip_prefix(HEAD).ok_or_else(|| Error::data("not a state of this version of coldstart"))?;
    rmp_serde::from_slice(body).map_err(|e| Error::data(format!("a damaged state: {e}")))
}
