//! Every target on its seeds, on seeds that were damaged, and on what was once found.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use fuzz::{Check, TARGETS, seeds};

/// Damaged copies of each seed.
const N_DAMAGED: usize = 300;

#[test]
fn seeds_and_damaged_seeds_hold_every_property() {
    for (target, check) in TARGETS {
        let seeds = seeds::of(target);
        assert!(!seeds.is_empty(), "{target} has no seeds");
        let mut state = 1;
        for seed in &seeds {
            run(target, check, seed);
            for _ in 0..N_DAMAGED {
                run(target, check, &damaged(seed, &mut state));
            }
        }
    }
}

#[test]
fn what_was_once_found_stays_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    for (target, check) in TARGETS {
        let Ok(files) = fs::read_dir(folder.join(target)) else { continue };
        for file in files {
            let path = file.expect("a file").path();
            run(&path.display().to_string(), check, &fs::read(&path).expect("a file"));
        }
    }
}

fn run(what: &str, check: Check, data: &[u8]) {
    if std::panic::catch_unwind(|| check(data)).is_err() {
        panic!("{what} fails on {:?}", data.escape_ascii().to_string());
    }
}

/// A copy with some bytes changed, cut out or repeated.
fn damaged(seed: &[u8], state: &mut u64) -> Vec<u8> {
    let mut roll = |sides: usize| {
        *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (*state >> 33) as usize % sides.max(1)
    };
    let mut data = seed.to_vec();
    for _ in 0..1 + roll(4) {
        if data.is_empty() {
            break;
        }
        let at = roll(data.len());
        match roll(5) {
            0 => data[at] = [0, 1, 0x7f, 0x80, 0xff, b'{', b'"', b'/'][roll(8)],
            1 => data[at] ^= 1 << roll(8),
            2 => data.truncate(at),
            3 => _ = data.drain(at..(at + roll(8)).min(data.len())),
            _ => {
                let piece = data[at..(at + 1 + roll(16)).min(data.len())].to_vec();
                let to = roll(data.len());
                data.splice(to..to, piece);
            }
        }
    }
    data
}
