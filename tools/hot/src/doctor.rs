//! Whether a deployed stack works, part by part.
//!
//! `gather` reads facts, with the AWS CLI and from the tables. The functions in `checks` decide from facts alone, and have no
//! I/O. Nothing is written.

mod answers;
mod aws_cli;
mod checks;
mod clock;
mod expected;
mod facts;
mod finding;
mod gather;
mod network;
#[cfg(test)]
mod testing;

use hot_products::UnixMillis;
use serde::Serialize;

pub(crate) use self::{
    facts::Facts,
    finding::{Finding, Status},
    gather::gather,
};

/// What was found, in the order of the checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// The time, by AWS's clock if it is known.
    pub(crate) at: UnixMillis,
    /// The stack.
    pub(crate) stack: String,
    /// The region.
    pub(crate) region: String,
    /// How many lines are ok.
    pub(crate) ok: usize,
    /// How many lines are wrong.
    pub(crate) wrong: usize,
    /// How many lines could not be checked.
    pub(crate) unknown: usize,
    /// A line for each check.
    pub(crate) findings: Vec<Finding>,
}

/// Decides what the facts mean.
pub(crate) fn diagnose(facts: &Facts) -> Report {
    let findings = checks::all(facts);
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    Report {
        at: facts.now,
        stack: facts.stack.clone(),
        region: facts.region.clone(),
        ok: count(Status::Ok),
        wrong: count(Status::Wrong),
        unknown: count(Status::Unknown),
        findings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{aws_cli::Reason, checks::testing::refused, testing::healthy};

    #[test]
    fn a_stack_that_works_is_ok_in_every_line() {
        let report = diagnose(&healthy());
        let others: Vec<_> = report.findings.iter().filter(|finding| finding.status != Status::Ok).collect();
        assert!(others.is_empty(), "{others:?}");
        assert_eq!((report.ok, report.wrong, report.unknown), (report.findings.len(), 0, 0));
        assert!(report.findings.iter().all(|finding| finding.next.is_none() && finding.command.is_none()));
        let names: std::collections::BTreeSet<_> = report.findings.iter().map(|finding| &finding.check).collect();
        assert_eq!(names.len(), report.findings.len(), "two lines have the same name");
    }

    #[test]
    fn what_is_not_ok_comes_with_what_to_do() {
        let mut facts = healthy();
        facts.clock_ahead = None;
        let parts = facts.parts.as_mut().unwrap();
        parts.parameters_known = false;
        parts.resources = refused(Reason::Denied);
        parts.mappings = refused(Reason::Other);
        parts.schedule = refused(Reason::Missing);
        parts.alarms = refused(Reason::Denied);
        parts.cluster = None;
        parts.roles.clear();
        let report = diagnose(&facts);
        assert_eq!(report.wrong, 1, "the schedule");
        let mut others = report.findings.iter().filter(|finding| finding.status != Status::Ok);
        assert!(others.all(|finding| finding.next.is_some()), "{report:?}");
    }

    #[test]
    fn without_a_stack_nothing_else_is_checked() {
        let mut facts = healthy();
        facts.stacks = refused(Reason::Missing);
        facts.parts = None;
        let report = diagnose(&facts);
        assert_eq!((report.findings.len(), report.wrong), (3, 1));
    }
}
