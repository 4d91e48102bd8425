//! The beginning: from a configuration, or from the state of the program that this one was.

use anyhow::{Context, bail};
use mio::Poll;
use tracing::{info, warn};

use super::intake::{Awaited, Intake};
use super::limits::MemoryLimit;
use super::links::{self, Links};
use super::listeners::Listeners;
use super::notify::Notifier;
use super::origin::Origins;
use super::output::Output;
use super::source::{STAYS, say};
use super::tokens::Subject;
use super::upgrade::{State, Upgrade, YES};
use super::workers::Workers;
use super::{Engine, Source, privileges};
use crate::logic::capacity::Capacity;
use crate::logic::config::{self, Config};
use crate::logic::core::{Command, Core, Input};
use crate::logic::fleet::Fleet;
use crate::logic::route::mint::MintKey;
use crate::logic::route::{Router, SavedRouter};
use crate::logic::time::Time;
use crate::os::closing::Foreign;
use crate::os::exposed::may_lead_elsewhere;
use crate::os::kept::Shared;
use crate::os::limits::raise_file_limit;
use crate::os::listen::{ListenError, Listener};
use crate::os::signals::{Inherited, Signals};
use crate::os::spawn::{Spawner, mark_inherited};
use crate::os::upgrade::{Program, StateFile};
use crate::os::{account, clock, listen, random};

/// Where the engine comes from, to go back there.
#[derive(Debug)]
pub struct Origin {
    /// The program, for an upgrade.
    pub program: Program,
    /// The configuration, for a restart.
    pub source: Box<dyn Source>,
}

/// What a start and a resumption make, each in its own way.
struct Parts {
    now: Time,
    poll: Poll,
    core: Core,
    intake: Intake,
    listeners: Listeners,
    workers: Workers,
    links: Links,
    output: Output,
    notifier: Notifier,
}

impl Engine {
    /// Opens the listeners and starts nothing yet.
    pub fn new(mut config: Config, origin: Origin) -> anyhow::Result<Self> {
        let now = clock::now();
        // First of all, since a descriptor that was not inherited could be one of ours later.
        let opened = open_listeners(&config, &config.listen, may_defer(&config))?;
        mark_inherited();
        let poll = Poll::new().context("cannot create the event loop")?;
        let inherited = Inherited::read().context("cannot read how signals are set")?;
        let signals = register_signals(&poll, &config)?;
        let file_limit = raise_file_limit().context("cannot raise the limit on open files")?;
        privileges::settle(&config, opened.iter(), &origin.program, &*origin.source)?;
        let traits = links::traits(&config.handoff);
        let listeners = Listeners::register(poll.registry(), opened, traits.asks_to_listen)?;
        if traits.mints {
            let key = random::bytes().context("cannot get random bytes from the kernel")?;
            config.route.mint = Some(MintKey(key));
        }
        let room = Capacity::new(file_limit.raised(), config.footprint(config.fleet.workers));
        let spawner = Spawner { file_limit, signals: inherited, process: config.process.clone() };
        let [first, second, seed] =
            random::numbers().context("cannot get random numbers from the kernel")?;
        let secret = (first, second);
        let router = Router::new(now, config.route.clone(), room.queue_limits(), secret, seed);
        let fleet = Fleet::new(now, config.fleet.clone());
        let parts = Parts {
            now,
            core: Core::new(config.core(config.fleet.workers), fleet, router, room),
            intake: Intake::new(Origins::new(config.proxy.clone())),
            listeners,
            workers: Workers::new(spawner, config.command.clone(), config.fleet.workers),
            links: Links::new(poll.registry(), now, &config)?,
            output: Output::new(config.output),
            notifier: Notifier::new(now, &config.systemd),
            poll,
        };
        let mut engine = Self::assemble(parts, signals, config, origin);
        engine.say_what_leads();
        Ok(engine)
    }

    /// Goes on from the state of the program that this one was, with a configuration that may have
    /// changed since.
    ///
    /// Fails when the state makes no sense; nothing can be saved then, so ask [`check`] before.
    pub fn resume(mut config: Config, origin: Origin, file: StateFile) -> anyhow::Result<Self> {
        let state = State::read(file)?;
        let version = state.version.clone();
        config.route.mint.clone_from(&state.mint);
        let (changes, fallback) = config.resume_from(state.in_force.clone());
        say(&changes);
        let parts = Parts::restore(&config, state).context("cannot go on from the state")?;
        mark_inherited();
        let signals = register_signals(&parts.poll, &config)?;
        let mut engine = Self { fallback, ..Self::assemble(parts, signals, config, origin) };
        info!(
            name: "upgraded", from = version, to = env!("CARGO_PKG_VERSION"),
            "upgraded from sticky-run {version} to {}",
            env!("CARGO_PKG_VERSION")
        );
        let command = Command::Configure(engine.config.fleet.clone());
        engine.core.handle(engine.now, Input::Command(command));
        engine.wait_again()?;
        engine.change_listeners();
        for worker in engine.workers.live() {
            engine.notify_what_it_serves(worker);
        }
        engine.reapply();
        // Whoever ended in the meantime is not told of again.
        engine.workers.unreaped = true;
        Ok(engine)
    }

