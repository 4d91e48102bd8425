//! Real proxies: HAProxy and nginx, each with a configuration that the test writes.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use super::node::{Port, scratch};
use super::{client, eventually, proc, programs};

/// A proxy that runs. It is ended when this is dropped.
pub struct Proxy {
    child: Child,
    ports: Vec<Port>,
}

/// HAProxy with this configuration, in which `{0}`, `{1}` and so on stand for its ports. None, said on
/// standard error, where it is not installed.
pub fn haproxy<const PORTS: usize>(name: &str, configuration: &str) -> Option<Proxy> {
    programs::has_with("haproxy", "-v").then(|| {
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f");
        Proxy::start(command, PORTS, name, configuration)
    })
}

/// nginx, likewise.
pub fn nginx<const PORTS: usize>(name: &str, configuration: &str) -> Option<Proxy> {
    programs::has_with("nginx", "-v").then(|| {
        let mut command = Command::new("nginx");
        command.arg("-p").arg(scratch(name)).args(["-e", "errors.log", "-c"]);
        Proxy::start(command, PORTS, name, configuration)
    })
}

impl Proxy {
    fn start(mut command: Command, ports: usize, name: &str, configuration: &str) -> Self {
        let ports: Vec<_> = (0..ports).map(|_| Port::free()).collect();
        let mut text = configuration.to_owned();
        for (nth, port) in ports.iter().enumerate() {
            text = text.replace(&format!("{{{nth}}}"), &port.number.to_string());
        }
        let file = scratch(name).join("proxy.conf");
        fs::write(&file, text).expect("target can be written to");
        let child = command.arg(&file).stdin(Stdio::null()).spawn().expect("it is installed");
        let proxy = Self { child, ports };
        for nth in 0..proxy.ports.len() {
            eventually("the proxy listens", || client::connect(proxy.address(nth)).ok());
        }
        proxy
    }

    /// Where its port of this number listens.
    pub fn address(&self, nth: usize) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports[nth].number).into()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // A master ends its workers only when it is asked to.
        proc::signal(i32::try_from(self.child.id()).expect("a pid fits"), Signal::SIGTERM);
        self.child.wait().ok();
    }
}
