use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::record::HEADER;
use super::spool::{Held, Spool, SpoolError};

fn body(number: u64) -> Vec<u8> {
    format!("message {number:06}").into_bytes()
}

fn append(spool: &Spool, numbers: std::ops::Range<u64>) {
    for number in numbers {
        spool.append(number as i64, &body(number)).unwrap();
    }
}

/// Everything that can be read now, as numbers.
fn drain(spool: &Spool) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some(entry) = spool.read().unwrap() {
        assert_eq!((entry.time, &entry.body), (entry.seq as i64, &body(entry.seq)));
        numbers.push(entry.seq);
    }
    numbers
}

fn segments(folder: &std::path::Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "spool"));
    paths.sort();
    paths
}

#[test]
fn inv_1_what_is_not_acknowledged_comes_again_after_a_reopen() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), 1 << 20, false).unwrap();
    append(&spool, 0..100);
    assert_eq!(drain(&spool), (0..100).collect::<Vec<_>>());
    spool.ack(40).unwrap();
    drop(spool);
    let spool = Spool::open(folder.path(), 1 << 20, false).unwrap();
    assert_eq!(spool.position(), 40);
    append(&spool, 100..105);
    assert_eq!(drain(&spool), (40..105).collect::<Vec<_>>());
    spool.ack(105).unwrap();
    drop(spool);
    let spool = Spool::open(folder.path(), 1 << 20, true).unwrap();
    assert_eq!(drain(&spool), [0u64; 0]);
    append(&spool, 105..106);
    assert_eq!(drain(&spool), [105]);
}

/// A power cut may take the end of a file and leave the number up to which it was acknowledged.
#[test]
fn inv_1_numbers_that_were_acknowledged_and_lost_are_not_acknowledged_when_they_are_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), 1 << 20, false).unwrap();
    append(&spool, 0..100);
    drain(&spool);
    for next in [99, 100] {
        spool.ack(next).unwrap();
    }
    drop(spool);
    let path = segments(folder.path()).pop().unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    for round in 0..3 {
        let spool = Spool::open(folder.path(), 1 << 20, false).unwrap();
        assert_eq!(spool.position(), 50);
        append(&spool, 50 + round * 30..80 + round * 30);
        assert_eq!(drain(&spool), (50..80 + round * 30).collect::<Vec<_>>(), "a kill before the first acknowledgement");
    }
    // The first acknowledgement overwrites one slot, the other must not count.
    let spool = Spool::open(folder.path(), 1 << 20, false).unwrap();
    drain(&spool);
    spool.ack(60).unwrap();
    drop(spool);
    assert_eq!(Spool::open(folder.path(), 1 << 20, false).unwrap().position(), 60);
}

#[test]
fn what_it_holds_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let held = |n_records, oldest| (n_records, oldest);
    let told = |spool: &Spool| {
        let Held { n_bytes, n_records, oldest } = spool.held();
        let on_disk: u64 = segments(folder.path()).iter().map(|path| path.metadata().unwrap().len()).sum();
        assert_eq!(n_bytes, on_disk);
        (n_records, oldest)
    };
    let spool = Spool::open(folder.path(), 1 << 20, false).unwrap();
    assert_eq!(told(&spool), held(0, None));
    for number in 0..100 {
        // Ten a second.
        spool.append(5_000 + number * 100, &body(number as u64)).unwrap();
    }
    while spool.read().unwrap().is_some() {}
    assert_eq!(told(&spool), held(100, Some(5_000)));
    for (next, oldest) in [(1, 5_000), (10, 6_000), (19, 6_000), (55, 10_000), (99, 14_000)] {
        spool.ack(next).unwrap();
        assert_eq!(told(&spool), held(100 - next, Some(oldest)), "{next} are acknowledged");
    }
    drop(spool);
    // Read from the file, before anything is read on.
    let spool = Spool::open(folder.path(), 1 << 20, false).unwrap();
    assert_eq!(told(&spool), held(1, Some(14_900)));
    while spool.read().unwrap().is_some() {}
    spool.ack(100).unwrap();
    assert_eq!(told(&spool), held(0, None));
}

#[test]
fn only_what_was_read_can_be_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), 1 << 20, false).unwrap();
    append(&spool, 0..3);
    spool.ack(99).unwrap();
    assert_eq!(drain(&spool), [0, 1, 2]);
}

#[test]
fn acknowledged_files_are_removed_and_the_space_is_used_again() {
    let folder = tempfile::tempdir().unwrap();
    // Room for about 900 records; ten times that goes through.
    let spool = Spool::open(folder.path(), 32 << 10, false).unwrap();
    for round in 0..90 {
        append(&spool, round * 100..round * 100 + 100);
        assert_eq!(drain(&spool).len(), 100);
        spool.ack(round * 100 + 100).unwrap();
        let n_bytes: u64 = segments(folder.path()).iter().map(|path| path.metadata().unwrap().len()).sum();
        assert!(n_bytes <= 32 << 10, "{n_bytes} bytes on disk");
    }
}

#[test]
fn inv_6_a_full_spool_blocks_until_an_acknowledgement_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Arc::new(Spool::open(folder.path(), 500, false).unwrap());
    let writer = std::thread::spawn({
        let spool = spool.clone();
        move || append(&spool, 0..40)
    });
    let mut seen = Vec::new();
    while seen.len() < 40 {
        let some = drain(&spool);
        if some.is_empty() {
            let held: u64 = segments(folder.path()).iter().map(|path| path.metadata().unwrap().len()).sum();
            assert!(held <= 500, "{held} bytes on disk");
            spool.ack(seen.len() as u64).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        seen.extend(some);
    }
    writer.join().unwrap();
    assert_eq!(seen, (0..40).collect::<Vec<_>>());
}

