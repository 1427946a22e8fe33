//! Bills and limits for people.

use comfy_table::{CellAlignment, Table};

use cost_model::{
    bill::{Bill, Line, Row, Way},
    load::Load,
    scale::{Reached, Taken},
};
use terminal::text::STYLE;

/// A bill as a table.
pub(crate) fn bill(bill: &Bill) -> String {
    let mut table = table(&["a month"], &Way::ALL.map(Way::name));
    let line = |what: &str, amounts: &Row| -> Vec<String> {
        let amount = |amount: &f64| if *amount == 0.0 { String::new() } else { money(*amount) };
        [what.to_owned()].into_iter().chain(amounts.iter().map(amount)).collect()
    };
    let paid = |lines: &[Line]| -> Vec<Vec<String>> {
        let is_paid = |line: &&Line| line.amounts.iter().any(|amount| *amount > 0.0);
        lines.iter().filter(is_paid).map(|each| line(each.what, &each.amounts)).collect()
    };
    table.add_rows(paid(&bill.lines));
    table.add_row(line("total", &bill.total));
    table.add_row([String::new()].into_iter().chain(bill.factor.iter().map(|factor| format!("{factor:.1} ×"))));
    table.add_rows(paid(&bill.msk));
    table.add_row(line("total with MSK", &bill.total_with_msk));
    table.to_string()
}

/// How much of each limit the loads use: a row for each load.
pub(crate) fn taken(loads: &[(Load, [Taken; 6])]) -> String {
    let mut table = table(
        &["clicks/s"],
        &["partitions", "products", "keyed by", "hottest key", "table", "item", "poller", "ranking", "memory"],
    );
    let limits = loads.first().map_or([0.0; 6], |(_, taken)| taken.map(|taken| taken.most));
    let figures = |figures: [f64; 6]| {
        let [key, write_units, item, poller, time, memory] = figures;
        [
            format!("{} WU/s", whole(key)),
            format!("{} WU/s", whole(write_units)),
            format!("{} KB", whole(item / 1024.0)),
            format!("{} %", whole(poller * 100.0)),
            format!("{time:.1} s"),
            format!("{} MB", whole(memory)),
        ]
    };
    for (load, taken) in loads {
        let size = [
            whole(load.clicks_per_second),
            load.partitions.to_string(),
            whole(load.products.into()),
            load.keyed_by.name().to_owned(),
        ];
        table.add_row(size.into_iter().chain(figures(taken.map(|taken| taken.taken))));
    }
    let name = ["limit", "", "", ""].map(str::to_owned);
    table.add_row(name.into_iter().chain(figures(limits)));
    table.to_string()
}

/// The load above which each limit is exceeded: a column for each topic.
pub(crate) fn reached(topics: &[(Load, [Reached; 6])]) -> String {
    let names: Vec<String> =
        topics.iter().map(|(load, _)| format!("{} by {}", load.partitions, load.keyed_by.name())).collect();
    let mut table = table(&["exceeded above … clicks/s"], &names.iter().map(String::as_str).collect::<Vec<_>>());
    let Some((_, first)) = topics.first() else { return table.to_string() };
    for (position, limit) in first.iter().enumerate() {
        let clicks = topics.iter().map(|(_, reached)| match reached[position].clicks_per_second {
            Some(clicks_per_second) => rounded(clicks_per_second),
            None => "–".to_owned(),
        });
        table.add_row([limit.limit.name().to_owned()].into_iter().chain(clicks));
    }
    table.to_string()
}

fn table(left: &[&str], right: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_header(left.iter().chain(right).copied());
    for column in left.len()..left.len() + right.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// An amount of money, with cents below 1,000.
pub(crate) fn money(amount: f64) -> String {
    if amount < 1_000.0 { format!("{amount:.2}") } else { whole(amount) }
}

/// A number rounded to a whole one, with commas between the thousands.
pub(crate) fn whole(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number rounded to two digits.
pub(crate) fn rounded(number: f64) -> String {
    let scale = 10_f64.powf((number.max(1.0).log10().floor() - 1.0).max(0.0));
    whole((number / scale).round() * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_and_have_commas() {
        assert_eq!([0.0, 999.0, 1_000.0, 1_234_567.8].map(whole), ["0", "999", "1,000", "1,234,568"]);
        assert_eq!([0.004, 12.345, 1_234.5].map(money), ["0.00", "12.35", "1,234"]);
        assert_eq!([7.4, 14_449.0, 155_000.1].map(rounded), ["7", "14,000", "160,000"]);
    }
}
