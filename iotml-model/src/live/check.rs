//! What an announced model must pass, beside the stream, before it scores a row of it.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Instant;

use iotml_core::arrow::datatypes::Field;
use iotml_core::model::{Announcement, Digest, Place};
use iotml_core::plugin::HumanDuration;
use prost::bytes::Bytes;

use super::config::FollowConfig;
use super::fetch::Fetched;
use super::refused::Refused;
use super::sample::{MAX_SAMPLE_ROWS, Sample};
use crate::evaluation::{EvaluationError, Input, Keys};
use crate::manifest::{Kind, Manifest, ManifestSource};
use crate::model::{Candidate, Model};
use crate::row_scorer::Rows;
use crate::scorer::OnnxScorerConfig;
use crate::work::Work;

/// What the checks are made against.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) config: Arc<OnnxScorerConfig>,
    pub(crate) follow: Arc<FollowConfig>,
    /// Rows of the stream, if some have come.
    pub(crate) sample: Option<Arc<Sample>>,
    /// What is in force, if anything is.
    pub(crate) running: Option<Running>,
    /// The pipeline delivers exactly once, and takes no stage that keeps state.
    pub(crate) is_exactly_once: bool,
}

/// What the models in force are like, which another must be like as well.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) fields: Vec<Field>,
    pub(crate) remembers: bool,
    /// The columns that they read.
    pub(crate) features: Vec<String>,
}

impl Surroundings {
    /// Puts a fetched model through all checks, in a thread of its own, since native code cannot be interrupted: one that takes
    /// too long is refused, and left to itself.
    pub(crate) fn check(&self, announced: &Announcement, fetched: Fetched, acts: bool) -> Result<Model, Refused> {
        let (surroundings, announced) = (self.clone(), announced.clone());
        let (done, outcome) = channel();
        let check = move || {
            let _ = done.send(surroundings.check_here(&announced, fetched, acts));
        };
        let spawned = thread::Builder::new().name("model-check".to_owned()).spawn(check);
        spawned.map_err(|error| Refused::for_now(format!("no thread can be started for its checks: {error}")))?;
        let limit = self.follow.max_check_time.0;
        match outcome.recv_timeout(limit) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => {
                let advice = "it is too slow for a stream, or `follow.max_check_time` too short";
                Err(Refused::unless_it_passes(format!("its checks took longer than {limit:?}: {advice}")))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(Refused::for_good("a check of it panicked, which is a defect: please report it with the file"))
            }
        }
    }

    fn check_here(&self, announced: &Announcement, fetched: Fetched, acts: bool) -> Result<Model, Refused> {
        let Fetched { file, manifest } = fetched;
        let found = Digest::of(&file);
        if found != announced.sha256 {
            let (expected, n_bytes) = (announced.sha256, file.len());
            let advice = "publish it again, or announce the right digest";
            let cause = format!("its file ({n_bytes} bytes) has the SHA-256 {found}, but {expected} was announced");
            let cause = format!("{cause}; {advice}");
            // A file elsewhere may be in the middle of being copied there.
            let stays = matches!(announced.place, Place::Inline(_));
            return Err(if stays { Refused::for_good(cause) } else { Refused::for_now(cause) });
        }
        let manifest = manifest_of(announced, manifest)?;
        self.open(file, manifest, announced, acts)
    }

    fn open(
        &self,
        file: Bytes,
        manifest: Option<Manifest>,
        announced: &Announcement,
        acts: bool,
    ) -> Result<Model, Refused> {
        let refused = |error: crate::ModelError| Refused::for_good(error.to_string());
        let source = manifest.map_or(ManifestSource::Model, |manifest| ManifestSource::Given(Box::new(manifest)));
        let options = crate::OpenOptions { manifest: source, ..self.config.open_options() };
        let name = format!("{} {}", self.follow.name, announced.version);
        let candidate = Candidate::check(file, &name, None, &options).map_err(refused)?;
        let says = (candidate.manifest.name.as_str(), candidate.manifest.version.as_str());
        if says != (self.follow.name.as_str(), announced.version.as_str()) {
            let (name, version) = says;
            let advice = "rows would name another model than the one announced; publish it with the right manifest";
            return Err(Refused::for_good(format!("its manifest says that it is {name:?} {version:?}: {advice}")));
        }
        let work = Work::new(&candidate.manifest, &candidate.signature, &self.config);
        let work = work.map_err(|error| Refused::for_good(error.to_string()))?;
        self.fits(&candidate.manifest, &work, acts)?;
        let mut model = candidate.load(&options).map_err(refused)?;
        self.keeps_pace(&mut model)?;
        crate::golden::check(&mut model).map_err(refused)?;
        self.is_sane(&mut model, work)?;
        Ok(model)
    }

    /// Whether it can take the place of what runs, without the rest of the pipeline noticing.
    fn fits(&self, manifest: &Manifest, work: &Work, acts: bool) -> Result<(), Refused> {
        let remembers = manifest.kind == Kind::NextEvent;
        if remembers && self.is_exactly_once {
            let why = "a next_event model remembers rows, which a pipeline that delivers exactly once does not allow";
            return Err(Refused::for_good(format!("{why}; use another kind, or at_least_once")));
        }
        let Some(running) = &self.running else { return Ok(()) };
        if acts && running.remembers != remembers {
            let kind = manifest.kind.as_str();
            let why = "models that remember rows and models that do not cannot take each other's place";
            return Err(Refused::for_good(format!("its kind is {kind}: {why}; restart the pipeline to change over")));
        }
        if acts && running.fields != work.fields() {
            let names = |fields: &[Field]| {
                let names: Vec<_> =
                    fields.iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
                names.join(", ")
            };
            let (mine, theirs) = (names(work.fields()), names(&running.fields));
            let why = format!("it appends the columns {mine}, but the model in force appends {theirs}");
            return Err(Refused::for_good(format!("{why}; restart the pipeline to change over")));
        }
        if self.sample.is_none() {
            let reads = |feature: &&crate::manifest::Feature| feature.constant.is_none();
            let unknown = manifest.features.iter().filter(reads).find(|it| !running.features.contains(&it.name));
            if let Some(unknown) = unknown {
                let name = &unknown.name;
                let why = format!("it reads the column {name:?}, which the model in force does not");
                return Err(Refused::for_now(format!("{why}; it is tried again when rows have come to look at")));
            }
        }
        Ok(())
    }

    /// The first look: one row, before golden rows are run in earnest.
    fn keeps_pace(&self, model: &mut Model) -> Result<(), Refused> {
        let row = vec![0.0; model.input_width()];
        let limit = self.follow.max_batch_time;
        // The first run may set things up.
        let mut kept = Ok(());
        for _ in 0..2 {
            let begun = Instant::now();
            model.run(&row).map_err(|error| Refused::for_good(error.to_string()))?;
            kept = in_time(begun, 1, limit);
            if kept.is_ok() {
                break;
            }
        }
        kept
    }

    /// Whether what it makes of live rows are numbers, in time.
    fn is_sane(&self, model: &mut Model, work: Work) -> Result<(), Refused> {
        let limit = self.follow.max_batch_time;
        if let Some(sample) = &self.sample {
            let n_rows = sample.columns.num_rows();
            let n_not_finite = show(model, work, sample, limit)?;
            // One device that sends monstrous numbers must not keep a model out.
            if n_not_finite > n_rows / 100 {
                tracing::debug!(n_rows, n_not_finite, "scores that are no finite numbers");
                let why = "of rows of the stream it gives more than one in a hundred a score that is no finite number";
                return Err(Refused::unless_it_passes(format!("{why}; train it again, or look at its scaling")));
            }
            return Ok(());
        }
        // Step by step, since a slow one would keep the processor busy for long.
        for n_rows in [MAX_SAMPLE_ROWS / 32, MAX_SAMPLE_ROWS / 8, MAX_SAMPLE_ROWS] {
            let begun = Instant::now();
            let rows = vec![0.0; model.input_width() * n_rows];
            model.run(&rows).map_err(|error| Refused::for_good(error.to_string()))?;
            in_time(begun, n_rows, limit)?;
        }
        Ok(())
    }
}

