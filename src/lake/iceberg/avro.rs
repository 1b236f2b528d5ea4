//! Avro object container files (Apache Avro 1.11, "Object Container Files"), as far as manifests need them: records
//! become JSON, and bytes, as in Avro's own JSON, texts of which each character is a byte.

use std::io::Read;

use hashbrown::HashMap;
use serde_json::{Map, Value};

type Answer<T> = Result<T, String>;

/// Types within types, at most.
const DEEPEST: usize = 64;
/// Bytes of a block once it is unpacked, at most.
const LARGEST: u64 = 1 << 30;
const SYNC: usize = 16;

/// The records of a file, without the fields that are named: of a table with many columns the statistics of its
/// files take more memory than all else.
pub fn records(file: &[u8], without: &[&str]) -> Answer<Vec<Value>> {
    let mut input = Input(file);
    if input.take(4)? != b"Obj\x01" {
        return Err("not an Avro file".to_string());
    }
    let (mut schema, mut codec) = (Value::Null, "null".to_string());
    while let Some(count) = input.block()? {
        for _ in 0..count {
            let (key, value) = (input.bytes()?, input.bytes()?);
            match key {
                b"avro.schema" => schema = serde_json::from_slice(value).map_err(|e| e.to_string())?,
                b"avro.codec" => codec = String::from_utf8_lossy(value).into_owned(),
                _ => {}
            }
        }
    }
    let mut types = Types { named: HashMap::new(), without };
    types.name(&schema, 0)?;
    let sync = input.take(SYNC)?;
    let mut records = Vec::new();
    while !input.0.is_empty() {
        let (count, data) = (input.long()?, input.bytes()?);
        if input.take(SYNC)? != sync {
            return Err("a block does not end where it should".to_string());
        }
        let data = unpacked(data, &codec)?;
        let mut block = Input(&data);
        for _ in 0..count {
            records.push(types.read(&schema, &mut block, 0)?);
        }
    }
    Ok(records)
}

fn unpacked(data: &[u8], codec: &str) -> Answer<Vec<u8>> {
    let mut out = Vec::new();
    let read = match codec {
        "null" => return Ok(data.to_vec()),
        "deflate" => flate2::read::DeflateDecoder::new(data).take(LARGEST).read_to_end(&mut out),
        "zstandard" => {
            zstd::stream::read::Decoder::new(data).and_then(|d| d.take(LARGEST).read_to_end(&mut out))
        }
        other => return Err(format!("the codec {other} is not known")),
    };
    read.map(|_| out).map_err(|e| e.to_string())
}

/// Bytes as a text of as many characters.
pub fn text_of(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

/// Types that are named once and meant again by their names.
struct Types<'a> {
    named: HashMap<String, Value>,
    without: &'a [&'a str],
}

