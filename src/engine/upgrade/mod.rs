//! Upgrade in place.

mod keep;

pub(super) use self::keep::{Keeper, Kept, Shared};