    /// Goes on to wait for the first bytes of connections.
    fn wait_again(&mut self) -> anyhow::Result<()> {
        for conn in self.core.awaited().collect::<Vec<_>>() {
            if self.intake.wait(self.poll.registry(), conn, 0) == Awaited::Gone {
                bail!("cannot wait for the first bytes of a connection");
            }
        }
        Ok(())
    }

    /// Gives up what came by the upgrade.
    fn reapply(&self) {
        let (program, source) = (self.upgrade.program(), &*self.source);
        if let Err(error) = privileges::settle(&self.config, self.listeners.all(), program, source)
        {
            warn!(
                name: "upgrade_incomplete", error = %format_args!("{error:#}"),
                "{error:#}; continuing without it"
            );
        }
    }

    fn assemble(parts: Parts, signals: Signals, config: Config, origin: Origin) -> Self {
        Self {
            poll: parts.poll,
            signals,
            now: parts.now,
            core: parts.core,
            intake: parts.intake,
            listeners: parts.listeners,
            workers: parts.workers,
            links: parts.links,
            mint: config.route.mint.clone(),
            defers: may_defer(&config),
            output: parts.output,
            notifier: parts.notifier,
            outcome: None,
            upgrade: Upgrade::new(origin.program),
            memory: MemoryLimit::default(),
            source: origin.source,
            config,
            fallback: None,
        }
    }
}

impl Parts {
    /// Takes over what the state names, before anything else is opened.
    fn restore(config: &Config, state: State<SavedRouter>) -> anyhow::Result<Self> {
        let now = clock::now();
        let poll = Poll::new().context("cannot create the event loop")?;
        let registry = poll.registry();
        let mut shared = Shared::default();
        let spawner = Spawner {
            file_limit: state.file_limit,
            signals: state.signals,
            process: config.process.clone(),
        };
        let slots = state.fleet.size();
        let mut workers = Workers::new(spawner, config.command.clone(), slots);
        workers.restore(state.workers);
        let live = workers.live();
        let links = Links::restore(registry, now, config, state.links, &live, &mut shared)?;
        let room = Capacity::new(state.file_limit.raised(), config.footprint(slots));
        let router = Router::restore(config.route.clone(), room.queue_limits(), state.router);
        let core = Core::new(config.core(slots), state.fleet, router, room).resume(state.core);
        let origins = Origins::restore(config.proxy.clone(), state.origins);
        let intake = Intake::restore(origins, state.intake)?;
        if !core.is_sound(|conn| intake.has(conn)) {
            bail!("somebody waits there who is not there");
        }
        for (sender, descriptor) in state.unclosed {
            drop(Foreign::new(descriptor.take_over()?, sender));
        }
        let mut notifier = Notifier::new(now, &config.systemd);
        notifier.upgraded(now, state.told);
        Ok(Self {
            now,
            core,
            intake,
            listeners: Listeners::restore(registry, state.listeners, &mut shared)?,
            workers,
            links,
            output: Output::restore(registry, config.output, state.output)?,
            notifier,
            poll,
        })
    }
}

/// Says whether this program can go on from a state, and the answer that a supervisor understands.
///
/// Descriptors are left alone: they are not this process's.
pub fn check(mut config: Config, file: StateFile) -> anyhow::Result<&'static str> {
    let state = State::read(file)?;
    links::check(&config, &state.links)?;
    config.resume_from(state.in_force.clone());
    config.check().context(STAYS)?;
    let new = config.listen.iter().filter(|listen| !state.asked().any(|own| own == *listen));
    // All at once, since they may be in each other's way.
    let opened = open_listeners(&config, &new.cloned().collect::<Vec<_>>(), false);
    opened.map_err(|error| state.listeners.explain(error))?;
    // What the router makes of it needs no descriptor.
    let room = Capacity::new(state.file_limit.raised(), config.footprint(state.fleet.size()));
    Router::restore(config.route.clone(), room.queue_limits(), state.router);
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

/// Opens everything that these ask for.
pub(super) fn open_listeners(
    config: &Config,
    listen: &[config::Listen],
    defers: bool,
) -> Result<Vec<Listener>, ListenError> {
    let mode = links::traits(&config.handoff).mode;
    let mut listeners = Vec::new();
    for listen in listen {
        let owner = owner_of(listen, config);
        listeners.extend(listen::open(listen, defers, mode, &owner)?);
    }
    Ok(listeners)
}

/// Whose the file of a listener is. The supervisor's own rights help to make it, unless somebody without
/// them could have its directory be another one.
fn owner_of(listen: &config::Listen, config: &Config) -> listen::Owner {
    let workers = config.process.account.as_ref();
    let account = account::of_sockets(&config.socket, workers);
    let is_helped = match listen {
        config::Listen::Unix(path) => {
            let mut others = workers.iter().copied().chain(&account);
            !others.any(|other| may_lead_elsewhere(listen::directory_of(path), other))
        }
        config::Listen::Tcp(_)
        | config::Listen::Port(_)
        | config::Listen::Abstract(_)
        | config::Listen::Inherited(_)
        | config::Listen::Passed { .. } => false,
    };
    listen::Owner { account, is_helped, mode: config.socket.mode }
}
