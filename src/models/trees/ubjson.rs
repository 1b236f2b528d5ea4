//! Universal Binary JSON (the Draft 12 subset that XGBoost writes) as a serde deserializer, so that one set
//! of structs reads both it and JSON.
//!
//! Every byte count is checked against what is left of the input before it is believed, and nesting is
//! bounded, so that a hostile file costs no more than its own size.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Containers within containers that are followed.
const DEPTH: usize = 64;

/// Reads one value from `bytes`.
pub fn from_slice<'de, T: de::Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Problem> {
    T::deserialize(&mut Reader { rest: bytes, depth: 0, marker: None })
}

/// Why the bytes are not the value that was asked for.
#[derive(Debug)]
pub struct Problem(String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Problem {}

impl de::Error for Problem {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Problem(message.to_string())
    }
}

fn problem<T>(message: &str) -> Result<T, Problem> {
    Err(Problem(message.to_owned()))
}

struct Reader<'de> {
    rest: &'de [u8],
    depth: usize,
    /// Type of the next value where its container has named it already.
    marker: Option<u8>,
}

impl<'de> Reader<'de> {
    fn bytes(&mut self, count: usize) -> Result<&'de [u8], Problem> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => problem("the file is cut off"),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let mut taken = [0; N];
        taken.copy_from_slice(self.bytes(N)?);
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Problem> {
        Ok(self.array::<1>()?[0])
    }

    /// The next type marker that is not a no-op.
    fn marker(&mut self) -> Result<u8, Problem> {
        loop {
            match self.byte()? {
                b'N' => {}
                marker => return Ok(marker),
            }
        }
    }

    fn integer(&mut self, marker: u8) -> Result<i64, Problem> {
        Ok(match marker {
            b'i' => i64::from(i8::from_be_bytes(self.array()?)),
            b'U' => i64::from(self.byte()?),
            b'I' => i64::from(i16::from_be_bytes(self.array()?)),
            b'l' => i64::from(i32::from_be_bytes(self.array()?)),
            b'L' => i64::from_be_bytes(self.array()?),
            _ => return problem("an integer was expected"),
        })
    }

    fn length(&mut self) -> Result<usize, Problem> {
        let marker = self.marker()?;
        usize::try_from(self.integer(marker)?).or_else(|_| problem("a length is negative"))
    }

    fn text(&mut self) -> Result<&'de str, Problem> {
        let length = self.length()?;
        std::str::from_utf8(self.bytes(length)?).or_else(|_| problem("a text is not UTF-8"))
    }

    /// The `$type` and `#count` that may stand before a container's items.
    fn container(&mut self, end: u8) -> Result<Items, Problem> {
        self.depth += 1;
        if self.depth > DEPTH {
            return problem("values are nested too deeply");
        }
        let kind = if self.rest.first() == Some(&b'$') { Some(self.array::<2>()?[1]) } else { None };
        let count = if self.rest.first() == Some(&b'#') {
            self.byte()?;
            Some(self.length()?)
        } else {
            None
        };
        match (kind, count) {
            (Some(_), None) => problem("a container names a type but no count"),
            // an item of no bytes would let a few bytes declare any number of items
            (Some(b'Z' | b'T' | b'F' | b'N'), _) => problem("a container's type has no bytes"),
            (_, Some(count)) if count > self.rest.len() => {
                problem("a container declares more items than the file has bytes")
            }
            _ => Ok(Items { kind, left: count, end }),
        }
    }
}

struct Items {
    kind: Option<u8>,
    left: Option<usize>,
    end: u8,
}

impl Items {
    /// Whether another item follows; the end marker is taken.
    fn more(&mut self, reader: &mut Reader) -> Result<bool, Problem> {
        match &mut self.left {
            Some(0) => Ok(false),
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
            None => {
                while reader.rest.first() == Some(&b'N') {
                    reader.byte()?;
                }
                let ended = reader.rest.first() == Some(&self.end);
                if ended {
                    reader.byte()?;
                }
                Ok(!ended)
            }
        }
    }
}

struct Access<'a, 'de> {
    reader: &'a mut Reader<'de>,
    items: Items,
}

impl<'de> SeqAccess<'de> for Access<'_, 'de> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Problem> {
        if !self.items.more(self.reader)? {
            return Ok(None);
        }
        self.reader.marker = self.items.kind;
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

impl<'de> MapAccess<'de> for Access<'_, 'de> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Problem> {
        if !self.items.more(self.reader)? {
            return Ok(None);
        }
        let key = self.reader.text()?;
        seed.deserialize(de::value::BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        self.reader.marker = self.items.kind;
        seed.deserialize(&mut *self.reader)
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let marker = match self.marker.take() {
            Some(marker) => marker,
            None => self.marker()?,
        };
        match marker {
            b'Z' => visitor.visit_unit(),
            b'T' => visitor.visit_bool(true),
            b'F' => visitor.visit_bool(false),
            b'i' | b'U' | b'I' | b'l' | b'L' => visitor.visit_i64(self.integer(marker)?),
            b'd' => visitor.visit_f32(f32::from_be_bytes(self.array()?)),
            b'D' => visitor.visit_f64(f64::from_be_bytes(self.array()?)),
            b'C' => match std::str::from_utf8(self.bytes(1)?) {
                Ok(text) => visitor.visit_borrowed_str(text),
                Err(_) => problem("a character is not ASCII"),
            },
            b'S' => visitor.visit_borrowed_str(self.text()?),
            b'[' | b'{' => {
                let items = self.container(if marker == b'[' { b']' } else { b'}' })?;
                let mut access = Access { reader: self, items };
                let value = if marker == b'[' {
                    visitor.visit_seq(&mut access)
                } else {
                    visitor.visit_map(&mut access)
                }?;
                access.reader.depth -= 1;
                Ok(value)
            }
            _ => problem("a type marker is unknown"),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_some(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn plain_and_typed_containers_are_read() {
        let floats: Vec<f32> = from_slice(b"[$d#i\x02\x3f\x80\x00\x00\xc0\x00\x00\x00").unwrap();
        assert_eq!(floats, [1.0, -2.0]);
        let map: BTreeMap<String, Vec<i32>> =
            from_slice(b"{i\x01a[i\x01l\x00\x00\x01\x00]i\x01b[#i\x00}").unwrap();
        assert_eq!((map["a"].as_slice(), map["b"].as_slice()), (&[1, 256][..], &[][..]));
    }

    #[test]
    fn lies_about_length_and_depth_are_refused() {
        assert!(from_slice::<Vec<f32>>(b"[$d#l\x7f\xff\xff\xff\x00").is_err());
        assert!(from_slice::<Vec<Option<u8>>>(b"[$Z#l\x7f\xff\xff\xff").is_err());
        assert!(from_slice::<String>(b"SL\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
        assert!(from_slice::<de::IgnoredAny>(&[b'['; 100_000]).is_err());
    }
}
