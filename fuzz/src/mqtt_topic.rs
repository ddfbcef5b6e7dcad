use iotml_mqtt::source::TopicConfig;
use iotml_mqtt::testing::{TopicMap, render};

/// Four lines: a filter, a key template, a target template and a topic. Whether the filter matches is asked of another library, too.
pub fn mqtt_topic(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut lines = text.splitn(4, '\n');
    let [Some(filter), Some(key), Some(target), Some(topic)] = [(); 4].map(|()| lines.next()) else { return };
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let config = TopicConfig { key: some(key), target: some(target), ..TopicConfig::new(filter) };
    for group in [None, Some("g")] {
        match TopicMap::compile(std::slice::from_ref(&config), group) {
            Ok(map) => _ = map.map(topic),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    let names = ["topic", "car"];
    if let Ok(rendered) = render(key, &names, &[topic, "ev-1"]) {
        assert!(rendered.len() <= key.len() + 32 * topic.len().max(4));
    }

    let Ok(map) = TopicMap::compile(&[TopicConfig::new(filter)], None) else { return };
    let wire = &map.filters()[0];
    let plain = match wire.strip_prefix("$share/") {
        Some(rest) => rest.split_once('/').expect("a share names a topic").1,
        None => wire,
    };
    assert!(mqttbytes_core::valid_filter(plain), "{plain:?} is subscribed to");
    // What the other library does not cover: topics that begin with a dollar, and topics that are none.
    if topic.starts_with('$') || topic.contains(['+', '#']) {
        return;
    }
    let matched = map.map(topic).matches;
    assert_eq!(matched, mqttbytes_core::matches(topic, plain), "{plain:?} on {topic:?}");
}
