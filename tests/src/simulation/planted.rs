//! A bug in all nodes of every simulation of a test program, for `tests/planted`.

use stallmesh_protocol::planted::{Bug, is_on, plant};

/// Plants the bug that `TEST_PLANTED_BUG` names, if it is set, and unless a test has planted one itself.
///
/// # Panics
/// No bug is called that.
pub(super) fn plant_what_the_environment_names() {
    let Ok(name) = std::env::var("TEST_PLANTED_BUG") else { return };
    let bug = Bug::ALL.iter().find(|bug| bug.word() == name).copied();
    assert!(bug.is_some(), "TEST_PLANTED_BUG: no bug is called `{name}`; docs/planted-bugs.md has them");
    if Bug::ALL.iter().all(|bug| !is_on(*bug)) {
        plant(bug);
    }
}
