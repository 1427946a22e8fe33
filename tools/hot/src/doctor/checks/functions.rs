//! The functions, their roles, and the schedule.

use std::collections::BTreeSet;

use super::{list, see};
use crate::doctor::{
    answers::Statement,
    facts::{Facts, FunctionFacts, Parts, RoleFacts},
    finding::{Decided, Finding, Subject, either},
    gather::LIVE,
};

/// When rank-products runs, as in the template.
const SCHEDULE: &str = "cron(1/5 * * * ? *)";

pub(super) fn functions(parts: &Parts) -> Vec<Finding> {
    parts.functions.iter().map(|function| either(function_is_live(parts, function))).collect()
}

fn function_is_live(parts: &Parts, facts: &FunctionFacts) -> Decided {
    let expected = parts.expected.functions.get(&facts.logical).cloned().unwrap_or_default();
    let (check, what) = (format!("function {}", expected.name), format!("the alias {LIVE} of {}", expected.name));
    let next = format!("deploy the stack again: {}", see::DEPLOY);
    let subject = Subject { check: &check, what: &what, if_missing: &next };
    let alias = subject.answer(&facts.alias)?;
    let configuration = subject.answer(&facts.configuration)?;
    let wrong = |found: String, next: &str| Err(Finding::wrong(&check, found, next).shown_by(&facts.configuration));
    // API reference of GetFunctionConfiguration: "State" is absent for old functions, Inactive for those not used for weeks.
    match configuration.state.as_deref() {
        None | Some("Active" | "Inactive") => {}
        Some(state) => return wrong(format!("{LIVE} is {state}"), &next),
    }
    if let Some(status) = configuration.last_update_status.as_deref().filter(|status| *status == "Failed") {
        return wrong(format!("its last update has the status {status}"), &next);
    }
    let version = &alias.function_version;
    if let Some(routing) =
        alias.routing_config.as_ref().filter(|routing| !routing.additional_version_weights.is_empty())
    {
        let others: Vec<&String> = routing.additional_version_weights.keys().collect();
        return Ok(Finding::ok(&check, format!("{LIVE} is moving from version {version} to {}", list(&others))));
    }
    if parts.parameters_known {
        let differs = expected
            .settings
            .iter()
            .filter(|(name, value)| configuration.environment.variables.get(*name) != Some(value));
        let differs: Vec<&str> = differs.map(|(name, _)| name.as_str()).collect();
        if !differs.is_empty() {
            let found = format!("version {version} has other settings than the stack: {}", list(&differs));
            return wrong(found, &format!("{LIVE} is at another deployment: {}", see::ROLLOUTS));
        }
    }
    match version_of_stack(parts, &facts.logical) {
        Some(deployed) if deployed != version => Err(Finding::wrong(
            &check,
            format!("{LIVE} invokes version {version}, and the stack has deployed {deployed}"),
            format!("it was rolled back, or moved by hand: {}", see::ROLLOUTS),
        )
        .shown_by(&facts.alias)),
        _ => Ok(Finding::ok(&check, format!("{LIVE} invokes version {version}"))),
    }
}

/// The version that the stack has published: SAM names it after the code, and its id in AWS is an ARN that ends with the number.
fn version_of_stack<'a>(parts: &'a Parts, function: &str) -> Option<&'a str> {
    let prefix = format!("{function}Version");
    let resources = &parts.resources.answer.as_ref().ok()?.stack_resource_summaries;
    let version = resources.iter().find(|resource| resource.logical_resource_id.starts_with(&prefix))?;
    let number = version.physical_resource_id.as_deref()?.rsplit(':').next()?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then_some(number)
}

pub(super) fn roles(parts: &Parts) -> Vec<Finding> {
    parts
        .expected
        .roles
        .keys()
        .map(|logical| {
            let check = format!("role {logical}");
            match parts.roles.get(logical) {
                Some(role) => either(role_has_its_policies(parts, logical, &check, role)),
                None => either(role_is_unknown(parts, &check)),
            }
        })
        .collect()
}

/// The stack has no such role, or does not tell.
fn role_is_unknown(parts: &Parts, check: &str) -> Decided {
    let next = format!("deploy this version: {}", see::DEPLOY);
    Subject { check, what: "the stack's list of resources", if_missing: &next }.answer(&parts.resources)?;
    Err(Finding::wrong(check, "the stack has no such role", next))
}

fn role_has_its_policies(parts: &Parts, logical: &str, check: &str, role: &RoleFacts) -> Decided {
    let next = format!("somebody changed it; deploy the stack again: {}", see::DEPLOY);
    let mut policies = 0;
    for (name, asked) in &role.policies {
        let what = format!("the policy {name}, or the role itself,");
        let document = &Subject { check, what: &what, if_missing: &next }.answer(asked)?.policy_document;
        let grants = |statement: &Statement| {
            let effect = statement.effect.clone();
            statement.action.iter().map(move |action| format!("{effect} {action}")).collect::<Vec<_>>()
        };
        let found: BTreeSet<String> = document.statement.iter().flat_map(grants).collect();
        let expected = &parts.expected.roles[logical][name];
        let lacking: Vec<&String> = expected.difference(&found).collect();
        if !lacking.is_empty() {
            let found = format!("the policy {name} lacks {}", list(&lacking));
            return Err(Finding::wrong(check, found, next).shown_by(asked));
        }
        policies += 1;
    }
    Ok(Finding::ok(check, format!("has its policies ({policies})")))
}

