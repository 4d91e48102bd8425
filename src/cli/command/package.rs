//! `package.json`: the scripts of a package, and what their processes are told about it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::Refusal;
use super::place::Place;
use crate::os::{errors, file};

/// What is read of a `package.json`.
#[derive(Clone, Debug)]
pub(super) struct Package {
    /// The directory that it stands in.
    pub(super) directory: PathBuf,
    content: Map<String, Value>,
}

impl Package {
    /// The nearest one, from the directory of `place` upwards.
    pub(super) fn nearest(place: &Place) -> Result<Self, Refusal> {
        let Some(directory) = place.above("package.json") else {
            return Err(Refusal(format!(
                "there is no package.json in {} or above: start sticky-run in the package's \
                 directory, or write the command of the server itself",
                place.directory.display()
            )));
        };
        let path = directory.join("package.json");
        let content = read(&path).map_err(|why| {
            Refusal(format!(
                "cannot read {}: {why}: correct it, or write the command of the server itself",
                path.display()
            ))
        })?;
        Ok(Self { directory, content })
    }

    /// The text of a script.
    pub(super) fn script(&self, name: &str) -> Option<&str> {
        self.content.get("scripts")?.get(name)?.as_str()
    }

    /// The names of all scripts, for people.
    pub(super) fn script_names(&self) -> String {
        let scripts = self.content.get("scripts").and_then(Value::as_object);
        let names: Vec<_> = scripts.into_iter().flat_map(Map::keys).map(String::as_str).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }

    /// The variables that package managers give to a script, as far as servers read them.
    pub(super) fn variables(&self, event: &str, text: &str) -> BTreeMap<String, String> {
        let file = self.directory.join("package.json");
        let mut variables = BTreeMap::from([
            ("npm_lifecycle_event".to_owned(), event.to_owned()),
            ("npm_lifecycle_script".to_owned(), text.to_owned()),
            ("npm_package_json".to_owned(), file.to_string_lossy().into_owned()),
        ]);
        for name in ["name", "version"] {
            if let Some(text) = self.content.get(name).and_then(scalar) {
                variables.insert(format!("npm_package_{name}"), text);
            }
        }
        let config = self.content.get("config").and_then(Value::as_object);
        for (name, value) in config.into_iter().flatten() {
            if let Some(text) = scalar(value) {
                variables.insert(format!("npm_package_config_{name}"), text);
            }
        }
        // Neither a name nor a value of the environment can have these.
        variables.retain(|name, value| !name.contains(['=', '\0']) && !value.contains('\0'));
        variables
    }
}

fn read(path: &Path) -> Result<Map<String, Value>, String> {
    let text = file::read_text(path).map_err(|error| errors::text(&error))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    match serde_json::from_str(text) {
        Ok(Value::Object(content)) => Ok(content),
        Ok(_) => Err("it is no JSON object".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
