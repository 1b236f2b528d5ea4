//! `coldstart schema`: JSON Schemas of the pipeline file and of a bundle's `teacher.toml`, by which editors complete
//! and check them. Written from the types that read those files; what a default is, and what is said of it, comes
//! from `pipelines/defaults.toml`.

use clap::ValueEnum;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use toml::Table;

use crate::config::{Pipeline, defaults};
use crate::error::{Error, Result};
use crate::teacher::bundle::Bundle;

/// The schema's name beside a pipeline file that `coldstart new` writes.
pub const BESIDE_PIPELINE: &str = ".pipeline.schema.json";
/// The schema's name in a bundle that `coldstart teacher add` writes.
pub const IN_BUNDLE: &str = ".schema.json";

/// The files that have a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum File {
    Pipeline,
    Bundle,
}

/// The JSON Schema (draft 7, which TOML editors read) as indented text.
pub fn schema(of: File) -> Result<String> {
    let mut schema = match of {
        File::Pipeline => {
            let mut schema = of_type::<Pipeline>("A pipeline of coldstart");
            give_defaults(&mut schema, &defaults::table()?);
            for (key, comment) in defaults::comments() {
                if let Some(node) = at(&mut schema, &key) {
                    node.insert("description".to_string(), json!(comment));
                }
            }
            schema
        }
        File::Bundle => of_type::<Bundle>("The teacher.toml of a bundle of coldstart"),
    };
    simplify(&mut schema);
    serde_json::to_string_pretty(&schema).map_err(|e| Error::bug(e.to_string())).map(|text| text + "\n")
}

fn of_type<T: JsonSchema>(title: &str) -> Value {
    let mut settings = SchemaSettings::draft07();
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    schema["title"] = json!(title);
    if let Some(root) = schema.as_object_mut() {
        root.remove("description");
    }
    schema
}

/// What a default is given for may be left out, and so may a section of which everything may be left out.
fn give_defaults(schema: &mut Value, defaults: &Table) {
    for (key, value) in defaults {
        let mut needed = false;
        if let Some(node) = schema["properties"].get_mut(key) {
            match value {
                toml::Value::Table(inner) => {
                    give_defaults(node, inner);
                    needed = node["required"].as_array().is_some_and(|keys| !keys.is_empty());
                }
                value => node["default"] = json!(value),
            }
        }
        if let Some(required) = schema["required"].as_array_mut().filter(|_| !needed) {
            required.retain(|k| k != key);
        }
    }
}

/// The schema of a key, a dotted path.
fn at<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Map<String, Value>> {
    path.split('.').try_fold(schema, |node, key| node.get_mut("properties")?.get_mut(key))?.as_object_mut()
}

/// TOML has no null: an optional key is one that may be left out. Lines of a description are joined.
fn simplify(schema: &mut Value) {
    match schema {
        Value::Object(node) => {
            // widths of numbers in memory say nothing of a file
            for unsaid in ["format", "writeOnly"] {
                if node.get(unsaid).is_some_and(|v| !v.is_object()) {
                    node.remove(unsaid);
                }
            }
            if let Some(Value::Array(types)) = node.get_mut("type") {
                types.retain(|t| t != "null");
                if let [one] = types.as_slice() {
                    node["type"] = one.clone();
                }
            }
            if let Some(Value::Array(choices)) = node.get_mut("anyOf") {
                choices.retain(|c| c["type"] != "null");
                if let [Value::Object(one)] = choices.as_mut_slice() {
                    let one = std::mem::take(one);
                    node.remove("anyOf");
                    one.into_iter().for_each(|(key, value)| {
                        node.entry(key).or_insert(value);
                    });
                }
            }
            if let Some(Value::Array(values)) = node.get_mut("enum") {
                values.retain(|v| !v.is_null());
            }
            if node.get("default").is_some_and(|d| d.is_null() || d.is_object()) {
                node.remove("default");
            }
            if node.get("required").and_then(Value::as_array).is_some_and(Vec::is_empty) {
                node.remove("required");
            }
            if let Some(Value::String(text)) = node.get_mut("description") {
                *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            node.values_mut().for_each(simplify);
        }
        Value::Array(items) => items.iter_mut().for_each(simplify),
        _ => {}
    }
}
