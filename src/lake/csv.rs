//! Small tables as CSV: the first line names the columns; what is not there or empty is null.

use csv_core::{ReadRecordResult, Reader};

/// A field's bytes and ends, while a record grows.
const ROOM: usize = 1 << 16;

/// The records of a file, each a list of fields; a byte-order mark at the start is left out.
pub fn records(bytes: &[u8]) -> Result<Vec<Vec<String>>, String> {
    let mut rest = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = Reader::new();
    let (mut text, mut ends) = (vec![0u8; ROOM], vec![0usize; 1 << 12]);
    let (mut written, mut fields, mut out) = (0, 0, Vec::new());
    loop {
        let (result, read, w, e) = reader.read_record(rest, &mut text[written..], &mut ends[fields..]);
        (rest, written, fields) = (&rest[read..], written + w, fields + e);
        match result {
            ReadRecordResult::InputEmpty => {}
            ReadRecordResult::OutputFull => text.resize(2 * text.len(), 0),
            ReadRecordResult::OutputEndsFull => ends.resize(2 * ends.len(), 0),
            ReadRecordResult::End => return Ok(out),
            ReadRecordResult::Record => {
                let starts = std::iter::once(0).chain(ends[..fields].iter().copied());
                let field = |(from, to): (usize, &usize)| match std::str::from_utf8(&text[from..*to]) {
                    Ok(text) => Ok(text.trim().to_string()),
                    Err(_) => Err(format!("line {} is not UTF-8 text", reader.line() - 1)),
                };
                out.push(starts.zip(&ends[..fields]).map(field).collect::<Result<Vec<_>, _>>()?);
                (written, fields) = (0, 0);
            }
        }
    }
}

/// A record as a line.
pub fn line<'a>(fields: impl Iterator<Item = &'a str>) -> String {
    let quoted = |field: &str| match field.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_string(),
    };
    fields.map(quoted).collect::<Vec<_>>().join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_spreadsheets_are_too() {
        let rows = [vec!["id", "label"], vec!["a,\"b\"", "no"], vec!["c\nd", ""]];
        let text: String = rows.iter().map(|r| line(r.iter().copied())).collect();
        assert_eq!(records(text.as_bytes()).unwrap(), rows);
        let excel = records(b"\xef\xbb\xbfid,label\r\n 1 , yes\r\n\r\n2,").unwrap();
        assert_eq!(excel, [vec!["id", "label"], vec!["1", "yes"], vec!["2", ""]]);
        let long = format!("id\n{}\n", "x".repeat(200_000));
        assert_eq!(records(long.as_bytes()).unwrap()[1][0].len(), 200_000);
        assert!(records(b"id\n\xff\n").is_err());
    }
}
