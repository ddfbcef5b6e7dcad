//! A validator's error in a person's words.

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::{JsonType, ValidationError, Validator};
use serde_json::Value;

use super::check::{Finding, Surroundings};
use super::place::Place;
use super::schema::properties;
use super::suggest::nearest;

/// More known keys than this are not listed: the list would hide the mistake.
const LISTED: usize = 12;

pub(super) struct Explainer<'a> {
    pub(super) schema: &'a Value,
    /// Where the checked value stands in the document.
    pub(super) place: &'a Place,
    pub(super) around: &'a Surroundings<'a>,
}

impl Explainer<'_> {
    /// Where text from outside the file stands though something else is wanted.
    pub(super) fn mistyped_texts(&self, validator: &Validator, value: &Value) -> Vec<String> {
        let mut found = Vec::new();
        for error in validator.iter_errors(value) {
            mistyped(&error, &mut found);
        }
        found.retain(|pointer| self.around.substituted.contains(&self.place.pointer(pointer)));
        found
    }

    pub(super) fn explain(&self, error: &ValidationError<'_>) -> Vec<Finding> {
        let place = self.place.pointer(error.instance_path().as_str());
        let is_hidden = self.around.hidden.contains(&place);
        let one = |message: String| vec![Finding::new(place.clone(), message)];
        match error.kind() {
            Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
                unexpected.iter().map(|key| self.unknown(error, &place, key)).collect()
            }
            Kind::Required { property } => {
                let key = property.as_str().unwrap_or_default();
                vec![Finding { is_missing: true, ..Finding::new(place.key(key), "is missing") }]
            }
            Kind::Type { kind } => vec![mistyped_value(&place, error.instance(), &wanted(kind))],
            Kind::Enum { options } => {
                let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
                vec![not_one_of(&place, error.instance(), options.iter(), is_hidden)]
            }
            Kind::Constant { expected_value } => {
                vec![not_one_of(&place, error.instance(), [&**expected_value], is_hidden)]
            }
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
                self.branches(error, &place, context, is_hidden)
            }
            Kind::Pattern { pattern } => one(match self.node(error).map(examples) {
                Some(examples) if !examples.is_empty() => {
                    format!("is not valid; write it like {}", examples.join(" or "))
                }
                _ => format!("does not match {pattern}"),
            }),
            Kind::Minimum { limit } => one(format!("must be at least {limit}")),
            Kind::Maximum { limit } => one(format!("must be at most {limit}")),
            Kind::ExclusiveMinimum { limit } => one(format!("must be greater than {limit}")),
            Kind::ExclusiveMaximum { limit } => one(format!("must be less than {limit}")),
            Kind::MinLength { limit: 1 } | Kind::MinItems { limit: 1 } => one("must not be empty".to_owned()),
            Kind::MinItems { limit } => one(format!("must have at least {limit} entries")),
            Kind::MaxItems { limit } => one(format!("must have at most {limit} entries")),
            Kind::UniqueItems => one("has an entry twice".to_owned()),
            // The validator's own words without the value, which may be a secret.
            _ => one(error.masked_with("the value").to_string()),
        }
    }

    fn unknown(&self, error: &ValidationError<'_>, table: &Place, key: &str) -> Finding {
        let place = table.key(key);
        let known: Vec<&str> = match self.node(error) {
            Some(node) => properties(self.schema, node).into_iter().map(|(name, _)| name).collect(),
            None => Vec::new(),
        };
        let value = error.instance().get(key).unwrap_or(&Value::Null);
        if let Some(dotted) = dotted_keys(key, value).into_iter().find(|dotted| known.contains(&dotted.as_str())) {
            let finding = Finding::new(place, "a key with dots in it must be written in quotes");
            return Finding { suggestion: Some(format!("{dotted:?}")), meant: Some(table.key(&dotted)), ..finding };
        }
        let absent = known.iter().copied().filter(|name| error.instance().get(name).is_none());
        let meant = nearest(key, absent).or_else(|| nearest(key, known.iter().copied()));
        let message = match meant {
            None if known.is_empty() => "unknown key; none is known here".to_owned(),
            None if known.len() <= LISTED => format!("unknown key; known here: {}", known.join(", ")),
            _ => "unknown key".to_owned(),
        };
        let finding = Finding::new(place, message);
        Finding { suggestion: meant.map(str::to_owned), meant: meant.map(|key| table.key(key)), ..finding }
    }

    /// The schema in which the keyword of `error` stands.
    fn node<'a>(&'a self, error: &ValidationError<'_>) -> Option<&'a Value> {
        let (node, _) = error.schema_path().as_str().rsplit_once('/')?;
        self.schema.pointer(node)
    }

    /// Explains the branch that was probably meant.
    fn branches(
        &self,
        error: &ValidationError<'_>,
        place: &Place,
        branches: &[Vec<ValidationError<'static>>],
        is_hidden: bool,
    ) -> Vec<Finding> {
        let at_root = |inner: &ValidationError<'_>| inner.instance_path().as_str() == error.instance_path().as_str();
        let real: Vec<_> = branches.iter().filter(|branch| !branch.iter().any(|inner| wants_null(inner))).collect();
        if let Some(options) = constants(&real, &at_root) {
            return vec![not_one_of(place, error.instance(), options.iter(), is_hidden)];
        }
        if let Some(finding) = self.discriminator(error, place, &real, is_hidden) {
            return vec![finding];
        }
        let wants: Vec<_> = real.iter().filter_map(|branch| type_at_root(branch, &at_root)).collect();
        if !real.is_empty() && wants.len() == real.len() {
            return vec![mistyped_value(place, error.instance(), &wants.join(" or "))];
        }
        let likely = real.into_iter().filter(|branch| type_at_root(branch, &at_root).is_none());
        let likely =
            likely.min_by_key(|branch| (branch.iter().filter(|inner| is_constant(inner)).count(), branch.len()));
        match likely {
            Some(branch) => branch.iter().flat_map(|inner| self.explain(inner)).collect(),
            None => vec![Finding::new(place.clone(), "fits none of the allowed forms")],
        }
    }

    /// The one key that picks a branch, where it is missing or fits none.
    fn discriminator(
        &self,
        error: &ValidationError<'_>,
        place: &Place,
        branches: &[&Vec<ValidationError<'static>>],
        is_hidden: bool,
    ) -> Option<Finding> {
        let first = branches.first().filter(|_| branches.len() > 1)?;
        let missing = |branch: &[ValidationError<'_>], key: &str| {
            branch.iter().any(|inner| matches!(inner.kind(), Kind::Required { property } if property == key))
        };
        let wrong = |branch: &[ValidationError<'static>], at: &str| {
            let found = branch.iter().find(|inner| inner.instance_path().as_str() == at)?;
            match found.kind() {
                Kind::Constant { expected_value } => Some((**expected_value).clone()),
                _ => None,
            }
        };
        for inner in first.iter() {
            match inner.kind() {
                Kind::Required { property } => {
                    let key = property.as_str()?;
                    let options: Vec<_> = properties(self.schema, self.node(error)?)
                        .into_iter()
                        .filter(|(name, schema)| *name == key && schema.get("const").is_some())
                        .collect();
                    if !options.is_empty() && branches.iter().all(|branch| missing(branch, key)) {
                        return Some(Finding { is_missing: true, ..Finding::new(place.key(key), "is missing") });
                    }
                }
                Kind::Constant { .. } => {
                    let at = inner.instance_path().as_str();
                    let options: Vec<_> = branches.iter().filter_map(|branch| wrong(branch, at)).collect();
                    if options.len() == branches.len() {
                        let here = self.place.pointer(at);
                        return Some(not_one_of(&here, inner.instance(), options.iter(), is_hidden));
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// Collects where a string stands though something else is wanted, also inside of branches.
fn mistyped(error: &ValidationError<'_>, found: &mut Vec<String>) {
    match error.kind() {
        Kind::Type { .. } if error.instance().is_string() => found.push(error.instance_path().as_str().to_owned()),
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
            context.iter().flatten().for_each(|inner| mistyped(inner, found))
        }
        _ => {}
    }
}

/// All options, where every branch allows only constants for the value itself.
fn constants(
    branches: &[&Vec<ValidationError<'static>>],
    at_root: &impl Fn(&ValidationError<'_>) -> bool,
) -> Option<Vec<Value>> {
    let mut all = Vec::new();
    for branch in branches {
        let [inner] = branch.as_slice() else { return None };
        match inner.kind() {
            Kind::Enum { options } if at_root(inner) => all.extend(options.as_array()?.iter().cloned()),
            Kind::Constant { expected_value } if at_root(inner) => all.push((**expected_value).clone()),
            _ => return None,
        }
    }
    (!all.is_empty()).then_some(all)
}

fn type_at_root(
    branch: &[ValidationError<'static>],
    at_root: &impl Fn(&ValidationError<'_>) -> bool,
) -> Option<String> {
    branch.iter().find_map(|inner| match inner.kind() {
        Kind::Type { kind } if at_root(inner) => Some(wanted(kind)),
        _ => None,
    })
}

fn wants_null(error: &ValidationError<'_>) -> bool {
    matches!(error.kind(), Kind::Type { kind: TypeKind::Single(JsonType::Null) })
}

fn is_constant(error: &ValidationError<'_>) -> bool {
    matches!(error.kind(), Kind::Constant { .. } | Kind::Enum { .. })
}

fn wanted(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(one) => type_name(*one).to_owned(),
        // TOML has no null: `null` in a schema only says that the key may be left out.
        TypeKind::Multiple(several) => {
            let names: Vec<_> = several.iter().filter(|one| *one != JsonType::Null).map(type_name).collect();
            names.join(" or ")
        }
    }
}

fn type_name(kind: JsonType) -> &'static str {
    match kind {
        JsonType::Null => "nothing",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number",
        JsonType::Number => "a number",
        JsonType::String => "a string",
        JsonType::Array => "an array",
        JsonType::Object => "a table",
    }
}

fn mistyped_value(place: &Place, value: &Value, wanted: &str) -> Finding {
    let found = match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a number",
        Value::Number(_) => "a whole number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "a table",
    };
    let finding = Finding::new(place.clone(), format!("must be {wanted}, not {found}"));
    let is_scalar = !wanted.contains("table") && !wanted.contains("array");
    if let (true, Some(key)) = (wanted == "an array" && value.is_object(), place.last_key()) {
        let message = format!("{}; a table that may stand more than once is written [[{key}]]", finding.message);
        return Finding { message, ..finding };
    }
    // An unquoted `bootstrap.servers` in a table of properties is a table `bootstrap` to TOML.
    let dotted = place.last_key().filter(|_| is_scalar).and_then(|key| {
        let dotted = dotted_keys(key, value);
        dotted.into_iter().next()
    });
    match dotted {
        Some(dotted) => {
            let message = format!("{}; a key with dots in it must be written in quotes", finding.message);
            Finding { message, suggestion: Some(format!("{dotted:?}")), ..finding }
        }
        None => finding,
    }
}

fn not_one_of<'a>(
    place: &Place,
    value: &Value,
    options: impl IntoIterator<Item = &'a Value>,
    is_hidden: bool,
) -> Finding {
    let options: Vec<&Value> = options.into_iter().filter(|option| !option.is_null()).collect();
    let shown: Vec<_> = options.iter().map(ToString::to_string).collect();
    let texts = options.iter().filter_map(|option| option.as_str());
    let meant = value.as_str().filter(|_| !is_hidden).and_then(|word| nearest(word, texts));
    let message = match value.as_str().filter(|_| !is_hidden) {
        Some(word) => format!("{word:?} is none of {}", shown.join(", ")),
        None => format!("must be one of {}", shown.join(", ")),
    };
    Finding { suggestion: meant.map(str::to_owned), ..Finding::new(place.clone(), message) }
}

/// The keys with dots that an unquoted key became tables for: `tasks` and `{max: 1}` is `tasks.max`.
fn dotted_keys(key: &str, value: &Value) -> Vec<String> {
    let Value::Object(map) = value else { return Vec::new() };
    let below = map.iter().flat_map(|(name, value)| {
        let whole = format!("{key}.{name}");
        let mut deeper = dotted_keys(&whole, value);
        if !value.is_object() {
            deeper.push(whole);
        }
        deeper
    });
    below.collect()
}

fn examples(node: &Value) -> Vec<String> {
    let examples = node.get("examples").and_then(Value::as_array);
    examples.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
