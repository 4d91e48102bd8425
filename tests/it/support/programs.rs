//! Programs that Cargo does not make for the tests: the examples, and clients in Node and Python.
//! Each is built or installed once, by the first test that wants it.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde_json::Value;

/// No client takes longer to its next line; each has shorter patience of its own.
const PATIENCE: Duration = Duration::from_secs(120);

/// The root of the repository.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Where the clients are and what they need is listed.
const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

/// The path of an example, built.
pub fn example(name: &str) -> String {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        // With the whole workspace and its tests, as `cargo test --workspace` has built it: other packages
        // together want other features of what they use, which would be built once more.
        build.args(["build", "--locked", "--workspace", "--bins", "--tests"]);
        build.arg("--target-dir").arg(target());
        run(build.current_dir(ROOT)).expect("the examples can be built");
    });
    target().join("debug").join(name).to_str().expect("its path is text").to_owned()
}

/// Starts a Node client with these arguments. None, said on standard error, without Node.
pub fn node(script: &str, arguments: &Value) -> Option<Client> {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        let lock = Path::new(CLIENTS).join("package-lock.json");
        if changed(&Path::new(CLIENTS).join("node_modules/.package-lock.json")) < changed(&lock) {
            let install = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
            run(Command::new("npm").args(install).current_dir(CLIENTS))?;
        }
        run(Command::new("node").arg("--version"))
    });
    available("Node", installed)?;
    let mut command = Command::new("node");
    command.arg(Path::new(CLIENTS).join(script)).arg(arguments.to_string());
    Some(Client::start(command))
}

/// Starts a Python client with these arguments. None, said on standard error, without Python.
pub fn python(script: &str, arguments: &Value) -> Option<Client> {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    let home = target().join("tests/python");
    let installed = INSTALLED.get_or_init(|| {
        let list = Path::new(CLIENTS).join("requirements.txt");
        let stamp = home.join("installed");
        if changed(&stamp) < changed(&list) {
            run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home))?;
            let install = ["-m", "pip", "install", "--quiet", "--requirement"];
            run(Command::new(home.join("bin/python")).args(install).arg(list))?;
            fs::write(&stamp, "").map_err(|error| error.to_string())?;
        }
        Ok(())
    });
    available("Python", installed)?;
    let mut command = Command::new(home.join("bin/python"));
    command.arg(Path::new(CLIENTS).join(script)).arg(arguments.to_string());
    Some(Client::start(command))
}

/// Whether this program can be run. Said on standard error, or a failure with `CI` set, if not.
pub fn has(program: &str) -> bool {
    has_with(program, "--version")
}

/// Likewise, for a program that says its version when asked with this flag.
pub fn has_with(program: &str, flag: &str) -> bool {
    available(program, &run(Command::new(program).arg(flag))).is_some()
}

/// None when it is not installed: a failure where `CI` is set, otherwise said on standard error.
pub(super) fn available(what: &str, installed: &Result<(), String>) -> Option<()> {
    let Err(error) = installed else { return Some(()) };
    assert!(env::var_os("CI").is_none(), "{what} is needed: {error}");
    // Past the capture of the test harness, which hides what a passing test prints.
    writeln!(io::stderr(), "not tested, {what} is needed: {error}").ok();
    None
}

/// A client program that prints JSON, a value a line. It is ended when this is dropped.
pub struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Client {
    pub(super) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it was installed");
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("it was piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                sender.send(line).ok();
            }
        });
        Self { child, stdin, lines }
    }

    /// Ends its input, which those that go on until then take as their end.
    pub fn end_input(&mut self) {
        drop(self.stdin.take());
    }

    /// The next line.
    #[track_caller]
    pub fn next<T: DeserializeOwned>(&self) -> T {
        let line = self.lines.recv_timeout(PATIENCE).expect("the client says something");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The directory that Cargo builds in.
pub fn target() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_sticky-run"));
    binary.ancestors().nth(2).expect("it is in a directory of a profile").to_owned()
}

pub(super) fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// Runs a command to its end; what it said, if it fails.
pub(super) fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("cannot run {program}: {error}"))?;
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or_else(|| format!("{program} failed: {}", said()))
}
