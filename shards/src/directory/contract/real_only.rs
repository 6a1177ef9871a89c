//! What only a real directory can show: folders and files that are not ours, and those that somebody took away.

use super::*;

#[test]
fn a_directory_that_was_taken_away_is_not_made_anew() {
    let mut site = Real::new();
    let base = site.data.layout().base().to_owned();
    let aside = base.with_extension("taken-away");
    std::fs::rename(&base, &aside).unwrap();
    assert!(site.disk().replace_manifest("0000000001-0", b"manifest").is_err());
    assert!(site.disk().write_segment(segment(0, 0), 0, &[1; BLOCK_BYTES]).is_err());
    assert!(!base.exists(), "nothing was created in its place");
    std::fs::rename(&aside, &base).unwrap();
    site.disk().replace_manifest("0000000001-0", b"manifest").unwrap();
}

#[test]
fn manifests_with_a_path_for_a_name_are_refused() {
    let mut site = Real::new();
    let error = site.disk().read_manifest("../root").unwrap_err();
    assert!(error.to_string().starts_with("naming ../root"), "{error}");
}

#[test]
fn a_grown_journal_keeps_its_groups_and_is_zeros_behind_them() {
    let mut site = Real::new();
    site.disk().create_journal(SHARD, JOURNAL_BYTES).unwrap();
    site.write_journal(SHARD, JOURNAL_BYTES - 4096, &[9; BLOCK_BYTES]);
    site.disk().extend_journal(SHARD, JOURNAL_BYTES, 2 * JOURNAL_BYTES).unwrap();
    assert_eq!(site.disk().journal_bytes(SHARD).unwrap(), Some(2 * JOURNAL_BYTES));
    let mut blocks = [1; 2 * BLOCK_BYTES];
    site.disk().read_journal(SHARD, JOURNAL_BYTES - 4096, &mut blocks).unwrap();
    assert!(blocks == [[9; BLOCK_BYTES], [0; BLOCK_BYTES]].concat()[..]);
    let error = site.disk().read_journal(SHARD, 2 * JOURNAL_BYTES - 4096, &mut blocks).unwrap_err();
    assert!(error.to_string().contains("journal/0"), "a read past the end is an error: {error}");
}

#[test]
fn a_removed_log_takes_its_topics_folder_along_when_it_was_the_last() {
    let mut site = Real::new();
    let topic = site.data.layout().topic(partition(0));
    let mut disk = site.disk();
    for index in [0, 1] {
        disk.create_segment(segment(index, 0)).unwrap();
        disk.flush_segment_directory(segment(index, 0)).unwrap();
    }
    disk.remove_partition(partition(0)).unwrap();
    assert!(topic.exists());
    disk.remove_partition(partition(1)).unwrap();
    assert!(!topic.exists());
    disk.remove_partition(partition(1)).expect("what is gone is gone");
    disk.write_segment(segment(1, 0), 0, &[1; BLOCK_BYTES]).unwrap();
    disk.flush_segment(segment(1, 0)).expect("a log may come after one that was removed");
}

#[test]
fn files_that_are_not_ours_stay_in_a_logs_folder() {
    let mut site = Real::new();
    let folder = site.data.layout().partition(partition(0));
    let mut disk = site.disk();
    disk.write_segment(segment(0, 0), 0, &[1; BLOCK_BYTES]).unwrap();
    for name in ["00000000000000000000.index", "00000000000000000007.index", "notes"] {
        std::fs::write(folder.join(name), "").unwrap();
    }
    disk.retain_segments(partition(0), &[0]).unwrap();
    let left = crate::directory::files::names(&folder).unwrap();
    assert_eq!(left, ["00000000000000000000.index", "00000000000000000000.log", "notes"]);
}