#[test]
fn closing_lets_a_blocked_record_in() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Arc::new(Spool::open(folder.path(), 100, false).unwrap());
    append(&spool, 0..2);
    let writer = std::thread::spawn({
        let spool = spool.clone();
        move || append(&spool, 2..3)
    });
    spool.close();
    writer.join().unwrap();
    assert_eq!(drain(&spool), [0, 1, 2]);
}

#[test]
fn a_second_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _spool = Spool::open(folder.path(), 1 << 20, false).unwrap();
    assert!(matches!(Spool::open(folder.path(), 1 << 20, false), Err(SpoolError::InUse { .. })));
}

#[test]
fn inv_4_damage_is_reported_with_its_place_and_not_skipped() {
    let folder = tempfile::tempdir().unwrap();
    append(&Spool::open(folder.path(), 1 << 20, false).unwrap(), 0..10);
    let path = segments(folder.path()).pop().unwrap();
    let intact = fs::read(&path).unwrap();
    let record = intact.len() / 10;
    for at in [record, record + 4, record + 13, record + 17, record + 25, intact.len() - 1] {
        let mut damaged = intact.clone();
        damaged[at] ^= 0x40;
        fs::write(&path, damaged).unwrap();
        let error = Spool::open(folder.path(), 1 << 20, false).unwrap_err().to_string();
        assert!(error.contains("damaged at byte") && error.contains(".spool"), "byte {at}: {error}");
    }
}

#[test]
fn inv_4_a_missing_file_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    append(&Spool::open(folder.path(), 40 << 10, false).unwrap(), 0..500);
    let paths = segments(folder.path());
    assert!(paths.len() > 2);
    fs::remove_file(&paths[1]).unwrap();
    assert!(matches!(Spool::open(folder.path(), 40 << 10, false), Err(SpoolError::Gap { .. })));
}

/// The procedure of docs/operating.md, "A damaged spool": what is intact on both sides of the damage comes.
#[test]
fn inv_4_what_is_intact_around_the_damage_comes_when_the_advice_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    append(&Spool::open(folder.path(), 40 << 10, false).unwrap(), 0..500);
    let paths = segments(folder.path());
    assert!(paths.len() > 2);
    // In the middle of the second record of the second file.
    let first: u64 = paths[1].file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let mut bytes = fs::read(&paths[1]).unwrap();
    let n_file = bytes.len() as u64 / (HEADER + body(0).len()) as u64;
    let at = bytes.len() / n_file as usize;
    bytes[at + 5] ^= 0x40;
    fs::write(&paths[1], bytes).unwrap();
    let advised = |text: &str| {
        let error = Spool::open(folder.path(), 40 << 10, false).unwrap_err().to_string();
        assert!(error.contains(text) && error.contains("A damaged spool"), "{error}");
    };
    advised(&format!(
        "{} is damaged at byte {at}; keep a copy, and shorten the file to {at} bytes",
        paths[1].display()
    ));
    fs::OpenOptions::new().write(true).open(&paths[1]).unwrap().set_len(at as u64).unwrap();
    advised(&format!("lacks records {} to {}", first + 1, first + n_file));

    let aside = tempfile::tempdir().unwrap();
    let put_aside: Vec<_> = paths[2..].iter().map(|path| aside.path().join(path.file_name().unwrap())).collect();
    for (from, to) in paths[2..].iter().zip(&put_aside) {
        fs::copy(from, to).unwrap();
        fs::remove_file(from).unwrap();
    }
    let spool = Spool::open(folder.path(), 40 << 10, false).unwrap();
    assert_eq!(drain(&spool), (0..first + 1).collect::<Vec<_>>());
    // Meanwhile new ones come, and get the numbers of those that were put aside.
    for number in first + 1..first + 400 {
        spool.append(number as i64, &body(number)).unwrap();
        spool.read().unwrap().unwrap();
        spool.ack(number + 1).unwrap();
    }
    assert_eq!(spool.held().n_records, 0);
    drop(spool);
    for entry in fs::read_dir(folder.path()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for (from, to) in put_aside.iter().zip(&paths[2..]) {
        fs::copy(from, to).unwrap();
    }
    let spool = Spool::open(folder.path(), 40 << 10, false).unwrap();
    assert_eq!(drain(&spool), (first + n_file..500).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A kill may cut the file anywhere: every whole record survives, the cut one goes, and appending goes on.
    #[test]
    fn a_record_cut_short_is_dropped_and_its_predecessors_survive(n in 1u64..20, cut in 0usize..2_000) {
        let folder = tempfile::tempdir().unwrap();
        append(&Spool::open(folder.path(), 1 << 20, false).unwrap(), 0..n);
        let path = segments(folder.path()).pop().unwrap();
        let bytes = fs::read(&path).unwrap();
        let keep = bytes.len() - cut % (bytes.len() + 1);
        fs::write(&path, &bytes[..keep]).unwrap();
        let n_whole = (keep / (bytes.len() / n as usize)) as u64;
        let spool = Spool::open(folder.path(), 1 << 20, false).unwrap();
        append(&spool, n_whole..n_whole + 1);
        prop_assert_eq!(drain(&spool), (0..=n_whole).collect::<Vec<_>>());
    }
}
