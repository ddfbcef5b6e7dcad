//! The two text formats of metrics.

/// The content type of the OpenMetrics format.
pub(super) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type of the older Prometheus format.
pub(super) const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether a client that sends this `Accept` header understands OpenMetrics. `curl` and `promtool check metrics` do not.
pub(super) fn takes_open_metrics(accept: Option<&str>) -> bool {
    accept.is_some_and(|accept| accept.contains("application/openmetrics-text"))
}

/// Metrics in the OpenMetrics format, in the Prometheus format: there a counter's description bears the name of its
/// samples, which ends in `_total`, and nothing marks the end.
pub(super) fn prometheus(open_metrics: &str) -> String {
    let lines: Vec<&str> = open_metrics.lines().collect();
    let mut out = String::with_capacity(open_metrics.len() + 6 * lines.len());
    let counter_of = |line: &str| line.strip_prefix("# TYPE ")?.strip_suffix(" counter").map(str::to_owned);
    for (at, line) in lines.iter().enumerate() {
        // HELP stands right before TYPE, and only TYPE says that it is a counter.
        let around = [Some(*line), lines.get(at + 1).copied()];
        let counter = around.into_iter().flatten().find_map(counter_of);
        let renamed = counter.and_then(|name| {
            let rest = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "))?.strip_prefix(&name)?;
            Some(format!("{}{name}_total{rest}", &line[..7]))
        });
        match renamed {
            Some(renamed) => out.push_str(&renamed),
            None if *line == "# EOF" || line.starts_with("# UNIT ") => continue,
            None => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_described_by_the_name_of_their_samples() {
        let open_metrics = "# HELP rows Rows.\n# TYPE rows counter\nrows_total{a=\"# TYPE x counter\"} 3\n\
                            # HELP age_seconds Age.\n# TYPE age_seconds gauge\n# UNIT age_seconds seconds\nage_seconds 1.5\n# EOF\n";
        let expect = "# HELP rows_total Rows.\n# TYPE rows_total counter\nrows_total{a=\"# TYPE x counter\"} 3\n\
                      # HELP age_seconds Age.\n# TYPE age_seconds gauge\nage_seconds 1.5\n";
        assert_eq!(prometheus(open_metrics), expect);
    }

    #[test]
    fn only_who_asks_for_open_metrics_gets_it() {
        assert!(takes_open_metrics(Some("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")));
        assert!(!takes_open_metrics(Some("*/*")) && !takes_open_metrics(None));
    }
}
