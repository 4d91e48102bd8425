//! From the command line to a configuration, with what the environment and the machine say.

mod process;
mod systemd;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::os::fd::RawFd;

use anyhow::{Context, anyhow, bail};
use nix::net::if_::if_nametoindex;
use tracing::{info, warn};

use super::args::{Args, LifeArgs, ProxyArgs, SocketArgs};
use super::command::{Recognised, node_options, recognise};
use super::values::{self, WorkerCount};
use crate::logic::config::{
    Command, Config, Handoff, KeepAlive, Listen, NodeConfig, NodeKeys, OutputConfig, ProxyConfig,
    RecycleConfig, SocketConfig,
};
use crate::logic::fleet::FleetConfig;
use crate::logic::origin::Trust;
use crate::logic::route::RouteConfig;
use crate::os::account;

/// The variable with which Node gets options.
const NODE_OPTIONS: &str = "NODE_OPTIONS";
/// The port when nobody names one.
const PORT: u16 = 3000;
/// How many messages may be in flight to a worker. Few enough that little has to be taken back
/// from one that dies, and enough that a worker never runs dry between two looks.
const IN_FLIGHT: usize = 32;
/// How many connections more than the least loaded worker are hardly more. The counts of workers
/// then differ by two at most.
const LEEWAY: u32 = 1;

/// How many connections may be on their way to a Node worker, which has to acknowledge each.
const IN_FLIGHT_TO_NODE: usize = 4;
/// The leeway of Node workers. With so few in flight one is often full for a moment, and the others
/// would stand idle if everybody waited for it.
const LEEWAY_OF_NODE: u32 = 4;

/// Checks and completes what was typed.
pub(super) fn resolve(args: Args) -> anyhow::Result<Config> {
    let workers = workers(args.workers)?;
    let process = process::process(&args.process)?;
    let proxy = proxy(&args.proxy)?;
    let (command, handoff) = command(&args, &proxy)?;
    let is_node = matches!(handoff, Handoff::Node(_));
    let passed = systemd::passed(args.systemd.listen_fds, &variable)?;
    let listen = listen(passed, &args.listen, is_node)?;
    let socket = socket(&args.socket, &listen)?;
    let config = Config {
        flags: Vec::new(),
        command,
        listen,
        socket,
        handoff,
        process,
        fleet: fleet(&args.life, workers, is_node),
        recycle: RecycleConfig {
            connections: args.life.max_lifetime_connections,
            memory: args.life.max_memory,
        },
        route: RouteConfig {
            keys: args.by.trusting(proxy.trust.clone()),
            balance: args.balance.into(),
            hash_seed: args.hash_seed,
            workers,
            max_sessions: args.limits.max_sessions as usize,
            session_idle: args.limits.session_idle,
            max_keys: args.limits.max_keys as usize,
            key_idle: args.limits.key_idle,
            max_open: args.limits.max_connections_per_worker,
            leeway: if is_node { LEEWAY_OF_NODE } else { LEEWAY },
            in_flight: if is_node { IN_FLIGHT_TO_NODE } else { IN_FLIGHT },
            stall_timeout: args.stall_timeout,
            all_listeners: !is_node,
            mint: None,
        },
        proxy,
        head_timeout: args.head_timeout,
        output: OutputConfig { prefix: args.log.prefix_output, format: args.log.log_format.into() },
        systemd: systemd::wishes(&variable)?,
        max_connections: args.limits.max_connections,
    };
    config.check()?;
    Ok(config)
}

/// How workers come and go.
fn fleet(life: &LifeArgs, workers: u16, is_node: bool) -> FleetConfig {
    FleetConfig {
        workers,
        boot_timeout: life.boot_timeout,
        grace: life.grace,
        drain_timeout: life.drain_timeout.0,
        restart_parallel: life.restart_parallel,
        max_draining: life.max_draining.unwrap_or(workers),
        watchdog: life.watchdog,
        exits_when_drained: is_node,
        lifetime: life.max_lifetime,
        seed: u64::from(std::process::id()),
    }
}

