//! Commands and what they are, in directories made for it: nothing of this machine counts.

mod packages;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// A machine with `bin` as its only search path, and an app in `app`.
struct Machine {
    root: TempDir,
    place: Place,
}

impl Machine {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        let mut place = Place { directory: root.path().join("app"), ..Place::default() };
        place.set("PATH", root.path().join("bin"));
        let machine = Self { root, place };
        for program in ["node", "nice", "sh", "python", "tini"] {
            machine.file(&format!("bin/{program}"), "\u{7f}ELF");
        }
        machine.file("app/server.js", "#!/usr/bin/env node\n");
        machine
    }

    fn path(&self, path: &str) -> String {
        self.root.path().join(path).to_str().unwrap().to_owned()
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn scripts(&self, scripts: &str) {
        self.file(
            "app/package.json",
            &format!("{{\"name\":\"shop\",\"version\":\"1.2.3\",\"scripts\":{scripts}}}"),
        );
    }

    fn recognise(&self, words: &[&str]) -> Recognised {
        let mut words = words.iter().map(OsString::from);
        let program = words.next().unwrap();
        recognise(&Command::new(program, words.collect()), self.place.clone())
    }

    /// What a line that a shell would take apart is.
    fn line(&self, line: &str) -> Recognised {
        let words = shlex::split(line).unwrap();
        self.recognise(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn node(&self, line: &str) -> NodeCommand {
        match self.line(line) {
            Recognised::Node(found) => found,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn refused(&self, line: &str) -> String {
        match self.line(line) {
            Recognised::Refused(why) => why,
            other => panic!("{line}: {other:?}"),
        }
    }
}

/// The command in one line, with a mark where the words after `node` begin.
fn typed(found: &NodeCommand) -> String {
    let mut words = found.command.arguments.clone();
    if let Some(index) = found.node_arguments {
        words.insert(index, "^".into());
    }
    words.insert(0, found.command.program.clone());
    words.join(OsStr::new(" ")).into_string().unwrap()
}

/// The variables that change, as `A=b` and `-A`, without those of package managers.
fn changes(found: &NodeCommand) -> String {
    let text = |text: &OsString| text.to_str().unwrap().to_owned();
    let own =
        |name: &str| !name.starts_with("npm_") && !matches!(name, "NODE" | "INIT_CWD" | "PATH");
    let changes = found.command.environment.iter().filter(|(name, _)| own(name.to_str().unwrap()));
    let changes = changes.map(|(name, value)| match value {
        Some(value) => format!("{}={}", text(name), text(value)),
        None => format!("-{}", text(name)),
    });
    changes.collect::<Vec<_>>().join(" ")
}

#[test]
fn node_is_found_behind_what_stands_before_it() {
    let machine = Machine::new();
    for (line, expected) in [
        ("node server.js", "node ^ server.js"),
        ("nodejs --inspect server.js", "nodejs ^ --inspect server.js"),
        ("/opt/node20 server.js", "/opt/node20 ^ server.js"),
        ("env node server.js", "node ^ server.js"),
        ("nice -n 5 node server.js", "nice -n 5 node ^ server.js"),
        ("nice -n5 nohup node server.js", "nice -n5 nohup node ^ server.js"),
        ("tini -g -- node server.js", "tini -g -- node ^ server.js"),
        ("dumb-init -r 15:2 node a", "dumb-init -r 15:2 node ^ a"),
        ("tini -- env A=b nice node a", "tini -- nice node ^ a"),
        ("timeout -k 5 10 node a", "timeout -k 5 10 node ^ a"),
        ("time -p node a", "time -p node ^ a"),
        ("sh -c 'node server.js'", "node ^ server.js"),
        ("sh -c 'exec node --inspect server.js'", "node ^ --inspect server.js"),
        ("bash -lc 'node server.js'", "bash -lc node server.js"),
        ("bash -euo pipefail -c 'node server.js'", "bash -euo pipefail -c node server.js"),
        ("sh -c 'node \"$@\"' sh server.js", "sh -c node \"$@\" sh server.js"),
        ("sh -c 'node server.js --port $PORT'", "sh -c node server.js --port $PORT"),
        ("sh -c 'cd x && A=b node server.js'", "sh -c cd x && A=b node server.js"),
        ("sh -c 'node server.js 2>&1 | tee log'", "sh -c node server.js 2>&1 | tee log"),
        ("sh -c 'set -e; . ./env; exec node a'", "sh -c set -e; . ./env; exec node a"),
        ("sh -c 'nice -n 5 node a'", "nice -n 5 node ^ a"),
    ] {
        assert_eq!(typed(&machine.node(line)), expected, "{line}");
    }
}

#[test]
fn what_env_and_a_shell_do_to_the_variables_is_done() {
    let mut machine = Machine::new();
    machine.place.set("OLD", "1");
    let node = |line| {
        let found = machine.node(line);
        assert_eq!(typed(&found), "node ^ a", "{line}");
        changes(&found)
    };
    assert_eq!(node("env A=b C= node a"), "A=b C=");
    assert_eq!(node("env -u OLD -- A=b node a"), "-OLD A=b");
    assert_eq!(node("env -uOLD node a"), "-OLD");
    assert_eq!(node("env -i --unset=X A=b node a"), "-OLD A=b");
    assert_eq!(node("env OLD=1 node a"), "");
    assert_eq!(node("env -S 'A=b node a'"), "A=b");
    assert_eq!(node("env '-SA=\"b c\" node' a"), "A=b c");
    assert_eq!(node("sh -c 'A=b C=\"d e\" node a'"), "A=b C=d e");
    assert_eq!(node("env A=b sh -c 'C=d exec node a'"), "A=b C=d");
    let found = machine.node("env -C sub --chdir=deep node a");
    assert_eq!(found.command.directory, Some(machine.place.directory.join("sub/deep")));
    assert_eq!(machine.node("node a").command.directory, None);
}

#[test]
fn everything_else_is_something_else() {
    let machine = Machine::new();
    machine.file("bin/worker", "\u{7f}ELF");
    machine.file("bin/forever", "#!/usr/bin/python\n");
    machine.file("app/start.sh", "#!/bin/sh\nnode server.js\n");
    machine.file("bin/bun", "\u{7f}ELF");
    fs::create_dir(machine.path("other")).unwrap();
    symlink(machine.path("bin/bun"), machine.path("other/node")).unwrap();
    for line in [
        "worker --node node",
        "python server.py",
        "missing",
        "./start.sh",
        "sh start.sh",
        "sh -c 'python server.py'",
        "sh -c 'node a || node b'",
        "sh -c 'node a &'",
        "sh -c 'if x; then node a; fi'",
        "sh -c '$NODE a'",
        "sh -c 'node build.js && tsx more.ts && ./worker'",
        "sh",
        "env",
        "env A=b",
        "env --block-signal node a",
        "env -S 'node ${X}'",
        "nice",
        "nice -n",
        "sudo node a",
        "forever server.js",
        "../other/node a",
        "''",
    ] {
        assert_eq!(machine.line(line), Recognised::Other, "{line}");
    }
}

#[test]
fn a_script_names_its_interpreter() {
    let machine = Machine::new();
    let app = machine.place.directory.to_str().unwrap().to_owned();
    machine.file("app/flags", "#!/usr/bin/env -S A=b node --enable-source-maps\n");
    machine.file("app/absolute", &format!("#!{}\n", machine.path("bin/node")));
    machine.file("bin/tool", "#!/usr/bin/env node\n");
    machine.file("app/ts", "#!/usr/bin/env tsx\n");
    machine.file("app/itself", &format!("#!{app}/itself\n"));
    symlink(machine.path("bin/node"), machine.path("bin/engine")).unwrap();
    let typed = |line| typed(&machine.node(line));
    assert_eq!(typed("./server.js a"), "node ^ ./server.js a");
    assert_eq!(typed("./flags a"), "node ^ --enable-source-maps ./flags a");
    assert_eq!(changes(&machine.node("./flags a")), "A=b");
    assert_eq!(typed("./absolute"), format!("{} ^ ./absolute", machine.path("bin/node")));
    assert_eq!(typed("tool a"), format!("node ^ {} a", machine.path("bin/tool")));
    assert_eq!(typed("engine a"), "engine ^ a");
    assert!(machine.refused("./ts").contains("write node --import tsx ./ts instead"));
    assert!(machine.refused("./itself").contains("leads to itself"));
}

#[test]
fn wrappers_are_refused_with_what_to_write() {
    let machine = Machine::new();
    machine.file("app/node_modules/.bin/next", "#!/usr/bin/env node\n");
    machine.file("app/node_modules/.bin/nodemon", "#!/usr/bin/env node\n");
    for (line, instead) in [
        ("tsx watch server.ts --x", "write node --import tsx server.ts --x instead"),
        ("nice tsx server.ts", "write node --import tsx server.ts instead"),
        ("c8 node server.js", "write node server.js instead"),
        ("nyc --all npm start", "write node SCRIPT instead"),
        ("./node_modules/.bin/nodemon a.js", "write node SCRIPT instead"),
        ("node node_modules/.bin/nodemon a.js", "write node SCRIPT instead"),
        ("./node_modules/.bin/next dev", "write next start instead"),
        ("pm2-runtime a.js", "write node SCRIPT instead"),
        ("nest start", "write node dist/main instead"),
        ("dotenv -- node a.js", "write node --env-file=.env SCRIPT instead"),
        ("node --watch a.js", "node --watch runs the server in a process of its own"),
        ("setsid node a.js", "setsid takes node away from its worker: leave it out"),
        ("sh -c 'node build.js && node a'", "node build.js takes the worker's channel before"),
        ("sh -c 'node a | node b'", "pipe the output of sticky-run instead"),
        ("sh -c 'cd x; env -i node a'", "env -i in sh -c 'cd x; env -i node a' would keep"),
        ("sh -c 'cd x; cross-env A=b node a'", "cross-env in sh -c"),
        ("cross-env A=b python a", "write env A=b node SCRIPT instead"),
        ("cross-env 'A=$B' node a", "after sh -c"),
    ] {
        let refused = machine.refused(line);
        assert!(refused.contains(instead), "{line}: {refused}");
        assert!(!refused.contains('\n'), "{refused}");
    }
    assert_eq!(
        typed(&machine.node("./node_modules/.bin/next start")),
        "node ^ ./node_modules/.bin/next start"
    );
}

#[test]
fn cross_env_is_done_here() {
    let machine = Machine::new();
    let found = machine.node("cross-env A=b NODE_ENV=production node a");
    assert_eq!(
        (typed(&found), changes(&found)),
        ("node ^ a".into(), "A=b NODE_ENV=production".into())
    );
    assert!(found.notes[0].contains("running node a itself"));
}

#[test]
fn options_for_node_inside_of_a_text_are_noted() {
    let machine = Machine::new();
    let notes = |line: &str| machine.node(line).notes;
    assert!(notes("sh -c 'cd x; NODE_OPTIONS=--x node a'")[0].contains("set it before sticky-run"));
    assert!(notes("sh -c 'export NODE_OPTIONS=--x; node a'")[0].contains("set it before"));
    assert!(notes("sh -c 'cd x; NODE_OPTIONS=\"$NODE_OPTIONS --x\" node a'").is_empty());
    let found = machine.node("sh -c 'NODE_OPTIONS=--x node a'");
    assert_eq!((changes(&found), found.notes), ("NODE_OPTIONS=--x".into(), vec![]));
}

#[test]
fn words_that_are_no_text_are_taken_as_they_are() {
    use std::os::unix::ffi::OsStringExt;
    let machine = Machine::new();
    let odd = OsString::from_vec(vec![b'a', 0xff]);
    for program in ["node", "env", "nice", "sh", "npx", "yarn"] {
        let command = Command::new(program.into(), vec![odd.clone(), odd.clone()]);
        let found = recognise(&command, machine.place.clone());
        assert_eq!(program == "node", matches!(found, Recognised::Node(_)), "{program}");
    }
    let command = Command::new(odd, vec![]);
    assert_eq!(recognise(&command, machine.place.clone()), Recognised::Other);
}

#[test]
fn no_words_panic() {
    let machine = Machine::new();
    machine.scripts(r#"{"start":"npm start; npm start", "serve":"sh -c \"$0\" && yarn serve"}"#);
    let word = prop::sample::select(vec![
        "env",
        "nice",
        "sh",
        "-c",
        "-i",
        "-u",
        "-S",
        "-",
        "--",
        "-n",
        "node",
        "npm",
        "npx",
        "yarn",
        "pnpm",
        "start",
        "run",
        "serve",
        "cross-env",
        "A=b",
        "=",
        "'",
        "\"",
        "&&",
        ";",
        "|",
        ">",
        "-C",
        "--prefix",
        "--cwd=",
        "--inspect",
        "./server.js",
        "a b",
        "node a && npm start",
        "",
    ]);
    proptest!(|(words in prop::collection::vec(word, 1..8))| {
        machine.recognise(&words);
    });
}

#[test]
fn a_script_is_what_its_last_line_says_that_it_becomes() {
    let machine = Machine::new();
    machine.scripts(r#"{"start":"node server.js"}"#);
    let script = |name: &str, last: &str| {
        machine.file(&format!("app/{name}"), &format!("#!/bin/sh\nset -e\n{last}\n\n# end\n"));
    };
    script("plain", "exec \"$@\"");
    script("user", "exec gosu app \"$@\"");
    script("start", "exec node server.js \"$@\"");
    script("cut", "exec node server.js \"$1\"");
    script("stays", "node server.js");
    script("build", "node build.js\nexec ./server");
    for (line, expected) in [
        ("./plain node server.js", "./plain node server.js"),
        ("tini -- ./plain node server.js", "tini -- ./plain node server.js"),
        ("./user node server.js", "./user node server.js"),
        ("./start --x", "./start --x"),
        ("./plain npm start", "./plain node server.js"),
    ] {
        let found = machine.node(line);
        assert_eq!((typed(&found).as_str(), found.node_arguments), (expected, None), "{line}");
    }
    for line in ["./plain ./server", "./cut a", "./stays", "./build", "./plain"] {
        assert_eq!(machine.line(line), Recognised::Other, "{line}");
    }
    assert!(machine.refused("./user npm start").contains("would keep the worker's channel"));
    assert!(machine.refused("./plain tsx a.ts").contains("write node --import tsx a.ts instead"));
}

#[test]
fn options_of_node_in_a_file_of_variables_are_found_where_node_finds_them() {
    let machine = Machine::new();
    machine.file("app/.env", "NODE_OPTIONS=--first\n");
    machine.file("app/more", "NODE_OPTIONS=\"--second --third\"\n");
    let read = |line: &str| {
        let words = shlex::split(line).unwrap().into_iter().map(OsString::from);
        node_options(&machine.place, &words.collect::<Vec<_>>())
    };
    assert_eq!(read("--env-file=.env --env-file more a.js").unwrap(), "--second --third");
    assert_eq!(read("--env-file-if-exists=.env --env-file=none a.js").unwrap(), "--first");
    assert_eq!(read("a.js --env-file=.env"), None);
}
