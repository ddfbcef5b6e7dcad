//! `model judge`: promotes or retires versions by rules over what they said.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use iotml_core::cli::clap::{self, Args};
use iotml_core::cli::{fail, print};
use iotml_core::clock::now_millis;
use iotml_core::model::{Announcement, Digest, ModelSet, ModelStatus, Rollout, SetError};
use iotml_core::plugin::{HumanDuration, Registry};
use serde::Serialize;
use serde_json::json;
use tokio::runtime::Runtime;

use super::board::Opened;
use super::evidence::{Evidence, Sources, Times, acting_beside, load};
use super::service::{Refusal, Service};
use super::{Failure, Format, compare, date, date_of};
use crate::comparison::{Finding, Judgement, Outcome, Report, Rules, State};

/// Exit codes beside those of every command.
const WAITS: u8 = 3;
const RETIRED: u8 = 4;
const NOBODY: u8 = 5;

#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 promoted, 3 waits, 4 retired, 5 there is no version to judge, 1 failed, 2 wrong command line"
)]
pub(super) struct Arguments {
    /// The model
    #[arg(value_name = "NAME")]
    name: String,
    /// The version to judge; default: every canary and shadow, and of versions with a weight the one that joined last
    #[arg(value_name = "VERSION")]
    version: Option<String>,
    /// Judge again and again: until it is decided if VERSION is given, else for ever
    #[arg(long, value_name = "DURATION")]
    every: Option<HumanDuration>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Show the comparison, too
    #[arg(long)]
    show: bool,
    /// How to tell; as JSON, one object for each version and time
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    #[command(flatten)]
    rules: Rules,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    sources: Sources,
}

/// What became of one version.
#[derive(Debug, Serialize)]
struct Told {
    model: String,
    version: String,
    rollout: &'static str,
    against: Option<String>,
    /// Rows from this time on were looked at.
    from: Option<i64>,
    #[serde(flatten)]
    judgement: Judgement,
    /// Whether the outcome was put into force.
    done: bool,
    /// What else is to be known.
    note: Option<String>,
}

/// Since when this process knows of each version that it judges, in milliseconds since the Unix epoch.
type Known = BTreeMap<String, (Digest, i64)>;

pub(super) fn run(arguments: &Arguments, runtime: &Runtime, registry: &Arc<Registry>) -> ExitCode {
    let mut known = Known::new();
    loop {
        let told = round(arguments, runtime, registry, &mut known);
        let Some(every) = arguments.every else { return tell(arguments, told) };
        // Of one that is named, nothing is left to judge once others have decided.
        let is_decided = told.as_ref().is_ok_and(|told| told.iter().all(|(told, _)| told.done));
        let code = tell(arguments, told);
        if is_decided && arguments.version.is_some() {
            return code;
        }
        thread::sleep(every.0);
    }
}

fn tell(arguments: &Arguments, told: Result<Vec<(Told, Option<Report>)>, Failure>) -> ExitCode {
    let told = match told {
        Ok(told) => told,
        Err(message) => return fail(&message, 1),
    };
    if told.is_empty() {
        let text = format!("{}: there is no version to judge\n", arguments.name);
        if arguments.format == Format::Table {
            print(&text);
        }
        return ExitCode::from(NOBODY);
    }
    for (told, report) in &told {
        let comparison = report.as_ref().filter(|_| arguments.show);
        let written = match arguments.format {
            Format::Table => {
                let shown = comparison.map(|report| compare::table(&arguments.name, report)).unwrap_or_default();
                print(&format!("{shown}{}", text(told)))
            }
            Format::Json => print(&format!("{}\n", line(told, comparison))),
        };
        if written != ExitCode::SUCCESS {
            return written;
        }
    }
    let any = |outcome| told.iter().any(|(told, _)| told.judgement.outcome == outcome);
    match (any(Outcome::Retire), any(Outcome::Wait)) {
        (true, _) => ExitCode::from(RETIRED),
        (false, true) => ExitCode::from(WAITS),
        (false, false) => ExitCode::SUCCESS,
    }
}

