//! What a supervisor with `--user` cannot do any more, and says so.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::privileges::{
    AS_SOMEBODY, GROUP, SLEEP, USER, copy_program, is_root, private_directory, public_program,
};
use crate::support::supervisor::without_listener;
use crate::support::{event, proc, sticky_run};

#[test]
fn what_the_supervisor_cannot_do_any_more_is_said_at_the_start() {
    if !is_root() {
        return;
    }
    let (outer, private) = private_directory();
    let (file, program) = (private.join("s.toml"), private.join("run"));
    let home = private.display();
    // Neither the workers' nor the supervisor's.
    let others = outer.path().join("others");
    fs::create_dir(&others).unwrap();
    chown(&others, Some(USER + 1), Some(GROUP + 1)).unwrap();
    let listen = format!("unix:{}", others.join("s.sock").display());
    fs::write(&file, format!("user = '54321'\ngroup = '54322'\nlisten = ['{listen}']\n")).unwrap();
    copy_program(&program);
    let flags = ["--config", file.to_str().unwrap()];
    let mut supervisor = without_listener(1, &flags).command(&SLEEP).program(&program).listening();
    supervisor.wait_event(event("worker_started").worker(0));
    let why = "since the supervisor has given up CAP_DAC_OVERRIDE (--user): ";
    for line in [
        event("reload_unavailable")
            .saying(&format!("{why}cannot read the configuration file {}", file.display())),
        event("upgrade_unavailable").saying(&format!(
            "{why}cannot execute {}: permission denied; let root ",
            program.display()
        )),
        event("socket_file_kept")
            .with("address", listen.as_str())
            .saying(&format!("{why}cannot write to its directory")),
        event("supervisor_exposed").saying(&format!(
            "they can change its program {} by {home} and its file {} by {home}; let only root",
            program.display(),
            file.display()
        )),
    ] {
        assert_eq!(supervisor.count_events(&line), 1, "{line:?}");
    }
    assert_eq!(supervisor.trouble().len(), 4);
    // It is as it says.
    supervisor.signal(Signal::SIGHUP);
    supervisor.wait_event("configuration_rejected");
    supervisor.signal(Signal::SIGUSR2);
    supervisor.wait_event(event("upgrade_failed").saying("permission denied"));
    assert_eq!(supervisor.stop().code(), Some(0));
    assert!(others.join("s.sock").exists());
}

