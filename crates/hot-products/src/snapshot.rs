//! The snapshot of a window: its products ranked, as apps read them.

use std::cmp::Reverse;

use hashbrown::HashMap;
use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::time::{UnixMillis, Window, bound};

/// The one board there is: all counted clicks.
pub const BOARD: &str = "clicks";

/// The most products a snapshot may hold, so that one with the longest ids stays below DynamoDB's 400 KB an item.
pub const MAX_TOP_N: usize = 1000;

/// A product's place in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RankedProduct {
    /// 1 for the hottest, without gaps.
    pub rank: u64,
    /// The product.
    pub product_id: String,
    /// Its clicks in the window.
    pub clicks: u64,
    /// Its rank in the snapshot five minutes before; `None` for a newcomer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_rank: Option<u64>,
}

/// The hottest products of one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The sixty minutes it ranks.
    pub window: Window,
    /// When it was made. A rerun replaces it only with a newer one.
    pub generated_at: UnixMillis,
    /// Clicks in the whole window, not only on the top products.
    pub total_clicks: u64,
    /// Products with a click in the whole window.
    pub distinct_products: u64,
    /// Clicks in each of the window's minutes, in order. Empty where they are not known: in snapshots from before they
    /// were kept, and where a reader did not ask for them.
    pub clicks_per_minute: Vec<u64>,
    /// The top products, best first.
    pub products: Vec<RankedProduct>,
}

impl Snapshot {
    /// Ranks the clicks of each product in `window`: most clicks first, ties by product id in ascending bytes, so
    /// that the same counters always give the same snapshot. What each minute has, who read the counters knows.
    pub fn rank(
        window: Window,
        generated_at: UnixMillis,
        clicks: HashMap<String, u64>,
        top_n: usize,
        previous: Option<&Self>,
    ) -> Self {
        let total_clicks = clicks.values().sum();
        let distinct_products = clicks.len() as u64;
        let mut top: Vec<(Reverse<u64>, String)> =
            clicks.into_iter().map(|(product_id, clicks)| (Reverse(clicks), product_id)).collect();
        if top_n < top.len() {
            top.select_nth_unstable(top_n);
            top.truncate(top_n);
        }
        top.sort_unstable();

        let previous_ranks: HashMap<&str, u64> = previous
            .into_iter()
            .flat_map(|snapshot| &snapshot.products)
            .map(|product| (product.product_id.as_str(), product.rank))
            .collect();
        let products = (1..)
            .zip(top)
            .map(|(rank, (Reverse(clicks), product_id))| RankedProduct {
                rank,
                previous_rank: previous_ranks.get(product_id.as_str()).copied(),
                product_id,
                clicks,
            })
            .collect();
        Self { window, generated_at, total_clicks, distinct_products, clicks_per_minute: Vec::new(), products }
    }
}

/// As `hot replay --json` and `hot top --json` print it.
impl Serialize for Snapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Snapshot", 6)?;
        fields.serialize_field("window_start", &bound(self.window.start()))?;
        fields.serialize_field("window_end", &bound(self.window.end()))?;
        fields.serialize_field("total_clicks", &self.total_clicks)?;
        fields.serialize_field("distinct_products", &self.distinct_products)?;
        if self.clicks_per_minute.is_empty() {
            fields.skip_field("clicks_per_minute")?;
        } else {
            fields.serialize_field("clicks_per_minute", &self.clicks_per_minute)?;
        }
        fields.serialize_field("products", &self.products)?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(clicks: &[(&str, u64)], top_n: usize, previous: Option<&Snapshot>) -> Snapshot {
        let clicks = clicks.iter().map(|(id, clicks)| ((*id).to_owned(), *clicks)).collect();
        Snapshot::rank(Window::ended_by(UnixMillis(1_672_159_800_000)), UnixMillis(0), clicks, top_n, previous)
    }

    #[test]
    fn most_clicks_first_and_ties_by_the_bytes_of_the_id() {
        let snapshot = rank(&[("b", 2), ("é", 5), ("z", 5), ("Z", 5), ("a", 1)], 4, None);
        let order: Vec<_> = snapshot.products.iter().map(|p| (p.rank, p.product_id.as_str(), p.clicks)).collect();
        assert_eq!(order, [(1, "Z", 5), (2, "z", 5), (3, "é", 5), (4, "b", 2)]);
        assert_eq!((snapshot.total_clicks, snapshot.distinct_products), (18, 5));
    }

    #[test]
    fn the_previous_rank_is_absent_for_a_newcomer() {
        let before = rank(&[("a", 2), ("b", 1)], 2, None);
        let now = rank(&[("a", 2), ("b", 3), ("c", 1)], 3, Some(&before));
        let ranks: Vec<_> = now.products.iter().map(|p| (p.product_id.as_str(), p.previous_rank)).collect();
        assert_eq!(ranks, [("b", Some(2)), ("a", Some(1)), ("c", None)]);
    }

    #[test]
    fn a_window_without_a_click_is_an_empty_snapshot() {
        let snapshot = rank(&[], 100, None);
        assert_eq!(
            serde_json::to_string(&snapshot).unwrap(),
            r#"{"window_start":"2022-12-27T15:50:00Z","window_end":"2022-12-27T16:50:00Z","total_clicks":0,"distinct_products":0,"products":[]}"#
        );
    }
}
