//! What `examples/container` says, and the static build in a root with nothing else in it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::unistd::geteuid;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Supervisor, event, full, programs, sticky_run};

/// The command that makes static files, as it stands in every place that tells it.
const BUILD: &str = "RUSTFLAGS=\"-C target-feature=+crt-static\" cargo build --release --locked \
                     --target x86_64-unknown-linux-gnu -p sticky-run";

fn text(file: &str) -> String {
    let path = Path::new(programs::ROOT).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn example(file: &str) -> String {
    text(&format!("examples/container/{file}"))
}

/// The documents of a file of YAML.
fn yaml(file: &str) -> Vec<Value> {
    let text = example(file);
    let documents = serde_yaml_ng::Deserializer::from_str(&text);
    documents.map(|document| Value::deserialize(document).expect("it is YAML")).collect()
}

fn time(text: &Value) -> Duration {
    humantime::parse_duration(text.as_str().expect("a text")).expect("a time")
}

fn seconds(number: &Value) -> Duration {
    Duration::from_secs(number.as_u64().expect("a number"))
}

fn words(list: &Value) -> Vec<String> {
    serde_json::from_value(list.clone()).expect("a list of words")
}

/// What `--check` makes of these words: the configuration that they would run with. The server itself,
/// which is not here, is another program.
#[track_caller]
fn checked(words: &[String]) -> toml::Table {
    let config = format!("{}/examples/container/sticky-run.toml", programs::ROOT);
    let here = words.iter().map(|word| match word.as_str() {
        "/etc/sticky-run.toml" => config.as_str(),
        "/whoami" | "node" => "true",
        other => other,
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_sticky-run"));
    let output = command.arg("--check").args(here).output().expect("it was built with the tests");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).parse().expect("it prints TOML")
}

/// The list in exec form after an instruction of a Dockerfile.
#[track_caller]
fn instruction(dockerfile: &str, name: &str) -> Vec<String> {
    let line = dockerfile.lines().find_map(|line| line.strip_prefix(name));
    words(&serde_json::from_str(line.expect(name)).expect("the exec form"))
}

fn entrypoint() -> Vec<String> {
    instruction(&example("Dockerfile"), "ENTRYPOINT ").split_off(1)
}

fn grace(words: &[String]) -> Duration {
    let grace = checked(words)["grace"].as_str().map(humantime::parse_duration);
    grace.expect("--check says all").expect("a time")
}

#[test]
fn images_are_built_as_documented_and_start_with_flags_that_exist() {
    for name in ["Dockerfile", "Dockerfile.node"] {
        let dockerfile = example(name);
        assert!(dockerfile.contains(BUILD), "{name}");
        let mut words = instruction(&dockerfile, "ENTRYPOINT ").split_off(1);
        words.extend(instruction(&dockerfile, "CMD "));
        assert_eq!(checked(&words)["listen"].as_array().map(Vec::len), Some(1), "{name}");
        for copied in dockerfile.lines().filter_map(|line| line.strip_prefix("COPY examples/")) {
            let (file, _) = copied.split_once(' ').expect("from and to");
            assert!(Path::new(programs::ROOT).join("examples").join(file).exists(), "{file}");
        }
    }
    for readme in ["README.md", "examples/container/README.md"] {
        assert!(text(readme).contains(BUILD), "{readme}");
    }
}

#[test]
fn compose_waits_longer_than_sticky_run_takes() {
    let compose = &yaml("compose.yaml")[0];
    let service = &compose["services"]["whoami"];
    let mut words = entrypoint();
    words.extend(instruction(&example("Dockerfile"), "CMD "));
    assert!(time(&service["stop_grace_period"]) > grace(&words));
    let build = &service["build"];
    let context = Path::new(programs::ROOT).join("examples/container");
    let context = context.join(build["context"].as_str().expect("a directory"));
    assert!(context.join(build["dockerfile"].as_str().expect("a file")).exists());
    let flags = ["--workers".to_owned(), "4".to_owned()];
    let workers = checked(&[&flags[..], &words].concat())["workers"].as_integer();
    let variable = service["environment"]["STICKY_WORKERS"].as_str();
    assert_eq!(variable.map(str::parse), workers.map(Ok));
}

#[test]
fn kubernetes_waits_longer_than_sticky_run_takes_and_probes_more_patiently() {
    let [deployment, service] = &yaml("kubernetes.yaml")[..] else { panic!("two documents") };
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let mut arguments = entrypoint();
    arguments.extend(words(&container["args"]));
    let before = seconds(&container["lifecycle"]["preStop"]["sleep"]["seconds"]);
    assert!(seconds(&pod["terminationGracePeriodSeconds"]) > before + grace(&arguments));
    let startup = &container["startupProbe"];
    let tries = u32::try_from(startup["failureThreshold"].as_u64().expect("a number")).unwrap();
    let boot = checked(&arguments)["boot-timeout"].as_str().map(humantime::parse_duration);
    let boot = boot.expect("--check says all").expect("a time");
    assert!(seconds(&startup["periodSeconds"]) * tries > boot);
    let label = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&deployment["spec"]["selector"]["matchLabels"], label);
    assert_eq!(&service["spec"]["selector"], label);
    assert_eq!(service["spec"]["ports"][0]["targetPort"], container["ports"][0]["name"]);
}

/// The static files, built as documented, but in less time: what they need is the same without any
/// optimization. It takes a minute all the same, so only with the full numbers.
fn static_build() -> Option<PathBuf> {
    if !full() {
        eprintln!("not tested: a static build takes a minute, STICKY_TEST_FULL=1 asks for it");
        return None;
    }
    let target = Path::new(programs::ROOT).join("target/static");
    let mut build = Command::new("sh");
    build.args(["-c", &format!("{BUILD} -p whoami")]).current_dir(programs::ROOT);
    for (setting, value) in [("LTO", "off"), ("OPT_LEVEL", "0"), ("CODEGEN_UNITS", "16")] {
        build.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
    }
    let built = build.env("CARGO_TARGET_DIR", &target).stderr(Stdio::inherit()).status();
    assert!(built.expect("sh runs").success());
    Some(target.join("x86_64-unknown-linux-gnu/release"))
}

/// A root with the two programs in it and nothing else.
fn empty_root(files: &Path) -> TempDir {
    let root = TempDir::new().expect("room for a directory");
    for name in ["sticky-run", "whoami"] {
        fs::copy(files.join(name), root.path().join(name)).expect("room for two files");
    }
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    root
}

/// Two copies of whoami in this root, with a listener there.
fn in_root(root: &Path, listen: &str) -> Supervisor {
    // Who is not root here can be it in a namespace.
    let enter = if geteuid().is_root() { "" } else { "unshare --map-root-user " };
    let enter = format!("exec {enter}chroot '{}' /sticky-run \"$@\";", root.display());
    sticky_run(2, &["--listen", listen]).command(&["/whoami"]).after(&enter).spawn()
}

#[test]
fn static_files_run_in_an_empty_root() {
    let Some(files) = static_build() else { return };
    let root = empty_root(&files);
    let mut supervisor = in_root(root.path(), "127.0.0.1:0");
    supervisor.wait_event(event("worker_ready").worker(0));
    supervisor.wait_event(event("worker_ready").worker(1));
    let mut client = TcpStream::connect(supervisor.address()).expect("it listens");
    client.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("it answers");
    assert!(answer.contains("worker "), "{answer}");
    // The server waits for the client to close first.
    drop(client);
    assert_eq!(supervisor.stop().code(), Some(0));
    // One name needs no files, all others do, and are refused with a way out.
    let supervisor = in_root(root.path(), "localhost:0");
    supervisor.wait_event(event("worker_ready").worker(1));
    assert!(supervisor.address().ip().is_loopback());
    let mut supervisor = in_root(root.path(), "name.invalid:0");
    assert_eq!(supervisor.wait().code(), Some(2));
    let log = supervisor.whole_log();
    assert!(log.contains("\"name.invalid\" is known here, write the address itself"), "{log}");
}