pub(super) fn schedule(facts: &Facts, parts: &Parts) -> Finding {
    either(schedule_runs(facts, parts)).shown_by(&parts.schedule)
}

fn schedule_runs(facts: &Facts, parts: &Parts) -> Decided {
    let what = format!("the schedule {}-rank-products", facts.stack);
    let next = format!("deploy the stack again: {}", see::DEPLOY);
    let subject = Subject { check: "schedule", what: &what, if_missing: &next };
    let schedule = subject.answer(&parts.schedule)?;
    if schedule.state != "ENABLED" {
        let next =
            "enable it in the console of EventBridge Scheduler; windows that were missed are ranked by themselves";
        return Err(Finding::wrong(subject.check, format!("is {}", schedule.state), next));
    }
    if schedule.schedule_expression != SCHEDULE {
        return Err(Finding::wrong(
            subject.check,
            format!("runs at {}, not at {SCHEDULE}", schedule.schedule_expression),
            &next,
        ));
    }
    let target = format!(":function:{}-rank-products:{LIVE}", facts.stack);
    if !schedule.target.arn.ends_with(&target) {
        return Err(Finding::wrong(subject.check, format!("invokes {}", schedule.target.arn), &next));
    }
    Ok(Finding::ok(subject.check, format!("ENABLED, {SCHEDULE}")))
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
    fn the_alias_must_invoke_the_stacks_version_with_the_stacks_settings() {
        let mut parts = healthy().parts.unwrap();
        assert!(functions(&parts).iter().all(|finding| finding.status == Status::Ok), "{:?}", functions(&parts));
        let function = parts.functions[0].clone();
        assert_eq!(function.logical, "CountClicksFunction");
        let mut with = |change: fn(&mut FunctionFacts)| {
            parts.functions[0] = function.clone();
            change(&mut parts.functions[0]);
            functions(&parts).swap_remove(0)
        };
        let missing = with(|function| function.alias = refused(Reason::Missing));
        assert_eq!(missing.found, "the alias live of hot-products-count-clicks does not exist");
        let rolled_back = with(|function| function.alias = answered(r#"{"FunctionVersion": "6"}"#));
        assert_eq!(rolled_back.found, "live invokes version 6, and the stack has deployed 7");
        let moving = with(|function| {
            function.alias =
                answered(r#"{"FunctionVersion": "6", "RoutingConfig": {"AdditionalVersionWeights": {"7": 0.1}}}"#);
        });
        assert_eq!((moving.status, moving.found.as_str()), (Status::Ok, "live is moving from version 6 to 7"));
        let failed = with(|function| function.configuration = answered(r#"{"State": "Failed"}"#));
        assert_eq!(failed.found, "live is Failed");
        let settings = with(|function| {
            if let Ok(configuration) = &mut function.configuration.answer {
                configuration.environment.variables.insert("MAX_EVENT_AGE".to_owned(), "1h".to_owned());
            }
        });
        assert_eq!(settings.found, "version 7 has other settings than the stack: MAX_EVENT_AGE");
        assert!(settings.status == Status::Wrong && settings.command.is_some());
    }

    #[test]
    fn a_role_needs_each_policy_and_each_action() {
        let mut parts = healthy().parts.unwrap();
        assert!(roles(&parts).iter().all(|finding| finding.status == Status::Ok), "{:?}", roles(&parts));
        let mut with = |policy| {
            parts.roles.get_mut("CountClicksRole").unwrap().policies.insert("function".to_owned(), policy);
            let found = roles(&parts);
            assert!(found[1..].iter().all(|finding| finding.status == Status::Ok), "{found:?}");
            found.into_iter().next().unwrap()
        };
        assert_eq!(with(refused(Reason::Missing)).status, Status::Wrong);
        assert_eq!(with(refused(Reason::Denied)).status, Status::Unknown);
        let less = with(answered(
            r#"{"PolicyDocument": {"Statement": [{"Effect": "Allow", "Action": ["dynamodb:Query", "dynamodb:PutItem",
                "logs:CreateLogStream", "logs:PutLogEvents"]}]}}"#,
        ));
        assert_eq!(less.found, "the policy function lacks Allow dynamodb:UpdateItem");
        parts.roles.remove("CountClicksRole");
        assert_eq!(roles(&parts)[0].found, "the stack has no such role");
        parts.resources = refused(Reason::Denied);
        assert_eq!(roles(&parts)[0].status, Status::Unknown);
    }

    #[test]
    fn the_schedule_must_be_enabled_and_invoke_the_alias() {
        let facts = healthy();
        let mut parts = facts.parts.clone().unwrap();
        assert_eq!(schedule(&facts, &parts).status, Status::Ok);
        let mut with = |state: &str, expression: &str, target: &str| {
            parts.schedule = answered(&format!(
                r#"{{"State": "{state}", "ScheduleExpression": "{expression}", "Target": {{"Arn": "{target}"}}}}"#
            ));
            schedule(&facts, &parts)
        };
        let target = "arn:aws:lambda:eu-west-1:123456789012:function:hot-products-rank-products:live";
        assert_eq!(with("ENABLED", SCHEDULE, target).status, Status::Ok);
        assert_eq!(with("DISABLED", SCHEDULE, target).found, "is DISABLED");
        assert_eq!(with("ENABLED", "rate(5 minutes)", target).status, Status::Wrong);
        assert_eq!(with("ENABLED", SCHEDULE, "arn:other").found, "invokes arn:other");
    }
}