/// Judges each version once.
fn round(
    arguments: &Arguments,
    runtime: &Runtime,
    registry: &Arc<Registry>,
    known: &mut Known,
) -> Result<Vec<(Told, Option<Report>)>, Failure> {
    let config = load(&arguments.sources, registry)?;
    let board = Opened::of(&config, registry)?;
    let set = board.announced_of(&arguments.name)?;
    let from = arguments.times.first();
    let reports = board.reports()?;
    let evidence = Evidence { config: &config, sources: &arguments.sources, registry, runtime };
    let candidates = candidates(&set, arguments.version.as_deref())?;
    known.retain(|version, (file, _)| candidates.iter().any(|it| it.version == *version && it.sha256 == *file));
    let now = now_millis();
    let mut judge = |candidate: &Announcement| {
        let (_, known_since) = *known.entry(candidate.version.clone()).or_insert((candidate.sha256, now));
        let judge = Judge { arguments, evidence: &evidence, board: &board, set: &set, candidate, known_since };
        judge.judge(from, &reports)
    };
    candidates.into_iter().map(&mut judge).collect()
}

/// The versions that have to prove themselves.
fn candidates<'a>(set: &'a ModelSet, named: Option<&str>) -> Result<Vec<&'a Announcement>, Failure> {
    let ready = || set.versions.iter().filter(|announced| announced.is_ready());
    if let Some(named) = named {
        let known = || set.versions.iter().map(|it| it.version.as_str()).collect::<Vec<_>>().join(", ");
        let found = set.version(named);
        let found =
            found.ok_or_else(|| format!("version {named} of {} is not announced; {} are", set.model, known()))?;
        // Whatever scores everything or nothing is decided, be it by somebody else.
        let is_decided = !found.is_ready() || found.rollout == Rollout::Full;
        return Ok(if is_decided { Vec::new() } else { vec![found] });
    }
    let is_weighted = |announced: &&Announcement| matches!(announced.rollout, Rollout::Weighted { .. });
    let last = ready().rfind(is_weighted);
    let is_candidate = |announced: &&Announcement| match announced.rollout {
        Rollout::Full => false,
        Rollout::Canary { .. } | Rollout::Shadow => true,
        Rollout::Weighted { .. } => last.is_some_and(|last| last.version == announced.version),
    };
    Ok(ready().filter(is_candidate).collect())
}

/// One version before its rules.
struct Judge<'a> {
    arguments: &'a Arguments,
    evidence: &'a Evidence<'a>,
    board: &'a Opened,
    set: &'a ModelSet,
    candidate: &'a Announcement,
    known_since: i64,
}

impl Judge<'_> {
    fn judge(&self, from: Option<i64>, reports: &[ModelStatus]) -> Result<(Told, Option<Report>), Failure> {
        let Judge { arguments, set, candidate, .. } = *self;
        let version = candidate.version.as_str();
        let against = acting_beside(set, version);
        let service = Service::of(reports, &set.model, version);
        let from = from.or_else(|| service.since());
        let refusal = service.refusal();
        let wait = Judgement { outcome: Outcome::Wait, findings: Vec::new() };
        let mut told = Told {
            model: set.model.clone(),
            version: version.to_owned(),
            rollout: candidate.rollout.as_str(),
            against: against.map(str::to_owned),
            from,
            judgement: wait,
            done: false,
            note: refusal.map(|refusal| refusal.text()),
        };
        if let Some(refusal) = refusal.filter(Refusal::is_by_all) {
            told.judgement = self.refused(refusal);
            if !arguments.dry_run && told.judgement.outcome != Outcome::Wait {
                self.put_into_force(told.judgement.outcome, against, &mut told)?;
            }
            return Ok((told, None));
        }
        let (Some(against), Some(from)) = (against, from) else {
            let note = match against {
                None => "no other version acts that it could be compared with; promote or retire it by hand",
                Some(_) => {
                    "no worker has reported that it is in service; or say from when on rows count, by --since or --from"
                }
            };
            told.note = Some(told.note.map_or_else(|| note.to_owned(), |refused| format!("{note}; {refused}")));
            return Ok((told, None));
        };
        let times = (Some(from), arguments.times.to);
        let report = self.evidence.compare(&set.model, times, Some(set), Some(against))?;
        let is_shadow = candidate.rollout == Rollout::Shadow;
        told.judgement = arguments.rules.judge(&report, version, is_shadow, against);
        if !arguments.dry_run && told.judgement.outcome != Outcome::Wait {
            self.put_into_force(told.judgement.outcome, Some(against), &mut told)?;
        }
        Ok((told, Some(report)))
    }

    /// What becomes of a version that every worker refuses, and that so gets no rows to be judged by. A report does not say of which
    /// announcement it is, so it counts from when this process first saw the version at the earliest.
    fn refused(&self, refusal: Refusal<'_>) -> Judgement {
        let limit = self.arguments.rules.min_time.0.as_secs_f64();
        let found = (now_millis() - refusal.since.max(self.known_since)).max(0) as f64 / 1e3;
        let (outcome, state) = match found >= limit {
            true => (Outcome::Retire, State::Broken),
            false => (Outcome::Wait, State::Open),
        };
        Judgement { outcome, findings: vec![Finding { rule: "refused", limit, found: Some(found), state }] }
    }

    /// Does it, unless others have changed meanwhile what was judged.
    fn put_into_force(&self, outcome: Outcome, against: Option<&str>, told: &mut Told) -> Result<(), Failure> {
        let judged = self.candidate;
        let beside = |set: &ModelSet| against.and_then(|against| set.version(against).cloned());
        let judged_beside = beside(self.set);
        let mut is_changed = false;
        let changed = self.board.change(&self.set.model, |set| {
            is_changed = set.version(&judged.version) != Some(judged) || beside(set) != judged_beside;
            if is_changed {
                return Err(SetError::Changed { model: set.model.clone(), version: judged.version.clone() });
            }
            match outcome {
                Outcome::Promote => set.promote(&judged.version),
                Outcome::Retire => set.retire(&judged.version),
                Outcome::Wait => Ok(()),
            }
        });
        match changed {
            Ok(_) => told.done = true,
            Err(message) if is_changed => {
                told.judgement.outcome = Outcome::Wait;
                told.note = Some(message);
            }
            Err(message) => return Err(message),
        }
        Ok(())
    }
}