/// Shows rows of the stream to a model, and gives how many scores are no finite numbers. `work` is used for nothing else, since
/// it remembers what it saw.
///
/// # Errors
/// The rows do not fit it, or take it too long.
pub(crate) fn show(model: &mut Model, mut work: Work, sample: &Sample, limit: HumanDuration) -> Result<usize, Refused> {
    let begun = Instant::now();
    let keys = sample.keys();
    let input = Input { rows: Rows::Columns(&sample.columns), keys: Keys::Given(&keys) };
    let scores = work.evaluate(model, &input).map_err(|error| match error {
        EvaluationError::Feature(error) => {
            Refused::for_good(format!("it does not fit the rows of this pipeline: {error}"))
        }
        error => Refused::for_good(error.to_string()),
    })?;
    in_time(begun, sample.columns.num_rows(), limit)?;
    Ok(scores.n_not_finite)
}

fn in_time(begun: Instant, n_rows: usize, limit: HumanDuration) -> Result<(), Refused> {
    let took = begun.elapsed();
    if took <= limit.0 {
        return Ok(());
    }
    // How long it took for how many rows is no news, and would make the same trouble another each time.
    tracing::debug!(?took, n_rows, "too slow for the stream");
    let advice = "use a smaller model, or raise `follow.max_batch_time`";
    Err(Refused::unless_it_passes(format!("a batch of rows takes it more than {limit}; {advice}")))
}

/// The manifest that came with the announcement or with the file; `None` where only the file itself may hold one.
fn manifest_of(announced: &Announcement, beside: Option<Manifest>) -> Result<Option<Manifest>, Refused> {
    // What lay in a store with the model was verified there, perhaps by its signature, which no announcement can take away.
    let (None, Some(value)) = (&beside, &announced.manifest) else { return Ok(beside) };
    let manifest = serde_json::to_vec(value).map_err(|error| Refused::for_good(error.to_string()))?;
    let manifest = Manifest::from_json(&manifest);
    manifest.map(Some).map_err(|error| Refused::for_good(format!("{error} (the one in the announcement)")))
}
