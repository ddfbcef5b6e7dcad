//! What the fuzzer begins with: sound input of every kind, and the classes of bad input that the tests know.

use iotml_model::testing::{OnnxBuilder, scaled_copy};

use crate::confluent_frame::SCHEMAS;
use crate::input::with_lengths;

/// The seeds of a target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "confluent_frame" => confluent_frame(),
        "avro_datum" => avro_datum(),
        "avro_schema" => avro_schema(),
        "json" => json(),
        "csv" => csv(),
        "config" => config(),
        "onnx" => onnx(),
        "mqtt_topic" => mqtt_topic(),
        other => panic!("no target {other}"),
    }
}

/// One car of the first schema, and one of the second.
const CAR_1: [u8; 10] = [0, 0, 0x80, 0x3f, 0x40, 8, b'e', b'v', b'-', b'1'];
const CAR_2: [u8; 16] = [8, b'e', b'v', b'-', b'1', 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 2, 0, 0x40];

fn framed(id: u8, datum: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 0, id], datum].concat()
}

fn confluent_frame() -> Vec<Vec<u8>> {
    let odd = [2, 2, b'k', 0x0e, 0, 2, 0, 0, 2, 0];
    vec![
        with_lengths([framed(1, &CAR_1)]),
        with_lengths([framed(2, &CAR_2), framed(1, &CAR_1), framed(2, &CAR_2)]),
        with_lengths([framed(3, &odd)]),
        with_lengths([framed(1, &CAR_1[..6]), framed(9, &[]), framed(7, &CAR_1), vec![1, 2, 3], vec![], vec![0, 0]]),
    ]
}

fn avro_datum() -> Vec<Vec<u8>> {
    let every_kind: Vec<u8> = (0..16).collect();
    vec![
        with_lengths([&[2, 0, 3, 5][..], &CAR_1]),
        with_lengths([&[5, 11, 1, 12, 2, 13, 1, 4, 8, 9, 4][..], &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 1, 2, 3, 4]]),
        with_lengths([&every_kind[..], &[0; 64]]),
        with_lengths([&[1, 14, 2, 15, 5][..], &[4, 2, 4, 0, 2, 2, b'k', 2, b'v', 0]]),
    ]
}

