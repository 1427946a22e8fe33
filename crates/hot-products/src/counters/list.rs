use super::TopicPartition;

/// Counters as a bucket has them: product ids with their clicks, and the topic partitions that counted them. A product has
/// a counter for each item that counts it.
///
/// All ids are in one string, because a page of a bucket has up to a hundred thousand of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CounterList {
    ids: String,
    /// The end of each id in `ids`, with the clicks.
    counters: Vec<(u32, u64)>,
    partitions: Vec<TopicPartition>,
}

impl CounterList {
    /// Adds a counter. A list has less than 4 GiB of ids: a page of DynamoDB has 1 MB.
    pub fn push(&mut self, product: &str, clicks: u64) {
        self.ids.push_str(product);
        self.counters.push((self.ids.len() as u32, clicks));
    }

    /// Adds the topic partition of an item whose counters are in the list.
    pub fn push_partition(&mut self, partition: TopicPartition) {
        // The items of a chain follow each other.
        if self.partitions.last() != Some(&partition) {
            self.partitions.push(partition);
        }
    }

    /// How many counters it has.
    pub fn len(&self) -> usize {
        self.counters.len()
    }

    /// Whether it has no counter.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }

    /// Each counter: the product and its clicks.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        let mut start = 0;
        self.counters.iter().map(move |(end, clicks)| {
            let end = *end as usize;
            let id = &self.ids[start..end];
            start = end;
            (id, *clicks)
        })
    }

    /// The topic partitions, in the order of their items; one may be listed twice.
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }
}
