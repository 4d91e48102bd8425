//! The command line and the exit codes.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, fs, process};

use crate::support::{Supervisor, event, get, proc, sticky_run, worker};

/// Runs it with these arguments to its end, which has to come by itself.
fn run(arguments: &[&str]) -> Output {
    run_with(&[], arguments)
}

/// The same with these variables.
fn run_with(variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sticky-run"));
    let variables = variables.iter().copied();
    let ended = command.args(arguments).envs(variables).stdin(Stdio::null()).output();
    ended.expect("sticky-run was built with the tests")
}

/// It ends with this code and one line about it, which says all of this.
#[track_caller]
fn fails(arguments: &[&str], code: i32, words: &[&str]) {
    let output = run(arguments);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{log}");
    says(&log, words);
}

#[track_caller]
fn says(log: &str, words: &[&str]) {
    let lines: Vec<_> = log.lines().filter(|line| line.starts_with("sticky-run: ")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(words.iter().all(|word| lines[0].contains(word)), "{words:?} in {log}");
    let trouble = log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR"));
    assert_eq!(trouble.count(), 0, "{log}");
}

/// Runs it to its end: the exit code and what it logged.
fn ends(mut supervisor: Supervisor) -> (Option<i32>, String) {
    let code = supervisor.wait().code();
    (code, supervisor.whole_log())
}

/// A file that goes with the test.
struct Script(PathBuf);

impl Script {
    fn new(name: &str, text: &str, mode: u32) -> Self {
        let path = env::temp_dir().join(format!("sticky-run-usage-{}-{name}", process::id()));
        fs::write(&path, text).expect("the directory for temporary files can be written to");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("the file is ours");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("the path is text")
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

#[test]
fn a_client_gets_an_answer_and_a_stop_is_0() {
    let mut supervisor = sticky_run(2, &[]).start();
    let answer = get(supervisor.address(), "/");
    assert_eq!(answer.value("message").split(' ').next(), Some("CONN"));
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn help_and_version_are_0_and_go_to_standard_output() {
    for (argument, word) in [("--help", "Exit status:"), ("-h", "--workers"), ("--version", "0.")] {
        let output = run(&[argument]);
        assert_eq!(output.status.code(), Some(0), "{argument}");
        assert!(String::from_utf8_lossy(&output.stdout).contains(word), "{argument}");
        assert!(output.stderr.is_empty(), "{argument}");
    }
}

#[test]
fn a_wrong_command_line_is_2_and_one_line() {
    let wrong: [(&[&str], &str); 13] = [
        (&["--worker", "2", "--", "true"], "did you mean --workers?"),
        (&["--max-memory", "512", "--", "true"], "write 512M"),
        (&[], "COMMAND"),
        (&["--workers", "2"], "COMMAND"),
        (&["--no-such-flag", "--", "true"], "--no-such-flag"),
        (&["-w", "0", "--", "true"], "a number from 1 to 1024, or auto"),
        (&["-w", "--", "true"], "--workers"),
        (&["--by", "sib", "--", "true"], "unknown key \"sib\""),
        (&["--balance", "fair", "--", "true"], "least-connection"),
        (&["--grace", "5", "--", "true"], "250ms, 10s, 2m or 1h"),
        (&["--max-keys", "x", "--", "true"], "--max-keys"),
        (&["--proxy-protocol", "--", "true"], "--trust 10.0.0.0/8"),
        (&["--trust", "proxy", "--", "true"], "use an address, a network such as 10.0.0.0/8"),
    ];
    for (arguments, word) in wrong {
        fails(arguments, 2, &[word, "see sticky-run --help"]);
    }
}

#[test]
fn process_settings_that_mean_nothing_are_2_and_say_what_to_write() {
    let wrong: [(&[&str], &str); 11] = [
        (&["--user", "no-such-user"], "--user no-such-user: there is none in /etc/passwd"),
        (&["--user", "54321"], "add --group"),
        (&["--group", "no-such-group"], "--group no-such-group: there is none in /etc/group"),
        (&["--umask", "8"], "an octal number from 0 to 777"),
        (&["--rlimit", "files=1"], "use one of as, core"),
        (&["--rlimit", "core=2:1"], "the soft limit must not be above the hard one"),
        (&["--env", "=x"], "use NAME=VALUE"),
        (&["--forward", "TERM"], "SIGTERM cannot be forwarded: the supervisor obeys it itself"),
        (&["--forward", "KILL"], "it cannot be caught"),
        (&["--forward", "SEGV"], "it tells of a fault"),
        (&["--chdir", "/no/such/directory"], "--chdir /no/such/directory: no such file"),
    ];
    for (flags, word) in wrong {
        fails(&[flags, &["--", "true"]].concat(), 2, &[word, "see sticky-run --help"]);
    }
}

#[test]
fn a_listen_that_is_no_address_is_2_and_says_what_to_write() {
    let form = "use ADDRESS:PORT, :PORT, unix:PATH or fd:NUMBER";
    for (listen, words) in [
        ("host", form),
        ("http://127.0.0.1:3000", "here stands an address: 127.0.0.1:3000"),
        ("/run/app.sock", "is written unix:/run/app.sock"),
        ("127.0.0.1:http", "\"http\" is no port"),
        ("unix:", "unix:/run/app.sock"),
        ("fd:x", "fd:3"),
    ] {
        fails(&["-l", listen, "--", "true"], 2, &[listen, words]);
    }
}

#[test]
fn a_wrong_variable_of_the_environment_is_2_and_names_it() {
    let wrong = [
        ("STICKY_WORKERS", "many"),
        ("STICKY_NO_NEW_PRIVS", "perhaps"),
        ("STICKY_BALANCE", "hush"),
        ("WEB_CONCURRENCY", "0"),
        ("PORT", "http"),
    ];
    for (name, value) in wrong {
        let output = run_with(&[(name, value)], &["--", "true"]);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{name}: {log}");
        says(&log, &[&format!("{name} is \"{value}\""), "see sticky-run --help"]);
    }
}

#[test]
fn empty_variables_are_none_and_switches_are_on_or_off() {
    let variables = [
        ("STICKY_WORKERS", ""),
        ("STICKY_PROXY_PROTOCOL", ""),
        ("STICKY_NO_NEW_PRIVS", "1"),
        ("STICKY_SUBREAPER", "0"),
    ];
    let output = run_with(&variables, &["--check", "--", "true"]);
    let (checked, log) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{log}");
    let checked = String::from_utf8_lossy(checked);
    let is = |name: &str, rest: &str| {
        let line = checked.lines().find(|line| line.starts_with(&format!("{name} = ")));
        assert!(line.is_some_and(|line| line.ends_with(rest)), "{name}: {line:?}");
    };
    is("workers", "# default");
    is("proxy-protocol", "# default");
    is("no-new-privs", "# environment: STICKY_NO_NEW_PRIVS");
    is("subreaper", "# environment: STICKY_SUBREAPER");
    assert!(checked.contains("no-new-privs = true") && checked.contains("subreaper = false"));
}

#[test]
fn a_misspelt_variable_is_a_warning_and_one_of_others_is_not() {
    let inherited =
        ["STICKY_CHANNEL", "STICKY_PROTOCOL", "STICKY_WORKER_ID"].map(|name| (name, "1"));
    let others = [("STICKY_SESSIONS", "1"), ("STICKY_SECRET", "1")];
    let variables = [&[("STICKY_WORKER", "3")], &inherited[..], &others].concat();
    let output = run_with(&variables, &["--check", "--", "true"]);
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(log.lines().count(), 1, "{log}");
    let meant = "STICKY_WORKER is not a variable of sticky-run (did you mean STICKY_WORKERS?)";
    assert!(log.contains("WARN") && log.contains(meant), "{log}");
}

#[test]
fn a_command_that_is_not_there_is_noticed_before_anything_listens() {
    let (code, log) = ends(sticky_run(1, &[]).command(&["no-such-command"]).text_log().spawn());
    assert_eq!(code, Some(127));
    assert!(!log.contains("listening"), "{log}");
}

#[test]
fn a_command_that_is_not_there_is_127_and_one_line() {
    let (code, log) = ends(sticky_run(2, &[]).command(&["no-such-command"]).text_log().spawn());
    assert_eq!(code, Some(127));
    says(&log, &["cannot run no-such-command: not found", "PATH"]);
    let script = Script::new("interpreter", "#!/no/such/interpreter\n", 0o755);
    let (code, log) = ends(sticky_run(2, &[]).command(&[script.path()]).text_log().spawn());
    assert_eq!(code, Some(127));
    says(&log, &[script.path(), "first line"]);
}

#[test]
fn a_command_that_cannot_be_executed_is_126_and_one_line() {
    let script = Script::new("mode", "#!/bin/sh\nexit 0\n", 0o644);
    let directory = Path::new(script.path()).parent().unwrap().to_str().unwrap();
    for path in [script.path(), directory] {
        let (code, log) = ends(sticky_run(2, &[]).command(&[path]).text_log().spawn());
        assert_eq!(code, Some(126), "{log}");
        says(&log, &["cannot run", path, "it has to be an executable file: chmod +x"]);
    }
}

#[test]
fn a_command_with_too_long_a_name_is_126_and_one_line() {
    let long = format!("/{}", "x".repeat(300));
    let (code, log) = ends(sticky_run(2, &[]).command(&[&long]).text_log().spawn());
    assert_eq!(code, Some(126), "{log}");
    says(&log, &["cannot run", &long, "file name too long"]);
}

#[test]
fn a_command_that_is_just_being_written_is_said_to_be_busy_and_tried_again() {
    let shell = Script::new("busy", "", 0o755);
    fs::copy("/bin/sh", shell.path()).expect("room for a copy");
    let writer = fs::File::options().append(true).open(shell.path()).expect("the file is ours");
    let mut words = vec![shell.path(), "-c", "exec \"$0\" \"$@\""];
    let command = worker::command();
    words.extend(command.iter().map(String::as_str));
    let supervisor = sticky_run(1, &[]).command(&words).listening();
    let busy = format!("cannot run {}: text file busy", shell.path());
    supervisor.wait_event(event("worker_spawn_failed").worker(0).saying(&busy));
    drop(writer);
    supervisor.wait_event(event("worker_ready").worker(0));
}

#[test]
fn an_address_where_it_cannot_listen_is_1_and_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (taken, address.to_string())).unwrap();
    for (listen, words) in [
        (taken.1.as_str(), "address already in use (another process listens there"),
        ("192.0.2.1:0", "this machine does not have that address"),
        ("unix:/no/such/directory/socket", "the directory of the socket has to exist"),
        ("fd:99", "has to be inherited open"),
        ("fd:0", "socket operation on non-socket"),
    ] {
        let fails_with = ["cannot listen on", listen, words];
        fails(&["-l", listen, "--", "true"], 1, &fails_with);
    }
}

#[test]
fn a_socket_file_in_use_is_1_and_stays() {
    let path = env::temp_dir().join(format!("sticky-run-usage-{}.sock", process::id()));
    let _taken = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let listen = format!("unix:{}", path.display());
    fails(&["-l", &listen, "--", "true"], 1, &[&listen, "address already in use"]);
    assert!(path.exists());
    fs::remove_file(&path).unwrap();
}

#[test]
fn a_port_below_1024_without_the_right_is_1_and_one_line() {
    let lowest = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if lowest.trim() == "0" {
        eprintln!("not tested: everybody may listen on every port here");
        return;
    }
    let drop_the_right = "exec setpriv --bounding-set=-net_bind_service \
                          --inh-caps=-net_bind_service \"$0\" \"$@\";";
    let here = i32::try_from(process::id()).unwrap();
    let before = if proc::status(here, "Uid:") == Some(0) { drop_the_right } else { "" };
    let (code, log) =
        ends(sticky_run(1, &["--listen", "127.0.0.1:1"]).after(before).text_log().spawn());
    assert_eq!(code, Some(1), "{log}");
    says(&log, &["cannot listen on 127.0.0.1:1", "root or CAP_NET_BIND_SERVICE"]);
}

#[test]
fn a_script_that_is_not_there_is_127_for_check() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    for name in ["there.py", "there.js", "index.js"] {
        fs::write(path(name), "").unwrap();
    }
    let (node, python) = (path("bin/node"), path("bin/python3.11"));
    fs::create_dir(path("bin")).unwrap();
    for program in [&node, &python] {
        fs::copy("/bin/true", program).unwrap();
    }
    let script = |name: &str| path(name);
    for (command, missing) in [
        (vec![&*node, &script("gone.js")], "gone.js"),
        (vec![&*node, "--max-old-space-size=99", "-r", "x", &script("gone.js"), "x"], "gone.js"),
        (vec!["env", "A=b", &*node, &script("gone")], "gone"),
        (vec!["sh", "-c", &format!("exec {node} {}", script("gone.js"))], "gone.js"),
        (vec![&*python, &script("gone.py")], "gone.py"),
        (vec![&*python, "-u", &script("gone.py")], "gone.py"),
        (vec![&*node, &script("there.js")], ""),
        (vec![&*node, &script("there")], ""),
        (vec![&*node, &path("")], ""),
        (vec![&*node, "-e", "1", &script("gone.js")], ""),
        (vec![&*python, &script("there.py")], ""),
        (vec![&*python, "-m", "gone.py"], ""),
        (vec![&*python, "-X", "dev", &script("gone.py")], ""),
    ] {
        let words = [&["--check", "--"], &command[..]].concat();
        if missing.is_empty() {
            assert_eq!(run(&words).status.code(), Some(0), "{words:?}");
        } else {
            fails(
                &words,
                127,
                &["cannot run ", &format!("its script {} is not there", path(missing))],
            );
        }
    }
}

#[test]
fn no_worker_that_ever_became_ready_is_1_and_says_so() {
    let (code, log) = ends(sticky_run(4, &[]).env("TEST_WORKER", "exit=3").text_log().spawn());
    assert_eq!(code, Some(1));
    let last = log.lines().last().unwrap_or_default();
    let why = "no worker ever became ready: giving up after 5 starts, the last one exited before it \
               was ready (exit code 3); with --handoff channel";
    let words = [why, "sticky-run-channel(7)", "--handoff node"];
    assert!(words.iter().all(|word| last.contains(word)), "{last}");
    assert_eq!(log.matches("started (pid").count(), 5, "one worker alone was tried: {log}");
}
