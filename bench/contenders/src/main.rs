//! The usual layout, one counter per item, with the two usual ways to write; `STRATEGY` selects one.
//!
//! Decoding, client, settings and write concurrency are those of `count-clicks`, so only the writing differs. Neither
//! handles refused writes, because the bench delivers nothing twice.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::{
    Client,
    error::SdkError,
    operation::update_item::{UpdateItemError, UpdateItemOutput, builders::UpdateItemFluentBuilder},
    types::{AttributeValue, ConsumedCapacity, ReturnConsumedCapacity},
};
use count_clicks::{
    CountSettings,
    batch::{DecodedBatch, PartitionBatch},
};
use futures_util::{StreamExt, stream};
use hot_products::{
    Bucket, Clock, SystemClock,
    settings::Settings,
    store::{self, explain},
};
use lambda_runtime::{Error, LambdaEvent, run, service_fn, tracing};
use serde::Serialize;
use serde_json::value::RawValue;

/// The answer of an invocation.
#[derive(Debug, Default, Serialize)]
struct WriteSummary {
    records: u64,
    updates: u64,
    write_units: f64,
}

#[derive(Clone, Copy)]
enum Strategy {
    /// An unconditional `ADD` for each click; a redelivered click is counted again.
    EachClick,
    /// A conditional update for each product, minute and topic partition of the batch; it counts only new offsets.
    EachProduct,
}

impl Strategy {
    fn read(settings: &Settings) -> Result<Self, Error> {
        match settings.optional("STRATEGY") {
            Some("each-click") => Ok(Self::EachClick),
            Some("each-product") => Ok(Self::EachProduct),
            _ => Err("set STRATEGY to each-click or each-product".into()),
        }
    }
}

/// The clicks on one product in one minute, from one topic partition.
struct Clicks {
    first: i64,
    last: i64,
    count: u64,
}

struct Function {
    client: Client,
    settings: CountSettings,
    strategy: Strategy,
}

impl Function {
    async fn handle(&self, event: &str) -> Result<WriteSummary, Error> {
        let batch = DecodedBatch::decode(
            event.as_bytes(),
            self.settings.source_epoch,
            &self.settings.policy,
            SystemClock.now(),
        )?;
        let mut summary = WriteSummary { records: batch.records, ..WriteSummary::default() };
        let runs = batch
            .partitions
            .iter()
            .flat_map(|source| source.buckets.iter().map(move |(bucket, run)| (source, *bucket, run)));
        let updates = runs.flat_map(|(source, bucket, run)| match self.strategy {
            Strategy::EachClick => {
                let clicks = &source.clicks[run.clone()];
                clicks.iter().map(|click| self.add(bucket, batch.product(click.product))).collect::<Vec<_>>()
            }
            Strategy::EachProduct => {
                let mut products = BTreeMap::new();
                for click in &source.clicks[run.clone()] {
                    let new = Clicks { first: click.offset, last: click.offset, count: 0 };
                    let clicks: &mut Clicks = products.entry(click.product).or_insert(new);
                    clicks.last = click.offset;
                    clicks.count += 1;
                }
                let update = |(number, clicks)| self.add_once(source, bucket, batch.product(number), &clicks);
                products.into_iter().map(update).collect()
            }
        });
        let mut answers =
            stream::iter(updates).map(UpdateItemFluentBuilder::send).buffer_unordered(self.settings.write_concurrency);
        while let Some(answer) = answers.next().await {
            summary.updates += 1;
            summary.write_units += write_units(answer)?;
        }
        Ok(summary)
    }

    fn update(&self, product: &str, slot: String) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.settings.counters_table)
            .key("product_id", AttributeValue::S(product.to_owned()))
            .key("slot", AttributeValue::S(slot))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
    }

    fn add(&self, bucket: Bucket, product: &str) -> UpdateItemFluentBuilder {
        self.update(product, bucket.minute.to_string())
            .update_expression("ADD clicks :n")
            .expression_attribute_values(":n", AttributeValue::N("1".to_owned()))
    }

    fn add_once(
        &self,
        source: &PartitionBatch,
        bucket: Bucket,
        product: &str,
        clicks: &Clicks,
    ) -> UpdateItemFluentBuilder {
        self.update(product, format!("{} {}", bucket.minute, source.partition))
            .update_expression("SET last_offset = :l ADD clicks :n")
            .condition_expression("attribute_not_exists(last_offset) OR last_offset < :f")
            .expression_attribute_values(":f", AttributeValue::N(clicks.first.to_string()))
            .expression_attribute_values(":l", AttributeValue::N(clicks.last.to_string()))
            .expression_attribute_values(":n", AttributeValue::N(clicks.count.to_string()))
    }
}

fn write_units(answer: Result<UpdateItemOutput, SdkError<UpdateItemError>>) -> Result<f64, Error> {
    let output = answer.map_err(|error| explain(&error))?;
    Ok(output.consumed_capacity().and_then(ConsumedCapacity::capacity_units).unwrap_or_default())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let settings = Settings::from_env();
    let client = store::client_from_env(&settings)?;
    let function = Function { client, settings: CountSettings::read(&settings)?, strategy: Strategy::read(&settings)? };
    let function = &function;
    run(service_fn(async |event: LambdaEvent<Box<RawValue>>| function.handle(event.payload.get()).await)).await
}
