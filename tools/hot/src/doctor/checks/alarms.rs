//! The alarms: whether they are there, tell somebody, and are quiet.

use std::collections::{BTreeMap, BTreeSet};

use super::{list, see};
use crate::doctor::{
    answers::{Alarm, Subscription, Subscriptions},
    aws_cli::Asked,
    facts::{Facts, Parts},
    finding::{Decided, Finding, Subject, either},
};

pub(super) fn all(facts: &Facts, parts: &Parts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = [exist(facts, parts), tell(parts), quiet(facts, parts)]
        .map(|decided| either(decided).shown_by(&parts.alarms))
        .into();
    findings.extend(parts.subscriptions.as_ref().map(|asked| either(email(asked)).shown_by(asked)));
    findings
}

/// Whether somebody has confirmed the subscription of `AlarmEmail`.
fn email(asked: &Asked<Subscriptions>) -> Decided {
    const CHECK: &str = "alarm-email";
    let next = format!("deploy the stack again: {}", see::DEPLOY);
    let subject = Subject { check: CHECK, what: "the SNS topic of the alarms", if_missing: &next };
    let found = &subject.answer(asked)?.subscriptions;
    // API reference of ListSubscriptionsByTopic: instead of an ARN, PendingConfirmation or Deleted.
    let confirmed = found.iter().filter(|subscription| subscription.subscription_arn.starts_with("arn:")).count();
    let pending = found.iter().any(|subscription| subscription.subscription_arn == "PendingConfirmation");
    match (confirmed, pending) {
        (0, true) => {
            let next = "open the link in the e-mail of AWS Notifications; after three days, subscribe again";
            Err(Finding::wrong(CHECK, "nobody has confirmed the subscription, so nobody gets mail", next))
        }
        (0, false) => {
            let next = "subscribe an address to the topic with `aws sns subscribe`";
            Err(Finding::wrong(CHECK, "nobody is subscribed to the alarms' topic", next))
        }
        (confirmed, _) => Ok(Finding::ok(CHECK, format!("{confirmed} confirmed, by {}", protocols(found)))),
    }
}

fn protocols(subscriptions: &[Subscription]) -> String {
    let names: BTreeSet<&str> = subscriptions.iter().map(|subscription| subscription.protocol.as_str()).collect();
    list(&names.into_iter().collect::<Vec<_>>())
}

/// The alarms of the stack that exist, by name. Another stack's name can begin with this one's.
fn existing<'a>(parts: &'a Parts, check: &str) -> Result<BTreeMap<&'a str, &'a Alarm>, Finding> {
    let subject = Subject { check, what: "the list of alarms", if_missing: see::ALARMS };
    let alarms = subject.answer(&parts.alarms)?.metric_alarms.iter();
    let ours = alarms.filter(|alarm| parts.expected.alarms.contains_key(&alarm.alarm_name));
    Ok(ours.map(|alarm| (alarm.alarm_name.as_str(), alarm)).collect())
}

/// An alarm's name without the stack's, as the runbook has it.
fn short<'a>(facts: &Facts, name: &'a str) -> &'a str {
    name.strip_prefix(&facts.stack).and_then(|name| name.strip_prefix('-')).unwrap_or(name)
}

/// Whether this version's alarms exist, with its metrics and limits.
fn exist(facts: &Facts, parts: &Parts) -> Decided {
    const CHECK: &str = "alarms";
    let found = existing(parts, CHECK)?;
    let mut problems = Vec::new();
    for (name, expected) in &parts.expected.alarms {
        let short = short(facts, name);
        let Some(alarm) = found.get(name.as_str()) else {
            problems.push(format!("{short} does not exist"));
            continue;
        };
        // The metric of an expression is not compared, nor a limit that depends on parameters which are not known.
        let Some(metric) = &expected.metric else { continue };
        let threshold = expected.threshold.filter(|_| parts.parameters_known);
        let same = alarm.metric_name.as_ref() == Some(metric)
            && (threshold.is_none() || alarm.threshold == threshold)
            && (expected.periods.is_none() || alarm.evaluation_periods == expected.periods);
        if !same {
            problems.push(format!("{short} is not as in the template"));
        }
    }
    if !parts.parameters_known && found.len() < parts.expected.alarms.len() {
        return Err(Finding::unknown(
            CHECK,
            "the parameters decide which exist, and are not known",
            "see the line `stack`",
        ));
    }
    if problems.is_empty() {
        return Ok(Finding::ok(CHECK, format!("the {} of this version's template", parts.expected.alarms.len())));
    }
    Err(Finding::wrong(CHECK, list(&problems), format!("deploy this version: {}", see::DEPLOY)))
}