impl Types<'_> {
    fn name(&mut self, schema: &Value, depth: usize) -> Answer<()> {
        if depth > DEEPEST {
            return Err("its schema is nested too deeply".to_string());
        }
        if let (Some(name), Some("record" | "fixed" | "enum")) =
            (schema["name"].as_str(), schema["type"].as_str())
        {
            let full = schema["namespace"].as_str().map(|space| format!("{space}.{name}"));
            for name in full.into_iter().chain([name.to_string()]) {
                self.named.insert(name, schema.clone());
            }
        }
        let fields = schema["fields"].as_array().into_iter().flatten().map(|field| &field["type"]);
        let branches = schema.as_array().into_iter().flatten();
        let inside = ["type", "items", "values"].into_iter().filter_map(|key| schema.get(key));
        fields
            .chain(branches)
            .chain(inside)
            .filter(|s| !s.is_string())
            .try_for_each(|s| self.name(s, depth + 1))
    }

    fn read(&self, schema: &Value, input: &mut Input, depth: usize) -> Answer<Value> {
        if depth > DEEPEST {
            return Err("its schema is nested too deeply".to_string());
        }
        let unknown = || format!("the type {schema} is not known");
        let inside = |key: &str| schema.get(key).ok_or_else(unknown);
        if let Some(branches) = schema.as_array() {
            let branch = usize::try_from(input.long()?).ok().and_then(|i| branches.get(i));
            return self.read(branch.ok_or("a branch that the schema lacks")?, input, depth + 1);
        }
        let name = match schema.as_str() {
            Some(name) => name,
            None => match inside("type")? {
                Value::String(name) => name,
                nested => return self.read(nested, input, depth + 1),
            },
        };
        Ok(match name {
            "null" => Value::Null,
            "boolean" => Value::Bool(input.take(1)? != [0]),
            "int" | "long" => input.long()?.into(),
            "float" => input.array().map(f32::from_le_bytes)?.into(),
            "double" => input.array().map(f64::from_le_bytes)?.into(),
            "bytes" => text_of(input.bytes()?).into(),
            "string" => String::from_utf8_lossy(input.bytes()?).into_owned().into(),
            "fixed" => {
                let size = inside("size")?.as_u64().and_then(|n| usize::try_from(n).ok());
                text_of(input.take(size.ok_or_else(unknown)?)?).into()
            }
            "enum" => {
                let symbol = usize::try_from(input.long()?).ok().and_then(|i| inside("symbols").ok()?.get(i));
                symbol.cloned().ok_or("a symbol that the schema lacks")?
            }
            "record" => {
                let mut record = Map::new();
                for field in inside("fields")?.as_array().ok_or_else(unknown)? {
                    let value = self.read(&field["type"], input, depth + 1)?;
                    let name = field["name"].as_str().unwrap_or_default();
                    if !self.without.contains(&name) {
                        record.insert(name.to_string(), value);
                    }
                }
                record.into()
            }
            "array" | "map" => {
                let mut items = Vec::new();
                while let Some(count) = input.block()? {
                    for _ in 0..count {
                        if name == "map" {
                            input.bytes()?;
                        }
                        items.push(self.read(
                            inside(if name == "map" { "values" } else { "items" })?,
                            input,
                            depth + 1,
                        )?);
                    }
                }
                items.into()
            }
            named => return self.read(self.named.get(named).ok_or_else(unknown)?, input, depth + 1),
        })
    }
}

/// Bytes that are not read yet.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, bytes: usize) -> Answer<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or("it ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Answer<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| "it ends too early".to_string())
    }

    /// A number of variable length, zigzag.
    fn long(&mut self) -> Answer<i64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err("a number is too long".to_string())
    }

    fn bytes(&mut self) -> Answer<&'a [u8]> {
        let length = self.long()?;
        self.take(usize::try_from(length).map_err(|_| "a length is negative")?)
    }

    /// How many items the next block of an array or a map has; none after the last. Each takes a byte at least.
    fn block(&mut self) -> Answer<Option<u64>> {
        let count = self.long()?;
        if count < 0 {
            self.long()?;
        }
        match count.unsigned_abs() {
            0 => Ok(None),
            n if n > self.0.len() as u64 => Err("it ends too early".to_string()),
            n => Ok(Some(n)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_forged_bytes_are_refused() {
        let schema = r#"{"type":"record","name":"r","fields":[{"name":"n","type":["null","long"]},{"name":"l","type":{"type":"array","items":"string"}}]}"#;
        let mut file = b"Obj\x01\x02\x16avro.schema".to_vec();
        let length = (schema.len() as u64) << 1;
        file.extend([(length & 0x7f) as u8 | 0x80, (length >> 7) as u8]);
        file.extend(schema.as_bytes());
        file.push(0);
        file.extend([7; SYNC]);
        // one record of 8 bytes: branch 1, -3, a block of two texts, no other block
        file.extend([2, 16, 2, 5, 4, 2, b'a', 2, b'b', 0]);
        file.extend([7; SYNC]);
        assert_eq!(records(&file, &[]).unwrap(), [serde_json::json!({"n": -3, "l": ["a", "b"]})]);
        assert_eq!(records(&file, &["l"]).unwrap(), [serde_json::json!({"n": -3})]);
        for end in 0..file.len() - 1 {
            // cut short it is an error, or has no block
            assert!(records(&file[..end], &[]).map_or(true, |found| found.is_empty()), "{end}");
        }
    }
}