#[test]
fn a_command_that_only_its_user_can_read_is_found_again_or_said_not_to_be() {
    if !is_root() {
        return;
    }
    let (_outer, private) = private_directory();
    let script = private.join("app");
    fs::write(&script, "#!/usr/bin/env node\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let supervisor = sticky_run(1, &AS_SOMEBODY).command(&[script.to_str().unwrap()]).listening();
    let unknown = "the command's files cannot be read";
    supervisor.wait_event(event("reload_unavailable").saying(unknown));
    assert_eq!(supervisor.trouble().len(), 1);
    // Where nothing depends on what is in the file, an upgrade does not either.
    fs::write(&script, "#!/bin/sh\nexec sleep 100\n").unwrap();
    let flags = [&AS_SOMEBODY[..], &["--handoff", "channel"]].concat();
    let supervisor = sticky_run(1, &flags).command(&[script.to_str().unwrap()]).listening();
    supervisor.wait_event(event("worker_started").worker(0));
    supervisor.signal(Signal::SIGUSR2);
    supervisor.wait_event("upgraded");
    supervisor.expect_no_trouble();
}

#[test]
fn workers_that_could_become_root_by_an_upgrade_are_named_and_no_others() {
    if !is_root() {
        return;
    }
    let home = public_program();
    let (program, file) = (home.path().join("run"), home.path().join("s.toml"));
    fs::write(&file, "listen = ['127.0.0.1:0']\n").unwrap();
    let start = |flags: &[&str], before: &str| {
        let flags = [flags, &["--config", file.to_str().unwrap()]].concat();
        let builder = without_listener(1, &flags).command(&SLEEP).program(&program);
        let supervisor = builder.after(before).listening();
        supervisor.wait_event(event("worker_started").worker(0));
        supervisor
    };
    start(&AS_SOMEBODY, "").expect_no_trouble();
    chown(&file, Some(USER), None).unwrap();
    let change = format!("they can change its file {}; let only root write there", file.display());
    let exposed = event("supervisor_exposed").saying(&change);
    let supervisor = start(&AS_SOMEBODY, "");
    supervisor.wait_event(&exposed);
    assert_eq!(supervisor.trouble().len(), 1);
    supervisor.signal(Signal::SIGUSR2);
    supervisor.wait_events(&exposed, 2);
    // Who has the rights of the supervisor already gains nothing, as in most containers.
    chown(home.path(), Some(USER), None).unwrap();
    let as_user = "exec setpriv --reuid 54321 --regid 54322 --clear-groups \"$0\" \"$@\";";
    for (flags, before) in [(&[][..], as_user), (&AS_SOMEBODY, as_user), (&[], "")] {
        start(flags, before).expect_no_trouble();
    }
}

#[test]
fn workers_stay_who_they_are_when_an_upgrade_finds_no_user_any_more() {
    if !is_root() {
        return;
    }
    let program = public_program();
    let file = program.path().join("s.toml");
    let configuration = |who: &str| format!("{who}\nlisten = ['127.0.0.1:0']\n");
    fs::write(&file, configuration("user = '54321'\ngroup = '54322'")).unwrap();
    let flags = ["--config", file.to_str().unwrap()];
    let builder = without_listener(1, &flags).command(&SLEEP);
    let mut supervisor = builder.program(&program.path().join("run")).listening();
    supervisor.wait_event(event("worker_started").worker(0));
    fs::write(&file, configuration("")).unwrap();
    for upgrades in 1..3 {
        supervisor.signal(Signal::SIGUSR2);
        let user = event("configuration_changed").with("flag", "--user").with("takes", "start");
        supervisor.wait_events(user, upgrades);
        supervisor.wait_events("upgraded", upgrades);
        proc::signal(supervisor.pid_of(0), Signal::SIGKILL);
        supervisor.wait_events(event("worker_started").worker(0), upgrades + 1);
        assert_eq!(proc::status(supervisor.pid_of(0), "Uid:"), Some(u64::from(USER)));
    }
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn a_socket_in_a_directory_of_the_supervisor_goes_although_it_is_the_users() {
    if !is_root() {
        return;
    }
    let directory = TempDir::new().unwrap();
    // As /tmp is: everybody removes their own.
    for mode in [0o755, 0o1777] {
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        let path = directory.path().join("app.sock");
        let listen = format!("unix:{}", path.display());
        let flags = [&AS_SOMEBODY[..], &["--listen", &listen]].concat();
        let mut supervisor = sticky_run(1, &flags).command(&SLEEP).listening();
        assert_eq!(supervisor.stop().code(), Some(0));
        assert!(!path.exists());
        supervisor.whole_log();
        supervisor.expect_no_trouble();
    }
    // The user's own directories: where everybody removes their own, and where nobody else may be.
    chown(directory.path(), Some(USER), Some(GROUP)).unwrap();
    for mode in [0o1777, 0o700] {
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        let path = directory.path().join("app.sock");
        let listen = format!("unix:{}", path.display());
        let supervisor = sticky_run(1, &["--listen", &listen]).command(&SLEEP);
        let mut supervisor =
            supervisor.env("STICKY_USER", "54321").env("STICKY_GROUP", "54322").listening();
        assert_eq!(supervisor.stop().code(), Some(0));
        assert!(!path.exists());
        supervisor.whole_log();
        supervisor.expect_no_trouble();
    }
}
