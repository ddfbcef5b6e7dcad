//! From MQTT topics to keys and targets: `vehicles/sensor/data/{car}`.

use std::collections::HashSet;
use std::ops::Range;

use iotml_core::error::ConfigError;

use super::config::TopicConfig;
use crate::template::Template;

/// Levels of a filter, of which a topic may have more.
const MAX_LEVELS: usize = 128;

/// What one filter makes of the topics it matches.
#[derive(Debug)]
struct Route {
    levels: Vec<Level>,
    key: Template,
    target: Option<Template>,
}

#[derive(Debug, PartialEq, Eq)]
enum Level {
    Text(String),
    /// `+` or `{name}`.
    One,
    /// `#` or `{name#}`; always last.
    Rest,
}

/// All filters of a source, and what each makes of its topics.
#[derive(Debug)]
pub(crate) struct Mapping {
    routes: Vec<Route>,
    /// Filters as they are subscribed to, in the order of the configuration.
    filters: Vec<String>,
}

/// Buffers that live as long as the connection, so that a message costs no allocation.
#[derive(Debug, Default)]
pub(crate) struct Mapped {
    captured: Vec<Range<usize>>,
    /// The key.
    pub(crate) key: String,
    /// The target; meaningless unless `has_target`.
    target: String,
    has_target: bool,
}

impl Mapped {
    /// Where the message should go, if its filter says so.
    pub(crate) fn target(&self) -> Option<&str> {
        self.has_target.then_some(self.target.as_str())
    }
}

impl Mapping {
    /// Compiles the filters; `group` makes shared subscriptions of them.
    pub(crate) fn compile(topics: &[TopicConfig], group: Option<&str>) -> Result<Self, ConfigError> {
        if topics.is_empty() {
            return Err(ConfigError::new(
                "topics is empty; name at least one filter, such as \"vehicles/sensor/data/{car}\"",
            ));
        }
        if let Some(group) = group
            && (group.is_empty() || group.contains(['/', '+', '#']))
        {
            return Err(ConfigError::new(format!("group {group:?} must be a name without / + #")));
        }
        let mut seen = HashSet::new();
        let mut mapping = Self { routes: Vec::new(), filters: Vec::new() };
        for topic in topics {
            let (route, plain) = Route::compile(topic)?;
            let filter = match (group, topic.filter.starts_with("$share/")) {
                (Some(_), true) => {
                    let filter = &topic.filter;
                    return Err(ConfigError::new(format!(
                        "filter {filter:?} is shared already; drop `group` or the prefix"
                    )));
                }
                (Some(group), false) => format!("$share/{group}/{plain}"),
                (None, _) => plain,
            };
            if !seen.insert(filter.clone()) {
                return Err(ConfigError::new(format!("two topics subscribe to {filter:?}; the broker keeps only one")));
            }
            mapping.routes.push(route);
            mapping.filters.push(filter);
        }
        Ok(mapping)
    }

    /// Filters as they are subscribed to.
    pub(crate) fn filters(&self) -> &[String] {
        &self.filters
    }

    /// Fills `mapped` by the first filter that matches `topic`, and says whether there is one. A topic that none matches is its
    /// own key: a broker sends such for as long as it remembers the filters of an earlier configuration.
    pub(crate) fn map(&self, topic: &str, mapped: &mut Mapped) -> bool {
        mapped.key.clear();
        mapped.target.clear();
        mapped.has_target = false;
        let Some(route) = self.routes.iter().find(|route| route.matches(topic, &mut mapped.captured)) else {
            mapped.key.push_str(topic);
            return false;
        };
        let captured = &mapped.captured;
        let value = |place: usize| if place == 0 { topic } else { &topic[captured[place - 1].clone()] };
        route.key.render(&mut mapped.key, value);
        if let Some(target) = &route.target {
            target.render(&mut mapped.target, value);
            mapped.has_target = true;
        }
        true
    }
}

impl Route {
    /// The route, and its filter with captures turned into wildcards and a share prefix kept.
    fn compile(config: &TopicConfig) -> Result<(Self, String), ConfigError> {
        let wrong = |why: &str| ConfigError::new(format!("filter {:?} {why}", config.filter));
        let (prefix, filter) = match config.filter.strip_prefix("$share/") {
            Some(rest) => {
                let (group, filter) = rest.split_once('/').ok_or_else(|| wrong("is shared but names no topic"))?;
                (format!("$share/{group}/"), filter)
            }
            None => (String::new(), config.filter.as_str()),
        };
        if filter.is_empty() || filter.len() > 60_000 || filter.contains('\0') {
            return Err(wrong("is empty or not a topic filter"));
        }
        let mut names = vec!["topic"];
        let mut levels = Vec::new();
        let n_levels = filter.split('/').count();
        if n_levels > MAX_LEVELS {
            return Err(ConfigError::new(format!("a filter has {n_levels} levels; at most {MAX_LEVELS} make sense")));
        }
        for (at, level) in filter.split('/').enumerate() {
            let last = at + 1 == n_levels;
            if let Some(name) = level.strip_prefix('{').and_then(|level| level.strip_suffix('}')) {
                let (name, kind) = match name.strip_suffix('#') {
                    Some(name) => (name, Level::Rest),
                    None => (name, Level::One),
                };
                if name.is_empty() || name.contains(['{', '}', '+', '#']) || names.contains(&name) {
                    return Err(wrong("has an empty, repeated or reserved name in braces"));
                }
                names.push(name);
                levels.push(kind);
            } else {
                levels.push(match level {
                    "+" => Level::One,
                    "#" => Level::Rest,
                    text if text.contains(['+', '#', '{', '}']) => {
                        return Err(wrong("has a wildcard or brace that does not fill its level"));
                    }
                    text => Level::Text(text.into()),
                });
                // A wildcard without a name is captured too, so that places count the same for all.
                if matches!(levels.last(), Some(Level::One | Level::Rest)) {
                    names.push("");
                }
            }
            if levels.last() == Some(&Level::Rest) && !last {
                return Err(wrong("has levels behind #, which matches all that follow"));
            }
        }
        let wire: Vec<&str> = levels
            .iter()
            .map(|level| match level {
                Level::Text(text) => text.as_str(),
                Level::One => "+",
                Level::Rest => "#",
            })
            .collect();
        let wire = format!("{prefix}{}", wire.join("/"));
        let key = Template::parse("key", config.key.as_deref().unwrap_or("{topic}"), &names)?;
        let target = config.target.as_deref().map(|target| Template::parse("target", target, &names)).transpose()?;
        Ok((Self { levels, key, target }, wire))
    }

