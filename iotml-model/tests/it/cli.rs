//! `iotml model`, run as a worker runs it: this binary is asked to be one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use iotml_core::error::BoxError;
use iotml_core::model::{Announcer, MemoryFeed, ModelDrift, ModelFeed, ModelSet, ModelState, ModelStatus, SetError};
use iotml_core::plugin::Registry;
use iotml_core::schemars::{self, JsonSchema};
use iotml_model::testing::scaled_copy;
use serde::Deserialize;
use serde_json::Value;

/// Says what this test binary, started again as a worker, is to do.
const ARGUMENTS: &str = "IOTML_TEST_ARGUMENTS";

/// The worker, in the process that [`worker`] starts; in any other there is nothing to do.
#[test]
fn a_worker() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    let arguments: Vec<String> = serde_json::from_str(&arguments).unwrap();
    let mut registry = Registry::with_core();
    iotml_model::register(&mut registry);
    registry
        .model_feeds
        .add_announcer("file", |table: FileTable, _| Ok(Arc::new(FileBoard(table.file)) as Arc<dyn Announcer>));
    registry
        .model_feeds
        .add("file", "for tests", |_: FileTable, _| Ok(Arc::new(MemoryFeed::new()) as Arc<dyn ModelFeed>));
    crate::compare::register(&mut registry);
    let code = iotml_core::cli::main_with(registry, arguments.into_iter().map(Into::into));
    let number = (0..=5).find(|number| code == std::process::ExitCode::from(*number));
    std::process::exit(number.map_or(-1, i32::from));
}

#[derive(Deserialize, JsonSchema)]
pub struct FileTable {
    pub file: PathBuf,
}

/// What is announced, in a file of JSON; a worker that says that it is ready has read it, unless a file beside it says what was reported.
struct FileBoard(PathBuf);

impl FileBoard {
    fn read(&self) -> BTreeMap<String, ModelSet> {
        std::fs::read(&self.0).map_or_else(|_| BTreeMap::new(), |text| serde_json::from_slice(&text).unwrap())
    }
}

impl Announcer for FileBoard {
    fn announced(&self) -> Result<BTreeMap<String, Result<ModelSet, SetError>>, BoxError> {
        Ok(self.read().into_iter().map(|(name, set)| (name, Ok(set))).collect())
    }

    fn change(
        &self,
        model: &str,
        change: &mut dyn FnMut(&mut ModelSet) -> Result<(), SetError>,
    ) -> Result<ModelSet, BoxError> {
        let mut all = self.read();
        let set = all.entry(model.to_owned()).or_insert_with(|| ModelSet::new(model));
        change(set)?;
        set.check()?;
        let set = set.clone();
        std::fs::write(&self.0, serde_json::to_vec(&all)?)?;
        Ok(set)
    }

    fn reports(&self) -> Result<Vec<ModelStatus>, BoxError> {
        if let Ok(text) = std::fs::read(self.0.with_extension("reports")) {
            return Ok(serde_json::from_slice(&text)?);
        }
        let ready = |set: &ModelSet, version: &str| ModelStatus {
            model: set.model.clone(),
            version: version.to_owned(),
            state: ModelState::Ready,
            cause: None,
            pipeline: "cars".to_owned(),
            instance: "one".to_owned(),
            task: Some(0),
            time: 1_790_000_000_000,
        };
        Ok(self
            .read()
            .values()
            .flat_map(|set| set.acting().map(|it| ready(set, &it.version)).collect::<Vec<_>>())
            .collect())
    }

    fn drifts(&self) -> Result<Vec<ModelDrift>, BoxError> {
        Ok(Vec::new())
    }
}

/// Runs `worker model ...` on the store in `folder`.
pub fn worker(folder: &Path, arguments: &[&str]) -> Output {
    worker_in(folder, arguments, &[])
}

