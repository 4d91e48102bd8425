use std::path::Path;
use std::process::Command;

use crate::support::node;

#[test]
fn the_preload_passes_its_own_tests() {
    let Some(binary) = node::binary() else { return };
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("workers/node/test");
    let files = std::fs::read_dir(&tests).expect("the tests of the preload");
    let files = files.map(|file| file.expect("a file").path());
    let mut files: Vec<_> =
        files.filter(|file| file.to_string_lossy().ends_with(".test.cjs")).collect();
    files.sort();
    assert!(files.len() > 4, "{files:?}");
    // They mostly wait, and Node runs fewer files at once than there are processors.
    let ran = Command::new(binary).args(["--test", "--test-concurrency=4"]).args(files).output();
    let ran = ran.expect("Node runs");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}");
}