    /// Whether `topic` matches; if so `captured` holds the range of every wildcard.
    fn matches(&self, topic: &str, captured: &mut Vec<Range<usize>>) -> bool {
        captured.clear();
        // MQTT keeps topics such as $SYS/... from filters that begin with a wildcard.
        if topic.starts_with('$') && !matches!(self.levels.first(), Some(Level::Text(_))) {
            return false;
        }
        let mut from = Some(0);
        for level in &self.levels {
            let Some(start) = from else {
                // `a/#` matches `a` itself, with nothing captured.
                if *level == Level::Rest {
                    captured.push(topic.len()..topic.len());
                    return true;
                }
                return false;
            };
            let end = topic[start..].find('/').map_or(topic.len(), |at| start + at);
            match level {
                Level::Rest => {
                    captured.push(start..topic.len());
                    return true;
                }
                Level::One => captured.push(start..end),
                Level::Text(text) if text.as_str() == &topic[start..end] => {}
                Level::Text(_) => return false,
            }
            from = (end < topic.len()).then_some(end + 1);
        }
        from.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(filter: &str, key: Option<&str>, target: Option<&str>) -> TopicConfig {
        TopicConfig { filter: filter.into(), key: key.map(Into::into), target: target.map(Into::into), qos: 1 }
    }

    fn map(topics: &[TopicConfig], of: &str) -> (bool, String, Option<String>) {
        let mapping = Mapping::compile(topics, None).unwrap();
        let mut mapped = Mapped::default();
        let is_matched = mapping.map(of, &mut mapped);
        (is_matched, mapped.key.clone(), mapped.target().map(Into::into))
    }

    #[test]
    fn captures_make_key_and_target() {
        let topics = [
            topic("vehicles/sensor/data/{car}", Some("{car}"), Some("sensor-data")),
            topic("plants/{site}/+/{rest#}", Some("{site}:{rest}"), Some("plant-{site}")),
            topic("logs/#", None, None),
        ];
        assert_eq!(map(&topics, "vehicles/sensor/data/ev-1"), (true, "ev-1".into(), Some("sensor-data".into())));
        assert_eq!(map(&topics, "plants/a/x/b/c"), (true, "a:b/c".into(), Some("plant-a".into())));
        assert_eq!(map(&topics, "logs/x"), (true, "logs/x".into(), None));
        assert_eq!(map(&topics, "elsewhere"), (false, "elsewhere".into(), None));
    }

    #[test]
    fn matching_follows_the_standard() {
        let matches =
            |filter: &str, of: &str| Route::compile(&topic(filter, None, None)).unwrap().0.matches(of, &mut vec![]);
        for (filter, of, want) in [
            ("a/#", "a", true),
            ("a/#", "a/", true),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("+/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("a/b", "a/b/", false),
            ("a/{x}/c", "a/b/c", true),
            ("a/{x}/c", "a/b/d", false),
        ] {
            assert_eq!(matches(filter, of), want, "{filter} on {of}");
        }
    }

    #[test]
    fn a_topic_of_as_many_levels_as_mqtt_allows_is_mapped() {
        let levels = "/".repeat(65_535);
        let topics = [topic("{first}/{rest#}", Some("{rest}"), None)];
        let (is_matched, key, _) = map(&topics, &levels);
        assert!(is_matched);
        assert_eq!(key.len(), 65_534);
        assert_eq!(map(&[topic("a/+", None, None)], &levels), (false, levels, None));
    }

    #[test]
    fn filters_are_subscribed_to_without_names() {
        let topics = [topic("a/{b}/{c#}", None, None), topic("x", None, None)];
        let mapping = Mapping::compile(&topics, Some("g")).unwrap();
        assert_eq!(mapping.filters(), ["$share/g/a/+/#", "$share/g/x"]);
        let shared = [topic("$share/h/a/{b}", Some("{b}"), None)];
        let mapping = Mapping::compile(&shared, None).unwrap();
        assert_eq!(mapping.filters(), ["$share/h/a/+"]);
        let mut mapped = Mapped::default();
        assert!(mapping.map("a/7", &mut mapped));
        assert_eq!(mapped.key, "7");
    }

    #[test]
    fn a_wrong_filter_is_named() {
        for (filter, key, part) in [
            ("a/b#", None, "fill its level"),
            ("a/#/b", None, "behind #"),
            ("a/{b}/{b}", None, "repeated"),
            ("a/{b}", Some("{c}"), "known here"),
            ("", None, "empty"),
        ] {
            let error = Mapping::compile(&[topic(filter, key, None)], None).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let deep = Mapping::compile(&[topic(&"+/".repeat(30_000), None, None)], None).unwrap_err().to_string();
        assert!(deep.contains("30001 levels") && deep.len() < 200, "{deep}");
        let twice = [topic("a/+", None, None), topic("a/{b}", None, None)];
        assert!(Mapping::compile(&twice, None).unwrap_err().to_string().contains("a/+"));
    }
}
