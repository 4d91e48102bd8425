//! Who workers are, what surrounds them, and what the supervisor keeps for itself.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use tempfile::TempDir;

use crate::support::{Supervisor, event, eventually, get, proc, sticky_run, worker};

/// A user and a group without a name on any machine.
pub const USER: u32 = 54_321;
pub const GROUP: u32 = 54_322;
pub const AS_SOMEBODY: [&str; 4] = ["--user", "54321", "--group", "54322"];
/// A command that is only looked at from outside.
pub const SLEEP: [&str; 3] = ["bash", "-c", "printf 'READY\\n' >&$STICKY_CHANNEL; exec sleep 100"];
/// `CAP_KILL`, `CAP_SETGID`, `CAP_SETUID` and `CAP_NET_BIND_SERVICE`, `capabilities(7)`.
const NEEDED: u64 = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10;
const CAP_NET_BIND_SERVICE: u64 = 1 << 10;
const CAP_SYS_RESOURCE: u64 = 1 << 24;

/// Whether this machine lets workers be somebody else; said on standard error if not.
pub fn is_root() -> bool {
    let root = geteuid().is_root();
    if !root {
        eprintln!("not tested: only root can start a worker of another user");
    }
    root
}

/// Two workers that sleep, with these flags, after these words of a shell.
fn sleeping(flags: &[&str], before: &str) -> Supervisor {
    let supervisor = sticky_run(2, flags).command(&SLEEP).after(before).listening();
    supervisor.wait_event(event("worker_started").worker(1));
    runs(&supervisor, "sleep");
    supervisor
}

/// A directory with a sticky-run, `run`, that everybody may execute.
pub fn public_program() -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    copy_program(&directory.path().join("run"));
    directory
}

/// Not by this process: a thread that forks meanwhile would keep it open (`ETXTBSY`).
pub fn copy_program(to: &Path) {
    let mut copy = Command::new("cp");
    copy.arg(env!("CARGO_BIN_EXE_sticky-run")).arg(to);
    assert!(copy.status().unwrap().success());
}

/// Waits until both workers run this program.
fn runs(supervisor: &Supervisor, name: &str) {
    eventually("both workers run their command", || {
        let both = [0, 1].into_iter().all(|slot| proc::name(supervisor.pid_of(slot)) == name);
        both.then_some(())
    });
}

/// What a line of `/proc/PID/status` says.
fn line(pid: i32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.expect("Linux has such a line").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn workers_are_somebody_else_in_every_respect_and_have_no_groups_of_the_supervisor() {
    if !is_root() {
        return;
    }
    let flags = [&AS_SOMEBODY[..], &["--no-new-privs"]].concat();
    let supervisor = sleeping(&flags, "exec setpriv --groups 1,2,3 \"$0\" \"$@\";");
    for slot in [0, 1] {
        let pid = supervisor.pid_of(slot);
        assert_eq!(line(pid, "Uid"), "54321 54321 54321 54321");
        assert_eq!(line(pid, "Gid"), "54322 54322 54322 54322");
        assert_eq!(line(pid, "Groups"), "");
        assert_eq!(line(pid, "NoNewPrivs"), "1");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(proc::signals(pid, set), Some(0), "{set}");
        }
        assert_eq!(proc::signals(pid, "CapBnd"), Some(NEEDED));
    }
    assert_eq!(line(supervisor.pid(), "Groups"), "1 2 3");
}

#[test]
fn without_flags_workers_are_who_the_supervisor_is() {
    let supervisor = sleeping(&[], "");
    for name in ["Uid", "Gid", "Groups", "NoNewPrivs", "CapPrm", "CapBnd", "Umask"] {
        let own = line(supervisor.pid(), name);
        assert_eq!([0, 1].map(|slot| line(supervisor.pid_of(slot), name)), [&*own; 2], "{name}");
    }
}

#[test]
fn a_name_brings_its_group_its_groups_and_its_home() {
    if !is_root() {
        return;
    }
    // The last user with a name: any will do that is not root.
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let user: Vec<_> = users.lines().last().unwrap().split(':').collect();
    let supervisor = sleeping(&["--user", user[0], "--env", "LOGNAME=other"], "");
    let pid = supervisor.pid_of(0);
    assert_eq!(line(pid, "Uid").split(' ').next(), Some(user[2]));
    assert_eq!(line(pid, "Gid").split(' ').next(), Some(user[3]));
    assert!(line(pid, "Groups").split(' ').any(|group| group == user[3]));
    let environment = proc::environment(pid);
    for (name, value) in [("HOME", user[5]), ("USER", user[0]), ("LOGNAME", "other")] {
        assert!(environment.contains(&(name.to_owned(), value.to_owned())), "{name}");
    }
}

