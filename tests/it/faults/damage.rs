//! C33 to C39: files of the target that are no whole Parquet file, or contradict themselves.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{RecordBatch, StringArray};

use super::{discreet, faults, reference_probabilities};
use crate::workdir::{DATE, PART_1, Workdir, named_columns, parquet, with};

const HERE: (&str, &str) = ("file", "part-1.parquet");

#[test]
fn c33_what_is_no_parquet_is_refused_by_name() {
    let (none, text) = ("not a Parquet file", "this is a text file");
    let nothing: [(&[u8], &str); 5] = [
        (b"", none),
        (b"PAR1", none),
        (b"PAR1PAR1", none),
        (b"account_id,country\ncrr-1,DE\n", text),
        (b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>", text),
    ];
    faults(|f| {
        for (bytes, said) in nothing {
            f.refused(65, &[HERE, ("error", said)], |w| w.write_bytes(PART_1, bytes));
        }
    });
}

#[test]
fn c34_a_truncated_file_or_a_torn_tail_is_refused() {
    faults(|f| {
        let kept: [fn(usize) -> usize; 7] = [|n| n - 1, |n| n - 4, |n| n - 8, |n| n / 2, |_| 1, |_| 4, |_| 8];
        for kept in kept {
            f.refused(65, &[HERE], |w| {
                w.write_bytes(PART_1, &w.bytes(PART_1)[..kept(w.bytes(PART_1).len())])
            });
        }
        f.refused(65, &[HERE], |w| w.write_bytes(PART_1, &[w.bytes(PART_1), vec![0; 64]].concat()));
    });
}

/// Flips one byte at each of `offsets` shares of a file. Nothing can tell the flip of a value from a value;
/// what is asserted is that the stage that first reads every column either refuses the file by name or
/// succeeds, and does nothing else.
fn flip(offsets: impl Iterator<Item = f64>) {
    let work = Workdir::new();
    let whole = parquet(&work.table(PART_1).slice(0, 8), 4);
    for share in offsets {
        let mut bytes = whole.clone();
        let at = ((bytes.len() as f64 * share) as usize).min(bytes.len() - 1);
        bytes[at] ^= 0x55;
        work.write_bytes(PART_1, &bytes);
        let ran = work.coldstart(&["stage", "profile", "../pipeline.toml", "--date", DATE, "--threads", "1"]);
        match ran.code {
            Some(0) => drop(ran.result()),
            _ => {
                let error = ran.error(65);
                assert!(error["file"].as_str().is_some(), "byte {at}: the file is named\n{ran}");
            }
        }
        super::discreet(&ran, &work);
    }
}

#[test]
fn c35_a_flipped_byte_is_refused_or_a_value_but_never_a_crash() {
    flip((0..24).map(|i| f64::from(i) / 24.0).chain([0.9991, 0.9995, 0.9999]));
}

#[test]
#[ignore = "minutes: every byte of a file"]
fn c35_every_flipped_byte_is_refused_or_a_value_but_never_a_crash() {
    let bytes = parquet(&Workdir::new().table(PART_1).slice(0, 8), 4).len();
    flip((0..bytes).map(|i| (i as f64 + 0.5) / bytes as f64));
}

/// A file with this footer and nothing else.
fn forged(footer: &[u8]) -> Vec<u8> {
    [b"PAR1", footer, &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat()
}

/// Thrift's compact form of a footer whose schema is groups within groups.
fn nested(depth: usize) -> Vec<u8> {
    let mut footer = vec![0x15, 0x02, 0x19, 0xfc];
    let mut n = depth + 2;
    while n >= 0x80 {
        footer.push((n as u8) | 0x80);
        n >>= 7;
    }
    footer.push(n as u8);
    footer.extend([0x48, 1, b'r', 0x15, 0x02, 0x00]);
    footer.extend([0x35, 0x00, 0x18, 1, b'g', 0x15, 0x02, 0x00].repeat(depth));
    footer.extend([0x15, 0x02, 0x25, 0x00, 0x18, 1, b'x', 0x00, 0x16, 0x00, 0x19, 0x0c, 0x00]);
    footer
}

#[test]
fn c37_a_forged_footer_is_refused_at_once_and_in_little_memory() {
    let a_hundred_million_columns = [0x15, 0x02, 0x19, 0xfc, 0x80, 0xe8, 0xfc, 0x33, 0x00, 0x00];
    let a_name_of_two_gigabytes = [0x15, 0x02, 0x19, 0x1c, 0x48, 0xff, 0xff, 0xff, 0xff, 0x07];
    faults(|f| {
        for footer in [
            a_hundred_million_columns.to_vec(),
            a_name_of_two_gigabytes.to_vec(),
            nested(100),
            nested(10_000),
            nested(200_000),
        ] {
            let clock = Instant::now();
            f.refused(65, &[HERE], |w| w.write_bytes(PART_1, &forged(&footer)));
            assert!(clock.elapsed().as_secs() < 10, "a footer of {} bytes is refused at once", footer.len());
        }
        f.refused(65, &[HERE], |w| {
            let bytes = w.bytes(PART_1);
            let end = bytes.len() - 8;
            w.write_bytes(PART_1, &[&bytes[..end], &u32::MAX.to_le_bytes(), b"PAR1"].concat());
        });
    });
}

#[test]
fn c38_a_page_that_unpacks_to_more_than_the_budget_is_refused() {
    faults(|f| {
        f.refused(65, &[HERE], |w| {
            w.change(PART_1, |t| {
                let column: StringArray =
                    (0..t.num_rows()).map(|i| (i == 0).then(|| "a".repeat(100 << 20))).collect();
                with(&t, "country", Arc::new(column))
            });
            let table = w.table(PART_1);
            w.write_bytes(PART_1, &compressed(&table));
        });
    });
}

/// The numbers in a Thrift struct in its compact form, and where each stands, by field numbers and, of lists,
/// places.
struct Numbers<'a> {
    bytes: &'a [u8],
    at: usize,
    found: BTreeMap<Vec<usize>, Range<usize>>,
}

impl<'a> Numbers<'a> {
    fn of(bytes: &'a [u8]) -> BTreeMap<Vec<usize>, Range<usize>> {
        let mut numbers = Numbers { bytes, at: 0, found: BTreeMap::new() };
        numbers.record(&[]);
        numbers.found
    }

    fn byte(&mut self) -> u8 {
        self.at += 1;
        self.bytes[self.at - 1]
    }

    fn varint(&mut self) -> usize {
        let (mut n, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            n |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return n;
            }
        }
    }

    fn record(&mut self, path: &[usize]) {
        let mut field = 0;
        loop {
            let head = self.byte();
            match head >> 4 {
                _ if head == 0 => return,
                0 => field = self.varint() / 2,
                step => field += usize::from(step),
            }
            self.value(head & 15, &[path, &[field]].concat());
        }
    }

    fn value(&mut self, kind: u8, path: &[usize]) {
        let from = self.at;
        match kind {
            1 | 2 => {}
            3 => self.at += 1,
            4..=6 => {
                self.varint();
                self.found.insert(path.to_vec(), from..self.at);
            }
            7 => self.at += 8,
            8 => {
                let length = self.varint();
                self.at += length;
            }
            9 => {
                let head = self.byte();
                let length = if head >> 4 == 15 { self.varint() } else { usize::from(head >> 4) };
                for i in 0..length {
                    if head & 15 <= 2 { self.at += 1 } else { self.value(head & 15, &[path, &[i]].concat()) }
                }
            }
            12 => self.record(path),
            other => panic!("a thrift type {other}"),
        }
    }
}

