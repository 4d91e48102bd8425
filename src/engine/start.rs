//! The beginning: from a configuration, or from the state of the program that this one was.

use std::collections::HashMap;

use anyhow::{Context, bail};
use mio::Poll;
use tracing::{info, warn};

use super::accept::Listeners;
use super::handoff::Handoff;
use super::life::Worn;
use super::native::Native;
use super::node::Node;
use super::notify::Notifier;
use super::origin::Origins;
use super::output::Output;
use super::pending::Pending;
use super::tokens::Subject;
use super::upgrade::{Shared, State, Upgrade, YES};
use super::workers::Workers;
use super::{Engine, Source, privileges};
use crate::logic::config::{self, Config};
use crate::logic::fleet::Fleet;
use crate::logic::room::Room;
use crate::logic::route::Router;
use crate::logic::route::mint::MintKey;
use crate::os::limits::raise_file_limit;
use crate::os::signals::{Inherited, Signals};
use crate::os::spawn::Spawner;
use crate::os::upgrade::{Program, StateFile};
use crate::os::{clock, listen, random};

/// Where the engine comes from, to go back there.
#[derive(Debug)]
pub struct Origin {
    /// The program, for an upgrade.
    pub program: Program,
    /// The configuration, for a restart.
    pub source: Box<dyn Source>,
}

impl Engine {
    /// Opens the listeners and starts nothing yet.
    pub fn new(mut config: Config, origin: Origin) -> anyhow::Result<Self> {
        let now = clock::now();
        // First of all, since a descriptor that was not inherited could be one of ours later.
        let defers = may_defer(&config);
        let listeners = open_listeners(&config, &config.listen, defers)?;
        let poll = Poll::new().context("cannot create the event loop")?;
        let inherited = Inherited::read().context("cannot read how signals are set")?;
        let signals = register_signals(&poll, &config)?;
        let file_limit = raise_file_limit().context("cannot raise the limit on open files")?;
        let room = Room::new(file_limit.raised(), config.fleet.workers);
        privileges::settle(&config.process, &listeners)?;
        let spawner = Spawner { file_limit, signals: inherited, process: config.process.clone() };
        let [first, second, seed] =
            random::numbers().context("cannot get random numbers from the kernel")?;
        let node = match &config.handoff {
            config::Handoff::Channel => None,
            config::Handoff::Node(node) => {
                if node.preload.is_some() {
                    let key = random::bytes().context("cannot get random bytes from the kernel")?;
                    config.route.mint = Some(MintKey(key));
                }
                let given = u32::try_from(listeners.len()).context("too many listeners")?;
                let node = Node::new(now, node.clone(), given);
                Some(node.context("cannot write the files of the preload")?)
            }
        };
        Ok(Self {
            listeners: Listeners::register(poll.registry(), listeners)?,
            signals,
            now,
            fleet: Fleet::new(now, config.fleet.clone()),
            router: Router::new(now, config.route.clone(), room.queues(), (first, second), seed),
            origins: Origins::new(config.proxy.clone()),
            pending: Pending::new(config.head_timeout),
            waiting: HashMap::new(),
            handoff: Handoff::new(),
            workers: Workers::new(spawner, config.command.clone(), config.fleet.workers),
            native: Native::new().context("cannot measure a channel")?,
            node,
            mint: config.route.mint.clone(),
            defers,
            room,
            reported: None,
            outcome: None,
            output: Output::new(config.output),
            notifier: Notifier::new(now, &config.systemd),
            upgrade: Upgrade::new(origin.program),
            worn: Worn::default(),
            source: origin.source,
            config,
            fallback: None,
            poll,
        })
    }

