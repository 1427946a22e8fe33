//! What it costs that snapshots heal: the notes of late clicks, the records of rankings, and the rankings that are
//! repeated.

use hot_products::{
    Window,
    healing::{FINAL_BATCH, MAX_EXTRA_WINDOWS, WORTH_PERCENT},
};

use crate::load::{Estimate, Load};

/// Windows a day.
const WINDOWS: f64 = 24.0 * 60.0 / Window::STEP_MINUTES as f64;
/// A note within its day's item: its name, such as `16:50`, and a number.
const NOTE_BYTES: f64 = 5.0 + 4.0;
/// A record of a ranking within its day's item: a name, and a map of two numbers and a Boolean.
const RECORD_BYTES: f64 = 5.0 + 3.0 + (1.0 + 5.0 + 3.0) + (1.0 + 6.0 + 5.0) + (1.0 + 5.0 + 1.0);
/// Bytes of a write unit.
const WRITE_UNIT_BYTES: f64 = 1_024.0;
/// Bytes of a read unit of a consistent read.
const READ_UNIT_BYTES: f64 = 4_096.0;

/// What healing consumes for each ranking or batch.
pub(super) struct Healing {
    /// Rankings that are repeated, for each ranking on time, as far as reading counters and computing goes: neighbouring
    /// windows share most of their minutes.
    pub(super) repeated_rankings: f64,
    /// Snapshots that are written again, for each ranking on time.
    pub(super) repeated_snapshots: f64,
    /// Write units of the records, for each ranking on time.
    pub(super) record_write_units: f64,
    /// Read units of notes and records, for each ranking on time.
    pub(super) state_read_units: f64,
    /// Write units of notes, for each batch.
    pub(super) note_write_units: f64,
    /// Write units of the late clicks themselves, a second: each goes to an item of its own minute.
    pub(super) late_write_units_per_second: f64,
}

impl Healing {
    pub(super) fn of(load: &Load, estimate: &Estimate) -> Self {
        // A window is ranked again whenever it misses another percent, and once when it is final.
        let healed = (load.late_share * 100.0 / WORTH_PERCENT as f64).floor().min(MAX_EXTRA_WINDOWS as f64);
        let full_day = WINDOWS * RECORD_BYTES;
        let rankings = 1.0 + healed;
        let late_steps = load.late_by.as_secs_f64() / 60.0 / Window::STEP_MINUTES as f64;
        let days = 1.0 + late_steps / WINDOWS;
        let note_units = days * (late_steps.min(WINDOWS) * NOTE_BYTES / WRITE_UNIT_BYTES).ceil().max(1.0);
        let batch_with_late = 1.0 - (1.0 - load.late_share).powf(estimate.records_per_batch);
        let item_bytes = estimate.bytes_per_minute / estimate.items_per_minute.max(1.0);
        Self {
            repeated_rankings: shared_minutes(FINAL_BATCH) + healed * shared_minutes(MAX_EXTRA_WINDOWS),
            repeated_snapshots: rankings,
            // On time a day's item is half full on average; later it is full.
            record_write_units: (full_day / 2.0 / WRITE_UNIT_BYTES).ceil()
                + rankings * (full_day / WRITE_UNIT_BYTES).ceil(),
            state_read_units: 2.0 * (full_day / READ_UNIT_BYTES).ceil()
                + 2.0 * (WINDOWS * NOTE_BYTES / READ_UNIT_BYTES).ceil(),
            note_write_units: batch_with_late * note_units,
            late_write_units_per_second: load.late_share
                * load.clicks_per_second
                * (item_bytes / WRITE_UNIT_BYTES).ceil().max(1.0),
        }
    }
}

/// The minutes that each of so many neighbouring windows reads, as a share of a window's sixty.
fn shared_minutes(windows: usize) -> f64 {
    let minutes = Window::MINUTES as f64 + Window::STEP_MINUTES as f64 * (windows as f64 - 1.0);
    minutes / Window::MINUTES as f64 / windows as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::KeyedBy;

    #[test]
    fn without_late_clicks_only_the_final_rankings_cost() {
        let load = Load { budget: 100_000, ..Load::new(100.0, 4, 1_000, KeyedBy::Product) };
        let estimate = Estimate::of(&load);
        let healing = Healing::of(&load, &estimate);
        assert!((healing.repeated_rankings - 85.0 / 360.0).abs() < 1e-9, "{}", healing.repeated_rankings);
        assert!(healing.note_write_units.abs() < 1e-9 && healing.late_write_units_per_second.abs() < 1e-9);
        let late = Healing::of(&Load { late_share: 0.05, ..load }, &estimate);
        assert!(late.repeated_rankings > healing.repeated_rankings && late.note_write_units > 1.0);
    }
}
