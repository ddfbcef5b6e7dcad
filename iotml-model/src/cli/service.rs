//! What workers reported of one version: who has it in service, and who refuses it.

use std::collections::BTreeMap;

use iotml_core::model::{ModelState, ModelStatus};

/// How one version stands with each worker that reported it. What one worker refuses changes nothing for the others.
#[derive(Debug, Default)]
pub(super) struct Service<'a> {
    /// By pipeline and instance.
    workers: BTreeMap<(&'a str, &'a str), Worker<'a>>,
}

/// How it stands with one worker.
#[derive(Debug, Default)]
struct Worker<'a> {
    /// Since when it is in service there.
    ready: Option<i64>,
    /// Since when it is refused there, and why.
    refused: Option<(i64, &'a str)>,
}

/// That a version is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal<'a> {
    /// Since when the last of those who refuse it does so.
    pub since: i64,
    /// Why that one does.
    pub cause: &'a str,
    pub n_refusing: usize,
    pub n_workers: usize,
}

impl<'a> Service<'a> {
    /// Goes through `reports`, oldest first.
    pub fn of(reports: &'a [ModelStatus], model: &str, version: &str) -> Self {
        let mut service = Self::default();
        for report in reports.iter().filter(|report| report.model == model && report.version == version) {
            let name = (&*report.pipeline, &*report.instance);
            let served = service.workers.get(&name).is_some_and(|worker| worker.ready.is_some());
            if report.state == ModelState::Unloading && served {
                // It was taken out of the announced set, for those as well that died and cannot say so.
                service.workers.clear();
            }
            let worker = service.workers.entry(name).or_default();
            let cause = report.cause.as_deref().unwrap_or_default();
            (worker.ready, worker.refused) = match report.state {
                ModelState::Ready => (worker.ready.or(Some(report.time)), None),
                // Another cause is no new refusal.
                ModelState::Unavailable => {
                    (None, Some((worker.refused.map_or(report.time, |(since, _)| since), cause)))
                }
                // One that failed before the first rows is let go as well.
                ModelState::Unloading => (None, worker.refused),
                ModelState::Loading => (worker.ready, None),
            };
        }
        service
    }

    /// Since when it is in service: the first worker that had it ready and still has.
    pub fn since(&self) -> Option<i64> {
        self.workers.values().filter_map(|worker| worker.ready).min()
    }

    /// Whether workers refuse it.
    pub fn refusal(&self) -> Option<Refusal<'a>> {
        let refusing = || self.workers.values().filter_map(|worker| worker.refused);
        let (since, cause) = refusing().max_by_key(|(since, _)| *since)?;
        Some(Refusal { since, cause, n_refusing: refusing().count(), n_workers: self.workers.len() })
    }
}

impl Refusal<'_> {
    /// Whether nobody that reported the version serves it, or may yet.
    pub fn is_by_all(&self) -> bool {
        self.n_refusing == self.n_workers
    }

    pub fn text(&self) -> String {
        let Refusal { cause, n_refusing, n_workers, .. } = self;
        format!("{n_refusing} of {n_workers} workers that reported it refuse it: {cause}")
    }
}

#[cfg(test)]
mod tests {
    use super::ModelState::{Loading, Ready, Unavailable, Unloading};
    use super::*;

    fn reports(of: &[(&str, ModelState, i64)]) -> Vec<ModelStatus> {
        let report = |(instance, state, time): &(&str, ModelState, i64)| ModelStatus {
            model: "cars".to_owned(),
            version: "2".to_owned(),
            state: *state,
            cause: (*state == Unavailable).then(|| format!("broken at {time}")),
            pipeline: "p".to_owned(),
            instance: (*instance).to_owned(),
            task: None,
            time: *time,
        };
        of.iter().map(report).collect()
    }

    fn since(of: &[(&str, ModelState, i64)]) -> Option<i64> {
        Service::of(&reports(of), "cars", "2").since()
    }

    #[test]
    fn a_version_is_in_service_since_the_first_worker_had_it_ready_that_still_has() {
        assert_eq!(since(&[("a", Loading, 1)]), None);
        assert_eq!(since(&[("a", Loading, 1), ("a", Ready, 2), ("a", Ready, 3)]), Some(2));
        assert_eq!(since(&[("a", Ready, 2), ("a", Unloading, 3), ("a", Unloading, 4)]), None);
        assert_eq!(since(&[("a", Ready, 2), ("a", Unloading, 3), ("a", Loading, 5), ("a", Ready, 6)]), Some(6));
        assert_eq!(Service::of(&reports(&[("a", Ready, 2)]), "cars", "1").since(), None);
    }

    #[test]
    fn what_one_worker_refuses_is_in_service_with_the_others() {
        let gone = Unavailable;
        assert_eq!(since(&[("a", Ready, 2), ("b", gone, 3)]), Some(2));
        assert_eq!(since(&[("a", Ready, 2), ("b", Ready, 3), ("a", gone, 4)]), Some(3));
        assert_eq!(since(&[("a", Ready, 2), ("b", Ready, 3), ("a", gone, 4), ("a", Ready, 5)]), Some(3));
    }

    #[test]
    fn what_one_worker_lets_go_is_in_service_no_more_with_those_that_died_before() {
        assert_eq!(since(&[("dead", Ready, 2), ("b", Ready, 3), ("b", Unloading, 4)]), None);
        let again = [("dead", Ready, 2), ("b", Ready, 3), ("b", Unloading, 4), ("b", Loading, 8), ("b", Ready, 9)];
        assert_eq!(since(&again), Some(9));
        let failed = [("a", Ready, 2), ("b", Ready, 3), ("b", Unavailable, 4), ("b", Unloading, 5)];
        assert_eq!(since(&failed), Some(2), "it was let go since it failed before the first rows of that worker");
    }

    #[test]
    fn it_is_refused_by_all_since_the_last_has_refused_it() {
        let of = |told: &[_]| {
            let reports = reports(told);
            let refusal = Service::of(&reports, "cars", "2").refusal();
            refusal.map(|refusal| (refusal.is_by_all(), refusal.since, refusal.text()))
        };
        let all = of(&[("a", Unavailable, 2), ("b", Loading, 3), ("b", Unavailable, 4), ("a", Unavailable, 5)]);
        let text = "2 of 2 workers that reported it refuse it: broken at 4".to_owned();
        assert_eq!(all, Some((true, 4, text)), "another cause does not make the time start anew");
        let one = of(&[("a", Unavailable, 2), ("b", Ready, 3)]).unwrap();
        assert_eq!((one.0, one.2.as_str()), (false, "1 of 2 workers that reported it refuse it: broken at 2"));
        assert_eq!(of(&[("a", Unavailable, 2), ("a", Loading, 3)]), None, "it is being checked again");
        assert_eq!(of(&[("a", Unavailable, 2), ("a", Ready, 3)]), None);
        assert_eq!(of(&[]), None);
    }
}
