//! The event source and its poller.

use super::{list, see};
use crate::doctor::{
    answers::{EventSourceMapping, Statistics},
    aws_cli::Asked,
    facts::{Facts, Parts, RECENT_MINUTES},
    finding::{Decided, Finding, Subject, either},
};

/// What the results of a failing poller begin with.
const PROBLEM: &str = "PROBLEM";

pub(super) fn all(facts: &Facts, parts: &Parts) -> Vec<Finding> {
    let by = &parts.mappings;
    vec![
        either(state(parts)).shown_by(by),
        either(reads(facts, parts)).shown_by(by),
        either(rules(parts)).shown_by(by),
        either(poller(parts)),
    ]
}

/// The event source, or the finding that it is not known, for the check `check`.
fn mapping<'a>(parts: &'a Parts, check: &str) -> Result<&'a EventSourceMapping, Finding> {
    let next = "see the line `event-source`";
    let mappings = Subject { check, what: "the function count-clicks", if_missing: next }.answer(&parts.mappings);
    let mappings = mappings.map_err(|finding| Finding::unknown(check, finding.found, next))?;
    mappings.event_source_mappings.first().ok_or_else(|| not_there(check))
}

fn not_there(check: &str) -> Finding {
    Finding::unknown(check, "the event source does not exist", "see the line `event-source`")
}

/// Whether it exists and is enabled, and what it reports.
fn state(parts: &Parts) -> Decided {
    const CHECK: &str = "event-source";
    let next = format!("deploy the stack again: {}", see::DEPLOY);
    let subject = Subject { check: CHECK, what: "the alias live of count-clicks", if_missing: &next };
    let mappings = subject.answer(&parts.mappings)?.event_source_mappings.as_slice();
    if !parts.expected.has_event_source() {
        let found = "the stack is deployed with EventSource=absent: nothing is counted, and clicks wait in Kafka";
        return Err(Finding::wrong(CHECK, found, format!("deploy with EventSource=present: {}", see::EVENT_SOURCE)));
    }
    let mapping = match mappings {
        [] if !parts.parameters_known => {
            let found = "there is none, and it is not known whether the stack should have one";
            return Err(Finding::unknown(CHECK, found, "see the line `stack`"));
        }
        [] => return Err(Finding::wrong(CHECK, "there is none: nothing is counted, and clicks wait in Kafka", next)),
        [mapping] => mapping,
        more => {
            let ids: Vec<&str> = more.iter().map(|mapping| mapping.uuid.as_str()).collect();
            let found = format!("there are {}: {}", more.len(), list(&ids));
            return Err(Finding::wrong(CHECK, found, "delete those that the stack has not created"));
        }
    };
    let reason = mapping.state_transition_reason.as_deref().unwrap_or("no reason");
    let result = mapping.last_processing_result.as_deref().unwrap_or("no result yet");
    let found = format!("{} ({reason}); last result: {result}", mapping.state);
    let poller = format!("its poller does not work: {}", see::SILENT);
    // The states: API reference of GetEventSourceMapping.
    match mapping.state.as_str() {
        "Enabled" if result.starts_with(PROBLEM) => Err(Finding::wrong(CHECK, found, poller)),
        "Enabled" => Ok(Finding::ok(CHECK, found)),
        "Disabled" | "Disabling" => {
            let next = format!(
                "somebody has stopped it; start it: aws lambda update-event-source-mapping --uuid {} --enabled",
                mapping.uuid
            );
            Err(Finding::wrong(CHECK, found, next))
        }
        "Creating" | "Enabling" | "Updating" => Err(Finding::unknown(CHECK, found, "repeat this in some minutes")),
        _ => Err(Finding::wrong(CHECK, found, poller)),
    }
}

/// Whether it reads the cluster, the topic and the group of the stack's parameters, which Lambda can't change in an event source.
fn reads(facts: &Facts, parts: &Parts) -> Decided {
    const CHECK: &str = "event-source-reads";
    let mapping = mapping(parts, CHECK)?;
    if !parts.parameters_known {
        return Err(Finding::unknown(CHECK, "the stack's parameters are not known", "see the line `stack`"));
    }
    let group = mapping.kafka().iter().find_map(|config| config.consumer_group_id.as_deref());
    let expected = &parts.expected;
    let (cluster, topic, wanted_group) =
        (expected.parameter("MskClusterArn"), expected.parameter("Topic"), expected.consumer_group(&facts.stack));
    let mut differences = Vec::new();
    if mapping.event_source_arn != cluster {
        differences.push(format!("the cluster {}, not {cluster}", mapping.event_source_arn));
    }
    if !mapping.topics.is_empty() && mapping.topics != [topic] {
        differences.push(format!("the topic {}, not {topic}", list(&mapping.topics)));
    }
    if let Some(group) = group.filter(|group| *group != wanted_group) {
        differences.push(format!("in the group {group}, not {wanted_group}"));
    }
    if !differences.is_empty() {
        let next = format!("a changed parameter needs two deployments: {}", see::EVENT_SOURCE);
        return Err(Finding::wrong(CHECK, format!("reads {}", differences.join(", ")), next));
    }
    match group {
        Some(group) if !mapping.topics.is_empty() => {
            Ok(Finding::ok(CHECK, format!("the topic {topic} in the group {group}, as the stack says")))
        }
        _ => Err(Finding::unknown(
            CHECK,
            "Lambda does not say which topic and group it reads",
            "ask again with a newer AWS CLI",
        )),
    }
}