fn zigzag(n: i64) -> Vec<u8> {
    let (mut n, mut out) = (((n << 1) ^ (n >> 63)) as u64, Vec::new());
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

/// The file with another number in its footer.
fn with_footer(bytes: &[u8], path: &[usize], n: i64) -> Vec<u8> {
    let end = bytes.len() - 8;
    let from = end - u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap()) as usize;
    let place = Numbers::of(&bytes[from..end])[path].clone();
    let footer = [&bytes[from..from + place.start], &zigzag(n), &bytes[from + place.end..end]].concat();
    [&bytes[..from], &footer, &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat()
}

/// The file with another number of the same length in the header of the page that begins there.
fn with_page(bytes: &[u8], (header, _): (usize, usize), path: &[usize], n: i64) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let place = Numbers::of(&bytes[header..])[path].clone();
    let n = zigzag(n);
    assert_eq!(n.len(), place.len(), "{path:?}");
    out[header + place.start..header + place.end].copy_from_slice(&n);
    out
}

/// Where the pages of a column of the first row group begin: header and data.
fn pages(bytes: &[u8], column: usize) -> Vec<(usize, usize)> {
    let read = |bytes: &[u8], range: &Range<usize>| {
        bytes[range.clone()].iter().rev().fold(0, |n, b| n << 7 | i64::from(b & 0x7f)) / 2
    };
    let end = bytes.len() - 8;
    let from = end - u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap()) as usize;
    let footer = Numbers::of(&bytes[from..end]);
    let number = |field: usize| {
        footer.get(&vec![4, 0, 1, column, 3, field]).map(|place| read(&bytes[from..end], place) as usize)
    };
    let (mut at, mut found) = (number(11).or(number(9)).unwrap(), Vec::new());
    let after = at + number(7).unwrap();
    while at < after {
        let mut header = Numbers { bytes: &bytes[at..], at: 0, found: BTreeMap::new() };
        header.record(&[]);
        found.push((at, at + header.at));
        at += header.at + read(&bytes[at..], &header.found[&vec![3]]) as usize;
    }
    found
}

