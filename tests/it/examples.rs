//! The examples, each as its README says.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::reply::{Kept, POLLING, sid_of};
use crate::support::{Supervisor, connect, event, eventually, proc, programs, sticky_run};

/// What curl gets from there; none, said on standard error, without curl.
fn curl(address: SocketAddr) -> Option<String> {
    if !programs::has("curl") {
        return None;
    }
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "30"]);
    let output = curl.arg(format!("http://{address}/")).output().expect("curl runs");
    assert!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).expect("text"))
}

/// The name in an answer such as `worker 2 (pid 4711), you are 127.0.0.1:51234, request 1`.
#[track_caller]
fn name(answer: &str) -> &str {
    assert!(answer.contains(", you are 127.0.0.1:"), "{answer}");
    answer.split(", you are").next().expect("a split has a first part")
}

/// Asks until each worker has had its turns: who answers is a live worker, and each of them does.
#[track_caller]
fn assert_all_answer(supervisor: &Supervisor, workers: u16) {
    let expected: BTreeSet<String> = (0..workers)
        .map(|slot| format!("worker {slot} (pid {})", supervisor.pid_of(slot)))
        .collect();
    let answers: Option<Vec<String>> =
        (0..4 * workers).map(|_| curl(supervisor.address())).collect();
    let Some(answers) = answers else { return };
    let seen: BTreeSet<String> = answers.iter().map(|answer| name(answer).to_owned()).collect();
    assert_eq!(seen, expected);
}

/// A server without a supervisor. It is ended when this is dropped.
struct Alone(Child);

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Runs an example alone on a free port: where it says that it listens.
fn alone(name: &str) -> (Alone, SocketAddr) {
    let mut command = Command::new(programs::example(name));
    command.arg("127.0.0.1:0").stdin(Stdio::null()).stderr(Stdio::piped());
    let mut server = Alone(command.spawn().expect("it was built"));
    let mut stderr = server.0.stderr.take().expect("it was piped");
    let mut said = Vec::new();
    while !said.ends_with(b"\n") {
        let mut byte = [0];
        stderr.read_exact(&mut byte).expect("it says where it listens");
        said.push(byte[0]);
    }
    let said = String::from_utf8(said).expect("text");
    let start = format!("{name}: alone on http://");
    let address = said.strip_prefix(&start).unwrap_or_else(|| panic!("it said {said:?}"));
    (server, address.trim().parse().expect("an address"))
}

#[test]
fn whoami_by_address_answers_from_one_worker_and_without_keys_from_all() {
    let whoami = programs::example("whoami");
    let supervisor = sticky_run(4, &["--by", "ip"]).command(&[&whoami]).start();
    let Some(first) = curl(supervisor.address()) else { return };
    for _ in 0..8 {
        let next = curl(supervisor.address()).expect("curl was there");
        assert_eq!(name(&next), name(&first));
    }
    let supervisor = sticky_run(2, &["--by", "none", "--balance", "round-robin"]);
    assert_all_answer(&supervisor.command(&[&whoami]).start(), 2);
}

#[test]
fn whoami_and_chat_serve_alone_as_well() {
    let (_server, address) = alone("whoami");
    let Some(answer) = curl(address) else { return };
    assert!(name(&answer).starts_with("worker alone (pid "), "{answer}");
    let (_server, address) = alone("chat");
    let page = curl(address).expect("curl was there");
    assert!(page.contains("<title>chat</title>"), "{page}");
}

/// The page colours its dots by these headers, and needs nothing that is not in it.
#[test]
fn chat_says_of_each_answer_which_worker_gave_it_and_over_which_connection() {
    let supervisor = sticky_run(2, &[]).command(&[&programs::example("chat")]).start();
    let mut kept = Kept::open(supervisor.address());
    let page = kept.get("/").expect("a page");
    let text = page.text();
    assert!(text.contains("<title>chat</title>") && text.contains(r#"rel="icon" href="data:"#));
    let sid = sid_of(&kept.get(POLLING).expect("a handshake"));
    let answers: Vec<_> =
        (0..5).map(|_| kept.get(&format!("/who?sid={sid}")).expect("an answer")).collect();
    let told = |name: &str| -> BTreeSet<_> {
        answers.iter().map(|answer| answer.header(name).expect("it is told").to_owned()).collect()
    };
    assert_eq!((told("x-worker").len(), told("x-connection").len()), (1, 1));
    assert_eq!(told("x-connection").first().map(String::as_str), page.header("x-connection"));
    assert!(answers.iter().all(|answer| answer.status == 200));
}

fn python_worker() -> String {
    format!("{}/examples/python/worker.py", programs::ROOT)
}

#[test]
fn the_python_worker_answers_survives_a_sibling_and_ends_with_the_supervisor() {
    if !programs::has("python3") {
        return;
    }
    let flags = ["--by", "none", "--balance", "round-robin"];
    let worker = python_worker();
    let mut supervisor = sticky_run(3, &flags).command(&["python3", &worker]).start();
    assert_all_answer(&supervisor, 3);
    let (killed, left) = (supervisor.pid_of(1), [supervisor.pid_of(0), supervisor.pid_of(2)]);
    proc::signal(killed, Signal::SIGKILL);
    supervisor.wait_events(event("worker_ready").worker(1), 2);
    assert_all_answer(&supervisor, 3);
    assert_eq!([supervisor.pid_of(0), supervisor.pid_of(2)], left);
    let all = supervisor.worker_pids();
    supervisor.signal(Signal::SIGKILL);
    supervisor.wait();
    eventually("all workers end", || all.iter().all(|pid| !proc::is_alive(*pid)).then_some(()));
}

/// The worker in Python of the manual page, as a program that can be run.
fn manual_worker(directory: &Path) -> String {
    let manual = format!("{}/man/sticky-run-channel.7", programs::ROOT);
    let manual = fs::read_to_string(manual).expect("the page is there");
    let example = manual.split("\n.EX\n").nth(1).and_then(|rest| rest.split("\n.EE\n").next());
    let example = example.expect("an example").replace("\\e", "\\").replace("\\-", "-");
    let path = directory.join("worker.py");
    fs::write(&path, example).expect("room for a file");
    path.to_str().expect("its path is text").to_owned()
}

#[test]
fn what_python_workers_receive_is_not_for_the_programs_that_they_start() {
    if !programs::has("python3") {
        return;
    }
    let directory = TempDir::new().expect("a directory of our own");
    for worker in [python_worker(), manual_worker(directory.path())] {
        let supervisor = sticky_run(1, &["--by", "none"]).command(&["python3", &worker]).start();
        let pid = supervisor.pid_of(0);
        let sockets = || {
            let open = proc::descriptors(pid).into_iter().map(|(_, name)| name);
            open.filter(|name| name.starts_with("socket:")).collect::<BTreeSet<_>>()
        };
        let before = sockets();
        let mut client = connect(supervisor.address()).expect("a connection");
        eventually("it is picked up", || (sockets() != before).then_some(()));
        assert_eq!(proc::inheritable(pid), [0, 1, 2], "{worker}");
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("somebody reads");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
}

#[test]
fn the_python_worker_alone_says_what_it_needs() {
    if !programs::has("python3") {
        return;
    }
    let output = Command::new("python3").arg(python_worker()).output().expect("python3 runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("sticky-run -- python3 worker.py"), "{said}");
}