/// Whether they notify anybody.
fn tell(parts: &Parts) -> Decided {
    const CHECK: &str = "alarm-actions";
    let found = existing(parts, CHECK)?;
    let names = |select: &dyn Fn(&Alarm) -> bool| -> Vec<&str> {
        found.iter().filter(|(_, alarm)| select(alarm)).map(|(name, _)| *name).collect()
    };
    let disabled = names(&|alarm| !alarm.actions_enabled);
    if !disabled.is_empty() {
        let next = format!("aws cloudwatch enable-alarm-actions --alarm-names {}", disabled.join(" "));
        return Err(Finding::wrong(CHECK, format!("disabled for {}", list(&disabled)), next));
    }
    let set = ["AlarmEmail", "AlarmTopicArn"].into_iter().filter(|name| !parts.expected.parameter(name).is_empty());
    let set: Vec<&str> = set.collect();
    let silent = names(&|alarm| alarm.alarm_actions.is_empty());
    match (set.is_empty(), silent.is_empty()) {
        // Somebody may watch the dashboard, or the alarms' events in EventBridge.
        (true, false) => {
            Ok(Finding::ok(CHECK, "enabled, but they notify nobody: AlarmEmail and AlarmTopicArn are empty"))
        }
        (false, false) => {
            let found = format!("{} notify nobody, although {} is set", list(&silent), list(&set));
            Err(Finding::wrong(CHECK, found, format!("deploy the stack again: {}", see::DEPLOY)))
        }
        (_, true) => Ok(Finding::ok(CHECK, "enabled")),
    }
}