fn avro_schema() -> Vec<Vec<u8>> {
    let doubling = r#"{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"record","name":"A","fields":[]}},
        {"name":"b","type":{"type":"record","name":"B","fields":[{"name":"x","type":"A"},{"name":"y","type":"A"}]}},
        {"name":"c","type":{"type":"array","items":"B"}}]}"#;
    let logical = r#"{"type":"record","name":"R","namespace":"n.s","fields":[
        {"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
        {"name":"t","type":{"type":"int","logicalType":"date"}},
        {"name":"u","type":{"type":"string","logicalType":"uuid"}},
        {"name":"x","type":["null","int","string",{"type":"map","values":"R"}],"default":null}]}"#;
    let datum = |bytes: &'static [u8]| bytes;
    vec![
        with_lengths([SCHEMAS[0].as_bytes(), &CAR_1]),
        with_lengths([SCHEMAS[1].as_bytes(), &CAR_2, &CAR_2[..7]]),
        with_lengths([SCHEMAS[2].as_bytes(), datum(&[0, 2, 0, 0, 2, 0])]),
        with_lengths([doubling.as_bytes(), datum(&[4, 0])]),
        with_lengths([logical.as_bytes(), datum(&[4, 1, 2, 8, 2, b'u', 2, 2])]),
        with_lengths([br#""long""#.as_slice(), datum(&[2])]),
    ]
}

fn json() -> Vec<Vec<u8>> {
    let full = r#"{"c0":1.5,"c1":-2e3,"c2":7,"c3":9007199254740993,"c4":true,"c5":"text \u00e9","c6":"AQID","c7":"2026-01-31",
        "c8":"2026-01-31T12:00:00Z","c9":1700000000000000,"o":{"x":1,"p":{"y":"z"},"q":[1,{"r":null}]},"id":1}"#;
    let texts = r#"{"c0":"1.5","c2":" 7 ","c4":"true","c7":"19000","id":"3"}"#;
    let bad = [
        r#"{"id":1"#,
        r#"{"id":1}{"id":2}"#,
        r#"{"id":NaN}"#,
        r#"{"id":1e999}"#,
        r#"{"id":1,"id":2}"#,
        "[1]",
        "null",
        "",
        r#"{"o":{"p":{"y":{"z":1}}}}"#,
    ];
    let deep = format!(r#"{{"id":1,"z":{}1{}}}"#, "[".repeat(40), "]".repeat(40));
    vec![
        with_lengths([full, texts]),
        with_lengths(bad),
        with_lengths([&b"{\"id\":1,\"c5\":\"\xff\"}"[..], br#"{"a":1,"b":null,"c":{"d":"e"}}"#, br#"{"a":2}"#]),
        with_lengths([deep]),
    ]
}

fn csv() -> Vec<Vec<u8>> {
    vec![
        with_lengths(["1.5,7,\"a,\"\"b\"\"\",2026-01-31T12:00:00Z", "1;2;-;4"]),
        with_lengths(["a,b,c,d\n1,2,x,5\n", "d,c\r\n4,y\r\n", "a,b\n1,2\n3,4\n"]),
        with_lengths(["1,2,3", "1,2,3,4,5", "NaN,inf,,", "\"open", "", "\n"]),
    ]
}

fn config() -> Vec<Vec<u8>> {
    let bridge = r#"[pipeline]
name = "bridge"
"tasks.max" = 2
"errors.tolerance" = "all"
max_in_flight_bytes = "64MiB"
[source]
type = "mqtt"
server = "mqtts://broker:8883"
username = "u"
password = "${env:PATH}"
group = "g"
connections = 4
tls = { ca = "ca.pem" }
[[source.topics]]
filter = "vehicles/{car}/data"
key = "{car}"
[decode]
type = "json"
columns = ["a", { name = "b", type = "float32", nullable = false }]
[[preprocess]]
type = "clamp"
columns = ["b"]
min = 0
[[preprocess]]
type = "filter"
when = "b > 3"
[score]
type = "onnx"
model = "m.onnx"
[[route]]
name = "out"
when = "anomaly"
encode = { type = "json", columns = ["b"] }
sink = { type = "stdout" }
[dead_letter]
type = "stdout"
[http]
listen = "127.0.0.1:0"
[log]
level = "info,iotml=debug"
"#;
    let avro = "[pipeline]\nname='p'\n[source]\ntype='mqtt'\nserver='localhost'\ntopics=[{filter='a/#'}]\n[decode]\ntype='avro'\n\
                schema='''{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"x\",\"type\":\"int\"}]}'''\n\
                [[route]]\nname='r'\nsink={type='mqtt',server='localhost',topic='x/{key}'}\n";
    let wrong =
        "[pipeline]\nnmae = 1\n[sorce]\ntype = \"mqt\"\n[[route]]\nname = []\nx = 0x1f\ny = 1979-05-27T07:32:00Z\n";
    [bridge, avro, wrong, "a.b.c = [[1], {d = inf}]"].map(|text| text.as_bytes().to_vec()).to_vec()
}

fn onnx() -> Vec<Vec<u8>> {
    let attribute = scaled_copy(2, 0.5).attribute("axis", 1).axes(&[1, 2, 3]);
    let sequence = [None, Some(5), Some(2)];
    vec![
        scaled_copy(2, 1.0).build(),
        attribute.build(),
        scaled_copy(2, 1.0).integers("shape", &[4, 4]).node("Expand", &["factor", "shape"], &["z"]).build(),
        OnnxBuilder::new().input("x", &sequence).output("y", &[None, Some(2)]).node("LSTM", &["x"], &["y"]).build(),
        include_bytes!("../../testdata/cars/cars-autoencoder.onnx").to_vec(),
        include_bytes!("../../testdata/cars/cars-autoencoder.json").to_vec(),
    ]
}

fn mqtt_topic() -> Vec<Vec<u8>> {
    let lines = [
        "vehicles/sensor/data/{car}\n{car}\nsensor-data\nvehicles/sensor/data/ev-1",
        "plants/{site}/+/{rest#}\n{site}:{rest}\nplant-{site}\nplants/a/x/b/c",
        "$share/h/a/{b}\n{{{b}}}\n\na/7",
        "a/#\n{topic}{topic}\n\na",
        "+/+\n\n\n/finance",
        "$SYS/#\n\n\n$SYS/x",
        "a/b#\n{c}\n}\na//b",
    ];
    lines.map(|text| text.as_bytes().to_vec()).to_vec()
}
