//! The tables and what they contain: the layout, the newest snapshot, and whether clicks are counted.

use std::time::Duration;

use hot_products::time::bound;
use terminal::text::duration;

use super::{list, see};
use crate::{
    doctor::{
        facts::{Content, Facts, Parts, RECENT_MINUTES, TableFacts, Unreadable},
        finding::{Decided, Finding, Subject, either},
    },
    show::time_range,
    status::NewestSnapshot,
};

pub(super) fn tables(parts: &Parts) -> Vec<Finding> {
    parts.tables.iter().map(|table| either(table_is_as_defined(table)).shown_by(&table.answer)).collect()
}

fn table_is_as_defined(facts: &TableFacts) -> Decided {
    let (check, what) = (format!("table {}", facts.name), format!("the table {}", facts.name));
    let next = format!("deploy the stack again: {}", see::DEPLOY);
    let table = &Subject { check: &check, what: &what, if_missing: &next }.answer(&facts.answer)?.table;
    let mut keys = table.key_schema.clone();
    keys.sort_by_key(|key| key.key_type != "HASH");
    let type_of = |name: &str| table.attribute_definitions.iter().find(|a| a.attribute_name == name);
    let keys: Vec<(String, String)> = keys
        .into_iter()
        .map(|key| {
            let kind = type_of(&key.attribute_name).map(|attribute| attribute.attribute_type.clone());
            (key.attribute_name, kind.unwrap_or_default())
        })
        .collect();
    if keys != facts.keys {
        let names =
            |keys: &[(String, String)]| list(&keys.iter().map(|(n, t)| format!("{n} ({t})")).collect::<Vec<_>>());
        let found = format!("its keys are {}, not {}", names(&keys), names(&facts.keys));
        return Err(Finding::wrong(&check, found, "it is not a table of this version: use another stack name"));
    }
    // UPDATING and ARCHIVING tables: API reference of DescribeTable. A table that is updated can be used.
    match table.table_status.as_str() {
        "ACTIVE" | "UPDATING" => Ok(Finding::ok(&check, table.table_status.clone())),
        other => Err(Finding::wrong(&check, other, next)),
    }
}

/// Whether the counters have this version's layout.
pub(super) fn layout(content: &Content) -> Finding {
    const CHECK: &str = "layout";
    match &content.layout {
        Ok(Some(since)) => {
            Finding::ok(CHECK, format!("the counters have this version's layout, since {}", bound(*since)))
        }
        Ok(None) => Finding::ok(CHECK, "no mark yet: count-clicks sets it with the first batch"),
        Err(unreadable) if unreadable.other_layout => Finding::wrong(
            CHECK,
            unreadable.message.clone(),
            format!("deploy the version that wrote it: {}", see::LIMITS),
        ),
        Err(unreadable) => not_readable(CHECK, unreadable),
    }
}

/// Whether rank-products runs: the newest snapshot is there and not overdue.
pub(super) fn snapshot(facts: &Facts, content: &Content) -> Finding {
    const CHECK: &str = "snapshot";
    match &content.newest {
        Ok(Some(newest)) => {
            let NewestSnapshot { window_end, generated_at, next_due, overdue, .. } = *newest;
            let start = hot_products::Window::ended_by(window_end).start();
            let found =
                format!("the newest, of {}, was made at {}", time_range(start, window_end), bound(generated_at));
            if overdue {
                let late = duration(facts.now.since(next_due));
                let found = format!("{found}; the next was due {late} ago");
                Finding::wrong(CHECK, found, format!("rank-products does not run or fails: {}", see::NO_SNAPSHOT))
            } else {
                Finding::ok(CHECK, found)
            }
        }
        Ok(None) => Finding::wrong(
            CHECK,
            "there is none",
            format!("a new stack makes the first within six minutes; later: {}", see::NO_SNAPSHOT),
        ),
        Err(unreadable) => not_readable(CHECK, unreadable),
    }
}

fn not_readable(check: &str, unreadable: &Unreadable) -> Finding {
    Finding::unknown(
        check,
        unreadable.message.clone(),
        "see the lines of the tables; allow what infra/policies/doctor.json lists",
    )
}

