//! `graph`: a pipeline as text and as Mermaid.

use serde_json::Value;

use crate::plugin::config::{Config, RouteTable, ToleranceWord};

/// A stage's settings are cut at this length, for one line on a terminal.
const DETAIL: usize = 72;

/// The pipeline for a terminal: one line per stage with its settings, without secrets.
pub fn text(config: &Config) -> String {
    let frame = &config.frame;
    let n_tasks = frame.pipeline.n_tasks;
    let tasks = if n_tasks == 1 { "1 task".to_owned() } else { format!("{n_tasks} tasks") };
    let mut out = format!("{} ({tasks})\n", frame.pipeline.name);
    for (stage, pointer) in chain(config) {
        line(&mut out, 2, stage, config, &pointer);
    }
    for (at, route) in frame.route.iter().enumerate() {
        let required = if route.required { "required" } else { "best effort" };
        let when = route.when.as_deref().map(|when| format!(", when {when}")).unwrap_or_default();
        out.push_str(&format!("  {:<12}{} ({required}{when})\n", "route", route.name));
        if route.encode.is_some() {
            line(&mut out, 4, "encode", config, &format!("/route/{at}/encode"));
        }
        line(&mut out, 4, "sink", config, &format!("/route/{at}/sink"));
    }
    if frame.dead_letter.is_some() {
        line(&mut out, 2, "dead_letter", config, "/dead_letter");
    }
    out
}

/// The pipeline as a Mermaid flow chart.
pub fn mermaid(config: &Config) -> String {
    let frame = &config.frame;
    let mut out = String::from("flowchart LR\n");
    let chain = chain(config);
    let mut last = String::new();
    for (at, (stage, pointer)) in chain.iter().enumerate() {
        let id = format!("s{at}");
        out.push_str(&format!("  {id}[\"{stage}<br/>{}\"]\n", escaped(kind(config, pointer))));
        if !last.is_empty() {
            out.push_str(&format!("  {last} --> {id}\n"));
        }
        last = id;
    }
    for (at, route) in frame.route.iter().enumerate() {
        let arrow = if route.required { "-->" } else { "-.->" };
        let label = escaped(&label(route));
        let sink = format!("r{at}[(\"sink<br/>{}\")]", escaped(kind(config, &format!("/route/{at}/sink"))));
        if route.encode.is_some() {
            let encode = escaped(kind(config, &format!("/route/{at}/encode")));
            out.push_str(&format!(
                "  {last} {arrow}|\"{label}\"| e{at}[\"encode<br/>{encode}\"]\n  e{at} {arrow} {sink}\n"
            ));
        } else {
            out.push_str(&format!("  {last} {arrow}|\"{label}\"| {sink}\n"));
        }
    }
    if frame.dead_letter.is_some() && frame.pipeline.tolerance == ToleranceWord::All {
        let sink = escaped(kind(config, "/dead_letter"));
        // Any stage may reject a row; one arrow says so without a web of lines.
        out.push_str(&format!("  {last} -. \"rejected rows\" .-> dead[(\"dead_letter<br/>{sink}\")]\n"));
    }
    out
}

/// The stages before the routes, each with its pointer into the document.
fn chain(config: &Config) -> Vec<(&'static str, String)> {
    let frame = &config.frame;
    let mut chain = vec![("source", "/source".to_owned())];
    if frame.decode.is_some() {
        chain.push(("decode", "/decode".to_owned()));
    }
    chain.extend((0..frame.preprocess.len()).map(|at| ("preprocess", format!("/preprocess/{at}"))));
    if frame.score.is_some() {
        chain.push(("score", "/score".to_owned()));
    }
    chain
}

fn label(route: &RouteTable) -> String {
    match &route.when {
        Some(when) => format!("{} when {when}", route.name),
        None => route.name.clone(),
    }
}

fn line(out: &mut String, indent: usize, stage: &str, config: &Config, pointer: &str) {
    let kind = kind(config, pointer);
    let detail = detail(config.redacted().pointer(pointer));
    let line = format!("{:indent$}{stage:<12}{kind}  {detail}", "");
    out.push_str(line.trim_end());
    out.push('\n');
}

fn kind<'a>(config: &'a Config, pointer: &str) -> &'a str {
    config.redacted().pointer(pointer).and_then(|table| table.get("type")).and_then(Value::as_str).unwrap_or("?")
}

/// The settings of a stage but for nested tables, as TOML writes them.
fn detail(table: Option<&Value>) -> String {
    let own = table.and_then(Value::as_object).into_iter().flatten();
    let shown =
        own.filter(|(key, value)| *key != "type" && !value.is_object()).map(|(key, value)| format!("{key} = {value}"));
    let detail = shown.collect::<Vec<_>>().join(", ");
    match detail.char_indices().nth(DETAIL) {
        Some((at, _)) => format!("{}...", &detail[..at]),
        None => detail,
    }
}

/// Mermaid's way to write what would end a label.
fn escaped(text: &str) -> String {
    text.replace('&', "#amp;").replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;").replace('|', "#124;")
}
