//! What workers write, with their slots in front: whole lines, for nobody's trouble.

use std::collections::HashMap;
use std::fs;
use std::io::{PipeReader, Read, pipe};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Supervisor, client, event, eventually, get, proc, sticky_run, worker};

/// Workers that run this script and then are test workers, and their output together.
fn writing(workers: u16, flags: &[&str], script: &str) -> (Supervisor, PipeReader) {
    let (reader, writer) = pipe().expect("a pipe");
    let supervisor = starting(workers, flags, script, writer.into());
    (supervisor, reader)
}

fn starting(workers: u16, flags: &[&str], script: &str, output: OwnedFd) -> Supervisor {
    let script = format!("{script}\nexec \"$0\" \"$@\"");
    let command = worker::command();
    let mut words = vec!["sh", "-c", &script];
    words.extend(command.iter().map(String::as_str));
    let flags = [&["--prefix-output"], flags].concat();
    sticky_run(workers, &flags).command(&words).output_to(output).text_log().start()
}

/// Everything that was written, by a supervisor that is stopped.
fn rest(mut supervisor: Supervisor, mut reader: PipeReader) -> Vec<u8> {
    let stopped = thread::spawn(move || supervisor.stop().code());
    let mut all = Vec::new();
    reader.read_to_end(&mut all).expect("a pipe can be read");
    assert_eq!(stopped.join().expect("it stops"), Some(0));
    all
}

fn lines(text: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(text).lines().map(str::to_owned).collect()
}

/// The lines of workers, without what the harness of the test binary says there.
fn said(text: &[u8]) -> Vec<String> {
    let ours = |line: &String| !line.ends_with("running 1 test") && !line.ends_with("] ");
    lines(text).into_iter().filter(ours).collect()
}

/// How many lines are missing where this one stands, if it says so.
fn gap(line: &str) -> Option<usize> {
    line.strip_prefix("[0] (")?.strip_suffix(" lines of worker 0 dropped)")?.parse().ok()
}

#[test]
fn lines_of_several_workers_stay_whole_and_in_order() {
    let script = "i=0; while [ $i -lt 500 ]; do printf 'line '; printf '%s of ' $i; echo $$; i=$((i+1)); done";
    let (supervisor, reader) = writing(4, &[], script);
    let mut next = HashMap::new();
    for line in said(&rest(supervisor, reader)) {
        let (slot, text) = line.split_once("] ").expect("a slot stands in front");
        let (number, pid) = next.entry(slot.to_owned()).or_insert((0, None));
        let words: Vec<_> = text.split(' ').collect();
        assert_eq!(words[..3], ["line", &number.to_string(), "of"], "{line}");
        assert_eq!(*pid.get_or_insert(words[3].to_owned()), words[3], "{line}");
        *number += 1;
    }
    assert_eq!(next.len(), 4);
    assert!(next.values().all(|(count, _)| *count == 500), "{next:?}");
}

#[test]
fn both_streams_are_prefixed_each_where_it_belongs() {
    let (supervisor, reader) = writing(1, &[], "echo out; echo err >&2");
    supervisor.wait_for_log("[0] err\n");
    assert_eq!(said(&rest(supervisor, reader)), ["[0] out"]);
}

#[test]
fn without_the_flag_workers_have_the_streams_of_the_supervisor() {
    let (_reader, writer) = pipe().expect("a pipe");
    let supervisor = sticky_run(1, &[]).output_to(writer.into()).start();
    let stdio = |pid| proc::descriptors(pid)[1..3].to_vec();
    assert_eq!(stdio(supervisor.pid_of(0)), stdio(supervisor.pid()));
}

#[test]
fn long_lines_are_cut_and_marked_and_binary_bytes_and_a_last_line_without_an_end_are_kept() {
    let script =
        "head -c 10000 /dev/zero | tr '\\0' x; echo; printf 'a\\377\\001b\\n'; printf last >&3";
    // The third descriptor is the same pipe, which nobody else writes to then.
    let script = format!("exec 3>&1; {script}; exec 3>&-");
    let (supervisor, reader) = writing(1, &[], &script);
    let all = rest(supervisor, reader);
    let mut found = all.split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
    let mut long =
        found.next().expect("the first part").strip_prefix(b"[0] ").expect("a slot").to_vec();
    let mut parts = 1;
    let mut line = found.next().expect("a line");
    while let Some(part) = line.strip_prefix(b"[0+] ") {
        assert!(part.len() < 4096);
        long.extend_from_slice(part);
        parts += 1;
        line = found.next().expect("a line");
    }
    assert!(long == [b'x'; 10_000] && parts == 3, "{parts} parts, {} bytes", long.len());
    assert_eq!(line, b"[0] a\xff\x01b");
    assert!(found.next().expect("a line").starts_with(b"[0] last"));
}

#[test]
fn a_last_line_without_an_end_comes_when_its_worker_has_ended() {
    let script = "trap 'printf \"last words\"; exit 0' TERM; read -r line < /dev/zero & wait";
    let (reader, writer) = pipe().expect("a pipe");
    let words = ["sh", "-c", script];
    let builder = sticky_run(1, &["--prefix-output"]).command(&words).output_to(writer.into());
    let supervisor = builder.text_log().listening();
    supervisor.wait_event(event("worker_started").worker(0));
    eventually("the shell waits", || {
        (!proc::children(supervisor.pid_of(0)).is_empty()).then_some(())
    });
    assert_eq!(rest(supervisor, reader), b"[0] last words\n");
}

