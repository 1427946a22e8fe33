//! The demo's shop. The popularity of its products drifts, so that ranks change.

use std::f64::consts::TAU;

use anyhow::{Context, Result};
use click_generator::{OTHER_ACTIONS, TrackingEvent, corrupt};
use hot_products::{Minute, UnixMillis};
use rand::{RngExt, SeedableRng, distr::weighted::WeightedIndex};
use rand_chacha::ChaCha8Rng;
use rand_distr::Distribution;
use std::time::Duration;

/// The share of events whose action is not a click.
const IGNORED_SHARE: f64 = 0.2;
/// The longest time that an event takes to reach the topic.
const MAX_DELAY: Duration = Duration::from_secs(20);
/// Added to a product's number in Zipf's law (Mandelbrot's variant): the hottest products are closer to each other, so that
/// their ranks change.
const HEAD: f64 = 6.0;
/// How long a product's popularity takes to rise and fall again, in minutes.
const TIDE_MINUTES: std::ops::Range<f64> = 40.0..150.0;
/// The height of a tide: at its top, a product is e to this power times as popular as on average.
const TIDE: f64 = 0.9;
/// One in this many products is in the news once every [`NEWS_MINUTES`].
const NEWS_SHARE: usize = 40;
/// How often a product is in the news, in minutes.
const NEWS_MINUTES: f64 = 360.0;
/// How long news lasts: the standard deviation of a Gaussian, in minutes.
const NEWS_WIDTH: f64 = 9.0;
/// The time from one busy hour of the shop to the next, in minutes.
const DAY_MINUTES: f64 = 130.0;

/// An event on its way to the topic.
#[derive(Debug)]
pub(super) struct Sent {
    /// When it reaches the topic.
    pub(super) at: UnixMillis,
    /// Its key: the product.
    pub(super) key: String,
    /// Its value.
    pub(super) line: Vec<u8>,
}

#[derive(Debug)]
struct Product {
    base: f64,
    tide_minutes: f64,
    tide_phase: f64,
    /// When it is in the news, in minutes after the start of each [`NEWS_MINUTES`].
    news: Option<f64>,
}

impl Product {
    fn weight(&self, minutes: f64) -> f64 {
        let tide = (TIDE * (TAU * (minutes / self.tide_minutes + self.tide_phase)).sin()).exp();
        let news = self.news.map_or(0.0, |at| {
            let distance = (minutes.rem_euclid(NEWS_MINUTES) - at) / NEWS_WIDTH;
            (-distance * distance / 2.0).exp() / (HEAD + 2.0)
        });
        self.base * tide + news
    }
}

/// Makes the shop's events. The same seed and the same calls make the same events.
#[derive(Debug)]
pub(super) struct Shop {
    random: ChaCha8Rng,
    products: Vec<Product>,
    clicks_per_second: f64,
    /// The weights of the products in one minute.
    popularity: Option<(Minute, WeightedIndex<f64>)>,
    /// The fraction of an event that is left over from the last call.
    due: f64,
}

impl Shop {
    pub(super) fn new(products: u32, clicks_per_second: f64, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let products = (0..products)
            .map(|number| Product {
                base: 1.0 / (f64::from(number) + HEAD),
                tide_minutes: random.random_range(TIDE_MINUTES),
                tide_phase: random.random(),
                news: (number as usize % NEWS_SHARE == NEWS_SHARE - 1).then(|| random.random_range(0.0..NEWS_MINUTES)),
            })
            .collect();
        Self { random, products, clicks_per_second, popularity: None, due: 0.0 }
    }

    /// The events that reach the topic in [`from`, `to`), in the order of their arrival.
    pub(super) fn events(&mut self, from: UnixMillis, to: UnixMillis) -> Result<Vec<Sent>> {
        let minutes = from.0 as f64 / 60_000.0;
        let busy = 1.0 + 0.3 * (TAU * minutes / DAY_MINUTES).sin() + self.random.random_range(-0.06..0.06);
        let span = to.since(from);
        self.due += span.as_secs_f64() * busy * self.clicks_per_second / (1.0 - IGNORED_SHARE);
        let count = self.due.floor();
        self.due -= count;
        (0..count as u64)
            .map(|number| {
                let at = from.plus(span.mul_f64(number as f64 / count));
                // Most arrive quickly.
                let delay = MAX_DELAY.mul_f64(self.random.random::<f64>().powi(6));
                self.event(at, at.minus(delay))
            })
            .collect()
    }

    /// An event that was corrupted on its way.
    pub(super) fn broken(&mut self, at: UnixMillis) -> Result<Sent> {
        let product = self.product(at)?;
        let event = TrackingEvent { event_time: at.0, product_id: &product, action: "click", user_id: "u_1" };
        let mut line = serde_json::to_vec(&event)?;
        corrupt(&mut line, &event, &mut self.random);
        Ok(Sent { at, key: product, line })
    }

    /// A click at `event_time` that reaches the topic at `at`.
    pub(super) fn click(&mut self, at: UnixMillis, event_time: UnixMillis) -> Result<Sent> {
        self.sent(at, event_time, "click")
    }

    fn event(&mut self, at: UnixMillis, event_time: UnixMillis) -> Result<Sent> {
        let action = if self.random.random_bool(IGNORED_SHARE) {
            OTHER_ACTIONS[self.random.random_range(0..OTHER_ACTIONS.len())]
        } else {
            "click"
        };
        self.sent(at, event_time, action)
    }

    fn sent(&mut self, at: UnixMillis, event_time: UnixMillis, action: &str) -> Result<Sent> {
        let key = self.product(at)?;
        let user_id = format!("u_{}", self.random.random_range(1..=9_999));
        let event = TrackingEvent { event_time: event_time.0, product_id: &key, action, user_id: &user_id };
        Ok(Sent { at, line: serde_json::to_vec(&event)?, key })
    }

    /// The id of a random product, weighted by popularity at the time `at`.
    fn product(&mut self, at: UnixMillis) -> Result<String> {
        let minute = Minute::of(at);
        let popularity = match self.popularity.take() {
            Some((of, popularity)) if of == minute => popularity,
            _ => {
                let minutes = minute.start().0 as f64 / 60_000.0;
                WeightedIndex::new(self.products.iter().map(|product| product.weight(minutes)))
                    .context("a shop needs a product")?
            }
        };
        let number = popularity.sample(&mut self.random);
        self.popularity = Some((minute, popularity));
        Ok(format!("p{}", number + 1))
    }
}
