//! When a worker is worn and gets replaced, besides its lifetime.

/// What each worker may have had or hold. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct WearConfig {
    /// So many connections in its life; see [`wear::connections`](crate::logic::wear::connections).
    pub connections: Option<u64>,
    /// So many bytes of resident memory.
    pub memory: Option<u64>,
}