/// Whether the consumer group moves. The tables show what is counted, and `OffsetLag` what waits: without it, a quiet topic and
/// a stopped group look the same.
pub(super) fn counting(facts: &Facts, parts: &Parts) -> Finding {
    const CHECK: &str = "counting";
    let sources = match &parts.content.sources {
        Ok(sources) => sources,
        Err(unreadable) => return not_readable(CHECK, unreadable),
    };
    if let Some(newest) = sources.iter().map(|source| source.newest_minute).max() {
        let states: Vec<String> = sources
            .iter()
            .map(|source| {
                let ago = duration(Duration::from_secs(source.behind_seconds));
                format!("{} offset {}, {ago} ago", source.source, source.last_offset)
            })
            .collect();
        let found = format!("counted up to {} by {}", bound(newest.min(facts.now)), list(&states));
        return Finding::ok(CHECK, found);
    }
    let lag = parts.poller.as_ref().map(|poller| &poller.lag);
    let least = lag
        .and_then(|lag| lag.answer.as_ref().ok())
        .and_then(|lag| lag.datapoints.iter().filter_map(|point| point.minimum).reduce(f64::min));
    let nothing = format!("nothing was counted in the last {RECENT_MINUTES} minutes");
    match least {
        Some(least) if least > 0.0 => {
            let found = format!("{nothing}, and at least {least} records were waiting all the time");
            Finding::wrong(CHECK, found, format!("the consumer group does not move: {}", see::LAG))
        }
        Some(_) => Finding::ok(CHECK, format!("{nothing}, and none was waiting: the topic is quiet")),
        None => Finding::unknown(
            CHECK,
            format!("{nothing}, and OffsetLag is not known"),
            format!("ask the poller: {}", see::SILENT),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        checks::testing::{answered, at},
        finding::Status,
        testing::healthy,
    };

    #[test]
    fn a_table_needs_its_keys_and_must_be_active() {
        let mut parts = healthy().parts.unwrap();
        assert!(tables(&parts).iter().all(|finding| finding.status == Status::Ok), "{:?}", tables(&parts));
        let counters = parts.tables.iter_mut().find(|table| table.name.ends_with("minute-counters")).unwrap();
        let table = |status: &str, sort: &str| {
            answered(&format!(
                r#"{{"Table": {{"TableStatus": "{status}",
                    "KeySchema": [{{"AttributeName": "{sort}", "KeyType": "RANGE"}}, {{"AttributeName": "bucket", "KeyType": "HASH"}}],
                    "AttributeDefinitions": [{{"AttributeName": "bucket", "AttributeType": "S"}},
                        {{"AttributeName": "{sort}", "AttributeType": "S"}}]}}}}"#
            ))
        };
        counters.answer = table("UPDATING", "source");
        assert_eq!(either(table_is_as_defined(counters)).status, Status::Ok);
        counters.answer = table("ACTIVE", "other");
        let finding = either(table_is_as_defined(counters));
        assert_eq!(finding.found, "its keys are bucket (S), other (S), not bucket (S), source (S)");
        counters.answer = table("DELETING", "source");
        assert_eq!(either(table_is_as_defined(counters)).status, Status::Wrong);
    }

    #[test]
    fn another_layout_is_wrong_and_an_unreadable_table_is_unknown() {
        let mut content = healthy().parts.unwrap().content;
        assert_eq!(layout(&content).status, Status::Ok);
        content.layout = Ok(None);
        assert_eq!(layout(&content).status, Status::Ok);
        content.layout = Err(Unreadable { other_layout: true, message: "layout 1".to_owned() });
        assert_eq!(layout(&content).status, Status::Wrong);
        content.layout = Err(Unreadable { other_layout: false, message: "no".to_owned() });
        assert_eq!(layout(&content).status, Status::Unknown);
    }

    #[test]
    fn a_missing_or_overdue_snapshot_is_wrong() {
        let facts = healthy();
        let mut content = facts.parts.as_ref().unwrap().content.clone();
        assert_eq!(snapshot(&facts, &content).status, Status::Ok);
        if let Ok(Some(newest)) = &mut content.newest {
            newest.overdue = true;
            newest.next_due = at("2022-12-27T16:45:00Z");
        }
        let finding = snapshot(&facts, &content);
        assert!(finding.status == Status::Wrong && finding.found.ends_with("the next was due 7m ago"), "{finding:?}");
        content.newest = Ok(None);
        assert_eq!(snapshot(&facts, &content).status, Status::Wrong);
        content.newest = Err(Unreadable { other_layout: false, message: "no".to_owned() });
        assert_eq!(snapshot(&facts, &content).status, Status::Unknown);
    }

    #[test]
    fn a_group_that_does_not_move_is_told_from_a_quiet_topic_by_what_waits() {
        let facts = healthy();
        let mut parts = facts.parts.clone().unwrap();
        assert_eq!(counting(&facts, &parts).status, Status::Ok);
        parts.content.sources = Ok(Vec::new());
        let mut with_lag = |datapoints: &str| {
            parts.poller.as_mut().unwrap().lag = answered(&format!(r#"{{"Datapoints": [{datapoints}]}}"#));
            counting(&facts, &parts)
        };
        assert_eq!(with_lag(r#"{"Minimum": 0.0}, {"Minimum": 7.0}"#).status, Status::Ok);
        assert_eq!(with_lag("").status, Status::Unknown);
        let stopped = with_lag(r#"{"Minimum": 9.0}, {"Minimum": 7.0}"#);
        assert!(stopped.status == Status::Wrong && stopped.found.contains("at least 7 records"), "{stopped:?}");
        parts.poller = None;
        assert_eq!(counting(&facts, &parts).status, Status::Unknown);
    }
}