#[test]
fn json_is_one_object_a_line_on_both_streams() {
    let script = "printf 'a \"b\"\\t\\377\\n'; head -c 9000 /dev/zero; echo; echo err >&2";
    let (supervisor, reader) = writing(2, &["--log-format", "json"], script);
    let said = lines(&rest(supervisor, reader));
    let objects: Vec<Value> = said
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for slot in [0, 1] {
        let its: Vec<_> = objects.iter().filter(|object| object["worker"] == slot).collect();
        assert!(its.iter().all(|object| object["stream"] == "stdout"));
        assert_eq!(its[0]["text"], "a \"b\"\t\u{fffd}");
        let zeros =
            its[1..].iter().take_while(|object| object["text"].as_str().unwrap().starts_with('\0'));
        let length: usize =
            zeros.clone().map(|object| object["text"].as_str().unwrap().len()).sum();
        assert_eq!(length, 9000);
        assert!(zeros.skip(1).all(|object| object["continued"] == true));
    }
}

/// A worker writes 50 MB while nobody reads: it is not held up, nor is anybody else, and what was
/// written or dropped adds up in the end.
#[test]
fn a_flood_that_nobody_reads_blocks_nobody_and_its_lines_are_counted() {
    const LINES: u64 = 500_000;
    /// What the harness of the test binary says before it becomes the worker.
    const HARNESS: u64 = 2;
    let flood = format!("(yes {} | head -n {LINES}; echo over >&2) &", "x".repeat(99));
    let (supervisor, reader) = writing(1, &[], &flood);
    let mut slowest = Duration::ZERO;
    while supervisor.count_log("[0] over") == 0 {
        let start = Instant::now();
        get(supervisor.address(), "/");
        slowest = slowest.max(start.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let (mut seen, mut dropped, mut gaps) = (0, 0, 0);
    for line in lines(&rest(supervisor, reader)) {
        if let Some(missing) = gap(&line) {
            dropped += missing as u64;
            gaps += 1;
        } else {
            assert!(line.starts_with("[0] "), "{line}");
            seen += 1;
        }
    }
    assert_eq!((seen + dropped, gaps), (LINES + HARNESS, 1));
}

#[test]
fn a_flood_that_is_read_arrives_whole() {
    const LINES: usize = 200_000;
    let flood = format!("yes | head -n {LINES}; echo over >&2");
    let (reader, writer) = pipe().expect("a pipe");
    let reads = thread::spawn(move || {
        let mut all = Vec::new();
        let mut reader = reader;
        reader.read_to_end(&mut all).map(|_| all)
    });
    let mut supervisor = starting(1, &[], &flood, writer.into());
    supervisor.wait_for_log("[0] over");
    assert_eq!(supervisor.stop().code(), Some(0));
    let all = reads.join().expect("it reads").expect("a pipe can be read");
    let missing: usize = lines(&all).iter().filter_map(|line| gap(line)).sum();
    let seen = lines(&all).iter().filter(|line| gap(line).is_none()).count();
    // A reader that is late may miss some, but nothing is missing in silence. The harness of the
    // test binary says two lines besides.
    assert_eq!(seen + missing, LINES + 2);
}

#[test]
fn a_process_that_was_left_behind_has_a_second_for_its_last_words() {
    let script = "setsid sh -c 'echo left $$; while sleep 0.05; do echo tick || exit; done' &";
    let (supervisor, mut reader) = writing(1, &[], script);
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    let mut read_until = |text: &str| loop {
        let len = reader.read(&mut chunk).expect("a pipe can be read");
        all.extend_from_slice(&chunk[..len]);
        let said = String::from_utf8_lossy(&all).into_owned();
        if said.contains(text) {
            return said;
        }
    };
    let said = read_until("tick");
    let pid =
        said.lines().find_map(|line| line.strip_prefix("[0] left ")).expect("it said its pid");
    let pid: i32 = pid.parse().expect("a number");
    assert!(proc::is_alive(pid));
    proc::signal(supervisor.pid_of(0), Signal::SIGKILL);
    supervisor.wait_events(event("worker_started").worker(0), 2);
    eventually("its pipe is closed", || (!proc::is_alive(pid)).then_some(()));
}

#[test]
fn output_whose_reader_has_gone_or_whose_disk_is_full_ends_nobody() {
    let (reader, broken) = pipe().expect("a pipe");
    drop(reader);
    let full = fs::File::options().write(true).open("/dev/full").expect("full(4)");
    for place in [OwnedFd::from(broken), full.into()] {
        let script = "i=0; while [ $i -lt 2000 ]; do echo line; i=$((i+1)); done";
        let mut supervisor = starting(2, &[], script, place);
        get(supervisor.address(), "/");
        proc::wait_for_rest(supervisor.pid());
        assert_eq!(supervisor.stop().code(), Some(0));
    }
}

#[test]
fn pipes_of_workers_that_have_ended_are_closed() {
    let (supervisor, _reader) = writing(2, &[], "");
    let files = proc::open_files_at_rest(supervisor.pid());
    for slot in [0, 1, 0, 1] {
        proc::signal(supervisor.pid_of(slot), Signal::SIGKILL);
        let times = supervisor.count_events(event("worker_ready").worker(slot)) + 1;
        supervisor.wait_events(event("worker_ready").worker(slot), times);
    }
    assert_eq!(proc::open_files_at_rest(supervisor.pid()), files);
}

#[test]
fn an_idle_supervisor_with_pipes_does_not_wake_up() {
    let (supervisor, _reader) = writing(2, &[], "echo here");
    let (_held, _) = client::hold(supervisor.address(), "/hold");
    proc::watch(Duration::from_millis(1500));
    let wakeups = || proc::wakeups(supervisor.pid());
    let before = wakeups();
    proc::watch(Duration::from_secs(2));
    assert_eq!(wakeups(), before);
}
