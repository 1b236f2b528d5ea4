//! Avro files written, as [`avro`](crate::lake::iceberg::avro) reads them: one block of records that are JSON.

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::Value;

use crate::lake::unique;

type Answer<T> = Result<T, String>;

/// A file of these records; `about` are further entries of its header.
pub fn file(schema: &Value, about: &[(&str, String)], records: &[Value]) -> Answer<Vec<u8>> {
    let mut header = vec![("avro.schema", schema.to_string()), ("avro.codec", "deflate".to_string())];
    header.extend(about.iter().cloned());
    let sync = unique::bits().to_be_bytes();
    let mut out = b"Obj\x01".to_vec();
    long(header.len() as i64, &mut out);
    for (key, value) in &header {
        bytes(key.as_bytes(), &mut out);
        bytes(value.as_bytes(), &mut out);
    }
    out.push(0);
    out.extend(sync);
    let mut block = Vec::new();
    records.iter().try_for_each(|record| value(schema, record, &mut block))?;
    let mut packed = DeflateEncoder::new(Vec::new(), Compression::default());
    let packed = packed.write_all(&block).and_then(|()| packed.finish()).map_err(|e| e.to_string())?;
    if !records.is_empty() {
        long(records.len() as i64, &mut out);
        bytes(&packed, &mut out);
        out.extend(sync);
    }
    Ok(out)
}

fn value(schema: &Value, of: &Value, out: &mut Vec<u8>) -> Answer<()> {
    let wrong = || format!("{of} is no {schema}");
    if let Some(branches) = schema.as_array() {
        let fits = |branch: &&Value| (branch.as_str() == Some("null")) == of.is_null();
        let place = branches.iter().position(|b| fits(&b)).ok_or_else(wrong)?;
        long(place as i64, out);
        return value(&branches[place], of, out);
    }
    let name = match schema.as_str() {
        Some(name) => name,
        None => match &schema["type"] {
            Value::String(name) => name,
            nested => return value(nested, of, out),
        },
    };
    match name {
        "null" if of.is_null() => {}
        "boolean" => out.push(of.as_bool().ok_or_else(wrong)?.into()),
        "int" | "long" => long(of.as_i64().ok_or_else(wrong)?, out),
        "string" => bytes(of.as_str().ok_or_else(wrong)?.as_bytes(), out),
        "bytes" => {
            let text = of.as_str().ok_or_else(wrong)?;
            let plain: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
            bytes(&plain.ok_or_else(wrong)?, out);
        }
        "record" => {
            for field in schema["fields"].as_array().ok_or_else(wrong)? {
                let name = field["name"].as_str().unwrap_or_default();
                let own = of.get(name).unwrap_or(&Value::Null);
                value(&field["type"], own, out).map_err(|e| format!("{name}: {e}"))?;
            }
        }
        "array" => {
            let items = of.as_array().ok_or_else(wrong)?;
            if !items.is_empty() {
                long(items.len() as i64, out);
                items.iter().try_for_each(|item| value(&schema["items"], item, out))?;
            }
            out.push(0);
        }
        _ => return Err(wrong()),
    }
    Ok(())
}

/// A number of variable length, zigzag.
fn long(number: i64, out: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn bytes(content: &[u8], out: &mut Vec<u8>) {
    long(content.len() as i64, out);
    out.extend(content);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::lake::iceberg::avro;

    #[test]
    fn what_is_written_is_read_again() {
        let pair = json!({"type": "record", "name": "k1_v2", "fields": [
            {"name": "key", "type": "int"}, {"name": "value", "type": "bytes"}]});
        let schema = json!({"type": "record", "name": "r", "fields": [
            {"name": "n", "type": ["null", "long"]},
            {"name": "s", "type": "string"},
            {"name": "b", "type": "boolean"},
            {"name": "m", "type": ["null", {"type": "array", "items": pair}]}]});
        let records = [
            json!({"n": i64::MIN, "s": "é", "b": true, "m": [{"key": -1, "value": avro::text_of(&[0, 127, 128, 255])}]}),
            json!({"n": null, "s": "", "b": false, "m": []}),
            json!({"n": 1_i64 << 40, "s": "x", "b": false, "m": null}),
        ];
        let written = file(&schema, &[("content", "data".to_string())], &records).unwrap();
        assert_eq!(avro::records(&written, &[]).unwrap(), records);
        assert_eq!(avro::records(&file(&schema, &[], &[]).unwrap(), &[]).unwrap(), [] as [Value; 0]);
        assert!(file(&schema, &[], &[json!({"n": 1, "b": true})]).unwrap_err().contains("s:"));
    }
}