/// Whether none is in the state ALARM.
fn quiet(facts: &Facts, parts: &Parts) -> Decided {
    const CHECK: &str = "alarm-states";
    let found = existing(parts, CHECK)?;
    let in_state = |state: &str| -> Vec<&str> {
        let there = found.iter().filter(|(_, alarm)| alarm.state_value == state);
        there.map(|(name, _)| short(facts, name)).collect()
    };
    let (alarm, no_data) = (in_state("ALARM"), in_state("INSUFFICIENT_DATA"));
    match alarm.first() {
        Some(first) => {
            let next = format!("each has an entry in the runbook: docs/operations.md#{first}");
            Err(Finding::wrong(CHECK, format!("in ALARM: {}", list(&alarm)), next))
        }
        None if no_data.is_empty() => Ok(Finding::ok(CHECK, "all are OK")),
        None => Ok(Finding::ok(CHECK, format!("none is in ALARM; no data yet: {}", list(&no_data)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        aws_cli::Reason,
        checks::testing::{answered, refused},
        finding::Status,
        testing::healthy,
    };

    use Status::{Ok as Fine, Unknown, Wrong};

    /// The findings about alarms if the alarms are as `change` makes them.
    fn after(change: impl Fn(&mut Vec<Alarm>)) -> Vec<Finding> {
        let facts = healthy();
        let mut parts = facts.parts.clone().unwrap();
        change(&mut parts.alarms.answer.as_mut().unwrap().metric_alarms);
        parts.subscriptions = None;
        all(&facts, &parts)
    }

    fn statuses(findings: &[Finding]) -> Vec<Status> {
        findings.iter().map(|finding| finding.status).collect()
    }

    fn named<'a>(alarms: &'a mut [Alarm], name: &str) -> &'a mut Alarm {
        alarms.iter_mut().find(|alarm| alarm.alarm_name == format!("hot-products-{name}")).unwrap()
    }

    #[test]
    fn each_alarm_must_exist_with_its_limits() {
        assert_eq!(statuses(&after(|_| {})), [Fine; 3], "{:?}", after(|_| {}));
        let deleted = after(|alarms| alarms.retain(|alarm| alarm.alarm_name != "hot-products-no-snapshot"));
        assert_eq!(statuses(&deleted), [Wrong, Fine, Fine]);
        assert_eq!(deleted[0].found, "no-snapshot does not exist");
        for change in [
            (|alarm: &mut Alarm| alarm.threshold = Some(1e9)) as fn(&mut Alarm),
            |alarm| alarm.evaluation_periods = Some(99),
            |alarm| alarm.metric_name = Some("Other".to_owned()),
        ] {
            let changed = after(|alarms| change(named(alarms, "event-source-lag")));
            assert_eq!(changed[0].found, "event-source-lag is not as in the template");
        }
    }

    #[test]
    fn disabled_actions_and_alarms_that_went_off_are_wrong() {
        let disabled = after(|alarms| named(alarms, "dead-letters").actions_enabled = false);
        assert_eq!(statuses(&disabled), [Fine, Wrong, Fine]);
        let next = disabled[1].next.as_deref().unwrap();
        assert!(next.ends_with("enable-alarm-actions --alarm-names hot-products-dead-letters"), "{next}");
        let off = after(|alarms| named(alarms, "dead-letters").state_value = "ALARM".to_owned());
        assert_eq!(statuses(&off), [Fine, Fine, Wrong]);
        assert!(off[2].next.as_deref().unwrap().ends_with("#dead-letters"));
        let no_data = after(|alarms| named(alarms, "dead-letters").state_value = "INSUFFICIENT_DATA".to_owned());
        assert_eq!(no_data[2].found, "none is in ALARM; no data yet: dead-letters");
        let of_another_stack = after(|alarms| {
            let other = Alarm {
                alarm_name: "hot-products-staging-x".to_owned(),
                state_value: "ALARM".to_owned(),
                ..Alarm::default()
            };
            alarms.push(other);
        });
        assert_eq!(statuses(&of_another_stack), [Fine; 3]);
    }

    #[test]
    fn somebody_must_have_confirmed_the_subscription() {
        let with = |subscriptions: &str| {
            either(email(&answered(&format!(r#"{{"Subscriptions": [{subscriptions}]}}"#)))).status
        };
        let subscription = |arn: &str| format!(r#"{{"Protocol": "email", "SubscriptionArn": "{arn}"}}"#);
        assert_eq!(with(&subscription("arn:aws:sns:x")), Fine);
        assert_eq!(with(&[subscription("arn:aws:sns:x"), subscription("PendingConfirmation")].join(",")), Fine);
        for nobody in ["", &subscription("PendingConfirmation"), &subscription("Deleted")] {
            assert_eq!(with(nobody), Wrong, "{nobody}");
        }
    }

    #[test]
    fn alarms_notify_whom_the_parameters_name() {
        let facts = healthy();
        let mut parts = facts.parts.clone().unwrap();
        parts.subscriptions = None;
        for alarm in &mut parts.alarms.answer.as_mut().unwrap().metric_alarms {
            alarm.alarm_actions.clear();
        }
        assert_eq!(statuses(&all(&facts, &parts)), [Fine, Wrong, Fine]);
        parts.expected.parameters.insert("AlarmTopicArn".to_owned(), String::new());
        let finding = &all(&facts, &parts)[1];
        assert!(finding.status == Fine && finding.found.contains("notify nobody"), "{finding:?}");
        parts.parameters_known = false;
        parts.alarms.answer.as_mut().unwrap().metric_alarms.pop();
        assert_eq!(statuses(&all(&facts, &parts)), [Unknown, Fine, Fine]);
        parts.alarms = refused(Reason::Denied);
        assert_eq!(statuses(&all(&facts, &parts)), [Unknown; 3]);
    }
}
