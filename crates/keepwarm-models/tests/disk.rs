//! Runs the models of the disk tier; `KEEPWARM_MODEL_RUNS` schedules each (400 unless set).

use keepwarm_models::disk_models;

fn check(model: fn()) {
    keepwarm_models::check(model, 400, 3);
}

#[test]
fn no_get_sees_an_older_entry_after_a_newer_one_under_every_schedule() {
    check(disk_models::no_older_value_after_a_newer_one);
}

#[test]
fn burying_replaced_entries_hides_no_newer_one_under_every_schedule() {
    check(disk_models::burying_replaced_values_hides_no_newer_one);
}

#[test]
fn two_processes_that_put_one_key_agree_under_every_schedule() {
    check(disk_models::two_writers_agree);
}

#[test]
fn a_removed_entry_does_not_come_back_under_every_schedule() {
    check(disk_models::no_value_after_its_removal);
}

#[test]
fn shared_content_outlives_the_key_it_came_with_under_every_schedule() {
    check(disk_models::shared_content_outlives_the_key_it_came_with);
}

#[test]
fn a_table_that_is_replaced_loses_nothing_under_every_schedule() {
    check(disk_models::a_table_that_is_replaced_loses_nothing);
}

#[test]
fn a_slot_that_changes_hands_leads_nobody_astray_under_every_schedule() {
    check(disk_models::a_slot_that_changes_hands_leads_nobody_astray);
}

#[test]
fn a_table_that_grows_loses_nothing_under_every_schedule() {
    check(disk_models::a_table_that_grows_loses_nothing);
}

#[test]
fn an_emptied_pack_loses_nothing_under_every_schedule() {
    check(disk_models::an_emptied_pack_loses_nothing);
}

#[test]
fn eviction_gives_no_wrong_answer_under_every_schedule() {
    check(disk_models::eviction_gives_no_wrong_answer);
}

#[test]
fn a_clear_takes_everything_under_every_schedule() {
    check(disk_models::a_clear_takes_everything);
}