/// Files as in parquet-testing's `bad_data`, made of one that is good.
#[test]
fn c36_what_contradicts_itself_is_refused() {
    let work = Workdir::new();
    let names: Vec<String> = named_columns(&work.table(PART_1)).into_iter().map(|(n, _)| n).collect();
    let good = work.bytes(PART_1);
    let column = names.iter().position(|n| n == "country").expect("a column of text that teachers read");
    let pages = pages(&good, column);
    assert!(pages.len() == 2, "a dictionary and a page");
    let chunk = |field: usize| vec![4, 0, 1, column, 3, field];
    let data = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[pages[1].1 + at] = byte;
        bytes
    };
    let levels = 4 + u32::from_le_bytes(good[pages[1].1..pages[1].1 + 4].try_into().unwrap()) as usize;
    let bad = [
        ("a type that does not exist", with_footer(&good, &[2, 1 + column, 1], -7)),
        ("another type than the pages have", with_footer(&good, &chunk(1), 1)),
        ("a codec that does not exist", with_footer(&good, &chunk(4), 77)),
        ("a repetition that does not exist", with_footer(&good, &[2, 1 + column, 3], 9)),
        ("children that do not exist", with_footer(&good, &[2, 0, 5], 1000)),
        ("a negative number of children", with_footer(&good, &[2, 0, 5], -1)),
        ("a negative number of rows", with_footer(&good, &[4, 0, 3], -1)),
        ("fewer rows than the columns have", with_footer(&good, &[4, 0, 3], 3)),
        ("more rows than the columns have", with_footer(&good, &[4, 0, 3], 1000)),
        ("a column that is shorter than the others", with_footer(&good, &chunk(5), 3)),
        ("pages beyond the end", with_footer(&good, &chunk(11), 1 << 40)),
        ("pages before the start", with_footer(&good, &chunk(11), -5)),
        ("pages of a negative length", with_footer(&good, &chunk(7), -5)),
        ("a negative number of dictionary entries", with_page(&good, pages[0], &[7, 1], -3)),
        ("fewer dictionary entries than are used", with_page(&good, pages[0], &[7, 1], 1)),
        ("a dictionary in an encoding that it cannot have", with_page(&good, pages[0], &[7, 2], 5)),
        ("a page of a type that does not exist", with_page(&good, pages[1], &[1], 9)),
        ("a page in an encoding that does not exist", with_page(&good, pages[1], &[5, 2], 40)),
        ("levels in an encoding that they cannot have", with_page(&good, pages[1], &[5, 3], 40)),
        ("a page of a negative length", with_page(&good, pages[1], &[3], -20)),
        ("levels that are longer than the page", data(1, 0x7f)),
        ("levels that are missing", data(0, 0)),
        ("indices of 254 bits", data(levels, 254)),
        ("nulls in a column that has none", with_footer(&good, &[2, 1 + column, 3], 0)),
    ];
    // a number that stands twice may be right in the place that is read: then it changes nothing
    let mut harmless = Vec::new();
    for (what, bytes) in &bad {
        let ran = {
            let work = Workdir::new();
            work.write_bytes(PART_1, bytes);
            let ran = work.run(&[]);
            if ran.code == Some(0) {
                assert!(
                    work.probabilities("classification", "account_id")
                        == reference_probabilities()["classification"],
                    "{what}: other values"
                );
                harmless.push(*what);
                continue;
            }
            discreet(&ran, &work);
            ran
        };
        assert!(ran.error(65)["file"].as_str().is_some_and(|f| f.ends_with(HERE.1)), "{what}: {ran}");
    }
    assert_eq!(harmless, ["another type than the pages have", "a column that is shorter than the others"]);
}

fn compressed(batch: &RecordBatch) -> Vec<u8> {
    use parquet::basic::{Compression, ZstdLevel};
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let mut bytes = Vec::new();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn c39_what_a_newer_writer_may_do_is_refused_by_name() {
    faults(|f| {
        f.refused(65, &[HERE], |w| {
            let mut bytes = w.bytes(PART_1);
            let end = bytes.len();
            bytes[end - 4..].copy_from_slice(b"PARE");
            w.write_bytes(PART_1, &bytes);
        });
        f.refused(65, &[HERE], |w| {
            let mut bytes = w.bytes(PART_1);
            // in the footer, the name of the column's only path element and then its codec
            let before = [&[0x19, 0x18, 7], b"country".as_slice(), &[0x15]].concat();
            let at = bytes.windows(before.len()).position(|w| w == before).expect("the column's description")
                + before.len();
            bytes[at] = 120;
            w.write_bytes(PART_1, &bytes);
        });
    });
}