/// What to run, and how connections get into it.
fn command(args: &Args, proxy: &ProxyConfig) -> anyhow::Result<(Command, Handoff)> {
    let Some((program, arguments)) = args.command.split_first() else {
        bail!(
            "COMMAND is missing: write it after --, or as command = [...] in the file of --config"
        )
    };
    let place = process::place(&args.process)?;
    let mut typed = Command::new(program.clone(), arguments.to_vec());
    typed.directory = args.process.chdir.as_ref().map(|_| place.directory.clone());
    let variables = args.process.env.iter().cloned();
    typed.environment = variables.map(|(name, value)| (name, Some(value))).collect();
    if args.handoff == values::HandoffArg::Channel {
        return Ok((typed, Handoff::Channel));
    }
    let own_options = place.variables.get(OsStr::new(NODE_OPTIONS)).cloned();
    let mut there = place.clone();
    match recognise(&typed, place) {
        Recognised::Node(found) => {
            for note in &found.notes {
                info!(name: "command_resolved", "{note}");
            }
            let changed = found.command.environment.iter().rfind(|(name, _)| name == NODE_OPTIONS);
            let options = changed.map_or(own_options, |(_, value)| value.clone());
            if let Some(directory) = &found.command.directory {
                there.enter(directory);
            }
            let words = found.node_arguments.and_then(|at| found.command.arguments.get(at..));
            let options = options.or_else(|| node_options(&there, words?));
            let config = node(args, proxy, options.unwrap_or_default(), found.node_arguments);
            let mut command = found.command;
            command.directory = command.directory.or(typed.directory);
            command.environment = [typed.environment, command.environment].concat();
            Ok((command, Handoff::Node(config)))
        }
        Recognised::Other if args.handoff == values::HandoffArg::Auto => {
            Ok((typed, Handoff::Channel))
        }
        Recognised::Other => {
            let config = node(args, proxy, own_options.unwrap_or_default(), None);
            Ok((typed, Handoff::Node(config)))
        }
        Recognised::Refused(line) => Err(anyhow!(line)),
    }
}

/// Says what cannot work, before clients find out.
fn warn_of_sids(args: &Args) {
    if args.no_node_preload && args.by.has_sid() {
        warn!(
            name: "preload_disabled",
            "--no-node-preload: --by sid knows only the sessions that @socket.io/sticky reports, \
             and late; sessions of other servers break; use --by ip, or remove --no-node-preload"
        );
    }
}

fn node(
    args: &Args,
    proxy: &ProxyConfig,
    options: OsString,
    arguments_at: Option<usize>,
) -> NodeConfig {
    warn_of_sids(args);
    // Where no keys matter, a kept-alive connection may stay where it is.
    let keep_alive = if args.by.is_empty() { KeepAlive::Ignore } else { args.keep_alive.into() };
    NodeConfig {
        package: args.node_package.into(),
        preload: (!args.no_node_preload).then_some(keep_alive),
        keys: node_keys(args, proxy),
        options,
        arguments_at,
    }
}

/// The keys of requests, for workers. They do not see PROXY headers, which say once and for all of a
/// connection's requests who its client is.
fn node_keys(args: &Args, proxy: &ProxyConfig) -> NodeKeys {
    let trust = if proxy.protocol { Trust::default() } else { proxy.trust.clone() };
    NodeKeys {
        by: args.by.names(),
        trust: trust.peers(),
        forwarded: trust.header().map(str::to_owned),
        session_idle: args.limits.session_idle,
        key_idle: args.limits.key_idle,
    }
}

fn workers(typed: Option<WorkerCount>) -> anyhow::Result<u16> {
    let count = match typed {
        Some(count) => count,
        None => match variable("WEB_CONCURRENCY")? {
            Some(text) => text.parse().map_err(|error: String| {
                anyhow::anyhow!("WEB_CONCURRENCY is \"{text}\": {error}")
            })?,
            None => WorkerCount::Auto,
        },
    };
    Ok(match count {
        WorkerCount::Exactly(count) => count.get(),
        // The smaller of the affinity and the quota of the control group, rounded up.
        WorkerCount::Auto => u16::try_from(num_cpus::get()).unwrap_or(u16::MAX),
    })
}

