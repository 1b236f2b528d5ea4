//! Values that must not be said: a secret that came from the environment is written by its name.
//!
//! A value is a secret where the variable's name says so, as `AWS_SECRET_ACCESS_KEY` does, or where the
//! pipeline names the variable among its `secrets`. A date or a path that came from a variable is none.

use std::sync::Mutex;

use serde_json::Value;

/// Secrets that came from the environment, by the name that the pipeline file gave.
static HIDDEN: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// Words in the name of a variable that holds a secret.
const SECRET_WORDS: [&str; 17] = [
    "SECRET",
    "SECRETS",
    "TOKEN",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "PASSCODE",
    "PASS",
    "PWD",
    "PIN",
    "KEY",
    "APIKEY",
    "CREDENTIAL",
    "CREDENTIALS",
    "CREDS",
    "SAS",
    "AUTH",
];

/// Whether the name of a variable says that it holds a secret.
pub fn names_a_secret(name: &str) -> bool {
    let name = name.to_uppercase();
    let words = name.split(|c: char| !c.is_alphanumeric());
    let run_together = ["SECRET", "PASSWORD", "TOKEN", "APIKEY", "ACCESSKEY", "CREDENTIAL"];
    words
        .into_iter()
        .any(|word| SECRET_WORDS.contains(&word) || run_together.iter().any(|w| word.ends_with(w)))
}

/// From now on `value` is written as `${name}` wherever the process says something.
pub fn hide(name: &str, value: &str) {
    if let Ok(mut hidden) = HIDDEN.lock()
        && !value.is_empty()
        && !hidden.iter().any(|(n, _)| n == name)
    {
        hidden.push((name.to_string(), value.to_string()));
        // The longest first, so that no value hides a part of another.
        hidden.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
    }
}

/// A text that is about to be said, without secrets. Of JSON see [`redact_json`].
pub fn redact(text: &str) -> String {
    let mut text = text.to_string();
    for (name, value) in HIDDEN.lock().iter().flat_map(|h| h.iter()) {
        text = without(&text, value, &format!("${{{name}}}"));
    }
    text
}

/// Below so many bytes a secret is also found by chance within other words, a digest's digits say.
const SHORT: usize = 8;

/// The text with `instead` for each `secret`; for a short one only where it stands alone.
fn without(text: &str, secret: &str, instead: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(secret) {
        let (before, after) = (&rest[..at], &rest[at + secret.len()..]);
        let joined = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let before_it = before.chars().next_back().or_else(|| out.chars().next_back());
        let alone = secret.len() >= SHORT || !(joined(before_it) || joined(after.chars().next()));
        out.push_str(before);
        out.push_str(if alone { instead } else { secret });
        rest = after;
    }
    out + rest
}

/// JSON that is about to be said: its texts without secrets, all else as it is, so that it stays JSON.
pub fn redact_json(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(redact(text)),
        Value::Array(items) => items.iter().map(redact_json).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (redact(k), redact_json(v))).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_says_whether_its_value_is_a_secret() {
        for name in [
            "AWS_SECRET_ACCESS_KEY",
            "API_KEY",
            "db-password",
            "GITHUB_TOKEN",
            "apikey",
            "MYPASSWORD",
            "AZURE_SAS",
        ] {
            assert!(names_a_secret(name), "{name}");
        }
        for name in
            ["DS", "MONTH", "LAKE_PATH", "KEYSPACE", "MONKEY", "PASSAGE", "SPIN", "AUTHOR", "RUN_DATE"]
        {
            assert!(!names_a_secret(name), "{name}");
        }
    }

    #[test]
    fn json_stays_json_whatever_the_secret_is() {
        hide("TEST_PIN", "17");
        hide("TEST_PASSWORD", "a\"b");
        let said = redact_json(&json!({"rows": 1700, "where": "x = '17' AND y = 178", "deep": ["a\"b", 17]}));
        assert_eq!(
            said,
            json!({"rows": 1700, "where": "x = '${TEST_PIN}' AND y = 178", "deep": ["${TEST_PASSWORD}", 17]})
        );
    }
}
