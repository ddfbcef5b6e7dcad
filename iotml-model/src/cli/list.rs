//! `model list`.

use std::fmt::Write as _;

use iotml_core::cli::clap::{self, Args};
use serde_json::json;

use super::reach::Reach;
use super::{Failure, Format, date, told};
use crate::store::Listed;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Only the versions of this model
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// How to show them; as JSON, one object a line
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    #[command(flatten)]
    reach: Reach,
}

pub(super) async fn run(arguments: Arguments) -> Result<String, Failure> {
    let store = arguments.reach.open(|_| {})?;
    let listed = store.list(arguments.name.as_deref()).await.map_err(told)?;
    Ok(match arguments.format {
        Format::Table => table(&listed),
        Format::Json => listed.iter().map(|version| line(store.url(), version)).collect(),
    })
}

fn table(listed: &[Listed]) -> String {
    if listed.is_empty() {
        return "no models\n".to_owned();
    }
    let width = |text: fn(&Listed) -> &str, head: &str| {
        listed.iter().map(|version| text(version).len()).max().unwrap_or_default().max(head.len())
    };
    let (name, version) = (width(|version| &version.name, "name"), width(|version| &version.version, "version"));
    let mut out = String::new();
    let _ = writeln!(out, "{:name$}  {:version$}  {:20}  {:>12}  signed", "name", "version", "published", "bytes");
    for listed in listed {
        let bytes = listed.model_bytes.map_or_else(|| "missing".to_owned(), |bytes| bytes.to_string());
        let signed = if listed.is_signed { "yes" } else { "no" };
        let published = date(listed.published);
        let _ =
            writeln!(out, "{:name$}  {:version$}  {published:20}  {bytes:>12}  {signed}", listed.name, listed.version);
    }
    out
}

fn line(store: &str, listed: &Listed) -> String {
    let Listed { name, version, published, model_bytes, is_signed } = listed;
    let line = json!({
        "name": name,
        "version": version,
        "uri": format!("{store}/{name}/{version}"),
        "published": date(*published),
        "model_bytes": model_bytes,
        "signed": is_signed,
    });
    format!("{line}\n")
}
