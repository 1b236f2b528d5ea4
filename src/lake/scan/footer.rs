//! A first look at a Parquet footer, before the parquet crate recurses into the schema that it claims.
//!
//! The footer is a Thrift struct in the compact protocol. Only the depth of its schema is read here: the
//! crate's parser calls itself once a level, so that a few kilobytes of nested groups would overflow the
//! stack. Whatever cannot be read here is left to the crate, which refuses it with an error.

use crate::error::{Error, Result};

/// Schemas deeper than this are refused; accounts are flat.
const DEEPEST: usize = 64;
/// Footers larger than this are refused.
const LARGEST: u64 = 256 << 20;

/// Refuses a file of this size whose schema is nested too deeply, or whose footer is too large; `read` gets a
/// place in the file and a length.
pub fn check<B: AsRef<[u8]>>(bytes: u64, read: impl Fn(u64, usize) -> Option<B>) -> Result<()> {
    let Some(footer) = footer(bytes, read)? else { return Ok(()) };
    match (Thrift { rest: footer.as_ref() }).depth() {
        Some(depth) if depth > DEEPEST => {
            Err(Error::data("not a Parquet file of accounts: its schema is nested too deeply").value(depth))
        }
        _ => Ok(()),
    }
}

fn footer<B: AsRef<[u8]>>(bytes: u64, read: impl Fn(u64, usize) -> Option<B>) -> Result<Option<B>> {
    let Some(tail) = bytes.checked_sub(12).and_then(|start| read(start + 4, 8)) else { return Ok(None) };
    let &[a, b, c, d, b'P', b'A', b'R', b'1'] = tail.as_ref() else { return Ok(None) };
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    if length > bytes - 8 {
        return Ok(None);
    }
    if length > LARGEST {
        return Err(Error::data("its footer is too large").value(length));
    }
    Ok(read(bytes - 8 - length, length as usize))
}

/// A reader of Thrift's compact protocol; none where the bytes are not that.
struct Thrift<'a> {
    rest: &'a [u8],
}

impl Thrift<'_> {
    /// Depth of the schema: field 2 of the footer is its elements in depth-first order, each with its number
    /// of children.
    fn depth(&mut self) -> Option<usize> {
        let mut field = 0;
        while let Some(kind) = self.field(&mut field)? {
            if field != 2 || kind != 9 {
                self.skip(kind, 0)?;
                continue;
            }
            let (elements, _) = self.list()?;
            let (mut open, mut deepest): (Vec<u64>, usize) = (Vec::new(), 0);
            for _ in 0..elements {
                let children = self.children()?;
                while open.last() == Some(&0) {
                    open.pop();
                }
                if let Some(left) = open.last_mut() {
                    *left -= 1;
                }
                open.push(children);
                deepest = deepest.max(open.len());
            }
            return Some(deepest);
        }
        None
    }

    /// `num_children`, field 5 of a schema element; 0 where it is missing.
    fn children(&mut self) -> Option<u64> {
        let (mut field, mut children) = (0, 0);
        while let Some(kind) = self.field(&mut field)? {
            if field == 5 && kind == 5 {
                children = self.varint()? >> 1;
            } else {
                self.skip(kind, 0)?;
            }
        }
        Some(children)
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// The next field's type, none at the end of the struct; `id` becomes the field's number.
    fn field(&mut self, id: &mut i64) -> Option<Option<u8>> {
        let head = self.byte()?;
        if head == 0 {
            return Some(None);
        }
        *id = match head >> 4 {
            0 => (self.varint()? >> 1) as i64,
            delta => id.checked_add(i64::from(delta))?,
        };
        Some(Some(head & 15))
    }

    fn list(&mut self) -> Option<(u64, u8)> {
        let head = self.byte()?;
        let size = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        Some((size, head & 15))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        match kind {
            1 | 2 => Some(()),
            3 => self.byte().map(|_| ()),
            4..=6 => self.varint().map(|_| ()),
            7 => self.drop_bytes(8),
            8 => self.varint().and_then(|n| self.drop_bytes(n)),
            9 | 10 => {
                let (size, kind) = self.list()?;
                // A boolean takes a byte in a list, none in a struct; a list of nothing-sized elements would
                // not end.
                (0..size).try_for_each(|_| {
                    if kind <= 2 { self.byte().map(|_| ()) } else { self.skip(kind, depth + 1) }
                })
            }
            12 => {
                let mut field = 0;
                while let Some(kind) = self.field(&mut field)? {
                    self.skip(kind, depth + 1)?;
                }
                Some(())
            }
            _ => None,
        }
    }

    fn drop_bytes(&mut self, n: u64) -> Option<()> {
        self.rest = self.rest.get(usize::try_from(n).ok()?..)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_depth_of_a_schema_is_read_from_its_elements_and_nonsense_has_none() {
        // version 1; a list of three elements: a root with one child, a group with one child, a leaf
        let group = [0x55, 0x02, 0x00];
        let footer = [&[0x15, 0x02, 0x19, 0x3c][..], &group, &group, &[0x00], &[0x00]].concat();
        assert_eq!(Thrift { rest: &footer }.depth(), Some(3));
        for cut in 0..footer.len() - 1 {
            assert_eq!(Thrift { rest: &footer[..cut] }.depth(), None);
        }
        assert_eq!(Thrift { rest: b"<html>" }.depth(), None);
    }
}
