//! The command line and the exit codes.

use crate::support::{Supervisor, get, sticky_run};

/// Runs it to its end: the exit code and what it logged.
fn ends(mut supervisor: Supervisor) -> (Option<i32>, String) {
    let code = supervisor.wait().code();
    (code, supervisor.log())
}

#[test]
fn a_command_that_is_not_there_is_127_and_one_line() {
    let (code, log) = ends(sticky_run(2, &[]).command(&["no-such-command"]).spawn());
    assert_eq!(code, Some(127));
    assert_eq!(
        log.matches("sticky-run: cannot run no-such-command: not found").count(),
        1,
        "{log}"
    );
}

#[test]
fn a_client_gets_an_answer_and_a_stop_is_0() {
    let mut supervisor = sticky_run(2, &[]).start();
    let answer = get(supervisor.address(), "/");
    assert_eq!(answer.value("message").split(' ').next(), Some("CONN"));
    assert_eq!(supervisor.stop().code(), Some(0));
}
