//! Ids that stand more than once among the accounts: found by their hashes, which whoever reads the accounts
//! leaves as files, one for each piece of rows.
//!
//! A file of hashes: a line that says what it is, how many hashes begin with each of the 256 bytes, and the
//! hashes, sorted. So many machines can leave them, and one that looks for twins holds those hashes at a time
//! that begin alike, of however many accounts.

use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use hashbrown::HashSet;
use parquet::file::reader::ChunkReader;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::lake::input::Input;
use crate::lake::location::Location;
use crate::lake::scan::ids::{as_text, hashes};
use crate::lake::scan::{Accounts, Unit};
use crate::lake::store::Store;
use crate::lake::store::files::{cannot_create, create_dir, put, temporary};

const HEAD: &[u8] = b"coldstart ids 1\n";
/// Hashes that begin with a byte, for each byte.
const BYTES: usize = 256;
/// Where the hashes begin.
const FIRST: u64 = (HEAD.len() + BYTES * size_of::<u32>()) as u64;
/// Hashes in memory at once, where no more than that begin with the same byte.
const AT_ONCE: u64 = 1 << 24;

/// Rows whose id stands before them already.
#[derive(Debug, Default)]
pub struct Repeated {
    /// Ordinals of the later rows of each id, sorted.
    pub later_rows: Vec<u64>,
    /// A few of the ids, in the order of their first row.
    pub examples: Vec<String>,
}

/// Writes the hashes of some rows' ids; the same hashes in another order give the same file.
pub fn write(store: &dyn Store, path: &Path, mut hashes: Vec<u64>) -> Result<()> {
    hashes.sort_unstable();
    let mut counts = [0u32; BYTES];
    hashes.iter().for_each(|h| counts[first_byte(*h)] += 1);
    let mut bytes = Vec::with_capacity(FIRST as usize + size_of_val(hashes.as_slice()));
    bytes.extend_from_slice(HEAD);
    bytes.extend(counts.iter().flat_map(|n| n.to_le_bytes()));
    bytes.extend(hashes.iter().flat_map(|h| h.to_le_bytes()));
    if let Some(folder) = path.parent() {
        create_dir(store, folder)?;
    }
    let beside = temporary(path);
    let written = store.create(&beside).and_then(|mut file| file.write_all(&bytes));
    written.map_err(|e| cannot_create(&e, path))?;
    put(store, &beside, path)
}

fn first_byte(hash: u64) -> usize {
    (hash >> 56) as usize
}

/// A file of hashes, of which the head was read.
struct Hashes<'a> {
    path: &'a Path,
    counts: Vec<u32>,
}