/// Whether batches come whole, in order, until they are counted: what exact counting relies on.
fn rules(parts: &Parts) -> Decided {
    const CHECK: &str = "event-source-rules";
    let mapping = mapping(parts, CHECK)?;
    let mut broken = Vec::new();
    let mode = mapping.kafka().iter().find_map(|config| config.consumption_mode.as_deref());
    if let Some(mode) = mode.filter(|mode| !mode.eq_ignore_ascii_case("stream")) {
        broken.push(format!("the consumption mode is {mode}, which gives up the order of offsets"));
    }
    if !mapping.function_response_types.is_empty() {
        broken.push(format!("it takes partial failures ({})", list(&mapping.function_response_types)));
    }
    let on_failure = mapping.destination_config.as_ref().and_then(|config| config.on_failure.as_ref());
    if let Some(destination) = on_failure.and_then(|on_failure| on_failure.destination.as_deref()) {
        broken.push(format!("it gives failed batches to {destination}"));
    }
    // -1 stands for no limit.
    let limits = [mapping.maximum_retry_attempts, mapping.maximum_record_age_in_seconds];
    if limits.into_iter().flatten().any(|limit| limit >= 0) {
        broken.push("it limits retries or the age of records".to_owned());
    }
    if mapping.bisect_batch_on_function_error == Some(true) {
        broken.push("it splits failed batches".to_owned());
    }
    if !mapping.function_arn.ends_with(":live") {
        broken.push(format!("it invokes {}, not the alias live", mapping.function_arn));
    }
    if broken.is_empty() {
        return Ok(Finding::ok(CHECK, "whole batches in the order of offsets, retried until they are counted"));
    }
    let next = format!("somebody changed it, and counts may be wrong; deploy the stack again: {}", see::DEPLOY);
    Err(Finding::wrong(CHECK, broken.join("; "), next))
}

