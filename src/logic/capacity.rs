//! Capacity: how many connections the supervisor may hold, and the share of one worker.

/// Descriptors for everything that is not a connection and not a channel: stdio, the loop, signals,
/// listeners, the pipe of a spawn, a few connections that come back from workers.
const RESERVED: usize = 32;
/// The most connections held at once, however many descriptors there are.
const MAX_CONNECTIONS: usize = 16 * 1024;
/// The most that may be queued for one worker which picks nothing up.
const MAX_STALLED_QUEUE: usize = 1024;
/// The most ports that all workers may have open, however many descriptors there are.
const MAX_PORTS: usize = 2048;
/// The fewest, which is more than most apps have.
const MIN_PORTS: usize = 16;

/// How many connections may be held, pending and queued together.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// The descriptors that the process may have.
    descriptors: usize,
    max: usize,
    /// It was full at the last check.
    full: bool,
}

/// How many workers there may be at the same time, and the descriptors that they need.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// How many slots there are.
    pub slots: u16,
    /// How many retired workers may drain besides.
    pub draining: u16,
    /// Whether their output comes through pipes.
    pub pipes: bool,
}

impl Footprint {
    /// The descriptors that they take: both ends of each channel, and an end of two pipes.
    fn descriptors(self) -> usize {
        let workers = usize::from(self.slots) + usize::from(self.draining.min(self.slots));
        workers * if self.pipes { 4 } else { 2 }
    }
}

/// How many connections may be queued for one worker.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// For one that seems to pick nothing up: a part, so that there is room for others.
    pub stalled: usize,
    /// For one that was just seen picking something up.
    pub reading: usize,
}

/// How many ports workers may have open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PortLimits {
    /// In total.
    pub total: usize,
    /// For one worker.
    pub per_worker: usize,
}

impl Capacity {
    /// What is left of so many descriptors with these workers.
    pub fn new(descriptors: usize, footprint: Footprint) -> Self {
        let mut capacity = Self { descriptors, max: 1, full: false };
        capacity.resize(footprint);
        capacity
    }

    /// There may be these workers at the same time from now on.
    pub fn resize(&mut self, footprint: Footprint) {
        let left = self.descriptors.saturating_sub(RESERVED + footprint.descriptors());
        self.max = left.clamp(1, MAX_CONNECTIONS);
    }

    /// What one worker may take of it: half, or a quarter when it seems to pick nothing up.
    pub fn queue_limits(&self) -> QueueLimits {
        let share = |part: usize| (self.max / part).max(1);
        QueueLimits { stalled: share(4).min(MAX_STALLED_QUEUE), reading: share(2) }
    }

    /// How many ports workers may have opened: a quarter, of which one worker may take half.
    pub fn port_limits(&self) -> PortLimits {
        let all = (self.max / 4).clamp(MIN_PORTS, MAX_PORTS);
        PortLimits { total: all, per_worker: all / 2 }
    }

    /// Whether no more can be accepted when so many are held. Once it was full, a tenth has to become
    /// free first.
    pub fn is_full(&mut self, held: usize) -> bool {
        let limit = if self.full { self.max - self.max / 10 } else { self.max };
        self.full = held >= limit;
        self.full
    }

    /// Whether it was full at the last look.
    pub fn was_full(&self) -> bool {
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footprint(slots: u16) -> Footprint {
        Footprint { slots, draining: 0, pipes: false }
    }

    #[test]
    fn few_descriptors_leave_little_room_and_many_not_too_much() {
        let queues = |descriptors| Capacity::new(descriptors, footprint(4)).queue_limits();
        let QueueLimits { stalled: for_still, reading: for_reading } = queues(64);
        assert_eq!((for_still, for_reading), (6, 12));
        let QueueLimits { stalled: for_still, reading: for_reading } = queues(1_000_000);
        assert_eq!((for_still, for_reading), (1_024, 8_192));
        let QueueLimits { stalled: for_still, reading: for_reading } = queues(10);
        assert_eq!((for_still, for_reading), (1, 1));
    }

    #[test]
    fn more_workers_leave_less_room() {
        let mut capacity = Capacity::new(32 + 8 + 100, footprint(4));
        capacity.resize(Footprint { slots: 6, draining: 9, pipes: true });
        assert!(!capacity.is_full(59) && capacity.is_full(60));
        capacity.resize(footprint(4));
        assert!(!capacity.is_full(89) && capacity.is_full(100));
    }

    #[test]
    fn once_full_a_tenth_has_to_become_free() {
        let mut capacity = Capacity::new(40 + 100, footprint(4));
        assert!(!capacity.is_full(99) && capacity.is_full(100));
        assert!(capacity.was_full() && capacity.is_full(90));
        assert!(!capacity.is_full(89) && !capacity.is_full(99));
    }

    #[test]
    fn ports_leave_room_for_connections() {
        let ports = |descriptors| Capacity::new(descriptors, footprint(4)).port_limits();
        assert_eq!(ports(64), PortLimits { total: 16, per_worker: 8 });
        assert_eq!(ports(1024), PortLimits { total: 246, per_worker: 123 });
        assert_eq!(ports(1_000_000), PortLimits { total: 2048, per_worker: 1024 });
    }
}
