//! Dead letters for a person, or as JSON lines for a program.

use std::io::{self, Write};

use iotml_core::arrow::temporal_conversions::timestamp_ms_to_datetime;
use iotml_core::pipeline::header;
use serde_json::json;

use super::arguments::Format;
use super::letter::Letter;

/// How much of a payload is shown.
const FIRST_BYTES: usize = 48;

/// Writes what stands above the first letter.
pub(super) fn heading(out: &mut impl Write, format: Format) -> io::Result<()> {
    match format {
        Format::Table => writeln!(
            out,
            "{:<12} {:<24} {:<20} {:<10} {:<20} {:<28} {:<16} {:<7} detail | first bytes",
            "at", "time", "pipeline", "stage", "reason", "origin", "key", "replays"
        ),
        Format::Json => Ok(()),
    }
}

/// Writes one letter as one line.
pub(super) fn letter(out: &mut impl Write, format: Format, letter: &Letter<'_>) -> io::Result<()> {
    let text = |name| letter.text(name);
    let payload = letter.payload();
    let start = payload.map(|payload| payload[..payload.len().min(FIRST_BYTES)].escape_ascii().to_string());
    let key = letter.key().map(|key| key.escape_ascii().to_string());
    if format == Format::Json {
        let number = |name| text(name).and_then(|number| number.parse::<i64>().ok());
        let line = json!({
            "partition": letter.place.partition,
            "offset": letter.place.offset,
            "time": letter.time(),
            "pipeline": text(header::CONNECTOR),
            "task": number(header::TASK),
            "stage": text(header::STAGE),
            "name": text(header::CLASS),
            "reason": letter.reason(),
            "detail": text(header::MESSAGE),
            "causes": text(header::STACKTRACE),
            "origin": {
                "topic": letter.origin(),
                "partition": number(header::PARTITION),
                "offset": number(header::OFFSET),
            },
            "key": key,
            "replays": letter.replays(),
            "n_bytes": payload.map(<[u8]>::len),
            "first_bytes": start,
        });
        return writeln!(out, "{line}");
    }
    let absent = || "-".into();
    let origin = match (letter.origin(), text(header::PARTITION), text(header::OFFSET)) {
        (Some(topic), Some(partition), Some(offset)) => format!("{topic} {partition}:{offset}"),
        (Some(topic), ..) => topic.into_owned(),
        (None, ..) => "-".to_owned(),
    };
    writeln!(
        out,
        "{:<12} {:<24} {:<20} {:<10} {:<20} {:<28} {:<16} {:<7} {} | {}",
        format!("{}:{}", letter.place.partition, letter.place.offset),
        letter.time().and_then(date).unwrap_or_else(|| "-".to_owned()),
        text(header::CONNECTOR).unwrap_or_else(absent),
        text(header::STAGE).unwrap_or_else(absent),
        letter.reason().unwrap_or_else(absent),
        origin,
        key.as_deref().unwrap_or("-"),
        letter.replays(),
        text(header::MESSAGE).unwrap_or_else(absent).escape_debug(),
        start.as_deref().unwrap_or("(no payload)"),
    )
}

/// Milliseconds since the Unix epoch as a date; `None` for one that no calendar has.
fn date(millis: i64) -> Option<String> {
    timestamp_ms_to_datetime(millis).map(|date| date.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

#[cfg(test)]
mod tests {
    use iotml_core::batch::{Coordinate, Lane, Message, Position, RawBatch, RawMessage};

    use super::*;

    #[test]
    fn a_letter_is_one_line_whatever_its_bytes() {
        let mut raw = RawBatch::default();
        raw.push(RawMessage {
            message: Message { payload: Some(b"\x00\n\xffx"), key: Some(b"k\n"), time: Some(0), ..Message::default() },
            position: Position { lane: Lane(0), seq: 0 },
            coordinate: Coordinate { partition: 1, offset: 9 },
        });
        raw.push_header(header::TOPIC, Some(b"sensor-data"));
        raw.push_header(header::MESSAGE, Some(b"two\nlines"));
        for format in [Format::Table, Format::Json] {
            let mut out = Vec::new();
            letter(&mut out, format, &Letter::of(&raw, 0)).unwrap();
            let line = String::from_utf8(out).unwrap();
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            match format {
                Format::Table => {
                    assert!(line.starts_with("1:9 ") && line.contains("1970-01-01T00:00:00.000Z"), "{line}");
                    assert!(line.contains("sensor-data") && line.contains(r"two\nlines | \x00\n\xffx"), "{line}");
                }
                Format::Json => {
                    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
                    assert_eq!((&line["offset"], &line["n_bytes"]), (&json!(9), &json!(4)));
                    assert_eq!((&line["key"], &line["pipeline"]), (&json!(r"k\n"), &json!(null)));
                }
            }
        }
    }
}
