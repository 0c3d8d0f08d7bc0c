//! Runs the models of the tiers; `KEEPWARM_MODEL_RUNS` schedules each (200 unless set).

use keepwarm_models::tiered_models;

fn check(model: fn()) {
    let runs = std::env::var("KEEPWARM_MODEL_RUNS").ok();
    let runs = runs.and_then(|runs| runs.parse().ok()).unwrap_or(200);
    shuttle::check_random(model, runs);
    shuttle::check_pct(model, runs, 4);
}

#[test]
fn no_get_sees_an_older_entry_after_a_newer_one_under_every_schedule() {
    check(tiered_models::no_older_value_after_a_newer_one);
}

#[test]
fn a_removed_entry_does_not_come_back_under_every_schedule() {
    check(tiered_models::no_value_after_its_removal);
}

#[test]
fn dropping_loses_nothing_under_every_schedule() {
    check(tiered_models::nothing_lost_at_the_end);
}

#[test]
fn a_hold_is_dropped_once_and_not_before_its_entry_is_below_under_every_schedule() {
    check(tiered_models::holds_are_dropped_once_and_not_before_the_entry_is_below);
}
