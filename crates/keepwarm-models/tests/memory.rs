//! Runs the models of the memory tier; `KEEPWARM_MODEL_RUNS` schedules each (500 unless set).

use keepwarm_models::memory_models;

fn check(model: fn()) {
    let runs = std::env::var("KEEPWARM_MODEL_RUNS").ok();
    let runs = runs.and_then(|runs| runs.parse().ok()).unwrap_or(500);
    shuttle::check_random(model, runs);
    shuttle::check_pct(model, runs, 3);
}

#[test]
fn budgets_hold_and_nothing_is_lost_under_every_schedule() {
    check(memory_models::budgets_hold_and_nothing_is_lost);
}

#[test]
fn large_and_replaced_entries_are_counted_right_under_every_schedule() {
    check(memory_models::large_and_replaced_entries_are_counted_right);
}

#[test]
fn no_get_sees_an_older_entry_after_a_newer_one_under_every_schedule() {
    check(memory_models::no_older_value_after_a_newer_one);
}

#[test]
fn removals_and_clears_are_counted_right_under_every_schedule() {
    check(memory_models::removals_and_clears_are_counted_right);
}
