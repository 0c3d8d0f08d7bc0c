//! Runs the models of single flight; `KEEPWARM_MODEL_RUNS` schedules each (1,000 unless set).

use keepwarm_models::flight_models;

fn check(model: fn()) {
    keepwarm_models::check(model, 1000, 3);
}

#[test]
fn a_missing_key_is_built_once_under_every_schedule() {
    check(flight_models::one_build_for_all);
}

#[test]
fn failing_leaders_hand_over_under_every_schedule() {
    check(flight_models::failures_hand_over);
}

#[test]
fn builds_that_ask_for_one_another_end_under_every_schedule() {
    check(flight_models::rings_end);
}

#[test]
fn failing_builds_that_ask_for_one_another_end_under_every_schedule() {
    check(flight_models::failing_rings_end);
}

#[test]
fn a_builder_that_asks_for_its_own_key_ends_under_every_schedule() {
    check(flight_models::re_entrance_ends);
}

#[test]
fn what_was_removed_is_not_shared_under_any_schedule() {
    check(flight_models::what_was_removed_is_not_shared);
}
