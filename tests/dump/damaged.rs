//! A flipped bit in each kind of file is found, told with its place, and ends the dump with 1.

use std::fs;
use std::path::{Path, PathBuf};

use crate::broker::Home;
use crate::dumped::{Dumped, files};

/// A kind of file, and a byte of it that something vouches for.
struct Target {
    path: PathBuf,
    byte: usize,
}

fn targets(data: &Path) -> Vec<Target> {
    let of = |folder: &str, ending: &str, byte: usize| {
        let found = files(&data.join(folder), &|name| name.ends_with(ending));
        // The largest is that of the large batches: its first blocks are trusted on disk.
        let largest =
            found.into_iter().max_by_key(|path| fs::metadata(path).map(|file| file.len()).unwrap_or(0));
        largest.map(|path| Target { path, byte })
    };
    let fixed = [("format", 30), ("root", 40), ("journal/0", 100)];
    let fixed = fixed.map(|(name, byte)| Target { path: data.join(name), byte });
    let mut targets = Vec::from(fixed);
    targets.extend(of("manifest", "-0", 60));
    targets.extend(of("metadata", ".records", 80));
    targets.extend(of("topics", ".log", 5000));
    assert_eq!(targets.len(), 6, "a file of each kind is there");
    // These are made from segments; a directory without them is whole.
    targets.extend(of("topics", ".index", 40));
    targets.extend(of("topics", ".time", 40));
    targets
}

#[test]
fn a_flipped_bit_is_found_in_each_kind_of_file() {
    let home = Home::new("damaged");
    let broker = home.start();
    broker.create_topics();
    broker.produce();
    broker.stop();
    let data = home.data();
    Dumped::of(std::slice::from_ref(&data), &[]).expect_whole();
    for Target { path, byte } in targets(&data) {
        let whole = fs::read(&path).expect("it was listed");
        let mut flipped = whole.clone();
        flipped[byte] ^= 1;
        fs::write(&path, &flipped).expect("the folder is the test's");
        let dumped = Dumped::of(std::slice::from_ref(&path), &[]);
        assert_eq!((dumped.code, dumped.all("damage").len()), (Some(1), 1), "{}: {dumped:?}", path.display());
        assert!(dumped.all("damage")[0]["reason"].is_string());
        fs::write(&path, &whole).expect("the folder is the test's");
        Dumped::of(std::slice::from_ref(&path), &[]).expect_whole();
    }
    for (name, damages) in [("root", 1), ("metadata", 1), ("format", 1)] {
        let path = match name {
            "metadata" => files(&data.join(name), &|name| name.ends_with(".records")).remove(0),
            name => data.join(name),
        };
        let whole = fs::read(&path).expect("it is there");
        let mut flipped = whole.clone();
        flipped[50] ^= 1;
        fs::write(&path, &flipped).expect("the folder is the test's");
        let overview = Dumped::of(std::slice::from_ref(&data), &[]);
        assert_eq!((overview.code, overview.all("damage").len()), (Some(1), damages), "{name}: {overview:?}");
        fs::write(&path, &whole).expect("the folder is the test's");
    }
}