/// Where to listen besides what workers ask for.
fn listen(passed: Vec<Listen>, typed: &[String], workers_ask: bool) -> anyhow::Result<Vec<Listen>> {
    if passed.is_empty() && typed.is_empty() && !workers_ask {
        return Ok(vec![Listen::Port(default_port()?)]);
    }
    let mut listen = passed;
    for text in typed {
        let resolved = address(text).with_context(|| format!("cannot listen on {text}"))?;
        listen.extend(resolved);
    }
    Ok(each_descriptor_once(listen))
}

/// A socket that was passed may be named by its number as well.
fn each_descriptor_once(mut listen: Vec<Listen>) -> Vec<Listen> {
    let mut taken = BTreeSet::new();
    listen.retain(|listen| match listen {
        Listen::Passed { fd, name: _ } | Listen::Inherited(fd) => taken.insert(*fd),
        Listen::Tcp(_) | Listen::Port(_) | Listen::Unix(_) | Listen::Abstract(_) => true,
    });
    listen
}

fn default_port() -> anyhow::Result<u16> {
    let Some(text) = variable("PORT")? else { return Ok(PORT) };
    text.parse().with_context(|| format!("PORT is \"{text}\", which is no port number"))
}

/// What one `--listen` means; a name may stand for several addresses.
fn address(text: &str) -> anyhow::Result<Vec<Listen>> {
    if let Some(path) = text.strip_prefix("unix:") {
        if path.is_empty() {
            bail!("the path is missing, as in unix:/run/app.sock");
        }
        return Ok(vec![match path.strip_prefix('@') {
            Some("") => bail!("the name is missing, as in unix:@app"),
            Some(name) => Listen::Abstract(name.into()),
            None => Listen::Unix(path.into()),
        }]);
    }
    if let Some(number) = text.strip_prefix("fd:") {
        let number: Option<RawFd> = number.parse().ok().filter(|number| *number >= 0);
        let number = number.context("the number of a descriptor is needed, as in fd:3")?;
        return Ok(vec![Listen::Inherited(number)]);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        bail!("{scheme}:// begins a URL, and here stands an address: {}", without_path(rest));
    }
    if text.starts_with(['/', '.']) {
        bail!("a Unix socket is written unix:{text}");
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(vec![Listen::Tcp(address)]);
    }
    let form = "use ADDRESS:PORT, :PORT, unix:PATH or fd:NUMBER";
    // As others take them: nginx a port alone, and ss(8) writes a star.
    let is_port = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (host, port) = if is_port { ("", text) } else { text.rsplit_once(':').context(form)? };
    let port: u16 = port.parse().map_err(|_| anyhow!("\"{port}\" is no port: {form}"))?;
    if ["", "*"].contains(&host) {
        return Ok(vec![Listen::Port(port)]);
    }
    if let Some((address, zone)) = with_zone(host) {
        let scope = if_nametoindex(zone)
            .map_err(|_| anyhow!("there is no network interface \"{zone}\" here"))?;
        return Ok(vec![Listen::Tcp(SocketAddrV6::new(address, port, 0, scope).into())]);
    }
    let found = match (host, port).to_socket_addrs() {
        Ok(found) => found,
        // It has one without /etc/hosts too, such as in an empty root (RFC 6761, 6.3).
        Err(_) if host == "localhost" => {
            return Ok(vec![Listen::Tcp((Ipv4Addr::LOCALHOST, port).into())]);
        }
        Err(error) => {
            let what = format!("no address \"{host}\" is known here, write the address itself");
            return Err(error).context(what);
        }
    };
    let mut found: Vec<_> = found.map(Listen::Tcp).collect();
    found.dedup();
    Ok(found)
}

/// An IPv6 address and the name of the interface that it is on, as in `[fe80::1%eth0]` (RFC 4007, 11).
fn with_zone(host: &str) -> Option<(Ipv6Addr, &str)> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let (address, zone) = host.split_once('%')?;
    Some((address.parse().ok()?, zone))
}

/// The address in what follows the scheme of a URL.
fn without_path(rest: &str) -> &str {
    let address = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if address.is_empty() { "127.0.0.1:3000" } else { address }
}

