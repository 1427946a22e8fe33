//! This machine, the stack as a whole, and its version.

use std::collections::BTreeSet;

use super::{list, see};
use crate::doctor::{
    facts::{Facts, Parts},
    finding::{Decided, Finding, Subject, either},
};

/// The largest difference of the clocks, in milliseconds. DynamoDB refuses requests that are signed five minutes off (AWS
/// Signature Version 4); well below that, times that `hot` prints would mislead.
const MAX_SKEW_MS: i64 = 30_000;

pub(super) fn clock(facts: &Facts) -> Finding {
    const CHECK: &str = "clock";
    match facts.clock_ahead {
        None => Finding::unknown(CHECK, "DynamoDB did not answer with a date", "is DynamoDB reachable from here?"),
        Some(ahead) if ahead.abs() <= MAX_SKEW_MS => {
            Finding::ok(CHECK, format!("this machine's clock is within {} s of AWS's", (ahead.abs() / 1000).max(1)))
        }
        Some(ahead) => {
            let (seconds, how) = (ahead.abs() / 1000, if ahead > 0 { "behind" } else { "ahead of" });
            Finding::wrong(
                CHECK,
                format!("this machine's clock is {seconds} s {how} AWS's"),
                "set this machine's clock by NTP; from five minutes on, AWS refuses what it signs",
            )
        }
    }
}

pub(super) fn credentials(facts: &Facts) -> Finding {
    let subject = Subject { check: "credentials", what: "the caller", if_missing: "give AWS credentials" };
    either(subject.answer(&facts.identity).map(|caller| {
        Finding::ok(subject.check, format!("{} in account {}, {}", caller.arn, caller.account, facts.region))
    }))
}

pub(super) fn stack(facts: &Facts) -> Finding {
    either(stack_status(facts)).shown_by(&facts.stacks)
}

fn stack_status(facts: &Facts) -> Decided {
    let what = format!("the stack {} in {}", facts.stack, facts.region);
    let if_missing = "deploy it, or give --stack and AWS_REGION";
    let subject = Subject { check: "stack", what: &what, if_missing };
    let stacks = &subject.answer(&facts.stacks)?.stacks;
    let stack = stacks.first().ok_or_else(|| Finding::unknown(subject.check, "no answer", if_missing))?;
    let status = stack.stack_status.as_str();
    let why = stack.stack_status_reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let found = format!("{status}{why}");
    // The states of a stack: AWS CloudFormation User Guide, "Understanding stack creation events".
    Ok(match status {
        "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "IMPORT_COMPLETE" => Finding::ok(subject.check, found),
        _ if status.ends_with("_IN_PROGRESS") => {
            Finding::unknown(subject.check, found, "repeat this when the deployment has ended")
        }
        _ => Finding::wrong(
            subject.check,
            found,
            format!("the last deployment failed or was rolled back: {}", see::ROLLOUTS),
        ),
    })
}

/// Whether the stack has the resources and parameters of the template of this version of `hot`.
pub(super) fn version(parts: &Parts) -> Finding {
    either(same_template(parts)).shown_by(&parts.resources)
}

fn same_template(parts: &Parts) -> Decided {
    let next = "deploy this version, or use the `hot` of the stack's version";
    let subject = Subject { check: "version", what: "the stack's list of resources", if_missing: next };
    let found = &subject.answer(&parts.resources)?.stack_resource_summaries;
    if !parts.parameters_known {
        return Err(Finding::unknown(subject.check, "the stack's parameters are not known", "see the check `stack`"));
    }
    let found: BTreeSet<&str> = found.iter().map(|resource| resource.logical_resource_id.as_str()).collect();
    let missing: Vec<&str> =
        parts.expected.resources.iter().map(String::as_str).filter(|name| !found.contains(name)).collect();
    let mut differences = Vec::new();
    if !missing.is_empty() {
        differences.push(format!("the stack lacks {}", list(&missing)));
    }
    if !parts.expected.new_parameters.is_empty() {
        differences.push(format!("it lacks the parameters {}", list(&parts.expected.new_parameters)));
    }
    if !parts.expected.unknown_parameters.is_empty() {
        differences.push(format!("this hot does not know its parameters {}", list(&parts.expected.unknown_parameters)));
    }
    if differences.is_empty() {
        let resources = parts.expected.resources.len();
        return Ok(Finding::ok(
            subject.check,
            format!("the stack has the {resources} resources of this version's template"),
        ));
    }
    Err(Finding::wrong(subject.check, differences.join("; "), next))
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

    #[test]
    fn a_clock_is_wrong_from_half_a_minute_on() {
        let mut facts = healthy();
        let mut at = |ahead| {
            facts.clock_ahead = ahead;
            clock(&facts)
        };
        assert_eq!(at(Some(0)).found, "this machine's clock is within 1 s of AWS's");
        assert_eq!(at(Some(-30_000)).status, Status::Ok);
        let slow = at(Some(31_000));
        assert_eq!((slow.status, slow.found.as_str()), (Status::Wrong, "this machine's clock is 31 s behind AWS's"));
        assert_eq!(at(Some(-400_000)).found, "this machine's clock is 400 s ahead of AWS's");
        assert_eq!(at(None).status, Status::Unknown);
    }

    #[test]
    fn the_state_of_the_stack_decides() {
        let mut facts = healthy();
        for (state, expected) in [
            ("UPDATE_COMPLETE", Status::Ok),
            ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", Status::Unknown),
            ("UPDATE_ROLLBACK_COMPLETE", Status::Wrong),
            ("ROLLBACK_FAILED", Status::Wrong),
        ] {
            facts.stacks = answered(&format!(r#"{{"Stacks": [{{"StackStatus": "{state}"}}]}}"#));
            assert_eq!(stack(&facts).status, expected, "{state}");
        }
        facts.stacks = refused(Reason::Missing);
        assert_eq!(stack(&facts).found, "the stack hot-products in eu-west-1 does not exist");
    }

    #[test]
    fn another_version_is_known_by_its_resources_and_parameters() {
        let mut parts = healthy().parts.unwrap();
        assert_eq!(version(&parts).status, Status::Ok, "{:?}", version(&parts));
        parts.expected.resources.insert("NewAlarm".to_owned());
        parts.expected.unknown_parameters = vec!["Newer".to_owned()];
        let finding = version(&parts);
        assert_eq!(finding.status, Status::Wrong);
        assert_eq!(finding.found, "the stack lacks NewAlarm; this hot does not know its parameters Newer");
        parts.parameters_known = false;
        assert_eq!(version(&parts).status, Status::Unknown);
    }
}
