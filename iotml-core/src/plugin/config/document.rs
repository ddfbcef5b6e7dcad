//! A TOML document as a JSON value, with the line of every value.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::Mistake;
use super::place::Place;
use super::text::{MAX_BYTES, too_long};

/// A parsed document.
#[derive(Clone, Debug, Default)]
pub(super) struct Document {
    pub(super) value: Value,
    lines: BTreeMap<Place, usize>,
}

impl Document {
    /// Parses `text`. A document that is not TOML is one mistake; values that no configuration can hold are one each. The parser
    /// itself gives up at a depth of 80.
    pub(super) fn parse(text: &str) -> Result<Self, Vec<Mistake>> {
        if text.len() > MAX_BYTES {
            return Err(vec![Mistake::new("", too_long())]);
        }
        let starts = LineStarts::of(text);
        let table = DeTable::parse(text).map_err(|error| {
            let line = error.span().map(|span| starts.line(span.start));
            vec![Mistake::new("", format!("not valid TOML: {}", one_line(error.message()))).at(line)]
        })?;
        let mut reader = Reader { starts, lines: BTreeMap::new(), mistakes: Vec::new() };
        let value = reader.table(table.get_ref(), &Place::default());
        if reader.mistakes.is_empty() { Ok(Self { value, lines: reader.lines }) } else { Err(reader.mistakes) }
    }

    /// The line of `place`, or of the nearest table around it.
    pub(super) fn line(&self, place: &Place) -> Option<usize> {
        match self.lines.get(place) {
            Some(line) => Some(*line),
            None => self.line(&place.parent()?),
        }
    }
}

struct Reader {
    starts: LineStarts,
    lines: BTreeMap<Place, usize>,
    mistakes: Vec<Mistake>,
}

impl Reader {
    fn table(&mut self, table: &DeTable<'_>, place: &Place) -> Value {
        let mut map = Map::new();
        for (key, value) in table {
            let at = place.key(key.get_ref());
            self.lines.insert(at.clone(), self.starts.line(key.span().start));
            let value = self.value(value, &at);
            map.insert(key.get_ref().to_string(), value);
        }
        Value::Object(map)
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, place: &Place) -> Value {
        match value.get_ref() {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(number) => Value::from(number),
                Err(_) => self.wrong(place, "a number that does not fit into 64 bits"),
            },
            DeValue::Float(float) => match float.as_str().parse().ok().and_then(Number::from_f64) {
                Some(number) => Value::Number(number),
                None => self.wrong(place, "not a finite number"),
            },
            DeValue::Datetime(datetime) => Value::String(datetime.to_string()),
            DeValue::Table(table) => self.table(table, place),
            DeValue::Array(array) => {
                let values = array.iter().enumerate().map(|(index, value)| {
                    let at = place.index(index);
                    self.lines.insert(at.clone(), self.starts.line(value.span().start));
                    self.value(value, &at)
                });
                Value::Array(values.collect())
            }
        }
    }

    fn wrong(&mut self, place: &Place, message: &str) -> Value {
        let line = self.lines.get(place).copied();
        self.mistakes.push(Mistake::new(place.to_string(), message).at(line));
        Value::Null
    }
}

/// Where each line begins but the first.
struct LineStarts(Vec<usize>);

impl LineStarts {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1).collect())
    }

    /// The line of a byte, from 1.
    fn line(&self, byte: usize) -> usize {
        1 + self.0.partition_point(|start| *start <= byte)
    }
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_line_of_every_value() {
        let text = "[pipeline]\nname = \"p\"\n\n[[route]]\nname = \"a\"\n[[route]]\nname = \"b\"\nsink = { type = \"kafka\" }\n";
        let document = Document::parse(text).unwrap();
        let route = Place::default().key("route").index(1);
        assert_eq!(document.line(&Place::default().key("pipeline").key("name")), Some(2));
        assert_eq!(document.line(&route.key("sink").key("type")), Some(8));
        assert_eq!(document.line(&route.key("sink").key("absent")), Some(8));
        assert_eq!(document.line(&route), Some(6));
        assert_eq!(document.value["route"][1]["sink"]["type"], "kafka");
    }

    #[test]
    fn what_is_not_toml_is_one_mistake_with_its_line() {
        let mistakes = Document::parse("[pipeline]\nname = \"p\"\ntasks = = 1\n").unwrap_err();
        assert_eq!(mistakes.len(), 1);
        assert_eq!(mistakes[0].line, Some(3));
        assert!(mistakes[0].message.starts_with("not valid TOML: "), "{}", mistakes[0].message);
        let twice = Document::parse("a = 1\na = 2\n").unwrap_err();
        assert_eq!((twice.len(), twice[0].line), (1, Some(2)));
    }

    #[test]
    fn what_is_too_long_or_too_deep_is_one_mistake() {
        let deep = [
            format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000)),
            format!("{}a = 1", "a.".repeat(100_000)),
            format!("[{}a]", "a.".repeat(100_000)),
            "a = {b = ".repeat(50_000),
        ];
        for text in deep.into_iter().chain([format!("a = {:?}", "x".repeat(MAX_BYTES))]) {
            let mistakes = Document::parse(&text).unwrap_err();
            assert_eq!(mistakes.len(), 1, "{}", &text[..50]);
            assert!(mistakes[0].message.len() < 300, "{}", mistakes[0].message);
        }
    }

    #[test]
    fn as_many_lines_as_fit_are_read_in_time() {
        let text: String = (0..80_000).map(|n| format!("k{n:05} = {}\n", n % 10)).collect();
        let begun = std::time::Instant::now();
        assert_eq!(Document::parse(&text).unwrap().line(&Place::default().key("k79999")), Some(80_000));
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    }

    #[test]
    fn numbers_no_configuration_can_hold_are_named() {
        let mistakes = Document::parse("a = inf\nb = 99999999999999999999\nc = 0x1f\n").unwrap_err();
        let found: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["line 1: a: not a finite number", "line 2: b: a number that does not fit into 64 bits"]);
    }
}
