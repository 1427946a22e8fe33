//! A line of the report.

use serde::Serialize;

use super::aws_cli::{Asked, Reason};

/// What to do if a permission is missing.
const PERMISSIONS: &str = "allow what infra/policies/doctor.json lists";

/// What a check has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// As it should be.
    Ok,
    /// Not as it should be.
    Wrong,
    /// It can't be checked: no permission, no answer, or not known yet.
    Unknown,
}

/// A line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The name of the check.
    pub(crate) check: String,
    /// Whether it is as it should be.
    pub(crate) status: Status,
    /// What was found.
    pub(crate) found: String,
    /// What to do, if it is not ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
    /// The command that shows it, if it is not ok. It only reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<String>,
}

impl Finding {
    pub(crate) fn ok(check: &str, found: impl Into<String>) -> Self {
        Self { check: check.to_owned(), status: Status::Ok, found: found.into(), next: None, command: None }
    }

    pub(crate) fn wrong(check: &str, found: impl Into<String>, next: impl AsRef<str>) -> Self {
        Self { status: Status::Wrong, next: Some(next.as_ref().to_owned()), ..Self::ok(check, found) }
    }

    pub(crate) fn unknown(check: &str, found: impl Into<String>, next: impl AsRef<str>) -> Self {
        Self { status: Status::Unknown, next: Some(next.as_ref().to_owned()), ..Self::ok(check, found) }
    }

    /// With the command that shows it, unless it is ok.
    #[must_use]
    pub(crate) fn shown_by<T>(mut self, asked: &Asked<T>) -> Self {
        if self.status != Status::Ok {
            self.command = Some(asked.command.clone());
        }
        self
    }
}

/// What a check decides. An `Err` is a finding that ends it early, such as a missing answer.
pub(crate) type Decided = Result<Finding, Finding>;

/// The finding, whether the check ended early or not.
pub(crate) fn either(decided: Decided) -> Finding {
    decided.unwrap_or_else(|finding| finding)
}

/// What a check needs to know about something that it asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// The name of the check.
    pub(crate) check: &'a str,
    /// What is asked for, such as `the table t`.
    pub(crate) what: &'a str,
    /// What to do if it does not exist.
    pub(crate) if_missing: &'a str,
}

impl Subject<'_> {
    /// The answer, or the finding that there is none: wrong if the subject does not exist, otherwise unknown.
    pub(crate) fn answer<'a, T>(&self, asked: &'a Asked<T>) -> Result<&'a T, Finding> {
        let refusal = match &asked.answer {
            Ok(answer) => return Ok(answer),
            Err(refusal) => refusal,
        };
        let finding = match refusal.reason {
            Reason::Missing => Finding::wrong(self.check, format!("{} does not exist", self.what), self.if_missing),
            Reason::Denied => Finding::unknown(self.check, refusal.message.clone(), PERMISSIONS),
            Reason::OldCli => Finding::unknown(
                self.check,
                "this version of the AWS CLI does not have the command",
                "install a newer AWS CLI",
            ),
            Reason::NoCli | Reason::Other => {
                Finding::unknown(self.check, refusal.message.clone(), "repeat the command; is the service reachable?")
            }
        };
        Err(finding.shown_by(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::aws_cli::Refusal;

    #[test]
    fn what_is_missing_is_wrong_and_what_is_denied_or_fails_is_unknown() {
        let subject = Subject { check: "table", what: "the table t", if_missing: "make it" };
        let refused = |reason| {
            let refusal = Refusal { reason, message: "no".to_owned() };
            let asked = Asked::<()> { command: "aws x".to_owned(), answer: Err(refusal) };
            subject.answer(&asked).unwrap_err()
        };
        let missing = refused(Reason::Missing);
        assert_eq!((missing.status, missing.found.as_str()), (Status::Wrong, "the table t does not exist"));
        assert_eq!((missing.next.as_deref(), missing.command.as_deref()), (Some("make it"), Some("aws x")));
        let denied = refused(Reason::Denied);
        assert_eq!((denied.status, denied.next.as_deref()), (Status::Unknown, Some(PERMISSIONS)));
        for reason in [Reason::Other, Reason::OldCli] {
            assert_eq!(refused(reason).status, Status::Unknown, "{reason:?}");
        }
        let ok = Finding::ok("a", "b").shown_by(&Asked { command: "aws x".to_owned(), answer: Ok(()) });
        assert_eq!(serde_json::to_string(&ok).unwrap(), r#"{"check":"a","status":"ok","found":"b"}"#);
    }
}
