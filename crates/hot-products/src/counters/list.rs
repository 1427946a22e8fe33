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
    /// Each topic partition, with the end of its counters in `counters`.
    partitions: Vec<(TopicPartition, usize)>,
}

impl CounterList {
    /// Adds a counter of the item that [`end_item`](Self::end_item) will end. A list has less than 4 GiB of ids: a page of
    /// DynamoDB has 1 MB.
    pub fn push(&mut self, product: &str, clicks: u64) {
        self.ids.push_str(product);
        self.counters.push((self.ids.len() as u32, clicks));
    }

    /// Makes `partition` the topic partition of the counters that were added since the last item.
    pub fn end_item(&mut self, partition: TopicPartition) {
        let end = self.counters.len();
        match self.partitions.last_mut() {
            // The items of a chain follow each other.
            Some((last, last_end)) if *last == partition => *last_end = end,
            _ => self.partitions.push((partition, end)),
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
    pub fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.partitions.iter().map(|(partition, _)| partition)
    }

    /// Calls `each` with each counter: the topic partition, the product and its clicks.
    pub fn for_each(&self, mut each: impl FnMut(&TopicPartition, &str, u64)) {
        let (mut counters, mut start) = (self.iter(), 0);
        for (partition, end) in &self.partitions {
            for (product, clicks) in counters.by_ref().take(end - start) {
                each(partition, product, clicks);
            }
            start = *end;
        }
    }
}
