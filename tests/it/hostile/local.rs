//! Another user of this machine, such as that of the workers: nothing of root becomes theirs, and
//! nothing that they put in the way stops anything.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::privileges::{AS_SOMEBODY, GROUP, SLEEP, USER, is_root, private_directory};
use crate::support::node::{self, App, Running};
use crate::support::programs::ROOT;
use crate::support::somebody::{Attack, as_user};
use crate::support::{event, full, proc, sticky_run};

/// The user, the group and the mode of a file.
fn rights(path: &Path) -> (u32, u32, u32) {
    rights_of(&path.symlink_metadata().expect("it is there"))
}

fn rights_of(found: &Metadata) -> (u32, u32, u32) {
    (found.uid(), found.gid(), found.mode() & 0o777)
}

/// The file that is at a path now, wherever it is later.
fn hold(path: &Path) -> File {
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags).open(path).expect("it is there")
}

/// A socket of root that nobody else may connect to, and that nobody listens on any more.
fn left_by_root(path: &Path) {
    drop(UnixListener::bind(path).expect("it is free"));
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("it is ours");
}

fn directory(path: PathBuf, mode: u32) -> PathBuf {
    fs::create_dir(&path).expect("it is ours");
    fs::set_permissions(&path, Permissions::from_mode(mode)).expect("it is ours");
    path
}

/// An app that listens on these, where everybody can read it.
fn listeners(home: &Path, list: &Value) -> Option<App> {
    for file in ["listeners.js", "who.js"] {
        let from = Path::new(ROOT).join("tests/node/apps").join(file);
        fs::copy(from, home.join(file)).expect("there is room");
    }
    let app = App::at(&home.join("listeners.js"))?.env("LISTEN", &list.to_string());
    Some(app.flags(&AS_SOMEBODY))
}

/// What all of so many workers said of this listener.
#[track_caller]
fn said(running: &Running, name: &str, workers: usize) -> Value {
    let start = format!("listener {name} ");
    running.wait_for_log_times(&start, workers);
    let log = running.log();
    let lines = log.lines().filter_map(|line| line.split(&start).nth(1));
    let said = lines.map(|line| serde_json::from_str::<Value>(line).expect("it is JSON"));
    let said: Vec<_> = said.map(|said| [said["address"].clone(), said["error"].clone()]).collect();
    assert!(said.windows(2).all(|pair| pair[0] == pair[1]), "{name}: {said:?}");
    let [address, error] = &said[0];
    if error.is_null() { address.clone() } else { error.clone() }
}

#[test]
fn the_unix_socket_of_a_node_app_is_made_with_the_rights_of_its_user() {
    if !is_root() {
        return;
    }
    let (outer, private) = private_directory();
    let [own, all] = ["own.sock", "all.sock"].map(|name| private.join(name));
    let list = json!([
        { "name": "own", "path": own },
        { "name": "all", "path": all, "readableAll": true, "writableAll": true },
    ]);
    let Some(app) = listeners(outer.path(), &list) else { return };
    let mut running = app.flags(&["--umask", "027"]).start(2);
    for _ in 0..2 {
        for (name, path, mode) in [("own", &own, 0o750), ("all", &all, 0o776)] {
            assert_eq!(said(&running, name, 2), json!(path));
            assert_eq!(rights(path), (USER, GROUP, mode));
            let path = path.clone();
            as_user(|| UnixStream::connect(path)).expect("it is the user's");
        }
        running.upgrade();
    }
    assert_eq!(running.stop().code(), Some(0));
    assert!(!own.exists() && !all.exists());
    running.whole_log();
    running.expect_no_trouble();
}

