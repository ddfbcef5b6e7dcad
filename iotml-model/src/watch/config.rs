//! The part of a scorer's configuration that says when rows have drifted.

use iotml_core::error::ConfigError;
use iotml_core::plugin::HumanDuration;
use iotml_core::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

use crate::live::FeedTable;

/// The fewest rows of which shares of bins say anything.
const FEWEST_ROWS: u64 = 100;

/// When rows are taken for unlike those that a model was trained on.
///
/// ```toml
/// [score.watch]
/// window = "5m"
/// max_psi = 0.25
/// windows = 3
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WatchConfig {
    /// A window ends after this time, by the clock, once it has `min_rows`.
    pub window: HumanDuration,
    /// A window also ends when it has so many rows.
    pub window_rows: u64,
    /// The fewest rows of a window, at least 100.
    pub min_rows: u64,
    /// The highest population stability index of a feature; by custom, 0.1 is a small change and 0.25 a large one.
    pub max_psi: f64,
    /// The largest Kolmogorov-Smirnov distance of a feature, up to 1.
    pub max_ks: f64,
    /// The largest ratio between the share of anomalies and the one in the manifest, in either direction; without it, it is not looked at.
    pub anomaly_ratio: Option<f64>,
    /// How many windows in a row must be beyond a limit before it is reported.
    pub windows: u32,
    /// After this time what lasts is reported again.
    pub cooldown: HumanDuration,
    /// Look at each nth batch only.
    pub every: u32,
    /// Where it is reported, for a model that follows no feed; those that do report there.
    pub feed: Option<FeedTable>,
}

impl Default for WatchConfig {
    fn default() -> Self {
        WatchConfig {
            window: HumanDuration::from_secs(300),
            window_rows: 100_000,
            min_rows: 1_000,
            max_psi: 0.25,
            max_ks: 0.2,
            anomaly_ratio: None,
            windows: 3,
            cooldown: HumanDuration::from_secs(3600),
            every: 1,
            feed: None,
        }
    }
}

impl WatchConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key: &'static str, message: String| Err(ConfigError::new(message).of_key(key));
        if self.window.0.is_zero() {
            return wrong("watch.window", "must be longer than 0".to_owned());
        }
        if self.min_rows < FEWEST_ROWS {
            let found = self.min_rows;
            return wrong(
                "watch.min_rows",
                format!("is {found}, but at least {FEWEST_ROWS} are needed: fewer rows differ by chance"),
            );
        }
        if self.window_rows < self.min_rows {
            let (found, fewest) = (self.window_rows, self.min_rows);
            return wrong("watch.window_rows", format!("is {found}, less than `min_rows`, {fewest}"));
        }
        if !(self.max_psi > 0.0 && self.max_psi.is_finite()) {
            return wrong("watch.max_psi", format!("is {}, but a number above 0 is needed", self.max_psi));
        }
        if !(self.max_ks > 0.0 && self.max_ks <= 1.0) {
            return wrong("watch.max_ks", format!("is {}, but a distance above 0 and up to 1 is needed", self.max_ks));
        }
        if let Some(ratio) = self.anomaly_ratio.filter(|ratio| !(*ratio > 1.0 && ratio.is_finite())) {
            return wrong("watch.anomaly_ratio", format!("is {ratio}, but a ratio above 1 is needed"));
        }
        for (key, value) in [("watch.windows", self.windows), ("watch.every", self.every)] {
            if value == 0 {
                return wrong(key, "is 0, but at least 1 is needed".to_owned());
            }
        }
        Ok(())
    }
}
