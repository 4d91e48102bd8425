//! sticky-run over the Node apps of `tests/node/apps`, and the Node clients beside them.
//!
//! The packages are installed by the first test that wants them. `STICKY_TEST_NODE` chooses what
//! runs the apps: 18, 22 or 24, installed by the first test likewise, or the path of a Node;
//! without it, the `node` that is found. The clients always run with that one.

use std::env;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::programs::{Client, ROOT, available, changed, run, target};
use super::supervisor::{Builder, Supervisor, without_listener};

/// The apps, their clients, and the list of the packages that they need.
const HOME: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node");

/// An app that sticky-run is going to run.
pub struct App {
    command: Vec<String>,
    port: Port,
    variables: Vec<(String, String)>,
    flags: Vec<String>,
    before: Option<String>,
    program: Option<PathBuf>,
}

/// An app that runs. It is ended when this is dropped.
pub struct Running {
    supervisor: Supervisor,
    port: Port,
}

/// A free TCP port, kept from everybody who does not ask for it by its number.
pub struct Port {
    /// The number.
    pub number: u16,
    /// Bound, so that the kernel gives the port to nobody, but it does not listen, so that another
    /// socket may.
    _reservation: Socket,
}

/// Where a port is on this machine.
pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

impl Port {
    /// One that no address of this machine uses.
    pub fn free() -> Self {
        Self::at(0).expect("a free port")
    }

    /// Two such ports with numbers that follow each other.
    pub fn pair() -> [Self; 2] {
        super::eventually("two free ports side by side", || {
            let first = Self::free();
            let second = Self::at(first.number.checked_add(1)?)?;
            Some([first, second])
        })
    }

    /// Where it is on this machine.
    pub fn address(&self) -> SocketAddr {
        local(self.number)
    }

    fn at(number: u16) -> Option<Self> {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).expect("a socket");
        socket.set_only_v6(false).expect("it is not bound yet");
        // Whoever is told the number sets this too, as servers do, and may then listen there.
        socket.set_reuse_address(number == 0).expect("it is a socket");
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, number));
        socket.bind(&any.into()).ok()?;
        socket.set_reuse_address(true).expect("it is a socket");
        let address = socket.local_addr().expect("it is bound").as_socket();
        let number = address.expect("it is an internet address").port();
        Some(Self { number, _reservation: socket })
    }
}

impl App {
    /// An app of `tests/node/apps` on a free port of 127.0.0.1. None, said on standard error,
    /// without Node.
    pub fn new(name: &str) -> Option<Self> {
        Self::at(&Path::new(HOME).join("apps").join(name))
    }

    /// Likewise, one that stands elsewhere.
    pub fn at(path: &Path) -> Option<Self> {
        let path = path.to_str().expect("its path is text").to_owned();
        let command = vec![binary()?, path];
        let variables = vec![("HOST".to_owned(), "127.0.0.1".to_owned())];
        Some(Self {
            command,
            port: Port::free(),
            variables,
            flags: Vec::new(),
            before: None,
            program: None,
        })
    }

    /// The server of an example, in the example's directory and with its packages. None, said on
    /// standard error, without Node.
    pub fn example(name: &str) -> Option<Self> {
        static INSTALLING: Mutex<()> = Mutex::new(());
        let home = Path::new(ROOT).join("examples").join(name);
        let installed = {
            let _turn = INSTALLING.lock();
            install(&home)
        };
        available("Node", &installed)?;
        let app = Self::at(Path::new("server.js"))?;
        Some(app.after(&format!("cd '{}' &&", home.display())))
    }

    /// Runs another command, in which `{node}` and `{app}` stand for Node and the app.
    pub fn command(mut self, words: &[&str]) -> Self {
        let [node, app] = &self.command[..] else { panic!("the command is changed once") };
        let fill = |word: &&str| word.replace("{node}", node).replace("{app}", app);
        self.command = words.iter().map(fill).collect();
        self
    }

    /// Sets a variable of the supervisor and so of the workers.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds flags of sticky-run.
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Has sticky-run listen on the app's port, as workers of the packages need it.
    pub fn listening(self) -> Self {
        let address = format!("127.0.0.1:{}", self.port.number);
        self.flags(&["--listen", &address])
    }

    /// Runs the supervisor through a shell, to change its limits; see `Builder::after`.
    pub fn after(mut self, before: &str) -> Self {
        self.before = Some(before.to_owned());
        self
    }

    /// Starts this file, which is to be a sticky-run too.
    pub fn program(mut self, path: &Path) -> Self {
        self.program = Some(path.to_owned());
        self
    }

    /// The port that the app is told.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Starts so many workers, and waits until all of them are ready.
    pub fn start(self, workers: u16) -> Running {
        self.begin(workers, Builder::start)
    }

    /// Starts so many workers, and waits for nothing.
    pub fn spawn(self, workers: u16) -> Running {
        self.begin(workers, Builder::spawn)
    }

    fn begin(self, workers: u16, start: impl FnOnce(Builder) -> Supervisor) -> Running {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        let words: Vec<&str> = self.command.iter().map(String::as_str).collect();
        let mut builder = without_listener(workers, &flags).command(&words);
        builder = builder.env("PORT", &self.port.number.to_string());
        for (name, value) in &self.variables {
            builder = builder.env(name, value);
        }
        if let Some(program) = &self.program {
            builder = builder.program(program);
        }
        if let Some(before) = &self.before {
            builder = builder.after(before);
        }
        Running { supervisor: start(builder), port: self.port }
    }
}

impl Running {
    /// Where the app's port is reached.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The same as a URL without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }
}

impl Deref for Running {
    type Target = Supervisor;

    fn deref(&self) -> &Supervisor {
        &self.supervisor
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Supervisor {
        &mut self.supervisor
    }
}

/// Starts a client of `tests/node/clients` with these arguments. None, said on standard error,
/// without Node.
pub fn client(script: &str, arguments: &Value) -> Option<Client> {
    available("Node", packages())?;
    let mut command = Command::new("node");
    command.arg(Path::new(HOME).join("clients").join(script)).arg(arguments.to_string());
    Some(Client::start(command))
}

/// The directory of an installed package. None, said on standard error, without Node.
pub fn package(name: &str) -> Option<PathBuf> {
    available("Node", packages())?;
    Some(Path::new(HOME).join("node_modules").join(name))
}

/// A new directory below target for what a test writes.
pub fn scratch(name: &str) -> PathBuf {
    let path = target().join("tests/node").join(name);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}: {path:?}"),
        _ => fs::create_dir_all(&path).expect("target can be written to"),
    }
    path
}

/// The Node that runs the apps. None, said on standard error, without one.
pub fn binary() -> Option<String> {
    available("Node", packages())?;
    let wanted = env::var("STICKY_TEST_NODE").unwrap_or_default();
    match &wanted[..] {
        "" => Some("node".to_owned()),
        "18" | "22" | "24" => {
            static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
            let home = Path::new(HOME).join("versions");
            available("Node", INSTALLED.get_or_init(|| install(&home)))?;
            Some(format!("{}/node_modules/node-{wanted}/bin/node", home.display()))
        }
        path => Some(path.to_owned()),
    }
}

fn packages() -> &'static Result<(), String> {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        install(Path::new(HOME))?;
        run(Command::new("node").arg("--version"))
    })
}

/// Installs what a folder's lock file lists, unless it is there already.
fn install(home: &Path) -> Result<(), String> {
    let lock = home.join("package-lock.json");
    if changed(&home.join("node_modules/.package-lock.json")) >= changed(&lock) {
        return Ok(());
    }
    let install = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    run(Command::new("npm").args(install).current_dir(home))
}