#[test]
fn a_node_worker_has_no_rights_of_root_but_to_low_ports() {
    if !is_root() {
        return;
    }
    let (outer, _private) = private_directory();
    let secret = directory(outer.path().join("secret"), 0o700);
    let shared = directory(outer.path().join("shared"), 0o1777);
    let left = shared.join("left.sock");
    left_by_root(&left);
    let list = json!([
        { "name": "own", "port": 0, "host": "127.0.0.1" },
        { "name": "secret", "path": secret.join("a.sock") },
        { "name": "public", "path": outer.path().join("a.sock") },
        { "name": "left", "path": left },
        { "name": "low", "port": 1, "host": "127.0.0.1" },
    ]);
    let Some(app) = listeners(outer.path(), &list) else { return };
    let running = app.start(1);
    for (name, error) in [("secret", "EACCES"), ("public", "EACCES"), ("left", "EADDRINUSE")] {
        assert_eq!(said(&running, name, 1), json!(error), "{name}");
    }
    assert_eq!(rights(&left), (0, 0, 0o600));
    assert_eq!(said(&running, "low", 1)["port"], 1);
}

#[test]
fn workers_start_after_an_upgrade_although_there_is_no_room_and_somebody_wants_the_lock() {
    if !is_root() {
        return;
    }
    let (outer, _private) = private_directory();
    let list = json!([{ "name": "own", "port": 0, "host": "127.0.0.1" }]);
    let Some(app) = listeners(outer.path(), &list) else { return };
    // A small one of its own, which is reached through the supervisor.
    let temporary = directory(outer.path().join("temporary"), 0o755);
    let mount = format!("mount -t tmpfs -o size=2m,mode=1777 none {}", temporary.display());
    let before = format!("exec unshare -m sh -c '{mount} && exec \"$0\" \"$@\"' \"$0\" \"$@\";");
    let app = app.env("TMPDIR", temporary.to_str().expect("its path is text")).after(&before);
    let running = app.start(1);
    let inside = Path::new("/proc").join(running.pid().to_string()).join("root");
    let inside = inside.join(temporary.strip_prefix("/").expect("it is absolute"));
    let own = fs::read_dir(&inside).unwrap().next().expect("the preload is there").unwrap().path();
    for name in ["sticky-run-fifo", "sticky-run-other"] {
        mkfifo(&inside.join(name), Mode::S_IRWXU).unwrap();
    }
    let mut filler = File::create(inside.join("filler")).unwrap();
    while filler.write_all(&[0; 4096]).is_ok() {}
    running.upgrade();
    assert!(File::open(&own).unwrap().try_lock().is_err(), "the lock is kept");
    proc::signal(running.pid_of(0), Signal::SIGKILL);
    running.wait_events(event("worker_ready").worker(0), 2);
    running.expect_no_trouble_but(&["worker_exited"]);
}

/// What a user puts in the place of a file that is read in a restart.
#[test]
fn a_restart_does_not_wait_for_a_file_that_has_become_something_else() {
    let home = node::scratch("hostile-files");
    let (package, variables) = (home.join("package.json"), home.join(".env"));
    let app = Path::new(ROOT).join("tests/node/apps/http.js");
    let start = format!("node --env-file={} {}", variables.display(), app.display());
    fs::write(&package, json!({ "name": "it", "scripts": { "start": start } }).to_string())
        .unwrap();
    fs::write(&variables, "").unwrap();
    let Some(app) = App::new("http.js") else { return };
    let words = ["npm", "--prefix", home.to_str().expect("its path is text"), "start"];
    let running = app.command(&words).start(1);
    let aside = home.join("aside");
    fs::rename(&package, &aside).unwrap();
    mkfifo(&package, Mode::S_IRWXU).unwrap();
    running.signal(Signal::SIGHUP);
    let rejected = event("configuration_rejected");
    running.wait_event(rejected.saying("package.json: it has to be a file"));
    fs::rename(&aside, &package).unwrap();
    fs::remove_file(&variables).unwrap();
    mkfifo(&variables, Mode::S_IRWXU).unwrap();
    running.signal(Signal::SIGHUP);
    running.wait_event("configuration_unchanged");
}

