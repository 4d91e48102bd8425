//! A worker that is somebody else, and the terminal that root sits at.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::ttyname;

use crate::privileges::{AS_SOMEBODY, is_root};
use crate::support::{eventually, programs, sticky_run, terminal};

/// Types a letter at the terminal that is its standard output (`TIOCSTI` of `ioctl_tty(2)`), in each way that
/// leads there, and writes into a file which of them were able to.
const TYPES: &str = r#"
use Fcntl;
use POSIX;
open(my $said, ">>", $ARGV[0]);
$said->autoflush(1);
my $terminal = POSIX::ttyname(1);
sub opened { sysopen(my $file, shift, O_RDWR) or return; $file }
sub controlling { ioctl(STDOUT, 0x540E, 0) or return; \*STDOUT }
my %ways = (
    "output" => sub { \*STDOUT }, "errors" => sub { \*STDERR },
    "name" => sub { opened($terminal) }, "tty" => sub { opened("/dev/tty") }, "controlling" => \&controlling,
);
for my $session (0, 1) {
    for my $way (sort keys %ways) {
        my $child = fork();
        if ($child == 0) {
            POSIX::setsid() if $session;
            my $file = $ways{$way}->();
            my $letter = "x";
            print $said ($file && ioctl($file, 0x5412, $letter) ? "typed" : "refused"), " $way $session\n";
            POSIX::_exit(0);
        }
        waitpid($child, 0);
    }
}
print $said "over\n";
sleep 100;
"#;

/// A terminal that everybody may open, and a file that everybody may write to.
struct Scene {
    _master: OwnedFd,
    slave: OwnedFd,
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let (master, slave) = terminal::new();
        let directory = tempfile::tempdir().expect("a directory");
        let scene = Self { _master: master, slave, directory };
        allow(&ttyname(&scene.slave).expect("it is a terminal"), 0o666);
        allow(scene.directory.path(), 0o755);
        fs::write(scene.said(), "").expect("it is ours");
        allow(&scene.said(), 0o666);
        scene
    }

    fn said(&self) -> PathBuf {
        self.directory.path().join("said")
    }

    fn slave(&self) -> OwnedFd {
        self.slave.try_clone().expect("room for a descriptor")
    }

    /// What came of each way.
    #[track_caller]
    fn outcome(&self) -> String {
        eventually("every way was tried", || {
            let said = fs::read_to_string(self.said()).expect("it is ours");
            said.contains("over\n").then_some(said)
        })
    }
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

/// What a shell of root would run next.
#[test]
fn a_worker_that_is_somebody_else_cannot_type_at_the_terminal() {
    if !is_root() || !programs::has("perl") {
        return;
    }
    // Without the supervisor in between it can, unless the kernel lets nobody do so.
    let scene = Scene::new();
    let mut alone = Command::new("setsid");
    alone.args(["--ctty", "setpriv", "--reuid", AS_SOMEBODY[1], "--clear-groups"]);
    alone.args(["perl", "-e", TYPES]).arg(scene.said());
    let mut alone = alone.stdin(scene.slave()).stdout(scene.slave()).stderr(scene.slave()).spawn();
    let outcome = scene.outcome();
    let ended = alone.as_mut().map(|alone| (alone.kill(), alone.wait()));
    assert!(matches!(ended, Ok((Ok(()), Ok(_)))), "it is our child");
    if !outcome.contains("typed output 0\n") {
        eprintln!("not tested: dev.tty.legacy_tiocsti is 0 here");
        return;
    }

    let scene = Scene::new();
    let said = scene.said();
    let words = ["perl", "-e", TYPES, said.to_str().expect("its path is text")];
    let builder = sticky_run(1, &AS_SOMEBODY).command(&words).stdin(scene.slave());
    let builder = builder.output_to(scene.slave()).log_to(scene.slave());
    let _supervisor = builder.after("exec setsid --ctty \"$0\" \"$@\";").spawn();
    let outcome = scene.outcome();
    assert_eq!(outcome.matches("refused").count(), 10, "{outcome}");
    assert_eq!(outcome.matches("typed").count(), 0, "{outcome}");
}
