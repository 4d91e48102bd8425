//! When a worker is recycled, besides its lifetime.

/// The limits of each worker. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RecycleConfig {
    /// So many connections in its life; see [`connection_limit`](crate::logic::recycle::connection_limit).
    pub connections: Option<u64>,
    /// So many bytes of resident memory.
    pub memory: Option<u64>,
}