#[test]
fn the_supervisor_keeps_what_it_needs_and_says_so() {
    if !is_root() {
        return;
    }
    let mut cases = vec![("core=0", NEEDED)];
    let here = i32::try_from(std::process::id()).unwrap();
    // Containers often have a root without it.
    if proc::signals(here, "CapPrm").unwrap() & CAP_SYS_RESOURCE != 0 {
        cases.push(("nofile=2000:20000", NEEDED | CAP_SYS_RESOURCE));
    }
    for (flag, needed) in cases {
        let flags = [&AS_SOMEBODY[..], &["--rlimit", flag]].concat();
        let mut supervisor = sleeping(&flags, "ulimit -n 4096;");
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(proc::signals(supervisor.pid(), set), Some(needed), "{set}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(proc::signals(supervisor.pid(), set), Some(0), "{set}");
        }
        assert_eq!(line(supervisor.pid(), "Uid"), "0 0 0 0");
        let dropped = event("privileges_dropped");
        supervisor.wait_event(dropped.saying("keeps CAP_KILL, CAP_NET_BIND_SERVICE, CAP_SETGID"));
        // It can still do what it has to: replace a worker, and stop.
        proc::signal(supervisor.pid_of(0), Signal::SIGKILL);
        supervisor.wait_events(event("worker_started").worker(0), 2);
        assert_eq!(supervisor.stop().code(), Some(0));
        supervisor.whole_log();
        supervisor.expect_no_trouble_but(&["worker_exited", "worker_start_failed"]);
    }
}

#[test]
fn who_has_the_capabilities_without_being_root_keeps_them_across_an_upgrade_and_no_worker_does() {
    if !is_root() {
        return;
    }
    let program = public_program();
    // As a service has them with `AmbientCapabilities=`; the last one is too much.
    let capabilities = "+kill,+setuid,+setgid,+sys_nice";
    let somebody = "setpriv --reuid 54323 --regid 54323 --clear-groups";
    let before = format!(
        "exec {somebody} --inh-caps {capabilities} --ambient-caps {capabilities} \"$0\" \"$@\";"
    );
    let builder = sticky_run(2, &AS_SOMEBODY).command(&SLEEP).program(&program.path().join("run"));
    let mut supervisor = builder.after(&before).listening();
    let kept = NEEDED & !CAP_NET_BIND_SERVICE;
    for upgrades in 0..2 {
        supervisor.wait_events(event("worker_started").worker(1), upgrades + 1);
        runs(&supervisor, "sleep");
        for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
            assert_eq!(proc::signals(supervisor.pid(), set), Some(kept), "{set}");
            assert_eq!(proc::signals(supervisor.pid_of(1), set), Some(0), "{set}");
        }
        assert_eq!(line(supervisor.pid_of(1), "Uid"), "54321 54321 54321 54321");
        supervisor.signal(Signal::SIGUSR2);
        supervisor.wait_events("upgraded", upgrades + 1);
        proc::signal(supervisor.pid_of(1), Signal::SIGKILL);
    }
    assert_eq!(supervisor.stop().code(), Some(0));
    supervisor.whole_log();
    supervisor.expect_no_trouble_but(&["worker_exited", "worker_start_failed"]);
}

#[test]
fn workers_of_another_user_serve_and_die_with_the_supervisor() {
    if !is_root() {
        return;
    }
    let (_directory, command) = worker::public_command();
    let words: Vec<_> = command.iter().map(String::as_str).collect();
    let mut supervisor = sticky_run(2, &AS_SOMEBODY).command(&words).start();
    let answer = get(supervisor.address(), "/announce/one");
    assert_eq!(get(supervisor.address(), "/?sid=one").pid, answer.pid);
    assert_eq!(proc::status(answer.pid, "Uid:"), Some(u64::from(USER)));
    let workers = supervisor.worker_pids();
    supervisor.signal(Signal::SIGKILL);
    supervisor.wait();
    eventually("no worker is left", || {
        (!workers.iter().any(|pid| proc::is_alive(*pid))).then_some(())
    });
}

