//! Counting: the clicks of one bucket and source go into their items, each once, whatever these have counted already.

use std::time::Duration;

use hot_products::{
    Bucket, ItemKey, Source,
    counters::{Click, Piece, behind},
    store::{Added, CountersTable, StoreError},
};

/// From how many write units an update on, that is KB of its item, the item takes one more update and is closed by it.
///
/// An update costs its whole item, so many updates of one large item cost the square of what they write; but each item
/// of a chain has counters of its own for the same hot products, which twelve rankings read. With four, `hot cost` finds
/// a third of the bill of items that grow for 10,000 clicks a second keyed by user, and no other bill for small loads.
pub const CLOSE_FROM_WRITE_UNITS: u64 = 4;

/// How far the items of one bucket and source are known to be closed. Closing is for good, so what is known stays true,
/// whoever else has counted since: at worst there are more closed items than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The first item that is not known to be closed.
    pub overflow: u32,
    /// The offset up to which, inclusive, the closed ones have counted.
    pub last_offset: i64,
    /// What the last update of that item cost.
    pub write_units: u64,
}

impl Tail {
    /// Nothing is known: counting begins with the first item.
    pub const START: Self = Self { overflow: 0, last_offset: i64::MIN, write_units: 0 };

    fn closed(self, last_offset: i64) -> Self {
        Self { overflow: self.overflow + 1, last_offset: self.last_offset.max(last_offset), write_units: 0 }
    }

    /// Whether there is something to remember for the next batch.
    pub fn matters(&self) -> bool {
        self.overflow > 0 || self.write_units >= CLOSE_FROM_WRITE_UNITS
    }
}

/// How far counting came with the clicks of one bucket and source.
#[derive(Debug)]
pub struct Progress {
    /// Clicks that were added to the counters.
    pub counted: u64,
    /// Clicks that the items had counted already.
    pub already_counted: u64,
    /// Writes, refused ones and closings included.
    pub updates: u64,
    /// Write units consumed by the updates that were applied.
    pub write_units: u64,
    /// The most write units that one of them consumed: the size of the largest item in KB.
    pub largest_update: u64,
    /// What is known of the items now.
    pub tail: Tail,
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

/// Counts `clicks`, which are of one `bucket` and `source` and in ascending offset order, from the item on that `tail`
/// tells; items live for `retention`. Asks `go_on` before each write.
///
/// One piece is written after the other: the next may only be sent when the one before is known to be counted, for it
/// moves `last_offset` over both.
pub async fn count<'p>(
    table: &CountersTable,
    (bucket, source): (Bucket, &Source),
    clicks: &[Click],
    tail: Tail,
    product: impl Fn(u32) -> &'p str,
    retention: Duration,
    go_on: impl Fn() -> bool,
) -> Progress {
    let mut progress =
        Progress { counted: 0, already_counted: 0, updates: 0, write_units: 0, largest_update: 0, tail, stopped: None };
    let mut rest = clicks;
    let mut last_offset = tail.last_offset;
    loop {
        let left = behind(rest, last_offset);
        progress.already_counted += (rest.len() - left.len()) as u64;
        rest = left;
        let Some(piece) = Piece::first_of(rest) else { break };
        if !go_on() {
            progress.stopped = Some(Stopped::Asked);
            break;
        }
        progress.updates += 1;
        let tail = &mut progress.tail;
        let key = ItemKey { bucket, source, overflow: tail.overflow };
        let close = tail.write_units >= CLOSE_FROM_WRITE_UNITS;
        match table.add(key, &piece, close, &product, retention).await {
            Ok(Added::Counted { write_units }) => {
                progress.counted += piece.clicks as u64;
                progress.write_units += write_units;
                progress.largest_update = progress.largest_update.max(write_units);
                *tail = if close { tail.closed(piece.last) } else { Tail { write_units, ..*tail } };
                rest = behind(rest, piece.last);
            }
            Ok(Added::Refused { last_offset: counted, closed }) => {
                last_offset = counted;
                if closed {
                    *tail = tail.closed(counted);
                }
            }
            Ok(Added::Full) => {
                progress.updates += 1;
                match table.close(key).await {
                    Ok(counted) => {
                        last_offset = counted;
                        *tail = tail.closed(counted);
                    }
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
        }
    }
    progress
}
