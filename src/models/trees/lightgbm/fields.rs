//! The lines of a LightGBM file, and its refusals.

use std::collections::HashMap;
use std::str::FromStr;

use crate::error::{Error, Result};

pub fn refused(message: impl Into<String>) -> Error {
    Error::data(message).with("format", "lightgbm")
}

/// The `key=value` lines of one section.
pub struct Fields<'a> {
    pub values: HashMap<&'a str, &'a str>,
    pub stopped_at: Option<&'a str>,
}

impl<'a> Fields<'a> {
    pub fn read(lines: &mut impl Iterator<Item = &'a str>, is_end: impl Fn(&str) -> bool) -> Self {
        let mut values = HashMap::new();
        for line in lines {
            if is_end(line) {
                return Fields { values, stopped_at: Some(line) };
            }
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            values.insert(key, value);
        }
        Fields { values, stopped_at: None }
    }

    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    pub fn text(&self, key: &'static str) -> Result<&'a str> {
        self.values.get(key).copied().ok_or_else(|| refused(format!("`{key}` is missing")))
    }

    pub fn number<T: FromStr>(&self, key: &'static str) -> Result<T> {
        let text = self.text(key)?;
        text.trim()
            .parse()
            .map_err(|_| refused(format!("`{key}` is not a number in range")).value(clipped(text)))
    }

    /// Exactly `count` numbers; the file's own length bounds what is allocated.
    pub fn numbers<T: FromStr>(&self, key: &'static str, count: usize) -> Result<Vec<T>> {
        let mut numbers = Vec::new();
        for word in self.text(key)?.split_ascii_whitespace() {
            numbers.push(word.parse().map_err(|_| {
                refused(format!("`{key}` holds what is not a number in range")).value(clipped(word))
            })?);
        }
        if numbers.len() == count {
            Ok(numbers)
        } else {
            Err(refused(format!("`{key}` should hold {count} numbers")).value(numbers.len()))
        }
    }
}

pub fn clipped(text: &str) -> String {
    text.chars().take(40).collect()
}
