//! The checks: facts in, findings out.

mod alarms;
mod event_source;
mod functions;
mod network;
mod stack;
mod tables;

use super::{facts::Facts, finding::Finding};

/// All checks, in the order in which a fault in one explains those after it.
pub(crate) fn all(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![stack::clock(facts), stack::credentials(facts), stack::stack(facts)];
    let Some(parts) = &facts.parts else { return findings };
    findings.push(stack::version(parts));
    findings.extend(tables::tables(parts));
    findings.push(tables::layout(&parts.content));
    findings.extend(functions::functions(parts));
    findings.extend(functions::roles(parts));
    findings.extend(network::all(parts));
    findings.extend(event_source::all(facts, parts));
    findings.push(tables::counting(facts, parts));
    findings.push(functions::schedule(facts, parts));
    findings.push(tables::snapshot(facts, &parts.content));
    findings.extend(alarms::all(facts, parts));
    findings
}

/// Pages of the documentation that findings send people to.
mod see {
    pub(super) const DEPLOY: &str = "docs/operations.md#deploy";
    pub(super) const ROLLOUTS: &str = "docs/operations.md#deployments-and-rollbacks";
    pub(super) const EVENT_SOURCE: &str = "docs/operations.md#change-the-event-source";
    pub(super) const SILENT: &str = "docs/operations.md#event-source-silent";
    pub(super) const LAG: &str = "docs/operations.md#event-source-lag";
    pub(super) const NO_SNAPSHOT: &str = "docs/operations.md#no-snapshot";
    pub(super) const ALARMS: &str = "docs/operations.md#alarms";
    pub(super) const LIMITS: &str = "docs/operations.md#limits";

    #[cfg(test)]
    pub(super) const ALL: [&str; 8] = [DEPLOY, ROLLOUTS, EVENT_SOURCE, SILENT, LAG, NO_SNAPSHOT, ALARMS, LIMITS];
}

/// `texts` in one line, at most five of them.
fn list<T: AsRef<str>>(texts: &[T]) -> String {
    let first = texts.iter().take(5).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match texts.len().saturating_sub(5) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
pub(super) mod testing {
    //! Facts of a stack that works, which tests then break.

    use hot_products::UnixMillis;
    use serde::de::DeserializeOwned;

    use super::super::aws_cli::{Asked, Reason, Refusal};

    pub(in super::super) fn at(text: &str) -> UnixMillis {
        UnixMillis::parse_rfc3339(text).unwrap()
    }

    /// The answer that the AWS CLI prints as `json`.
    pub(in super::super) fn answered<T: DeserializeOwned>(json: &str) -> Asked<T> {
        Asked { command: "aws …".to_owned(), answer: Ok(serde_json::from_str(json).unwrap()) }
    }

    pub(in super::super) fn refused<T>(reason: Reason) -> Asked<T> {
        Asked { command: "aws …".to_owned(), answer: Err(Refusal { reason, message: "no".to_owned() }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_that_a_finding_names_exists() {
        let page = include_str!("../../../../docs/operations.md");
        let anchor = |line: &str| {
            let heading = line.strip_prefix('#')?.trim_start_matches('#').trim().to_lowercase();
            Some(heading.replace(' ', "-"))
        };
        let anchors: Vec<String> = page.lines().filter_map(anchor).collect();
        for section in see::ALL {
            let name = section.strip_prefix("docs/operations.md#").unwrap();
            assert!(anchors.iter().any(|anchor| anchor == name), "{section}");
        }
    }

    #[test]
    fn a_long_list_is_cut() {
        assert_eq!(list(&["a", "b"]), "a, b");
        assert_eq!(list(&["a", "b", "c", "d", "e", "f", "g"]), "a, b, c, d, e and 2 more");
    }
}
