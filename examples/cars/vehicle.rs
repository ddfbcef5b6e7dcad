//! What does not change while a car drives: its class, and the small differences between two cars of one class.

use crate::noise::Noise;

/// A plug-in hybrid of one of two classes; figures are those of a small car and of a van.
#[derive(Clone, Debug)]
pub(crate) struct Vehicle {
    /// Engine vibration, mV per m/s: 100 for the small engine and 150 for the large one, within 2 %.
    pub(crate) vibration_mv_per_mps: f64,
    /// Mass, kg.
    pub(crate) mass: f64,
    /// Largest tractive power, W.
    pub(crate) power_max: f64,
    /// Largest tractive force, N.
    pub(crate) force_max: f64,
    /// Air drag: rho cd A / 2, N per (m/s)2.
    pub(crate) drag: f64,
    /// Intake air flow while idling and at full throttle, g/s: follows the displacement.
    pub(crate) air_flow: (f64, f64),
    /// Battery capacity, As.
    pub(crate) capacity: f64,
    /// Inner resistance of the pack, ohm.
    pub(crate) resistance: f64,
    /// Pressure of each tyre at 20 degC, psi.
    pub(crate) tyre_psi: [f64; 4],
    /// How hard the driver accelerates and brakes, m/s2.
    pub(crate) vigour: f64,
    /// Share of legs on a highway.
    pub(crate) highway: f64,
    /// 1000 or 2000.
    pub(crate) firmware: f64,
}

impl Vehicle {
    /// The car that this stream of draws describes.
    pub(crate) fn new(noise: &mut Noise) -> Self {
        let large = noise.chance(0.4);
        let spread = |noise: &mut Noise, share: f64| noise.uniform(1.0 - share, 1.0 + share);
        let placard = if large { 30.5 } else { 28.5 } + noise.uniform(-0.5, 0.5);
        Self {
            vibration_mv_per_mps: if large { 150.0 } else { 100.0 } * spread(noise, 0.02),
            mass: if large { 2_000.0 } else { 1_350.0 } * spread(noise, 0.08),
            power_max: if large { 90e3 } else { 65e3 },
            force_max: if large { 6_000.0 } else { 4_200.0 },
            drag: if large { 0.62 } else { 0.40 },
            air_flow: if large { (14.0, 190.0) } else { (6.0, 110.0) },
            capacity: 52.0 * 3_600.0 * spread(noise, 0.05),
            resistance: 0.08 * spread(noise, 0.1),
            tyre_psi: std::array::from_fn(|_| placard + noise.uniform(-0.4, 0.4)),
            vigour: noise.uniform(0.8, 1.8),
            highway: noise.uniform(0.1, 0.6),
            firmware: if noise.chance(0.7) { 1_000.0 } else { 2_000.0 },
        }
    }
}
