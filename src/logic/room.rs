//! Room: how many connections the supervisor may hold, and what of it one worker may take.

/// Descriptors for everything that is not a connection and not a channel: stdio, the loop, signals,
/// listeners, the pipe of a spawn, a few connections that come back from workers.
const RESERVED: usize = 32;
/// The most connections held at once, however many descriptors there are.
const MOST: usize = 16 * 1024;
/// The most that may wait for one worker which picks nothing up.
const MOST_FOR_STILL: usize = 1024;
/// The most ports that all workers may have open, however many descriptors there are.
const MOST_PORTS: usize = 2048;
/// The fewest, which is more than most apps have.
const FEWEST_PORTS: usize = 16;

/// How many connections may be held, pending and waiting together.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// The descriptors that the process may have.
    descriptors: usize,
    most: usize,
    /// Nobody is let in since that many were held.
    full: bool,
}

/// How many workers there may be at the same time, and what they take.
#[derive(Clone, Copy, Debug)]
pub struct Crew {
    /// How many slots there are.
    pub slots: u16,
    /// How many former workers may drain besides.
    pub draining: u16,
    /// Whether their output comes through pipes.
    pub pipes: bool,
}

impl Crew {
    /// The descriptors that they take: both ends of each channel, and an end of two pipes.
    fn descriptors(self) -> usize {
        let workers = usize::from(self.slots) + usize::from(self.draining.min(self.slots));
        workers * if self.pipes { 4 } else { 2 }
    }
}

/// How many connections may wait for one worker.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// For one that seems to pick nothing up: a part, so that others keep room.
    pub stalled: usize,
    /// For one that was just seen picking something up.
    pub reading: usize,
}

/// How many ports workers may have open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ports {
    /// All of them together.
    pub all: usize,
    /// One of them, so that others find room.
    pub of_one: usize,
}

impl Room {
    /// The room that is left of so many descriptors with these workers.
    pub fn new(descriptors: usize, crew: Crew) -> Self {
        let mut room = Self { descriptors, most: 1, full: false };
        room.resize(crew);
        room
    }

    /// There may be these workers at the same time from now on.
    pub fn resize(&mut self, crew: Crew) {
        let left = self.descriptors.saturating_sub(RESERVED + crew.descriptors());
        self.most = left.clamp(1, MOST);
    }

    /// What one worker may take of it: half, or a quarter when it seems to pick nothing up.
    pub fn queues(&self) -> QueueLimits {
        let share = |part: usize| (self.most / part).max(1);
        QueueLimits { stalled: share(4).min(MOST_FOR_STILL), reading: share(2) }
    }

    /// How many ports workers may have opened: a quarter, of which one worker may take half.
    pub fn ports(&self) -> Ports {
        let all = (self.most / 4).clamp(FEWEST_PORTS, MOST_PORTS);
        Ports { all, of_one: all / 2 }
    }

    /// Whether no more can be let in when so many are held. Once it was full, a tenth has to become
    /// free first.
    pub fn is_full(&mut self, held: usize) -> bool {
        let limit = if self.full { self.most - self.most / 10 } else { self.most };
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

    fn crew(slots: u16) -> Crew {
        Crew { slots, draining: 0, pipes: false }
    }

    #[test]
    fn few_descriptors_leave_little_room_and_many_not_too_much() {
        let queues = |descriptors| Room::new(descriptors, crew(4)).queues();
        let QueueLimits { stalled: for_still, reading: for_reading } = queues(64);
        assert_eq!((for_still, for_reading), (6, 12));
        let QueueLimits { stalled: for_still, reading: for_reading } = queues(1_000_000);
        assert_eq!((for_still, for_reading), (1_024, 8_192));
        let QueueLimits { stalled: for_still, reading: for_reading } = queues(10);
        assert_eq!((for_still, for_reading), (1, 1));
    }

    #[test]
    fn more_workers_leave_less_room() {
        let mut room = Room::new(32 + 8 + 100, crew(4));
        room.resize(Crew { slots: 6, draining: 9, pipes: true });
        assert!(!room.is_full(59) && room.is_full(60));
        room.resize(crew(4));
        assert!(!room.is_full(89) && room.is_full(100));
    }

    #[test]
    fn once_full_a_tenth_has_to_become_free() {
        let mut room = Room::new(40 + 100, crew(4));
        assert!(!room.is_full(99) && room.is_full(100));
        assert!(room.was_full() && room.is_full(90));
        assert!(!room.is_full(89) && !room.is_full(99));
    }

    #[test]
    fn ports_leave_room_for_connections() {
        let ports = |descriptors| Room::new(descriptors, crew(4)).ports();
        assert_eq!(ports(64), Ports { all: 16, of_one: 8 });
        assert_eq!(ports(1024), Ports { all: 246, of_one: 123 });
        assert_eq!(ports(1_000_000), Ports { all: 2048, of_one: 1024 });
    }
}
