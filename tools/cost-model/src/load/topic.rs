//! How a load is spread over partitions, shards and Lambda's pollers.

use std::{cell::OnceCell, rc::Rc};

use rand::{Rng, RngExt};
use rand_distr::{Distribution, weighted::WeightedAliasIndex};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{KeyedBy, Load, MAX_BATCH_RECORDS};
use local_aws::msk::{MAX_PAYLOAD_BYTES, payload_bytes};

/// A seed of its own, so that partitions and shards are spread independently.
const PARTITIONER_SEED: u64 = 1;

/// An event as it comes, for its size.
const EVENT: &[u8] = br#"{"event_time":1672131001234,"product_id":"p123456","action":"click","user_id":"u_1234567"}"#;

/// The products of a load and where their clicks go.
#[derive(Clone, Debug)]
pub struct Topic {
    /// How many pollers read it; poller `i` has the partitions `i`, `i + pollers`, …
    pub pollers: u32,
    /// The most records in a batch: 10,000, or as many as 6 MB hold.
    pub batch_records: usize,
    /// Clicks a second of each poller.
    pub rates: Vec<f64>,
    partitions: u32,
    keyed_by: KeyedBy,
    products: Vec<Product>,
    /// What every poller reads, when clicks are keyed by user.
    all: OnceCell<Rc<Mix>>,
}

#[derive(Clone, Copy, Debug)]
struct Product {
    /// Its share of the clicks.
    share: f64,
    shard: u16,
    id_bytes: u8,
    /// The partition its clicks are on, when they are keyed by product.
    partition: u32,
}

/// Where a poller's clicks go.
#[derive(Clone, Debug)]
pub struct Mix {
    products: Vec<u32>,
    /// Chooses one of `products` by their shares; `None` where there is none.
    choice: Option<WeightedAliasIndex<f64>>,
}

/// The size of a click on the topic, in bytes.
pub fn record_bytes() -> usize {
    b"p123456".len() + EVENT.len()
}

impl Topic {
    /// The topic that `load` comes on.
    pub fn of(load: &Load) -> Self {
        let mut products: Vec<Product> = (1..=load.products)
            .map(|rank| {
                let id = format!("p{rank}");
                Product {
                    share: f64::from(rank).powf(-load.zipf),
                    shard: (xxh3_64(id.as_bytes()) % u64::from(load.shards)) as u16,
                    id_bytes: id.len() as u8,
                    partition: (xxh3_64_with_seed(id.as_bytes(), PARTITIONER_SEED) % u64::from(load.partitions)) as u32,
                }
            })
            .collect();
        let sum: f64 = products.iter().map(|product| product.share).sum();
        let mut shares = vec![0.0; load.partitions as usize];
        for product in &mut products {
            product.share /= sum;
            match load.keyed_by {
                KeyedBy::Product => shares[product.partition as usize] += product.share,
                KeyedBy::User => {}
            }
        }
        if load.keyed_by == KeyedBy::User {
            shares.fill(1.0 / f64::from(load.partitions));
        }
        let batch_records = MAX_BATCH_RECORDS.min(MAX_PAYLOAD_BYTES / payload_bytes(Some(b"p123456"), EVENT));
        let rates = |pollers: u32| {
            let mut rates = vec![0.0; pollers as usize];
            for (partition, share) in shares.iter().enumerate() {
                rates[partition % pollers as usize] += share * load.clicks_per_second;
            }
            rates
        };
        let most = batch_records as f64 / load.window.as_secs_f64().max(0.001);
        let pollers = load.pollers.unwrap_or_else(|| {
            (1..load.partitions)
                .find(|pollers| rates(*pollers).iter().all(|rate| *rate < most))
                .unwrap_or(load.partitions)
        });
        Self {
            pollers,
            batch_records,
            rates: rates(pollers),
            partitions: load.partitions,
            keyed_by: load.keyed_by,
            products,
            all: OnceCell::new(),
        }
    }

    /// What the poller reads.
    pub fn mix(&self, poller: u32) -> Rc<Mix> {
        match self.keyed_by {
            KeyedBy::User => Rc::clone(self.all.get_or_init(|| self.mix_of(|_| true))),
            KeyedBy::Product => self.mix_of(|product| product.partition % self.pollers == poller),
        }
    }

    fn mix_of(&self, has: impl Fn(&Product) -> bool) -> Rc<Mix> {
        let own = (0..).zip(&self.products).filter(|(_, product)| has(product));
        let (products, shares) = own.map(|(number, product)| (number, product.share)).unzip();
        Rc::new(Mix { products, choice: WeightedAliasIndex::new(shares).ok() })
    }

    /// A click that the poller reads: its partition and product.
    pub(super) fn click(&self, poller: u32, mix: &Mix, random: &mut impl Rng) -> Option<(u32, u32)> {
        let product = mix.products[mix.choice.as_ref()?.sample(random)];
        let partition = match self.keyed_by {
            KeyedBy::Product => self.products[product as usize].partition,
            KeyedBy::User => {
                let its_own = (self.partitions - poller).div_ceil(self.pollers);
                poller + random.random_range(0..its_own) * self.pollers
            }
        };
        Some((partition, product))
    }

    /// The shard of a product.
    pub fn shard(&self, product: u32) -> u16 {
        self.products[product as usize].shard
    }

    /// The length of a product's id, in bytes.
    pub fn id_bytes(&self, product: u32) -> usize {
        self.products[product as usize].id_bytes.into()
    }

    /// How many different products `clicks` clicks are expected to be on.
    pub fn distinct(&self, clicks: f64) -> f64 {
        self.products.iter().map(|product| 1.0 - (clicks * (-product.share).ln_1p()).exp()).sum()
    }
}

#[cfg(test)]
mod tests {
    use hot_products::Shard;

    use super::*;

    #[test]
    fn shards_are_those_of_the_layout() {
        let topic = Topic::of(&Load::new(10.0, 3, 500, KeyedBy::Product));
        let shards: Vec<Shard> = Shard::all().collect();
        for product in 0..500 {
            let id = format!("p{}", product + 1);
            assert_eq!(shards[usize::from(topic.shard(product))], Shard::of(&id));
            assert_eq!(topic.id_bytes(product), id.len());
        }
    }

    #[test]
    fn there_are_as_many_pollers_as_keep_batches_from_filling() {
        for (clicks_per_second, pollers) in [(50.0, 1), (300.0, 1), (1_000.0, 4), (10_000.0, 12)] {
            let topic = Topic::of(&Load::new(clicks_per_second, 12, 1_000, KeyedBy::User));
            assert_eq!(topic.pollers, pollers, "{clicks_per_second} clicks/s");
            let sum: f64 = topic.rates.iter().sum();
            assert!((sum / clicks_per_second - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn the_expected_distinct_products_of_few_and_many_clicks() {
        let topic = Topic::of(&Load::new(1.0, 1, 1_000, KeyedBy::User));
        assert!((topic.distinct(1.0) - 1.0).abs() < 1e-9);
        assert!((topic.distinct(1e9) - 1_000.0).abs() < 1e-6);
    }
}