#[test]
fn a_worker_of_another_user_has_stdio_and_its_own_channel_and_no_other_descriptor() {
    if !is_root() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let builder = sticky_run(2, &AS_SOMEBODY).command(&SLEEP).inherit(listener.into());
    let supervisor = builder.after("exec 7</dev/null 8</etc/passwd 9</;").listening();
    supervisor.wait_event(event("worker_started").worker(1));
    runs(&supervisor, "sleep");
    let channels = [0, 1].map(|slot| {
        let files = eventually("it has stdio and one descriptor more", || {
            let files = proc::descriptors(supervisor.pid_of(slot));
            (files.len() == 4).then_some(files)
        });
        assert_eq!(files.iter().map(|(number, _)| *number).take(3).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(files[3].1.starts_with("socket:["), "{files:?}");
        files[3].1.clone()
    });
    assert_ne!(channels[0], channels[1]);
}

#[test]
fn a_unix_socket_belongs_to_the_user_of_the_workers() {
    if !is_root() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.sock");
    let listen = format!("unix:{}", path.display());
    let flags = [&AS_SOMEBODY[..], &["--listen", &listen]].concat();
    let supervisor = sticky_run(1, &flags).command(&SLEEP).listening();
    let file = fs::metadata(&path).unwrap();
    assert_eq!((file.uid(), file.gid()), (USER, GROUP));
    drop(supervisor);
}

/// A directory that everybody may enter, and one in it that only the user of the workers may enter.
pub fn private_directory() -> (TempDir, PathBuf) {
    let outer = TempDir::new().unwrap();
    fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let private = outer.path().join("private");
    fs::create_dir(&private).unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    chown(&private, Some(USER), Some(GROUP)).unwrap();
    (outer, private)
}

#[test]
fn workers_run_where_and_with_what_they_were_asked_to() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().canonicalize().unwrap();
    let flags = ["--chdir", path.to_str().unwrap(), "--umask", "027"];
    let flags = [&flags[..], &["--rlimit", "nofile=100:200", "--rlimit", "core=0"]].concat();
    let flags = [&flags[..], &["--env", "NAME=w{id}{id}", "--env", "JSON={\"id\":1}"]].concat();
    let command = [&SLEEP[..], &["{id}", "{\"id\":{id}}"]].concat();
    let supervisor = sticky_run(2, &flags).command(&command).listening();
    supervisor.wait_event(event("worker_started").worker(1));
    runs(&supervisor, "sleep");
    for slot in [0, 1] {
        let pid = supervisor.pid_of(slot);
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), path);
        assert_eq!(line(pid, "Umask"), "0027");
        assert_eq!(proc::file_limit(pid), Some((100, 200)));
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
        let environment = proc::environment(pid);
        for (name, value) in [("NAME", &*format!("w{slot}{slot}")), ("JSON", "{\"id\":1}")] {
            assert!(environment.contains(&(name.to_owned(), value.to_owned())), "{environment:?}");
        }
    }
    assert_ne!(fs::read_link(format!("/proc/{}/cwd", supervisor.pid())).unwrap(), path);
}

#[test]
fn arguments_have_the_slot_where_they_ask_for_it() {
    // As long as none is ready, one slot tries after the other.
    let script = "echo \"arguments $*\" >&2; exit 1";
    let command = ["sh", "-c", script, "sh", "--port=300{id}", "{\"id\":1}"];
    let supervisor = sticky_run(2, &[]).command(&command).listening();
    supervisor.wait_for_log("arguments --port=3000 {\"id\":1}");
    supervisor.wait_for_log("arguments --port=3001 {\"id\":1}");
}

#[test]
fn the_directory_is_entered_as_the_user() {
    if !is_root() {
        return;
    }
    let (_outer, private) = private_directory();
    chown(&private, Some(0), Some(0)).unwrap();
    let flags = [&AS_SOMEBODY[..], &["--chdir", private.to_str().unwrap()]].concat();
    // It belongs to root, so the workers may not.
    let mut supervisor = sticky_run(1, &flags).command(&SLEEP).spawn();
    assert_eq!(supervisor.wait().code(), Some(126));
    let log = supervisor.whole_log();
    assert!(log.contains("cannot run bash: cannot change to its directory: permission"), "{log}");
    // It belongs to them, so the supervisor may not, without the capabilities that it gave up.
    chown(&private, Some(USER), Some(GROUP)).unwrap();
    let supervisor = sticky_run(1, &flags).command(&SLEEP).listening();
    supervisor.wait_event(event("worker_started").worker(0));
}

#[test]
fn who_is_not_root_can_ask_for_itself_only() {
    if !is_root() {
        return;
    }
    let as_somebody = "exec setpriv --reuid 54321 --regid 54322 --clear-groups \"$0\" \"$@\";";
    let supervisor = sleeping(&AS_SOMEBODY, as_somebody);
    assert_eq!(line(supervisor.pid_of(0), "Uid"), "54321 54321 54321 54321");
    let mut supervisor = sticky_run(1, &["--user", "0"]).command(&SLEEP).after(as_somebody).spawn();
    let code = supervisor.wait().code();
    // The tests may be in a directory that only root can read.
    if code != Some(126) {
        assert_eq!(code, Some(2));
        assert!(supervisor.whole_log().contains("only root, or who has CAP_SETUID"));
    }
}