fn text(told: &Told) -> String {
    let Told { model, version, rollout, against, judgement, done, note, .. } = told;
    let outcome = match (judgement.outcome, done) {
        (Outcome::Wait, _) => "waits",
        (Outcome::Promote, true) => "promoted",
        (Outcome::Promote, false) => "would be promoted",
        (Outcome::Retire, true) => "retired",
        (Outcome::Retire, false) => "would be retired",
    };
    let against = against.as_ref().map_or_else(String::new, |against| format!(" beside {against}"));
    let now = date(SystemTime::now());
    let mut out = format!("{now}  {model} {version}, {rollout}{against}: {outcome}\n");
    if let Some(since) = told.from {
        let _ = writeln!(out, "  rows since {}", date_of(since));
    }
    for Finding { rule, limit, found, state } in &judgement.findings {
        let state = match state {
            State::Holds => "holds",
            State::Broken => "is broken",
            State::Open => "is open",
        };
        let found = found.map_or_else(|| "nothing to go by yet".to_owned(), |found| format!("{found:.4}"));
        let _ = writeln!(out, "  {rule} {limit} {state}: {found}");
    }
    note.iter().for_each(|note| _ = writeln!(out, "  {note}"));
    out
}

fn line(told: &Told, comparison: Option<&Report>) -> serde_json::Value {
    let mut line = json!(told);
    if let (Some(report), Some(line)) = (comparison, line.as_object_mut()) {
        line.insert("comparison".to_owned(), json!(report));
    }
    line
}

#[cfg(test)]
mod tests {
    use iotml_core::model::{Digest, Place};

    use super::*;

    fn version(name: &str, rollout: Rollout) -> Announcement {
        Announcement::new(name, Place::Uri("file:///x".to_owned()), Digest::of(b"x")).rolled_out(rollout)
    }

    #[test]
    fn who_is_judged_and_beside_whom() {
        let canary = version("2", Rollout::Canary { percent: 10.0 });
        let versions = vec![version("1", Rollout::Full), canary, version("3", Rollout::Shadow)];
        let set = ModelSet { versions, ..ModelSet::new("cars") };
        let names = |set: &ModelSet, named| {
            candidates(set, named).map(|found| found.iter().map(|it| it.version.clone()).collect::<Vec<_>>())
        };
        assert_eq!(names(&set, None).unwrap(), ["2", "3"]);
        assert_eq!(names(&set, Some("3")).unwrap(), ["3"]);
        assert_eq!(names(&set, Some("1")).unwrap(), [] as [&str; 0]);
        assert!(names(&set, Some("9")).unwrap_err().contains("1, 2, 3 are"));
        assert_eq!((acting_beside(&set, "2"), acting_beside(&set, "3")), (Some("1"), Some("1")));
        let weighted = |name, weight| version(name, Rollout::Weighted { weight });
        let set = ModelSet { versions: vec![weighted("1", 1.0), weighted("2", 1.0)], ..set };
        assert_eq!(names(&set, None).unwrap(), ["2"]);
        assert_eq!((acting_beside(&set, "2"), acting_beside(&set, "")), (Some("1"), Some("1")));
    }
}
