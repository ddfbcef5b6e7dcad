//! The schema registry client, against Apicurio where `IOTML_REGISTRY` names it, and against a small server that misbehaves.

use std::sync::Arc;

use iotml_core::arrow::array::{ArrayRef, Float32Array, Int32Array, RecordBatch};
use iotml_core::batch::{Batch, Coordinate, Lane, Message, Messages, Position, RawBatch, RawMessage};
use iotml_core::decode::{ConfluentAvroDecoder, ConfluentAvroDecoderConfig, DecodeError, Decoder, SchemaResolver};
use iotml_core::encode::{
    Compatibility, ConfluentAvroEncoder, ConfluentAvroEncoderConfig, Encoder, Registration, SchemaRegistrar,
};
use iotml_core::error::{Class, Reason, SchemaRegistryError};
use iotml_core::secret::Secret;
use iotml_core::testing::servers;
use iotml_kafka::{SchemaRegistry, SchemaRegistryConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::cluster::unique;

fn apicurio() -> Option<SchemaRegistry> {
    servers::registry().map(|url| SchemaRegistry::new(SchemaRegistryConfig::new(&url)).unwrap())
}

fn registration<'a>(subject: &'a str, schema: &'a str) -> Registration<'a> {
    Registration { subject, schema, auto_register: true, compatibility: None }
}

fn record(name: &str, fields: &str) -> String {
    format!(r#"{{"type":"record","name":"{name}","namespace":"it","fields":[{fields}]}}"#)
}

#[tokio::test]
async fn a_schema_is_registered_once_and_found_by_its_id() {
    let Some(registry) = apicurio() else { return };
    let (subject, schema) = (unique("subject"), record("Car", r#"{"name":"speed","type":"float"}"#));
    let lookup = Registration { auto_register: false, ..registration(&subject, &schema) };
    let refused = registry.register(lookup).await.unwrap_err();
    assert!(matches!(refused, SchemaRegistryError::Refused { .. }), "{refused:?}");
    assert!(refused.to_string().contains("auto_register"), "{refused}");
    let id = registry.register(registration(&subject, &schema)).await.unwrap();
    assert_eq!(registry.register(lookup).await.unwrap(), id);
    let found: serde_json::Value = serde_json::from_str(&registry.resolve(id).await.unwrap()).unwrap();
    assert_eq!(found, serde_json::from_str::<serde_json::Value>(&schema).unwrap());
}

#[tokio::test]
async fn an_unknown_id_is_the_rows_fault_and_found_once_it_is_registered() {
    let Some(registry) = apicurio() else { return };
    let error = registry.resolve(2_000_000_000).await.unwrap_err();
    assert!(matches!(error, SchemaRegistryError::Unknown { id: 2_000_000_000 }), "{error:?}");
    let subject = unique("later");
    let schema = record("Later", &format!(r#"{{"name":"{}","type":"int"}}"#, unique("f").replace('-', "_")));
    let id = registry.register(registration(&subject, &schema)).await.unwrap();
    registry.resolve(id).await.unwrap();
    // An unknown answer is not kept by the client.
    let error = registry.resolve(2_000_000_000).await.unwrap_err();
    assert!(matches!(error, SchemaRegistryError::Unknown { .. }));
}

#[tokio::test]
async fn a_change_that_does_not_fit_is_refused_by_the_subjects_compatibility() {
    let Some(registry) = apicurio() else { return };
    let subject = unique("compatible");
    let first = record("Car", r#"{"name":"speed","type":"float"}"#);
    let backward = Registration { compatibility: Some(Compatibility::Backward), ..registration(&subject, &first) };
    registry.register(backward).await.unwrap();
    // Old data has no such field, and there is no default.
    let second = record("Car", r#"{"name":"speed","type":"float"},{"name":"weight","type":"int"}"#);
    let refused = registry.register(registration(&subject, &second)).await.unwrap_err();
    assert!(matches!(refused, SchemaRegistryError::Refused { .. }), "{refused:?}");
    assert!(refused.to_string().contains(&subject), "{refused}");
    let none = Registration { compatibility: Some(Compatibility::None), ..registration(&subject, &second) };
    registry.register(none).await.unwrap();
}

#[tokio::test]
async fn inv_7_framed_avro_goes_there_and_back_and_an_unknown_id_rejects_its_row_alone() {
    let Some(registry) = apicurio() else { return };
    let registry = Arc::new(registry);
    let subject = unique("cars/with a slash");
    let config = ConfluentAvroEncoderConfig { subject, ..ConfluentAvroEncoderConfig::default() };
    let mut encoder = ConfluentAvroEncoder::new(registry.clone(), config).unwrap();
    let speed: ArrayRef = Arc::new(Float32Array::from(vec![1.5, -2.0, 0.25]));
    let firmware: ArrayRef = Arc::new(Int32Array::from(vec![1000, 2000, 1000]));
    let columns = RecordBatch::try_from_iter([("speed", speed), ("firmware", firmware)]).unwrap();
    let batch = Batch::decoded(raw([None; 3]), vec![0, 1, 2], columns.clone());
    encoder.prepare(&batch).await.unwrap();
    let encoded: Messages = encoder.encode(&batch).unwrap().messages;
    assert_eq!(encoded.payload(0).unwrap()[0], 0, "the magic byte");

    let stranger = [0, 0x7f, 0, 0, 0, 1, 2, 3];
    let payloads = [encoded.payload(0), Some(&stranger[..]), encoded.payload(1), encoded.payload(2)];
    let mut decoder = ConfluentAvroDecoder::new(registry, ConfluentAvroDecoderConfig::default()).unwrap();
    let raw = raw(payloads);
    decoder.prepare(&raw).await.unwrap();
    let decoded = decoder.decode(&raw).unwrap();
    assert_eq!(decoded.rejected.len(), 1);
    assert_eq!((decoded.rejected[0].row, decoded.rejected[0].cause.reason), (1, Reason::UnknownSchemaId));
    assert_eq!(decoded.batch.column("speed"), columns.column_by_name("speed"));
    assert_eq!(decoded.batch.column("firmware"), columns.column_by_name("firmware"));
}

#[tokio::test]
async fn referenced_schemas_are_put_in() {
    let Some(url) = servers::registry() else { return };
    let registry = apicurio().unwrap();
    let (place_subject, car_subject) = (unique("place"), unique("car"));
    let place = record("Place", r#"{"name":"x","type":"int"}"#);
    registry.register(registration(&place_subject, &place)).await.unwrap();
    // The client itself writes no references, so this is done by hand.
    let car = record("CarAt", r#"{"name":"home","type":"it.Place"},{"name":"work","type":"it.Place"}"#);
    let body = serde_json::json!({
        "schema": car,
        "references": [{"name": "it.Place", "subject": place_subject, "version": 1}]
    });
    let address = url.strip_prefix("http://").unwrap();
    let (host, base) = address.split_once('/').unwrap();
    let body = body.to_string();
    let request = format!(
        "POST /{base}/subjects/{car_subject}/versions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let id = answer.split("\"id\":").nth(1).unwrap_or_else(|| panic!("{answer}"));
    let id: u32 = id.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();
    let found: serde_json::Value = serde_json::from_str(&registry.resolve(id).await.unwrap()).unwrap();
    assert_eq!(found["fields"][0]["type"]["fields"][0]["name"], "x", "{found}");
    assert_eq!(found["fields"][1]["type"], "it.Place");
}

/// A server that gives every request the same answer; its address.
async fn answers(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let n = stream.read(&mut request).await.unwrap_or(0);
            let authorized = String::from_utf8_lossy(&request[..n]).contains("Basic bWU6aHVudGVyMg==");
            let (status, body) = match (status, authorized) {
                ("secured", true) => ("200 OK", r#"{"schema": "\"int\""}"#),
                ("secured", false) => ("401 Unauthorized", ""),
                plain => (plain.0, body),
            };
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    format!("http://{address}/base/path")
}

async fn resolve(url: &str) -> Result<Arc<str>, SchemaRegistryError> {
    SchemaRegistry::new(SchemaRegistryConfig::new(url)).unwrap().resolve(7).await
}

#[tokio::test]
async fn a_registry_that_is_down_is_tried_again_and_one_that_refuses_is_not() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [format!("http://{nobody}"), answers("503 Service Unavailable", "").await] {
        let error = resolve(&url).await.unwrap_err();
        assert!(matches!(error, SchemaRegistryError::Unavailable { .. }), "{error:?}");
    }
    let wrong_path = resolve(&answers("404 Not Found", "<html></html>").await).await.unwrap_err();
    assert!(matches!(wrong_path, SchemaRegistryError::Refused { .. }), "{wrong_path:?}");
    assert!(wrong_path.to_string().contains("/base/path/schemas/ids/7"), "{wrong_path}");
    let no_registry = resolve(&answers("200 OK", "hello").await).await.unwrap_err();
    assert!(no_registry.to_string().contains("does not answer as a schema registry"), "{no_registry}");
    let protobuf = resolve(&answers("200 OK", r#"{"schema": "x", "schemaType": "PROTOBUF"}"#).await).await.unwrap_err();
    assert!(matches!(protobuf, SchemaRegistryError::Unusable { .. }), "{protobuf:?}");
}

#[tokio::test]
async fn inv_7_an_answer_without_an_end_makes_the_schema_unusable_and_nothing_else() {
    let long: &'static str = "x".repeat(100_000).leak();
    let mut config = SchemaRegistryConfig::new(&answers("200 OK", long).await);
    config.max_answer_bytes = "64KiB".parse().unwrap();
    let registry = Arc::new(SchemaRegistry::new(config).unwrap());
    let error = registry.resolve(7).await.unwrap_err();
    assert!(matches!(error, SchemaRegistryError::Unusable { id: 7, .. }), "{error:?}");
    assert!(error.to_string().contains("more than 65536 bytes, the limit `max_answer_bytes`"), "{error}");
    let mut decoder = ConfluentAvroDecoder::new(registry, ConfluentAvroDecoderConfig::default()).unwrap();
    let raw = raw([Some(&[0, 0, 0, 0, 7, 1][..])]);
    decoder.prepare(&raw).await.unwrap();
    assert_eq!(decoder.decode(&raw).unwrap().rejected[0].cause.reason, Reason::WrongSchema);
}

#[tokio::test]
async fn inv_10_a_password_is_sent_and_a_wrong_one_is_not_repeated() {
    let url = answers("secured", "").await;
    let mut config = SchemaRegistryConfig::new(&url);
    config.username = Some("me".to_owned());
    config.password = Some(Secret::new("hunter2"));
    assert_eq!(&*SchemaRegistry::new(config.clone()).unwrap().resolve(7).await.unwrap(), "\"int\"");
    config.password = Some(Secret::new("swordfish"));
    let registry = SchemaRegistry::new(config).unwrap();
    let error = registry.resolve(7).await.unwrap_err();
    assert!(error.to_string().contains("check username"), "{error}");
    assert!(!format!("{error:?} {registry:?}").contains("swordfish"));
    let mut decoder = ConfluentAvroDecoder::new(Arc::new(registry), ConfluentAvroDecoderConfig::default()).unwrap();
    let fatal: DecodeError = decoder.prepare(&raw([Some(&[0, 0, 0, 0, 7, 1][..])])).await.unwrap_err();
    assert_eq!(fatal.class(), Class::Fatal);
}

fn raw<const N: usize>(payloads: [Option<&[u8]>; N]) -> Arc<RawBatch> {
    let mut raw = RawBatch::default();
    for (seq, payload) in payloads.into_iter().enumerate() {
        let position = Position { lane: Lane(0), seq: seq as u64 };
        let message = Message { payload, ..Message::default() };
        raw.push(RawMessage { message, position, coordinate: Coordinate::NONE });
    }
    Arc::new(raw)
}
