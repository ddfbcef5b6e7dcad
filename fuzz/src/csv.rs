use iotml_core::decode::{ColumnConfig, ColumnType, CsvDecoder, CsvDecoderConfig, Decoder};

use crate::input::messages;
use crate::rows::decode;

/// Messages as rows with a header of their own and as rows without, with configured and with inferred columns.
pub fn csv(data: &[u8]) {
    let messages = messages(data);
    let fields = || Some(["a", "b", "c", "d"].map(str::to_owned).to_vec());
    let columns = || {
        use ColumnType::*;
        let types = [("a", Float32), ("b", Int64), ("c", Utf8), ("d", TimestampMillis)];
        Some(types.map(|(name, column_type)| ColumnConfig::new(name, column_type)).to_vec())
    };
    let base = CsvDecoderConfig { max_fields: 32, ..CsvDecoderConfig::default() };
    let configs = [
        CsvDecoderConfig { fields: fields(), columns: columns(), ..base.clone() },
        CsvDecoderConfig { fields: fields(), delimiter: ';', null: "-".to_owned(), ..base.clone() },
        CsvDecoderConfig { header: true, columns: columns(), ..base.clone() },
        CsvDecoderConfig { header: true, ..base },
    ];
    for config in configs {
        decode(&messages, || -> Box<dyn Decoder> {
            Box::new(CsvDecoder::new(config.clone()).expect("a sound configuration"))
        });
    }
}
