//! What is different, and what it takes, flag by flag.

use std::time::Duration;

use super::*;
use crate::logic::config::{
    Account, Command, KeepAlive, Listen, OutputConfig, ProcessConfig, ProxyConfig, RecycleConfig,
    SocketConfig, SystemdConfig,
};
use crate::logic::route::Balance;

fn asked(list: &[(&str, &str)]) -> Vec<FlagValue> {
    let asked = |(name, value): &(&str, &str)| FlagValue {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    list.iter().map(asked).collect()
}

fn route() -> RouteConfig {
    RouteConfig {
        keys: "sid".parse().unwrap(),
        balance: Balance::LeastConnection,
        hash_seed: 0,
        workers: 1,
        max_sessions: 1,
        session_idle: Duration::from_secs(1),
        max_keys: 1,
        key_idle: Duration::from_secs(1),
        in_flight: 1,
        leeway: 1,
        max_open: None,
        stall_timeout: Duration::from_secs(1),
        all_listeners: true,
        mint: None,
    }
}

pub(in crate::logic::config) fn config(handoff: Handoff, list: &[(&str, &str)]) -> Config {
    Config {
        flags: asked(list),
        command: Command::new("server".into(), Vec::new()),
        listen: vec![Listen::Port(3000)],
        socket: SocketConfig::default(),
        handoff,
        fleet: FleetConfig { seed: 1, ..FleetConfig::default() },
        route: route(),
        proxy: ProxyConfig::default(),
        head_timeout: Duration::from_secs(10),
        max_connections: None,
        recycle: RecycleConfig::default(),
        process: ProcessConfig::default(),
        output: OutputConfig::default(),
        systemd: SystemdConfig::default(),
    }
}

fn lines(old: &Config, new: &Config) -> Vec<String> {
    changes(old, new).iter().map(ToString::to_string).collect()
}

#[test]
fn each_difference_is_a_line_and_says_what_a_restart_does_not_do() {
    let before = [("--listen", ":1"), ("--grace", "25s"), ("--user", ""), ("--env", "A=secret")];
    let after = [("--listen", ":2"), ("--grace", "30s"), ("--user", "www"), ("--env", "A=other")];
    let (old, new) = (config(Handoff::Channel, &before), config(Handoff::Channel, &after));
    let expected = [
        "--listen :1 -> :2; needs an upgrade (USR2), not a restart",
        "--grace 25s -> 30s",
        "--user not set -> www; needs an upgrade (USR2), not a restart",
        "--env is different",
    ];
    assert_eq!(lines(&old, &new), expected);
    assert!(changes(&old, &old).is_empty());
}

#[test]
fn what_an_upgrade_cannot_do_is_said_and_stays() {
    let node = |preload| Handoff::Node(NodeConfig { preload, ..NodeConfig::default() });
    let list = |preload, user, grace| {
        asked(&[
            ("--no-node-preload", preload),
            ("--user", user),
            // Who has a user has a group with it.
            ("--group", user),
            ("--grace", grace),
            ("--env", grace),
            ("--listen", grace),
            (COMMAND, "node a.js"),
        ])
    };
    let mut old = config(node(None), &[]);
    old.flags = list("on", "www", "25s");
    let www = Account { uid: Some(33), gid: 33, groups: vec![33], home: None };
    old.process.account = Some(www);
    let mut new = config(node(Some(KeepAlive::Close)), &[]);
    new.flags = list("off", "", "30s");
    new.command.program = "other".into();
    new.fleet.workers = 7;
    let expected = [
        "--no-node-preload on -> off; needs a stop and a start",
        "--user www -> not set; needs a stop and a start",
        "--group www -> not set; needs a stop and a start",
        "--grace 25s -> 30s",
        "--env is different",
        "--listen 25s -> 30s",
    ];
    let mut resumed = new.clone();
    let (changes, fallback) = resumed.resume_from(old.worker_config());
    assert_eq!(changes.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    assert_eq!(resumed.handoff, old.handoff);
    assert_eq!(resumed.process.account, old.process.account);
    // A restart says what an upgrade did not do, and nothing else.
    assert_eq!(lines(&resumed, &new), expected[..3]);
    let fallback = fallback.expect("another command");
    assert_eq!((&fallback.handoff, &fallback.command), (&old.handoff, &old.command));
    assert_eq!(fallback.fleet.workers, old.fleet.workers);
    assert_eq!(lines(&fallback, &resumed), ["--env is different"]);
    // And it cannot be had by a restart.
    assert!(resumed.adopt(new.clone()));
    assert_eq!(resumed.handoff, old.handoff);
    assert_eq!(lines(&resumed, &new), expected[..3]);
}

#[test]
fn auto_is_what_it_means_now() {
    let (mut old, mut new) = (
        config(Handoff::Channel, &[("--workers", "auto")]),
        config(Handoff::Channel, &[("--workers", "auto")]),
    );
    (old.fleet.workers, new.fleet.workers) = (2, 4);
    assert_eq!(lines(&old, &new), ["--workers 2 -> 4"]);
}

#[test]
fn what_needs_an_upgrade_stays_and_is_said_again() {
    let mut old = config(Handoff::Channel, &[("--listen", ":1"), ("--grace", "25s")]);
    let mut new = config(Handoff::Channel, &[("--listen", ":2"), ("--grace", "30s")]);
    new.listen = vec![Listen::Port(2)];
    new.command = Command::new("other".into(), Vec::new());
    new.fleet = FleetConfig { grace: Duration::from_secs(30), seed: 2, ..new.fleet };
    new.route.balance = Balance::Random;
    assert!(old.adopt(new.clone()));
    assert_eq!(old.listen, [Listen::Port(3000)]);
    assert_eq!(old.command, new.command);
    assert_eq!((old.fleet.grace, old.fleet.seed), (Duration::from_secs(30), 1));
    assert_eq!(old.route.balance, Balance::Random);
    let again = lines(&old, &new);
    assert_eq!(again, ["--listen :1 -> :2; needs an upgrade (USR2), not a restart"]);
}

#[test]
fn with_another_handoff_everything_stays() {
    let list = [("--handoff", "auto"), ("--grace", "25s"), (COMMAND, "server")];
    let mut old = config(Handoff::Channel, &list);
    let list = [("--handoff", "auto"), ("--grace", "30s"), (COMMAND, "node a.js")];
    let mut new = config(Handoff::Node(NodeConfig::default()), &list);
    new.command = Command::new("node".into(), vec!["a.js".into()]);
    let lines = lines(&old, &new);
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line.ends_with("; needs a stop and a start")));
    assert!(lines[0].starts_with("--handoff channel -> node"));
    assert!(!old.adopt(new));
    assert_eq!((old.command.program, old.handoff), ("server".into(), Handoff::Channel));
}

#[test]
fn node_workers_keep_whether_there_is_a_preload() {
    let node = |preload, options: &str| {
        Handoff::Node(NodeConfig { preload, options: options.into(), ..NodeConfig::default() })
    };
    for (preload, other, then) in [
        (None, Some(KeepAlive::Close), None),
        (Some(KeepAlive::Close), None, Some(KeepAlive::Close)),
        (Some(KeepAlive::Close), Some(KeepAlive::HandBack), Some(KeepAlive::HandBack)),
    ] {
        let mut old = config(node(preload, ""), &[]);
        assert!(old.adopt(config(node(other, "--x"), &[])));
        assert_eq!(old.handoff, node(then, "--x"));
    }
}
