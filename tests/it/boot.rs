//! Workers on their way to being ready.

use crate::support::{get, sticky_run};

#[test]
fn a_client_that_comes_before_any_worker_is_ready_is_served_by_the_first_that_is() {
    let supervisor = sticky_run(1, &[]).env("TEST_WORKER", "slow=300").listening();
    let answer = get(supervisor.address(), "/");
    assert_eq!(answer.slot, 0);
}