/// Starts supervisors that listen at a path, each with these flags, while the user of the workers does
/// something there; then these files are as they were.
fn nothing_is_given_away(
    path: &Path,
    flags: &[&str],
    victims: &[PathBuf],
    attack: impl FnMut() + Send + 'static,
) {
    let victims: Vec<_> = victims.iter().map(|path| hold(path)).collect();
    let look = || -> Vec<_> {
        let found = victims.iter().map(|victim| victim.metadata().expect("it is open"));
        found.map(|found| rights_of(&found)).collect()
    };
    let before = look();
    let listen = format!("unix:{}", path.display());
    let flags = [&AS_SOMEBODY[..], &["--listen", &listen], flags].concat();
    let attack = Attack::begin(attack);
    for _ in 0..if full() { 200 } else { 12 } {
        // It may find that it cannot listen there, in which case it ends.
        let mut supervisor = sticky_run(1, &flags).command(&SLEEP).spawn();
        supervisor.wait_for_log("unix:");
        supervisor.stop();
    }
    drop(attack);
    assert_eq!(look(), before);
}

/// Flags that have a socket be given to somebody.
const GIVEN: [&[&str]; 3] = [
    &[],
    &["--socket-mode", "666"],
    &["--socket-user", "54321", "--socket-group", "33", "--socket-mode", "660"],
];

#[test]
fn a_user_who_swaps_the_socket_is_given_nothing_of_root() {
    if !is_root() {
        return;
    }
    for flags in GIVEN {
        let (outer, private) = private_directory();
        let loot = outer.path().join("loot");
        fs::write(&loot, "").unwrap();
        fs::set_permissions(&loot, Permissions::from_mode(0o600)).unwrap();
        // Files of root that are where the user may move them.
        let [file, socket] = ["file", "socket"].map(|name| private.join(name));
        fs::copy(&loot, &file).unwrap();
        left_by_root(&socket);
        let path = private.join("a.sock");
        let (at, aside, target) = (path.clone(), private.join("aside"), loot.clone());
        let moved = [file.clone(), socket.clone()];
        nothing_is_given_away(&path, flags, &[loot, file, socket], move || {
            fs::rename(&at, &aside).ok();
            symlink(&target, &at).ok();
            fs::remove_file(&at).ok();
            for file in &moved {
                fs::rename(file, &at).ok();
                fs::rename(&at, file).ok();
            }
        });
    }
}

#[test]
fn a_user_who_swaps_the_directory_is_given_nothing_of_root() {
    if !is_root() {
        return;
    }
    for flags in GIVEN {
        let (outer, private) = private_directory();
        let roots = directory(outer.path().join("roots"), 0o755);
        let victim = roots.join("a.sock");
        left_by_root(&victim);
        let before = victim.metadata().unwrap().ino();
        let run = private.join("run");
        fs::create_dir(&run).unwrap();
        chown(&run, Some(USER), Some(GROUP)).unwrap();
        let (at, aside, to) = (run.clone(), private.join("aside"), roots.clone());
        nothing_is_given_away(
            &run.join("a.sock"),
            flags,
            std::slice::from_ref(&victim),
            move || {
                fs::rename(&at, &aside).ok();
                symlink(&to, &at).ok();
                fs::remove_file(&at).ok();
                fs::rename(&aside, &at).ok();
            },
        );
        assert_eq!(fs::read_dir(&roots).unwrap().count(), 1);
        assert_eq!(victim.metadata().unwrap().ino(), before);
    }
}

#[test]
fn a_directory_that_a_user_leads_to_is_used_with_the_rights_of_that_user_alone() {
    if !is_root() {
        return;
    }
    let (outer, private) = private_directory();
    let roots = directory(outer.path().join("roots"), 0o755);
    let victim = roots.join("a.sock");
    left_by_root(&victim);
    let before = victim.metadata().unwrap().ino();
    symlink(&roots, private.join("run")).unwrap();
    for (flags, name) in [(GIVEN[0], "a.sock"), (GIVEN[2], "a.sock"), (GIVEN[0], "b.sock")] {
        let listen = format!("unix:{}", private.join("run").join(name).display());
        let flags = [&AS_SOMEBODY[..], &["--listen", &listen], flags].concat();
        let mut supervisor = sticky_run(1, &flags).command(&SLEEP).spawn();
        assert_eq!(supervisor.wait().code(), Some(1));
        assert!(supervisor.whole_log().contains(&format!("cannot listen on {listen}")));
    }
    assert_eq!(fs::read_dir(&roots).unwrap().count(), 1);
    assert_eq!(victim.metadata().unwrap().ino(), before);
}
