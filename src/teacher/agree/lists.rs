//! Lists of names: compared, and as messages show them.

/// Names and values that a message lists.
const LISTED: usize = 12;

/// A list for a message.
pub fn listed<S: AsRef<str>>(names: &[S]) -> String {
    let mut text = names.iter().take(LISTED).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    if names.len() > LISTED {
        text.push_str(&format!(", ... ({} in all)", names.len()));
    }
    text
}

/// A list as TOML: whole numbers and truth values as such, where all are.
pub fn toml_values(values: &[String]) -> String {
    let plain = |v: &String| v.parse::<i64>().is_ok_and(|n| n.to_string() == *v);
    let truth = |v: &String| v == "true" || v == "false";
    let bare = values.iter().all(plain) || values.iter().all(truth);
    let quoted = |v: &String| toml::Value::String(v.clone()).to_string();
    let all: Vec<String> = values.iter().map(|v| if bare { v.clone() } else { quoted(v) }).collect();
    format!("[{}]", all.join(", "))
}

pub fn same_set<S: AsRef<str> + Ord>(a: &[S], b: &[S]) -> bool {
    let sorted = |names: &[S]| {
        let mut names: Vec<String> = names.iter().map(|n| n.as_ref().to_string()).collect();
        names.sort();
        names
    };
    sorted(a) == sorted(b)
}