impl<'a> Hashes<'a> {
    fn open(path: &'a Path) -> Result<Hashes<'a>> {
        let (input, id) = Input::open(&Location::from(path), None)?;
        let head = input.get_bytes(0, FIRST as usize).map_err(|_| damaged(path))?;
        let counts = head.strip_prefix(HEAD).ok_or_else(|| damaged(path))?;
        let counts: Vec<u32> = counts.as_chunks().0.iter().map(|n| u32::from_le_bytes(*n)).collect();
        let hashes: u64 = counts.iter().map(|n| u64::from(*n)).sum();
        match id.bytes == FIRST + 8 * hashes {
            true => Ok(Hashes { path, counts }),
            false => Err(damaged(path)),
        }
    }

    fn count(&self, bytes: &std::ops::Range<usize>) -> usize {
        self.counts[bytes.clone()].iter().map(|n| *n as usize).sum()
    }

    /// Those that begin with one of these bytes.
    fn read(&self, first_bytes: &std::ops::Range<usize>, out: &mut [u64]) -> Result<()> {
        let (input, _) = Input::open(&Location::from(self.path), None)?;
        let start = FIRST + 8 * self.count(&(0..first_bytes.start)) as u64;
        let bytes = input.get_bytes(start, size_of_val(out)).map_err(|_| damaged(self.path))?;
        let found = bytes.as_chunks().0.iter().map(|h| u64::from_le_bytes(*h));
        out.iter_mut().zip(found).for_each(|(to, from)| *to = from);
        match out.iter().all(|h| first_bytes.contains(&first_byte(*h))) {
            true => Ok(()),
            false => Err(damaged(self.path)),
        }
    }
}

fn damaged(path: &Path) -> Error {
    Error::data("not what was written of the accounts' ids").file(path)
}

/// The hashes that stand more than once in these files.
pub fn twins(files: &[PathBuf]) -> Result<HashSet<u64>> {
    let files: Vec<Hashes> = files.par_iter().map(|f| Hashes::open(f)).collect::<Result<_>>()?;
    let (mut found, mut next) = (HashSet::new(), 0);
    while next < BYTES {
        let (mut all, first) = (0, next);
        loop {
            all += files.iter().map(|f| f.count(&(next..next + 1)) as u64).sum::<u64>();
            next += 1;
            let more = |byte: usize| files.iter().map(|f| f.count(&(byte..byte + 1)) as u64).sum::<u64>();
            if next == BYTES || all + more(next) > AT_ONCE {
                break;
            }
        }
        let bytes = first..next;
        let mut hashes = vec![0; all as usize];
        let (mut left, mut each) = (hashes.as_mut_slice(), Vec::with_capacity(files.len()));
        for file in &files {
            let (own, others) = left.split_at_mut(file.count(&bytes));
            each.push((file, own));
            left = others;
        }
        each.into_par_iter().try_for_each(|(file, own)| file.read(&bytes, own))?;
        found.extend(repeated_values(&mut hashes));
    }
    Ok(found)
}

/// The values that stand more than once.
fn repeated_values(values: &mut [u64]) -> impl Iterator<Item = u64> + '_ {
    values.par_sort_unstable();
    values.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// Finds ids that stand more than once, exactly and in bounded memory, by as many passes over the ids as their
/// hashes need: for who has no files of them.
pub fn find(accounts: &Accounts, id: &str) -> Result<Repeated> {
    let passes = accounts.stored_rows().div_ceil(AT_ONCE / 2).max(1);
    let mut suspects = HashSet::new();
    for pass in 0..passes {
        let wanted = |hash: &u64| (u128::from(*hash) * u128::from(passes)) >> 64 == u128::from(pass);
        let of_unit = |unit: &Unit| -> Result<Vec<u64>> {
            let mut out = Vec::new();
            accounts.read(unit, &[id.to_string()], |batch, _| {
                let found = hashes(batch.column(0)).map_err(|e| e.file(accounts.place()).column(id))?;
                out.extend(found.into_iter().filter(wanted));
                Ok(())
            })?;
            Ok(out)
        };
        let found: Vec<Vec<u64>> = accounts.units().par_iter().map(of_unit).collect::<Result<_>>()?;
        let mut all = Vec::with_capacity(found.iter().map(Vec::len).sum());
        found.into_iter().for_each(|of| all.extend(of));
        suspects.extend(repeated_values(&mut all));
    }
    with_hashes(accounts, id, &suspects)
}

/// Which ids stand more than once among those with these hashes: compared as text, by a pass over the ids if
/// there are any.
pub fn with_hashes(accounts: &Accounts, id: &str, suspects: &HashSet<u64>) -> Result<Repeated> {
    let mut repeated = Repeated::default();
    if suspects.is_empty() {
        return Ok(repeated);
    }
    let suspected = |unit: &Unit| suspected(accounts, id, unit, suspects);
    let found: Vec<Vec<(u64, String)>> = accounts.units().par_iter().map(suspected).collect::<Result<_>>()?;
    let mut seen: HashSet<String> = HashSet::new();
    for (row, id) in found.into_iter().flatten() {
        if seen.contains(&id) {
            repeated.later_rows.push(row);
            if repeated.examples.len() < 5 && !repeated.examples.contains(&id) {
                repeated.examples.push(id);
            }
        } else {
            seen.insert(id);
        }
    }
    Ok(repeated)
}

/// The rows of a unit whose ids have one of these hashes, with their ids.
fn suspected(
    accounts: &Accounts,
    id: &str,
    unit: &Unit,
    suspects: &HashSet<u64>,
) -> Result<Vec<(u64, String)>> {
    let mut out = Vec::new();
    accounts.read(unit, &[id.to_string()], |batch, rows| {
        let found = hashes(batch.column(0))?;
        let places: Vec<usize> = (0..found.len()).filter(|i| suspects.contains(&found[*i])).collect();
        if !places.is_empty() {
            let text = as_text(batch.column(0))?;
            let text = text.as_string::<i64>();
            out.extend(places.into_iter().map(|i| (rows[i], text.value(i).to_string())));
        }
        Ok(())
    })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::store::Real;

    #[test]
    fn twins_are_found_within_a_file_and_across_files() {
        let folder = std::env::temp_dir().join(format!("coldstart-hashes-{}", std::process::id()));
        let mixed = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let of: [Vec<u64>; 4] = [
            (0..1000).map(mixed).collect(),
            Vec::new(),
            (1000..2000).chain([17, 1500]).map(mixed).collect(),
            vec![u64::MAX, 0, u64::MAX],
        ];
        let files: Vec<PathBuf> = (0..of.len()).map(|i| folder.join(format!("{i}.hashes"))).collect();
        files.iter().zip(of).for_each(|(file, hashes)| write(&Real, file, hashes).unwrap());
        // 0 is the first of the first file too
        assert_eq!(twins(&files).unwrap(), HashSet::from([mixed(17), mixed(1500), 0, u64::MAX]));
        assert!(twins(&files[..2]).unwrap().is_empty());
        let sound = std::fs::read(&files[0]).unwrap();
        for damage in [&sound[..sound.len() - 1], b"", &[b"x", &sound[1..]].concat()] {
            std::fs::write(&files[0], damage).unwrap();
            assert!(twins(&files).is_err());
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
