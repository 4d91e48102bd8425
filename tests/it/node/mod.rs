//! Node servers that know nothing of sticky-run: those of `tests/node/apps`, and the samples of the
//! packages' READMEs.

/// Keys that apps give out in cookies and headers.
mod answers;
/// Large bodies.
mod bodies;
/// Flags that only a stop and a start can change.
mod changes;
/// Workers that end, in every way that they have.
mod death;
/// What `@socket.io/sticky` does wrong, and sticky-run does not.
mod defects;
/// What runs at the end of a worker.
mod ending;
/// What workers inherit, and commands that are Node in other words.
mod environment;
/// The examples for Node, as their READMEs say.
mod examples;
/// Frameworks, module systems and bundles.
mod frameworks;
/// Connections whose worker is in trouble, leaves, or tells nothing of them.
mod handover;
/// What goes over a connection that is kept.
mod keepalive;
/// Everything that can be listened on.
mod listen;
/// The load client's verdict.
mod load;
/// What apps say to their primary.
mod messages;
/// Workers that were written for the packages.
mod packages;
/// Servers that come and go.
mod ports;
/// What Node workers load of ours, by itself.
mod preload;
/// Rolling restarts.
mod restart;
/// Restarts and upgrades under load.
mod rolling;
/// The READMEs of the packages, byte for byte.
mod samples;
/// Many real sessions.
mod sessions;
/// More than one server in a worker, and more than one supervisor.
mod several;
/// Workers that are slow.
mod slow;
/// What `sticky-session` does wrong, and sticky-run does not.
mod sticky_session;
