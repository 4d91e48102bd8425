//! Files that a supervisor reads anew while the test runs: its configuration, and its own program.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, process};

use super::node::scratch;

/// A file that goes with the test.
pub struct File(PathBuf);

impl File {
    /// One whose name ends like this.
    pub fn new(name: &str, text: impl AsRef<[u8]>) -> Self {
        let path = env::temp_dir().join(format!("sticky-run-test-{}-{name}", process::id()));
        fs::write(&path, text).expect("the directory for temporary files can be written to");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &str {
        self.0.to_str().expect("the path is text")
    }

    /// In one step, as whoever reads it should see the old one or the new one.
    pub fn replace(&self, text: impl AsRef<[u8]>) {
        let new = self.0.with_extension("new");
        fs::write(&new, text).expect("the directory can be written to");
        fs::rename(&new, &self.0).expect("the file is ours");
    }
}

impl Drop for File {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

/// A file that is there or not, which is all that it says.
pub struct Mark(PathBuf);

impl Mark {
    /// One that is not there.
    pub fn new(name: &str) -> Self {
        let mark = Self(env::temp_dir().join(format!("sticky-run-{}-{name}", process::id())));
        mark.clear();
        mark
    }

    /// Where it would be.
    pub fn path(&self) -> &str {
        self.0.to_str().expect("the path is text")
    }

    /// Has it be there.
    pub fn set(&self) {
        fs::write(&self.0, "").expect("the directory for temporary files can be written to");
    }

    /// Has it be there no more.
    pub fn clear(&self) {
        fs::remove_file(&self.0).ok();
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A sticky-run in a directory of its own, where a test may put something else in its place.
pub struct Installed {
    home: PathBuf,
}

impl Installed {
    /// One in a directory of this name.
    pub fn new(name: &str) -> Self {
        let installed = Self { home: scratch(name) };
        installed.renew();
        installed
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        self.home.join("sticky-run")
    }

    /// Puts the real one there.
    pub fn renew(&self) {
        let new = self.home.join("new");
        fs::hard_link(env!("CARGO_BIN_EXE_sticky-run"), &new).expect("it is beside target/debug");
        self.take_over(&new);
    }

    /// Puts a script there, in which `$REAL` is the real one.
    pub fn script(&self, text: &str) {
        self.file(text, "755");
    }

    /// Puts a file there that nobody can execute.
    pub fn data(&self, text: &str) {
        self.file(text, "644");
    }

    /// Puts a directory there.
    pub fn directory(&self) {
        let new = self.home.join("new");
        fs::create_dir(&new).expect("the directory is ours");
        self.take_over(&new);
    }

    /// Puts nothing there.
    pub fn remove(&self) {
        // It may be a directory.
        if fs::remove_file(self.path()).is_err() {
            fs::remove_dir(self.path()).ok();
        }
    }

    /// A shell writes it: a thread of this process that forks meanwhile would keep a file open that is
    /// being written, and the kernel executes no such file (`ETXTBSY`).
    fn file(&self, text: &str, mode: &str) {
        let text = text.replace("$REAL", env!("CARGO_BIN_EXE_sticky-run"));
        let new = self.home.join("new");
        let mut shell = Command::new("sh");
        shell.args(["-c", "cat >\"$0\" && chmod \"$1\" \"$0\""]).arg(&new).arg(mode);
        let mut shell = shell.stdin(Stdio::piped()).spawn().expect("there is a shell");
        shell.stdin.take().expect("it was piped").write_all(text.as_bytes()).expect("it reads");
        assert!(shell.wait().expect("it is our child").success());
        self.take_over(&new);
    }

    /// In one step, unless one of them is a directory.
    fn take_over(&self, new: &Path) {
        if new.is_dir() || self.path().is_dir() {
            self.remove();
        }
        fs::rename(new, self.path()).expect("the directory is ours");
    }
}
