//! Counters that are remembered, so that a minute is read once and not once for each of its twelve windows.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    config::{ConfigBag, Intercept, interceptors::BeforeSerializationInterceptorContextRef},
    error::BoxError,
    operation::update_item::UpdateItemInput,
    types::AttributeValue,
};
use hot_products::{
    Bucket, Minute, Window,
    counters::{CounterList, attribute},
    store::{BucketRead, CountersTable, StoreError},
};
use rank_products::ReadBucket;

/// What DynamoDB answers for a bucket without items, at the price of an eventually consistent read of up to 4 KB (Amazon
/// DynamoDB Developer Guide, "Read operations").
const NO_ITEMS: BucketRead = BucketRead { items: 0, queries: 1, read_units: 0.5 };

/// The counters table, with what was read of it until it changes. It must see all writes, from the empty table on, and none
/// may run at the same time as a read.
#[derive(Clone, Debug)]
pub(crate) struct RememberedBuckets {
    table: CountersTable,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Debug, Default)]
struct Memory {
    /// The buckets that have been written.
    written: HashSet<String>,
    /// What the buckets have that have not been written since, in the order of their minutes.
    read: BTreeMap<String, (BucketRead, Arc<[CounterList]>)>,
}

enum Known {
    Nothing,
    Empty,
    All(BucketRead, Arc<[CounterList]>),
}

impl RememberedBuckets {
    /// The empty table `table`.
    pub(crate) fn new(table: CountersTable) -> Self {
        Self { table, memory: Arc::default() }
    }

    /// `client`, whose writes are seen.
    pub(crate) fn watch(&self, client: &Client) -> Client {
        Client::from_conf(client.config().to_builder().interceptor(Watch(Arc::clone(&self.memory))).build())
    }

    fn known(&self, bucket: &str) -> Known {
        let memory = lock(&self.memory);
        match memory.read.get(bucket) {
            Some((read, pages)) => Known::All(*read, Arc::clone(pages)),
            None if memory.written.contains(bucket) => Known::Nothing,
            None => Known::Empty,
        }
    }

    /// Remembers `bucket`, and forgets buckets that are too old for the windows of the newest one.
    fn remember(&self, bucket: Bucket, read: BucketRead, pages: Vec<CounterList>) {
        let mut memory = lock(&self.memory);
        memory.read.insert(bucket.to_string(), (read, pages.into()));
        let hour = Duration::from_mins(Window::MINUTES as u64);
        let oldest = Minute::of(bucket.minute.start().minus(hour)).to_string();
        while let Some(first) = memory.read.first_entry().filter(|first| *first.key() < oldest) {
            first.remove();
        }
    }
}

impl ReadBucket for RememberedBuckets {
    async fn read_bucket(
        &self,
        bucket: Bucket,
        mut each: impl FnMut(&CounterList) + Send,
    ) -> Result<BucketRead, StoreError> {
        match self.known(&bucket.to_string()) {
            Known::Empty => Ok(NO_ITEMS),
            Known::All(read, pages) => {
                pages.iter().for_each(each);
                Ok(read)
            }
            Known::Nothing => {
                let mut pages = Vec::new();
                let read = self.table.read_pages(bucket, |page| {
                    each(page);
                    pages.push(page.clone());
                });
                let read = read.await?;
                self.remember(bucket, read, pages);
                Ok(read)
            }
        }
    }
}

/// Notes which buckets a client writes to.
#[derive(Debug)]
struct Watch(Arc<Mutex<Memory>>);

impl Intercept for Watch {
    fn name(&self) -> &'static str {
        "Watch"
    }

    fn read_before_execution(
        &self,
        context: &BeforeSerializationInterceptorContextRef<'_>,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // All writes to counters are updates of an item.
        let update = context.input().downcast_ref::<UpdateItemInput>();
        let bucket = update.and_then(UpdateItemInput::key).and_then(|key| key.get(attribute::BUCKET));
        if let Some(AttributeValue::S(bucket)) = bucket {
            let mut memory = lock(&self.0);
            memory.read.remove(bucket);
            if !memory.written.contains(bucket) {
                memory.written.insert(bucket.clone());
            }
        }
        Ok(())
    }
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}