/// The same with more in its environment.
fn worker_in(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let arguments: Vec<&str> = ["worker", "model"].iter().chain(arguments).copied().collect();
    Command::new(std::env::current_exe().unwrap())
        .args(["cli::a_worker", "--exact", "--nocapture"])
        .env(ARGUMENTS, serde_json::to_string(&arguments).unwrap())
        .env("IOTML_MODEL_STORE", folder.join("store"))
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

/// What it tells; the test runner's own lines are taken off.
#[track_caller]
fn tells(folder: &Path, arguments: &[&str]) -> String {
    let output = worker(folder, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    told(&output)
}

/// What stands on stdout, without the test runner's own lines.
pub fn told(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).replace("test cli::a_worker ... ", "");
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with("running "))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[track_caller]
fn refuses(folder: &Path, arguments: &[&str]) -> String {
    let output = worker(folder, arguments);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// A model with its manifest and golden rows beside it, whose factor is `factor`.
fn write(folder: &Path, factor: f32, golden: f64) -> String {
    let path = folder.join(format!("cars-{factor}.onnx"));
    std::fs::write(&path, scaled_copy(1, factor).build()).unwrap();
    let manifest = serde_json::json!({
        "manifest_version": 1, "kind": "reconstruction", "name": "cars", "version": "1",
        "features": [{"name": "speed", "scale": {"min": 0, "max": 50}}],
        "threshold": {"value": 0.5},
        "golden": {"input": [[50.0]], "score": [golden]},
    });
    std::fs::write(path.with_extension("json"), manifest.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn publishes_lists_and_describes() {
    if !crate::setup::onnxruntime() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert_eq!(tells(folder, &["list"]), "no models\n");
    let model = write(folder, 0.5, 0.25);
    let told = tells(folder, &["publish", &model]);
    assert!(told.starts_with("cars 1 published\nuri     file:///"), "{told}");
    assert!(tells(folder, &["publish", &model]).starts_with("cars 1 there already, with the same content\n"));
    let told = tells(folder, &["publish", &model, "--version", "2", "--name", "trucks", "--format", "json"]);
    let line: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&line["name"], &line["version"], &line["new"]), (&"trucks".into(), &"2".into(), &true.into()));

    let table = tells(folder, &["list"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["name", "version", "published", "bytes", "signed"]);
    assert_eq!((lines[1][0], lines[1][1], lines[1][4]), ("cars", "1", "no"));
    assert_eq!((lines[2][0], lines[2][1]), ("trucks", "2"));
    let listed = tells(folder, &["list", "trucks", "--format", "json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["uri"], line["uri"]);

    let text = tells(folder, &["describe", "cars", "1", "--verify"]);
    for says in [
        "model      cars 1",
        "kind       reconstruction",
        "golden     1 rows",
        "features   speed from 0 to 50",
        "as published",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
    let manifest: Value = serde_json::from_str(&tells(folder, &["describe", "cars", "1", "--format", "json"])).unwrap();
    assert_eq!(manifest["model_sha256"], line["sha256"]);
}

#[test]
fn refuses_what_no_worker_would_serve() {
    if !crate::setup::onnxruntime() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let wrong = write(folder, 0.5, 0.9);
    let error = refuses(folder, &["publish", &wrong]);
    assert!(error.contains("golden row 0"), "{error}");
    let other = write(folder, 0.25, 0.5625);
    tells(folder, &["publish", &other]);
    let error = refuses(folder, &["publish", &wrong, "--no-engine"]);
    assert!(error.contains("versions never change, so publish under another version"), "{error}");
    let error = refuses(folder, &["publish", &wrong, "--no-engine", "--version", "../2"]);
    assert!(error.contains("cannot be the version of a model"), "{error}");
    let error = refuses(folder, &["describe", "cars", "9"]);
    assert!(error.contains("there is no model cars 9 in file:///"), "{error}");
    let error = refuses(folder, &["publish", "no/such.onnx"]);
    assert!(error.contains("cannot read no/such.onnx"), "{error}");
    let error = refuses(folder, &["list", "--store", "ftp://models"]);
    assert!(error.contains("no address of a model store"), "{error}");
}

#[test]
fn signs_by_one_key_and_checks_by_the_other() {
    use base64::Engine as _;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let seed = base64::engine::general_purpose::STANDARD.encode([3; 32]);
    let public =
        iotml_model::store::SigningKey::from_text(seed.as_bytes(), "test").unwrap().verifying_key().to_base64();
    let [private_file, public_file] = ["private", "public"].map(|name| folder.join(name).to_str().unwrap().to_owned());
    std::fs::write(&private_file, seed).unwrap();
    std::fs::write(&public_file, public).unwrap();
    let model = write(folder, 0.5, 0.25);
    tells(folder, &["publish", &model, "--no-engine"]);
    let demands = ["describe", "cars", "1", "--trusted-key", &public_file, "--require-signature"];
    assert!(refuses(folder, &demands).contains("is not signed, and require_signature is set"));
    tells(folder, &["publish", &model, "--no-engine", "--sign", &private_file]);
    assert!(tells(folder, &demands).contains("model      cars 1"));
    assert!(tells(folder, &["list"]).contains("yes"));
}

/// A pipeline that follows models: on the board and out of the store `configured` in `folder`, with `more` keys of its scorer.
fn configured(folder: &Path, more: &str) -> String {
    let path = |name: &str| folder.join(name);
    let text = format!(
        r#"
        [pipeline]
        name = "p"
        [source]
        type = "file"
        file = "none"
        [decode]
        type = "json"
        columns = [{{ name = "speed", type = "float64" }}]
        [score]
        type = "onnx"
        follow.name = "cars"
        follow.feed = {{ type = "file", file = {:?} }}
        follow.store = {:?}
        {more}
        [[route]]
        name = "out"
        encode = {{ type = "json" }}
        sink = {{ type = "file", file = {:?} }}
        "#,
        path("board.json"),
        path("configured"),
        path("out"),
    );
    std::fs::write(path("p.toml"), text).unwrap();
    path("p.toml").to_str().unwrap().to_owned()
}

#[test]
fn a_configuration_comes_before_the_environment_and_signs_by_its_key() {
    use base64::Engine as _;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let [private, configured_store, other_store] =
        ["private", "configured", "other"].map(|name| folder.join(name).to_str().unwrap().to_owned());
    std::fs::write(&private, base64::engine::general_purpose::STANDARD.encode([3; 32])).unwrap();
    let config = configured(folder, &format!("follow.store_options.signing_key = {private:?}"));
    let model = write(folder, 0.5, 0.25);
    let publish = ["publish", &model, "--no-engine", "--config", &config];
    assert!(tells(folder, &publish).contains("announced of cars:\n  1  all rows  file:///"));
    let listed = tells(folder, &["list", "--store", &configured_store]);
    assert!(listed.contains("cars") && listed.contains("yes"), "there, and signed: {listed}");
    assert_eq!(tells(folder, &["list"]), "no models\n", "in the store of the environment");
    tells(folder, &[&publish[..], &["--version", "2", "--store", &other_store]].concat());
    assert!(tells(folder, &["list", "--store", &other_store]).contains("2"), "the flag comes before all");
    tells(folder, &[&publish[..], &["--version", "3", "--store", &configured_store]].concat());
    let listed = tells(folder, &["list", "--store", &configured_store]);
    assert_eq!(listed.matches("yes").count(), 2, "the same store by its name has the same options: {listed}");

    let feed = serde_json::json!({"type": "file", "file": folder.join("elsewhere.json")}).to_string();
    let environment = [("IOTML_MODEL_FEED", feed.as_str())];
    let status = told(&worker_in(folder, &["status", "--config", &config], &environment));
    assert!(status.contains("3  all rows"), "{status}");
    assert_eq!(told(&worker_in(folder, &["status"], &environment)), "nothing is announced\n");
}

#[test]
fn a_model_of_a_hundred_megabytes_is_published_where_so_much_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let model = write(folder, 0.5, 0.25);
    // One tensor of more than 16 Mi numbers in single precision, 64 MiB.
    let n = (16 << 20) + 1;
    std::fs::write(&model, scaled_copy(1, 0.5).weights("large", &[n], &vec![0.0; n as usize]).build()).unwrap();
    let error = refuses(folder, &["publish", &model, "--no-engine"]);
    assert!(error.contains("67108864"), "{error}");
    assert!(tells(folder, &["publish", &model, "--no-engine", "--max-size", "128MiB"]).contains("published"));
    let config = configured(folder, "limits.max_bytes = 200000000\nfollow.store_options.limits.max_bytes = 200000000");
    assert!(tells(folder, &["publish", &model, "--no-engine", "--config", &config]).contains("published"));
    let small = ["publish", &model, "--no-engine", "--version", "2", "--config", &config, "--max-size", "1MiB"];
    assert!(refuses(folder, &small).contains("1048576"));
    let config = configured(folder, "follow.store_options.limits.max_bytes = 200000000");
    let error = refuses(folder, &["publish", &model, "--no-engine", "--version", "2", "--config", &config]);
    assert!(error.contains("67108864"), "its scorer would refuse it: {error}");
}

fn on_board<'a>(arguments: &[&'a str], feed: &'a str) -> Vec<&'a str> {
    [arguments, &["--feed", feed]].concat()
}

#[test]
fn announces_promotes_rolls_back_and_retires() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let feed = serde_json::json!({"type": "file", "file": folder.join("board.json")}).to_string();
    let tell = |arguments: &[&str]| tells(folder, &on_board(arguments, &feed));
    let refuse = |arguments: &[&str]| refuses(folder, &on_board(arguments, &feed));
    assert_eq!(tell(&["status"]), "nothing is announced\n");
    let model = write(folder, 0.5, 0.25);
    let publish = |version: &'static str, rollout: &'static str| {
        tell(&["publish", &model, "--no-engine", "--version", version, "--rollout", rollout])
    };
    assert!(publish("1", "full").contains("announced of cars:\n  1  all rows  file:///"));
    assert!(publish("2", "canary=10").contains("  2  canary, 10 % of the keys  file:///"));
    let promoted = tell(&["promote", "cars", "2"]);
    assert!(promoted.contains("  2  all rows") && promoted.contains("  1  retired"), "{promoted}");
    let back = tell(&["rollback", "cars"]);
    assert!(back.contains("  1  all rows") && back.contains("  2  retired"), "{back}");
    assert!(publish("3", "shadow").contains("  3  shadow"));
    let retired = tell(&["retire", "cars", "3"]);
    assert!(retired.contains("  1  all rows") && retired.contains("  3  retired"), "{retired}");
    let status = tell(&["status", "cars"]);
    assert!(status.contains("  2026-09-21T14:13:20Z  cars one task 0: 1 is READY"), "{status}");
    let line: Value = serde_json::from_str(&tell(&["status", "--format", "json"])).unwrap();
    let versions = line["announced"]["versions"].as_array().unwrap();
    let states: Vec<_> =
        versions.iter().map(|it| (it["version"].as_str().unwrap(), it["state"].as_str().unwrap())).collect();
    // The way back is still to 2.
    assert_eq!(states, [("2", "UNAVAILABLE"), ("1", "READY"), ("3", "UNAVAILABLE")]);

    assert!(refuse(&["promote", "cars", "9"]).contains("there is no version \"9\" of model \"cars\""));
    assert!(refuse(&["rollback", "trucks"]).contains("no version of model \"trucks\" was retired"));
    let error = refuse(&["publish", &model, "--no-engine", "--version", "4", "--rollout", "canary=110"]);
    assert!(error.contains("cars 4 is in the store; announcing it failed: "), "{error}");
    assert!(refuse(&["publish", &model, "--rollout", "some"]).contains("none of full, canary=PERCENT"));
    let error = refuses(folder, &["promote", "cars", "1"]);
    assert!(error.contains("it is not said where models are announced: use --config or --feed"), "{error}");
    let error = refuses(folder, &["status", "--feed", "{\"type\": \"radio\"}"]);
    assert!(error.contains("unknown feed \"radio\"; known here: file"), "{error}");
    let error = refuses(folder, &["status", "--feed", "password=hunter2"]);
    assert!(error.contains("--feed is no JSON object") && !error.contains("hunter2"), "{error}");
}
