//! What a load costs a month with this product, and with the alternatives.

pub mod measured;
pub mod prices;

mod counting;
mod healing;
mod invocation;
mod lines;
mod logs;
mod snapshot;

use hot_products::Window;
use local_aws::template::StackSizes;
use serde::Serialize;

use self::{counting::Counting, lines::Costs};
pub use self::{
    invocation::Invocation,
    measured::Measured,
    prices::{Catalogue, Price, PriceList},
    snapshot::{minutes_bytes, snapshot_write_units},
};
use crate::load::{Estimate, Load};

/// Hours in a month, as in AWS's own calculator.
pub const MONTH_HOURS: f64 = 730.0;

/// Rankings a month.
const RANKINGS: f64 = MONTH_HOURS * 60.0 / Window::STEP_MINUTES as f64;

/// The ways to count and rank that a bill compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// This product.
    This,
    /// The same functions, with an update for each click.
    UpdateAClick,
    /// The same functions, with an update for each product of a batch and minute.
    UpdateAProduct,
    /// A job on Managed Service for Apache Flink that writes into RDS for `MariaDB`.
    Flink,
}

impl Way {
    /// All ways, in the order of a [`Row`].
    pub const ALL: [Self; 4] = [Self::This, Self::UpdateAClick, Self::UpdateAProduct, Self::Flink];

    /// The heading of the way's column.
    pub fn name(self) -> &'static str {
        match self {
            Self::This => "this",
            Self::UpdateAClick => "update per click",
            Self::UpdateAProduct => "update per product and batch",
            Self::Flink => "Flink and RDS",
        }
    }
}

/// A figure for each of [`Way::ALL`].
pub type Row = [f64; 4];

/// A line of a bill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// What is paid for.
    pub what: &'static str,
    /// The amount a month for each of [`Way::ALL`], in the currency of the price list.
    pub amounts: Row,
}

/// A month's bill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bill {
    /// The lines of counting and ranking.
    pub lines: Vec<Line>,
    /// Their sum.
    pub total: Row,
    /// The sum as a multiple of this product's.
    pub factor: Row,
    /// The lines of MSK, which every way needs: brokers, storage, and the endpoints of Lambda's pollers.
    pub msk: Vec<Line>,
    /// The sum with MSK.
    pub total_with_msk: Row,
}

impl Bill {
    /// The bill of `load`, which consumes `estimate`.
    pub fn of(
        load: &Load,
        estimate: &Estimate,
        measured: &Measured,
        prices: &PriceList,
        functions: &StackSizes,
    ) -> Self {
        let ways = [
            Counting::this(estimate, measured),
            Counting::update_a_click(load, estimate, measured),
            Counting::update_a_product(estimate, measured),
        ];
        let costs = Costs { load, estimate, measured, prices, functions, ways };
        let (lines, msk) = (costs.pipeline(), costs.msk());
        let (total, total_of_msk) = (sum(&lines), sum(&msk));
        Self {
            factor: total.map(|amount| amount / total[0]),
            total_with_msk: std::array::from_fn(|way| total[way] + total_of_msk[way]),
            total,
            lines,
            msk,
        }
    }
}

fn sum(lines: &[Line]) -> Row {
    std::array::from_fn(|way| lines.iter().map(|line| line.amounts[way]).sum())
}
