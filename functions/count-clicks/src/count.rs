//! Counting: the clicks of one bucket and source go into their item, each once, whatever the item has counted already.

use hot_products::{
    ItemKey,
    counters::{Click, Piece, behind},
    store::{Added, CountersTable, StoreError},
};

/// How far counting came with the clicks of one bucket and source.
#[derive(Debug, Default)]
pub struct Progress {
    /// Clicks that were added to the counters.
    pub counted: u64,
    /// Clicks that the item had counted already.
    pub already_counted: u64,
    /// Writes, refused ones and closings included.
    pub updates: u64,
    /// Write units consumed by the updates that were applied.
    pub write_units: u64,
    /// Why counting stopped before the last click.
    pub stopped: Option<Stopped>,
}

/// Why counting stopped before the last click.
#[derive(Debug)]
pub enum Stopped {
    /// A write failed after all retries.
    Failed(StoreError),
    /// The caller asked for no more writes.
    Asked,
}

/// Counts `clicks`, which belong to the item at `key` and are in ascending offset order. Asks `go_on` before each write.
///
/// One piece is written after the other: the next may only be sent when the one before is known to be counted, for it
/// moves `last_offset` over both.
pub async fn count<'p>(
    table: &CountersTable,
    mut key: ItemKey<'_>,
    clicks: &[Click],
    product: impl Fn(u32) -> &'p str,
    go_on: impl Fn() -> bool,
) -> Progress {
    let mut progress = Progress::default();
    let mut rest = clicks;
    while let Some(piece) = Piece::first_of(rest) {
        if !go_on() {
            progress.stopped = Some(Stopped::Asked);
            break;
        }
        progress.updates += 1;
        let (last_offset, closed) = match table.add(key, &piece, &product).await {
            Ok(Added::Counted { write_units }) => {
                progress.counted += piece.clicks as u64;
                progress.write_units += write_units;
                rest = behind(rest, piece.last);
                continue;
            }
            Ok(Added::Refused { last_offset, closed }) => (last_offset, closed),
            Ok(Added::Full) => {
                progress.updates += 1;
                match table.close(key).await {
                    Ok(last_offset) => (last_offset, true),
                    Err(error) => {
                        progress.stopped = Some(Stopped::Failed(error));
                        break;
                    }
                }
            }
            Err(error) => {
                progress.stopped = Some(Stopped::Failed(error));
                break;
            }
        };
        let left = behind(rest, last_offset);
        progress.already_counted += (rest.len() - left.len()) as u64;
        rest = left;
        if closed {
            key = key.next();
        }
    }
    progress
}