/// Whether the poller reports anything.
fn poller(parts: &Parts) -> Decided {
    const CHECK: &str = "poller";
    let mapping = mapping(parts, CHECK)?;
    let facts = parts.poller.as_ref().ok_or_else(|| not_there(CHECK))?;
    if matches!(mapping.state.as_str(), "Disabled" | "Disabling") {
        return Err(Finding::unknown(CHECK, "the event source is disabled", "see the line `event-source`"));
    }
    let next = format!("in a new stack wait for {RECENT_MINUTES} minutes; later: {}", see::SILENT);
    let datapoints = |asked: &Asked<Statistics>| {
        let subject = Subject { check: CHECK, what: "the metric", if_missing: &next };
        subject.answer(asked).map(|answer| answer.datapoints.clone())
    };
    // One of them is enough: AWS does not document that all pollers report PolledEventCount.
    let (polled, lag) = match (datapoints(&facts.polled), datapoints(&facts.lag)) {
        (Err(finding), Err(_)) => return Err(finding),
        (polled, lag) => (polled.unwrap_or_default(), lag.unwrap_or_default()),
    };
    if polled.is_empty() && lag.is_empty() {
        let found = format!("it has reported neither PolledEventCount nor OffsetLag for {RECENT_MINUTES} minutes");
        return Err(Finding::wrong(CHECK, found, next).shown_by(&facts.polled));
    }
    let mut found = Vec::new();
    if !polled.is_empty() {
        let records: f64 = polled.iter().filter_map(|point| point.sum).sum();
        found.push(format!("it polled {records} records in {RECENT_MINUTES} minutes"));
    }
    if let Some(most) = lag.iter().filter_map(|point| point.maximum).reduce(f64::max) {
        found.push(format!("at most {most} were waiting"));
    }
    Ok(Finding::ok(CHECK, found.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        aws_cli::Reason,
        checks::testing::{answered, refused},
        finding::Status,
        testing::{MAPPING, healthy},
    };

    /// The statuses of the four checks if the event source is as `change` makes it.
    fn after(change: impl Fn(&mut EventSourceMapping)) -> (Vec<Status>, Vec<Finding>) {
        let facts = healthy();
        let mut parts = facts.parts.clone().unwrap();
        change(&mut parts.mappings.answer.as_mut().unwrap().event_source_mappings[0]);
        let findings = all(&facts, &parts);
        (findings.iter().map(|finding| finding.status).collect(), findings)
    }

    use Status::{Ok as Fine, Unknown, Wrong};

    #[test]
    fn the_state_and_the_last_result_decide() {
        assert_eq!(after(|_| {}).0, [Fine; 4]);
        let (statuses, findings) = after(|mapping| {
            mapping.state = "Disabled".to_owned();
            mapping.state_transition_reason = Some("User action".to_owned());
        });
        assert_eq!(statuses, [Wrong, Fine, Fine, Unknown]);
        assert_eq!(findings[0].found, "Disabled (User action); last result: OK");
        assert!(findings[0].next.as_ref().unwrap().ends_with("--uuid 14e0db71 --enabled"));
        assert_eq!(after(|mapping| mapping.state = "Creating".to_owned()).0, [Unknown, Fine, Fine, Fine]);
        let problem = "PROBLEM: Connection error. Your VPC must be able to connect to Lambda and STS";
        let (statuses, findings) = after(|mapping| mapping.last_processing_result = Some(problem.to_owned()));
        assert_eq!(statuses, [Wrong, Fine, Fine, Fine]);
        assert!(findings[0].found.contains(problem));
    }

    #[test]
    fn another_topic_cluster_or_group_than_the_stacks_is_wrong() {
        for change in [
            (|mapping: &mut EventSourceMapping| mapping.topics = vec!["views".to_owned()])
                as fn(&mut EventSourceMapping),
            |mapping| mapping.event_source_arn = "arn:other".to_owned(),
            |mapping| mapping.amazon_managed_kafka_event_source_config.consumer_group_id = Some("other".to_owned()),
        ] {
            assert_eq!(after(change).0, [Fine, Wrong, Fine, Fine]);
        }
        let of_another_kafka = |mapping: &mut EventSourceMapping| {
            let config = std::mem::take(&mut mapping.amazon_managed_kafka_event_source_config);
            mapping.self_managed_kafka_event_source_config = config;
        };
        assert_eq!(after(of_another_kafka).0, [Fine; 4]);
        assert_eq!(after(|mapping| mapping.topics.clear()).0, [Fine, Unknown, Fine, Fine], "Lambda does not say");
    }

    #[test]
    fn what_exact_counting_relies_on_is_checked() {
        for change in [
            (|mapping: &mut EventSourceMapping| {
                mapping.amazon_managed_kafka_event_source_config.consumption_mode = Some("Queue".to_owned());
            }) as fn(&mut EventSourceMapping),
            |mapping| mapping.self_managed_kafka_event_source_config.consumption_mode = Some("QUEUE".to_owned()),
            |mapping| mapping.function_response_types = vec!["ReportBatchItemFailures".to_owned()],
            |mapping| {
                mapping.destination_config =
                    serde_json::from_str(r#"{"OnFailure": {"Destination": "arn:q"}}"#).unwrap();
            },
            |mapping| mapping.maximum_retry_attempts = Some(3),
            |mapping| mapping.maximum_record_age_in_seconds = Some(60),
            |mapping| mapping.bisect_batch_on_function_error = Some(true),
            |mapping| mapping.function_arn = "arn:f".to_owned(),
        ] {
            assert_eq!(after(change).0, [Fine, Fine, Wrong, Fine]);
        }
        let harmless = |mapping: &mut EventSourceMapping| {
            mapping.amazon_managed_kafka_event_source_config.consumption_mode = Some("Stream".to_owned());
            mapping.maximum_retry_attempts = Some(-1);
            mapping.destination_config = serde_json::from_str(r#"{"OnFailure": {}}"#).unwrap();
        };
        assert_eq!(after(harmless).0, [Fine; 4]);
    }

    #[test]
    fn a_missing_or_second_event_source_is_wrong_and_what_depends_on_it_unknown() {
        let facts = healthy();
        let mut parts = facts.parts.clone().unwrap();
        let mut with = |mappings: &str, parameter: &str| {
            parts.mappings = answered(&format!(r#"{{"EventSourceMappings": [{mappings}]}}"#));
            parts.expected.parameters.insert("EventSource".to_owned(), parameter.to_owned());
            all(&facts, &parts).into_iter().map(|finding| finding.status).collect::<Vec<_>>()
        };
        assert_eq!(with("", "present"), [Wrong, Unknown, Unknown, Unknown]);
        assert_eq!(with("", "absent"), [Wrong, Unknown, Unknown, Unknown]);
        assert_eq!(with(&format!("{MAPPING}, {MAPPING}"), "present")[0], Wrong);
        parts.mappings = answered(r#"{"EventSourceMappings": []}"#);
        parts.parameters_known = false;
        assert!(all(&facts, &parts).iter().all(|finding| finding.status == Unknown));
        parts.mappings = refused(Reason::Denied);
        assert!(all(&facts, &parts).iter().all(|finding| finding.status == Unknown));
    }

    #[test]
    fn a_poller_that_reports_nothing_is_wrong() {
        let mut parts = healthy().parts.unwrap();
        let found = either(poller(&parts)).found;
        assert_eq!(found, "it polled 12 records in 15 minutes, at most 3 were waiting");
        let none = || answered(r#"{"Datapoints": []}"#);
        parts.poller.as_mut().unwrap().polled = none();
        assert_eq!(either(poller(&parts)).status, Fine, "the other metric is a sign of life too");
        parts.poller.as_mut().unwrap().lag = none();
        assert_eq!(either(poller(&parts)).status, Wrong);
        let facts = parts.poller.as_mut().unwrap();
        (facts.polled, facts.lag) = (refused(Reason::Denied), refused(Reason::Denied));
        assert_eq!(either(poller(&parts)).status, Unknown);
    }
}
