//! From a TOML value to the equivalent words of a command line.

use clap::Arg;
use toml::de::DeValue;

use super::{is_list, is_switch};

/// The words of the command.
pub(super) fn command(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let wrong = || "command is a list of words, as in [\"node\", \"server.js\"]".to_owned();
    let words = value.as_array().filter(|words| !words.is_empty()).ok_or_else(wrong)?;
    let words = words.iter().map(|word| scalar(word.get_ref()).ok_or_else(wrong));
    words.map(|word| without_nul("command", word?)).collect()
}

/// The values of a flag. A table is a list of `NAME=VALUE`.
pub(super) fn of_flag(arg: &Arg, name: &str, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let values = if is_switch(arg) {
        switch(name, value)?
    } else if is_list(arg) {
        list(name, value)?
    } else {
        let wrong = || format!("{name} is one value, not {}", kind(value));
        vec![scalar(value).ok_or_else(wrong)?]
    };
    values.into_iter().map(|value| without_nul(name, value)).collect()
}

fn switch(name: &str, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    match value.as_bool() {
        Some(true) => Ok(vec!["true".to_owned()]),
        Some(false) => Ok(Vec::new()),
        None => Err(format!("{name} is true or false, not {}", kind(value))),
    }
}

fn list(name: &str, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let inner = |value: &DeValue<'_>| {
        let wrong = || format!("{name} is a list of values, without {} in it", kind(value));
        scalar(value).ok_or_else(wrong)
    };
    match value {
        DeValue::Array(values) => values.iter().map(|value| inner(value.get_ref())).collect(),
        DeValue::Table(table) => {
            let mut pairs: Vec<_> = table.iter().collect();
            pairs.sort_by_key(|(name, _)| name.span().start);
            let pair = |(name, value): (&toml::Spanned<_>, &toml::Spanned<_>)| {
                Ok(format!("{}={}", name.get_ref(), inner(value.get_ref())?))
            };
            pairs.into_iter().map(pair).collect()
        }
        _ => Ok(vec![inner(value)?]),
    }
}

/// A text or a number, as it is written on a command line.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        // With 0x, 0o or 0b in front, as it stands there: flags take none of them, and what is
        // octal to one, such as a mask, must not come as a decimal number.
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn kind(value: &DeValue<'_>) -> String {
    let kind = value.type_str();
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// No argument and no variable of a process can have one (`execve(2)`).
fn without_nul(name: &str, text: String) -> Result<String, String> {
    if text.contains('\0') { Err(format!("{name} has a NUL character in it")) } else { Ok(text) }
}
