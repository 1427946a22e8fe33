//! How the clicks of a load are spread over partitions, buckets and Lambda's pollers.

use std::{cell::OnceCell, rc::Rc};

use hot_products::{Bucket, Minute, PartitionGroup, Shard, TopicPartition};
use local_aws::msk::{MAX_PAYLOAD_BYTES, partition, payload_bytes};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, weighted::WeightedAliasIndex};

use super::{KeyedBy, Load};
use crate::assumptions::BATCH_SIZE;

/// The key of a typical event, for its size.
const KEY: &[u8] = b"p123456";

/// A typical event, for its size.
const EVENT: &[u8] = br#"{"event_time":1672131001234,"product_id":"p123456","action":"click","user_id":"u_1234567"}"#;

/// The products of a load, and the partitions of their clicks.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Number of pollers. Poller `i` reads the partitions `i`, `i + pollers`, …
    pub pollers: u32,
    /// The most records in a batch: [`BATCH_SIZE`], or as many as fit into 6 MB.
    pub batch_records: usize,
    /// Clicks per second of each poller.
    pub rates: Vec<f64>,
    /// The group of each partition.
    groups: Vec<PartitionGroup>,
    keyed_by: KeyedBy,
    products: Vec<Product>,
    /// The mix of every poller, if records are keyed by user.
    all: OnceCell<Rc<Mix>>,
}

#[derive(Clone, Copy, Debug)]
struct Product {
    /// Its share of the clicks.
    share: f64,
    shard: Shard,
    id_bytes: u8,
    /// The partition of its clicks, if records are keyed by product.
    partition: u32,
}

/// The products whose clicks a poller reads.
#[derive(Clone, Debug)]
pub struct Mix {
    products: Vec<u32>,
    /// Chooses one of `products` by their shares; `None` without products.
    choice: Option<WeightedAliasIndex<f64>>,
}

/// The size of a record on the topic, key and value, in bytes.
pub fn record_bytes() -> usize {
    KEY.len() + EVENT.len()
}

impl Topic {
    /// The topic of `load`.
    pub fn of(load: &Load) -> Self {
        let mut products: Vec<Product> = (1..=load.products)
            .map(|rank| {
                let id = format!("p{rank}");
                Product {
                    share: f64::from(rank).powf(-load.zipf),
                    shard: Shard::of(&id),
                    id_bytes: id.len() as u8,
                    partition: partition(id.as_bytes(), load.partitions),
                }
            })
            .collect();
        let sum: f64 = products.iter().map(|product| product.share).sum();
        for product in &mut products {
            product.share /= sum;
        }
        let mut shares = vec![0.0; load.partitions as usize];
        match load.keyed_by {
            KeyedBy::Product => products.iter().for_each(|product| shares[product.partition as usize] += product.share),
            KeyedBy::User => shares.fill(1.0 / f64::from(load.partitions)),
        }
        let batch_records = BATCH_SIZE.min(MAX_PAYLOAD_BYTES / payload_bytes(Some(KEY), EVENT));
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
            groups: (0..load.partitions).map(group).collect(),
            keyed_by: load.keyed_by,
            products,
            all: OnceCell::new(),
        }
    }

    /// The products of the poller.
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

    /// The partition and the product of the poller's next click; `None` if it has no products.
    pub(super) fn click(&self, poller: u32, mix: &Mix, random: &mut impl Rng) -> Option<(u32, u32)> {
        let product = mix.products[mix.choice.as_ref()?.sample(random)];
        let partition = match self.keyed_by {
            KeyedBy::Product => self.products[product as usize].partition,
            KeyedBy::User => {
                let own_partitions = (self.groups.len() as u32 - poller).div_ceil(self.pollers);
                poller + random.random_range(0..own_partitions) * self.pollers
            }
        };
        Some((partition, product))
    }

    /// The bucket of a click in `minute`.
    pub fn bucket(&self, minute: Minute, partition: u32, product: u32) -> Bucket {
        let group = self.groups[partition as usize];
        Bucket { minute, shard: self.products[product as usize].shard, group }
    }

    /// The length of a product's id, in bytes.
    pub fn id_bytes(&self, product: u32) -> usize {
        self.products[product as usize].id_bytes.into()
    }

    /// The expected number of distinct products among `clicks` clicks.
    pub fn distinct(&self, clicks: f64) -> f64 {
        self.products.iter().map(|product| 1.0 - (clicks * (-product.share).ln_1p()).exp()).sum()
    }
}

fn group(partition: u32) -> PartitionGroup {
    PartitionGroup::of(&TopicPartition::new(&format!("clicks-{partition}"), None))
}

#[cfg(test)]
mod tests {
    use hot_products::UnixMillis;

    use super::*;

    #[test]
    fn buckets_are_those_of_the_layout() {
        let topic = Topic::of(&Load::new(10.0, 3, 500, KeyedBy::Product));
        let minute = Minute::of(UnixMillis(0));
        for product in 0..500 {
            let id = format!("p{}", product + 1);
            for partition in 0..3 {
                let name = TopicPartition::new(&format!("clicks-{partition}"), None);
                assert_eq!(topic.bucket(minute, partition, product), Bucket::of(minute, &id, &name));
            }
            assert_eq!(topic.id_bytes(product), id.len());
        }
    }

    #[test]
    fn there_are_as_few_pollers_as_keep_batches_from_filling() {
        for (clicks_per_second, pollers) in [(50.0, 1), (300.0, 1), (1_000.0, 4), (10_000.0, 12)] {
            let topic = Topic::of(&Load::new(clicks_per_second, 12, 1_000, KeyedBy::User));
            assert_eq!(topic.pollers, pollers, "{clicks_per_second} clicks/s");
            let sum: f64 = topic.rates.iter().sum();
            assert!((sum / clicks_per_second - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn one_click_is_on_one_product_and_many_clicks_are_on_all() {
        let topic = Topic::of(&Load::new(1.0, 1, 1_000, KeyedBy::User));
        assert!((topic.distinct(1.0) - 1.0).abs() < 1e-9);
        assert!((topic.distinct(1e9) - 1_000.0).abs() < 1e-6);
    }
}