/// Who may connect to Unix sockets.
fn socket(typed: &SocketArgs, listen: &[Listen]) -> anyhow::Result<SocketConfig> {
    let SocketArgs { socket_mode, socket_user, socket_group } = typed;
    let (uid, gid) = account::owner(socket_user.as_deref(), socket_group.as_deref())?;
    let socket = SocketConfig { mode: *socket_mode, uid, gid };
    let has_file = listen.iter().any(|listen| matches!(listen, Listen::Unix(_)));
    if socket != SocketConfig::default() && !has_file {
        warn!(
            name: "flags_ignored",
            "--socket-mode, --socket-user and --socket-group have no effect: no --listen is a \
             unix:PATH"
        );
    }
    Ok(socket)
}

/// Which peers are proxies, and what they send.
fn proxy(typed: &ProxyArgs) -> anyhow::Result<ProxyConfig> {
    if typed.proxy_protocol && typed.trust.is_empty() {
        bail!(
            "--proxy-protocol needs --trust, the peers that are proxies: --trust 10.0.0.0/8, or \
             --trust unix"
        );
    }
    let trust = Trust::new(typed.trust.clone(), typed.forwarded_header.into());
    Ok(ProxyConfig { protocol: typed.proxy_protocol, trust })
}

/// A variable of the environment; an empty one counts as unset.
#[expect(clippy::disallowed_methods, reason = "the command line includes the environment")]
pub(super) fn variable(name: &str) -> anyhow::Result<Option<String>> {
    match std::env::var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(error @ std::env::VarError::NotUnicode(_)) => {
            Err(error).with_context(|| format!("cannot read {name}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_what_they_look_like() {
        let one = |text: &str| address(text).unwrap().pop().unwrap();
        assert_eq!(one("127.0.0.1:80"), Listen::Tcp("127.0.0.1:80".parse().unwrap()));
        assert_eq!(one("[::1]:0"), Listen::Tcp("[::1]:0".parse().unwrap()));
        for all in [":3000", "3000", "*:3000"] {
            assert_eq!(one(all), Listen::Port(3000));
        }
        let zone = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 0, if_nametoindex("lo").unwrap());
        for address in ["[::1%lo]:80".to_owned(), format!("[::1%{}]:80", zone.scope_id())] {
            assert_eq!(one(&address), Listen::Tcp(zone.into()));
        }
        assert_eq!(one("unix:/a b"), Listen::Unix("/a b".into()));
        assert_eq!(one("unix:@a b"), Listen::Abstract("a b".into()));
        assert_eq!(one("unix:./@a"), Listen::Unix("./@a".into()));
        assert_eq!(one("fd:3"), Listen::Inherited(3));
        assert!(address("localhost:3000").unwrap().contains(&one("127.0.0.1:3000")));
    }

    #[test]
    fn what_is_no_address_says_what_to_write() {
        let wrong = |text| format!("{:#}", address(text).unwrap_err());
        assert!(wrong("host").contains("use ADDRESS:PORT, :PORT, unix:PATH or fd:NUMBER"));
        assert!(wrong("70000").contains("\"70000\" is no port"));
        assert!(wrong("http://127.0.0.1:80/x").ends_with("an address: 127.0.0.1:80"));
        assert!(wrong("tcp://").ends_with("an address: 127.0.0.1:3000"));
        assert!(wrong("/run/a.sock").ends_with("is written unix:/run/a.sock"));
        assert!(wrong("[fe80::1%none]:80").contains("no network interface \"none\""));
        assert!(wrong("127.0.0.1:http").contains("\"http\" is no port"));
        assert!(wrong("fd:-1").contains("fd:3"));
        assert!(wrong("unix:").contains("the path is missing"));
        assert!(wrong("unix:@").contains("the name is missing"));
    }

    #[test]
    fn passed_sockets_come_first_and_take_the_place_of_the_default() {
        let passed = |fd| Listen::Passed { fd, name: String::new() };
        assert_eq!(listen(vec![passed(3)], &[], false).unwrap(), [passed(3)]);
        let typed = ["fd:4", "fd:3", "unix:/a"].map(str::to_owned);
        let both = listen(vec![passed(3)], &typed, true).unwrap();
        assert_eq!(both, [passed(3), Listen::Inherited(4), Listen::Unix("/a".into())]);
        assert_eq!(listen(Vec::new(), &[], true).unwrap(), []);
    }
}
