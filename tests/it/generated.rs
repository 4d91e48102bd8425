//! What is made from the declaration of the flags.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::programs;

fn generate(what: &str) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sticky-run"));
    let output = command.args(["--generate", what]).output().expect("it was built with the tests");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    output.stdout
}

/// `UPDATE=1 cargo test --test it man_page` writes the page.
#[test]
fn the_man_page_is_up_to_date() {
    let path = Path::new(programs::ROOT).join("man/sticky-run.1");
    let page = generate("man");
    if std::env::var("UPDATE").is_ok_and(|value| value == "1") {
        fs::write(&path, &page).expect("the page can be written");
    }
    let committed = fs::read(&path).expect("the page is in the repository");
    assert!(committed == page, "write it with UPDATE=1 cargo test --test it man_page");
}

/// A promise is worth as much as the test that it names.
#[test]
fn every_test_that_the_page_on_security_names_is_there() {
    let page = fs::read_to_string(Path::new(programs::ROOT).join("SECURITY.md"));
    let page = page.expect("it is in the repository");
    let named = page.split('`').skip(1).step_by(2).filter(|words| words.contains("::"));
    let mut count = 0;
    for path in named {
        let (module, test) = path.rsplit_once("::").expect("it has one");
        let file = Path::new(programs::ROOT).join("tests/it").join(module.replace("::", "/"));
        let text = fs::read_to_string(file.with_extension("rs"));
        let text = text.or_else(|_| fs::read_to_string(file.join("mod.rs"))).unwrap_or_default();
        assert!(text.contains(&format!("#[test]\nfn {test}() {{")), "{path}");
        count += 1;
    }
    assert!(count > 10, "{count}");
}

/// Those shells that this machine has; bash is everywhere.
#[test]
fn completions_are_scripts_that_their_shells_can_read() {
    for shell in ["bash", "zsh", "fish"] {
        if shell != "bash" && Command::new(shell).arg("--version").output().is_err() {
            continue;
        }
        let script = generate(&format!("complete-{shell}"));
        let mut check = Command::new(shell);
        let mut check = check.arg("-n").stdin(Stdio::piped()).spawn().expect("the shell runs");
        let mut stdin = check.stdin.take().expect("it was piped");
        stdin.write_all(&script).expect("the shell reads");
        drop(stdin);
        assert!(check.wait().expect("it is our child").success(), "{shell} -n");
        assert!(String::from_utf8_lossy(&script).contains("stall-timeout"), "{shell}");
    }
}

#[test]
fn completions_offer_the_values_of_a_flag_and_files_where_a_file_is_meant() {
    let script = String::from_utf8(generate("complete-bash")).expect("text");
    let offered = |flag: &str| {
        let case = script.split(&format!("--{flag})")).nth(1).expect("the flag has a case");
        let words = case.lines().find(|line| line.contains("COMPREPLY=")).expect("and completions");
        words.to_owned()
    };
    assert!(offered("by").contains("sid ip query: header: cookie: none"), "{}", offered("by"));
    assert!(offered("balance").contains("least-connection"));
    assert!(offered("config").contains("compgen -f"));
    for flag in ["workers", "listen", "grace", "max-memory", "user"] {
        assert!(!offered(flag).contains("compgen -f"), "{flag}: {}", offered(flag));
    }
}