    /// Goes on from the state of the program that this one was, with a configuration that may have
    /// changed since.
    ///
    /// Fails when the state makes no sense; nothing can be saved then, so ask [`check`] before.
    pub fn resume(mut config: Config, origin: Origin, mut file: StateFile) -> anyhow::Result<Self> {
        let state = State::decode(&file.read().context("cannot read the state")?)?;
        drop(file);
        let now = clock::now();
        let poll = Poll::new().context("cannot create the event loop")?;
        let registry = poll.registry();
        // All descriptors are taken over before anything else is opened.
        let mut shared = Shared::default();
        let spawner = Spawner {
            file_limit: state.file_limit,
            signals: state.signals,
            process: config.process.clone(),
        };
        let slots = state.fleet.size();
        let mut workers = Workers::new(spawner, config.command.clone(), slots);
        workers.restore(registry, state.workers, &mut shared)?;
        let listeners = Listeners::restore(registry, state.listeners)?;
        let pending = Pending::restore(registry, config.head_timeout, state.pending)?;
        let waiting = state.waiting.into_iter();
        let waiting = waiting.map(|(conn, connection)| Ok((conn, connection.restore()?)));
        let waiting = waiting.collect::<anyhow::Result<_>>()?;
        let handoff = Handoff::restore(state.handoff)?;
        let native = Native::restore(now, state.native).context("cannot measure a channel")?;
        let node = match (&config.handoff, state.node) {
            (config::Handoff::Node(node), Some(saved)) => {
                Some(Node::restore(now, node.clone(), saved, &mut shared)?)
            }
            _ => None,
        };
        let output = Output::restore(registry, config.output, state.output)?;
        let mut notifier = Notifier::new(now, &config.systemd);
        notifier.upgraded(now, state.told);
        let signals = register_signals(&poll, &config)?;
        config.route.mint.clone_from(&state.mint);
        let mut fleet = state.fleet;
        fleet.reconfigure(now, config.fleet.clone());
        let room = Room::new(state.file_limit.raised(), slots);
        let defers = may_defer(&config);
        let mut engine = Self {
            router: Router::restore(config.route.clone(), room.queues(), state.router),
            listeners,
            signals,
            now,
            fleet,
            origins: Origins::restore(config.proxy.clone(), state.origins),
            pending,
            waiting,
            handoff,
            workers,
            native,
            node,
            mint: state.mint,
            defers,
            room,
            reported: None,
            outcome: None,
            output,
            notifier,
            upgrade: Upgrade::new(origin.program),
            worn: Worn::default(),
            source: origin.source,
            config,
            fallback: None,
            poll,
        };
        info!("upgraded from sticky-run {} to {}", state.version, env!("CARGO_PKG_VERSION"));
        engine.change_listeners();
        // Whoever ended in the meantime is not told of again.
        engine.workers.unreaped = true;
        Ok(engine)
    }

    /// Listens where the configuration says now, and nowhere else.
    fn change_listeners(&mut self) {
        let wanted = self.config.listen.clone();
        for number in self.listeners.unwanted(&wanted) {
            self.close_given_listener(number);
        }
        let new = wanted.iter().filter(|listen| !self.listeners.asked().any(|own| own == *listen));
        for listen in new.cloned().collect::<Vec<_>>() {
            if let Err(error) = self.listen_too(&listen) {
                warn!("{error:#}; going on without it");
            }
        }
    }

    fn listen_too(&mut self, listen: &config::Listen) -> anyhow::Result<()> {
        for listener in open_listeners(&self.config, std::slice::from_ref(listen), self.defers)? {
            self.listeners.add(self.poll.registry(), listener)?;
        }
        Ok(())
    }
}

/// Says whether this program can go on from a state, and the answer that a supervisor understands.
///
/// Descriptors are left alone: they are not this process's.
pub fn check(config: &Config, file: &mut StateFile) -> anyhow::Result<&'static str> {
    let state = State::decode(&file.read().context("cannot read the state")?)?;
    let is_node = matches!(config.handoff, config::Handoff::Node(_));
    if is_node != state.node.is_some() {
        bail!("--handoff cannot change in an upgrade: stop, and start anew");
    }
    for listen in &config.listen {
        if !state.asked().any(|own| own == listen) {
            open_listeners(config, std::slice::from_ref(listen), false)?;
        }
    }
    Ok(YES)
}

/// Whether listeners may hold back connections without a byte.
fn may_defer(config: &Config) -> bool {
    // The kernel rounds to seconds, and a shorter head timeout has to be kept too.
    let awaited = config.proxy.protocol || config.route.keys.may_need_head();
    awaited && config.head_timeout > listen::DEFERRED
}

fn register_signals(poll: &Poll, config: &Config) -> anyhow::Result<Signals> {
    let forwarded = &config.process.forward;
    let signals = Signals::register(poll.registry(), Subject::Signals.into(), forwarded);
    signals.context("cannot handle signals")
}

fn open_listeners(
    config: &Config,
    listen: &[config::Listen],
    defers: bool,
) -> anyhow::Result<Vec<listen::Listener>> {
    let mode = match config.handoff {
        config::Handoff::Channel => listen::Mode::Blocking,
        config::Handoff::Node(_) => listen::Mode::NonBlocking,
    };
    let mut listeners = Vec::new();
    for listen in listen {
        listeners.extend(listen::open(listen, defers, mode)?);
    }
    Ok(listeners)
}
