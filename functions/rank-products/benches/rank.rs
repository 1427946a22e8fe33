//! Ranking an hour of 3.6 million counters on one and on two threads. The answers of DynamoDB are made in this process, so that no
//! other one takes part.

use std::{error::Error, sync::Arc};

use aws_sdk_dynamodb::{
    Client,
    config::{Credentials, Region, SharedHttpClient, http::HttpResponse},
};
use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
    orchestrator::HttpRequest,
};
use bytes::Bytes;
use divan::Bencher;
use hot_products::{
    ManualClock, UnixMillis,
    settings::Settings,
    store::{self, CallLimits},
};
use rank_products::{RankProducts, RankSettings, Request};
use tokio::runtime::Builder;

/// 2022-12-27T16:50:00Z, the end of the window.
const END: UnixMillis = UnixMillis(1_672_159_800_000);
/// Counters in each of the 480 buckets.
const COUNTERS: u64 = 7_500;

fn main() {
    divan::main();
}

/// Answers a query of counters with a page, and everything else as empty tables do.
#[derive(Clone, Debug)]
struct OnePage(Bytes);

impl OnePage {
    fn new() -> Self {
        let counters: Vec<String> = (0..COUNTERS)
            .map(|number| format!(r##""#p{number}":{{"N":"{}"}}"##, 1 + COUNTERS / (1 + number)))
            .collect();
        let page = format!(
            r#"{{"Count":1,"Items":[{{"bucket":{{"S":"2022-12-27T16:45Z#0"}},"source":{{"S":"clicks-0"}},"last_offset":{{"N":"9"}},{}}}],"ConsumedCapacity":{{"CapacityUnits":13.0}}}}"#,
            counters.join(",")
        );
        Self(page.into())
    }

    fn client(self) -> SharedHttpClient {
        http_client_fn(move |_, _| SharedHttpConnector::new(self.clone()))
    }
}

impl HttpConnector for OnePage {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let asks_for_counters = request.body().bytes().is_some_and(|body| body.windows(2).any(|text| text == b"Z#"));
        let body = if asks_for_counters { self.0.clone() } else { Bytes::from_static(b"{}") };
        let status = 200.try_into().map(|status| HttpResponse::new(status, body.into()));
        HttpConnectorFuture::ready(Ok(status.unwrap_or_else(|_| unreachable!("200 is a status"))))
    }
}

/// The function over the answers.
fn function() -> Result<RankProducts, Box<dyn Error>> {
    let settings = Settings::from([("COUNTERS_TABLE", "counters"), ("SNAPSHOTS_TABLE", "snapshots")]);
    let credentials = Credentials::new("local", "local", None, None, "local");
    let client = store::client(Region::new("us-east-1"), credentials, None, &CallLimits::default());
    let client = Client::from_conf(client.config().to_builder().http_client(OnePage::new().client()).build());
    Ok(RankProducts::new(client, RankSettings::read(&settings)?, Arc::new(ManualClock::at(END))))
}

#[divan::bench(args = [1, 2], sample_count = 10, sample_size = 1)]
fn full_hour(bencher: Bencher<'_, '_>, threads: usize) {
    let function = Arc::new(function().unwrap_or_else(|error| panic!("{error}")));
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
    let request = Request { scheduled_time: None, window_end: Some(END.to_string()) };
    bencher.bench(|| {
        let (function, request) = (Arc::clone(&function), request.clone());
        let ranked = runtime.block_on(async move { function.handle(&request, UnixMillis(i64::MAX)).await });
        let summary = ranked.unwrap_or_else(|error| panic!("{error}")).summary;
        assert_eq!((summary.items, summary.distinct_products), (480, 4 * COUNTERS));
        summary.total_clicks
    });
}
